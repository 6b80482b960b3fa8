//! Reaching a bucket by its URL.

use std::env;
use std::fmt::Display;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ClientConfigKey, ObjectStore, ObjectStoreScheme};
use url::Url;

use super::bucket::Bucket;
use crate::error::{Error, RemoteError, Result};

/// Most time of one request, body included: a part of 8 MiB arrives in it over a line of 30 KB/s, also if
/// eight of them share 240 KB/s. The client's own default of 30 seconds takes 18 Mbit/s.
const REQUEST_TIMEOUT: &str = "5 minutes";

/// Opens the bucket at a URL. Makes no request.
pub(super) fn open(text: &str) -> Result<Bucket> {
    // A parser would drop them, and reach another bucket.
    if text.contains(|letter: char| letter.is_control()) {
        return Err(bad_url("it has a control character"));
    }
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
    if url.scheme() == "file" && !text.to_ascii_lowercase().starts_with("file:///") {
        return Err(bad_url("`file:` needs the whole path of a folder"));
    }
    // The errors of the parser repeat the URL, in which a password can be at a wrong place.
    let unknown = |_| bad_url("nothing is known of this scheme or host");
    let (scheme, folder) = ObjectStoreScheme::parse(&url).map_err(unknown)?;
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
            require_usable("AWS_")?;
            let mut store = AmazonS3Builder::from_env().with_url(url.as_str());
            if !is_set("AWS_TIMEOUT") {
                let key = AmazonS3ConfigKey::Client(ClientConfigKey::Timeout);
                store = store.with_config(key, REQUEST_TIMEOUT);
            }
            (Arc::new(store.build().map_err(fault)?), folder)
        }
        ObjectStoreScheme::GoogleCloudStorage => {
            require_usable("GOOGLE_")?;
            let mut store = GoogleCloudStorageBuilder::from_env().with_url(url.as_str());
            if !is_set("GOOGLE_TIMEOUT") {
                let key = GoogleConfigKey::Client(ClientConfigKey::Timeout);
                store = store.with_config(key, REQUEST_TIMEOUT);
            }
            (Arc::new(store.build().map_err(fault)?), folder)
        }
        ObjectStoreScheme::MicrosoftAzure => {
            require_usable("AZURE_")?;
            let mut store = MicrosoftAzureBuilder::from_env().with_url(url.as_str());
            if !is_set("AZURE_TIMEOUT") {
                let key = AzureConfigKey::Client(ClientConfigKey::Timeout);
                store = store.with_config(key, REQUEST_TIMEOUT);
            }
            (Arc::new(store.build().map_err(fault)?), folder)
        }
        _ => return Err(bad_url("nothing is known of this scheme")),
    };
    Ok(Bucket::new(store, folder, url.into()))
}

fn is_set(variable: &str) -> bool {
    env::var_os(variable).is_some()
}

/// Fails if a variable of the environment that begins with `prefix` would make the client panic, or show a
/// password in its errors.
fn require_usable(prefix: &str) -> Result<()> {
    for (variable, value) in env::vars_os() {
        let (variable, value) = (variable.to_string_lossy(), value.to_string_lossy());
        if variable.starts_with(prefix)
            && let Some(reason) = fault_of(&variable, &value)
        {
            let variable = variable.into_owned();
            return Err(RemoteError::BadEnvironment { variable, reason }.into());
        }
    }
    Ok(())
}

/// Says what is wrong with the value of a variable.
fn fault_of(variable: &str, value: &str) -> Option<&'static str> {
    if value.contains(|letter: char| letter.is_control()) {
        return Some("has a control character, such as a line feed at its end; take it out");
    }
    if !variable.contains("ENDPOINT") {
        return None;
    }
    match Url::parse(value) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") || !url.has_host() => {
            Some("is not the URL of a server; give one like https://host:9000")
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            Some("has a user or a password; give credentials in variables of their own")
        }
        Ok(_) => None,
        Err(_) => Some("is not the URL of a server; give one like https://host:9000"),
    }
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
            "file:folder",
            "file://host/folder",
            "file:///tmp\t",
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
            "s3:/key:hunter2@bucket",
            "s3:key:hunter2@bucket",
            "s3:///key:hunter2@bucket",
            "az:account:hunter2@container",
            "key:hunter2@bucket",
        ] {
            let error = open(url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn h79_a_variable_that_the_client_cannot_use_is_refused_and_its_value_not_repeated() {
        for (variable, value, is_usable) in [
            ("AWS_ENDPOINT", "https://localhost:9000", true),
            ("AWS_ENDPOINT", "localhost:9000", false),
            ("AWS_ENDPOINT", "127.0.0.1:9000", false),
            ("AWS_ENDPOINT_URL_S3", "", false),
            ("AWS_ENDPOINT", "http://localhost:99999", false),
            ("AWS_ENDPOINT", "http://user:hunter2@localhost", false),
            ("AWS_ACCESS_KEY_ID", "hunter2", true),
            ("AWS_ACCESS_KEY_ID", "hunter2\n", false),
        ] {
            let fault = fault_of(variable, value);
            assert_eq!(fault.is_none(), is_usable, "{variable}={value}");
            assert!(!fault.is_some_and(|fault| fault.contains("hunter2")));
        }
    }
}
