//! Reaching a bucket by its URL.

use std::fmt::Display;
use std::sync::Arc;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreScheme};
use url::Url;

use super::bucket::Bucket;
use crate::error::{Error, RemoteError, Result};

/// Opens the bucket at a URL. Makes no request.
pub(super) fn open(text: &str) -> Result<Bucket> {
    let url = Url::parse(text).map_err(bad_url)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad_url(
            "it has a user or a password; give credentials in the environment",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad_url("it has a query or a fragment"));
    }
    let fault = |source: object_store::Error| RemoteError::Bucket {
        object: url.to_string(),
        source: Box::new(source),
    };
    // The errors of the parser repeat the URL, which has no credentials here.
    let (scheme, folder) = ObjectStoreScheme::parse(&url).map_err(bad_url)?;
    let (store, folder): (Arc<dyn ObjectStore>, Path) = match scheme {
        ObjectStoreScheme::Local => {
            let path = url
                .to_file_path()
                .map_err(|()| bad_url("it is not the path of a folder"))?;
            let store = LocalFileSystem::new_with_prefix(path).map_err(fault)?;
            // The object store's word that it has an object is what a push relies on.
            (Arc::new(store.with_fsync(true)), Path::default())
        }
        ObjectStoreScheme::Memory => (Arc::new(InMemory::new()), folder),
        ObjectStoreScheme::AmazonS3 => {
            let store = AmazonS3Builder::from_env().with_url(url.as_str());
            (Arc::new(store.build().map_err(fault)?), folder)
        }
        ObjectStoreScheme::GoogleCloudStorage => {
            let store = GoogleCloudStorageBuilder::from_env().with_url(url.as_str());
            (Arc::new(store.build().map_err(fault)?), folder)
        }
        ObjectStoreScheme::MicrosoftAzure => {
            let store = MicrosoftAzureBuilder::from_env().with_url(url.as_str());
            (Arc::new(store.build().map_err(fault)?), folder)
        }
        _ => {
            return Err(bad_url(format_args!(
                "nothing is known of {}:",
                url.scheme()
            )));
        }
    };
    Ok(Bucket::new(store, folder, url.into()))
}

fn bad_url(reason: impl Display) -> Error {
    let reason = reason.to_string();
    RemoteError::BadUrl { reason }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_other_kinds_are_refused_with_a_reason() {
        for url in [
            "",
            "bucket",
            "/a/folder",
            "ftp://host/folder",
            "http://host/folder",
            "s3://bucket?versioning=1",
            "s3://bucket#part",
            "file:///folder/that/does/not/exist",
        ] {
            assert!(open(url).is_err(), "{url}");
        }
        assert!(open("memory:///").is_ok());
        assert!(open("memory:///folder").is_ok());
    }

    #[test]
    fn h79_a_password_in_a_url_is_refused_and_not_repeated() {
        for url in [
            "s3://key:hunter2@bucket",
            "s3://hunter2@bucket",
            "://hunter2@bucket",
        ] {
            let error = open(url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }
}
