//! One bucket: the requests that are made to it, and the names of its objects in errors.

use std::fmt::{self, Display};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    GetOptions, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload,
};

use super::body::{body, whole};
use crate::error::{Error, RemoteError, Result};

/// A bucket, or a folder in one. Names of objects are relative to it, with `/` between their parts.
#[derive(Clone)]
pub(super) struct Bucket {
    store: Arc<dyn ObjectStore>,
    folder: Path,
    /// The URL without user, password and query.
    url: String,
}

/// An object that was read as a whole.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) bytes: Bytes,
    /// When the object was changed, in milliseconds by the bucket's clock.
    pub(super) modified: i64,
}

/// An object in a listing.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) bytes: u64,
    /// When the object was changed, in milliseconds by the bucket's clock.
    pub(super) modified: i64,
}

/// The outcome of a request that creates an object only if there is none of its name.
#[derive(Debug)]
pub(super) enum Creation {
    Done,
    /// There may be such an object already: another one, or the one that this request has created.
    Unclear(object_store::Error),
    /// The request is not allowed, or is none that this object store knows, and will not be if it is made
    /// again. The client may have made it more than once, and only the last time was refused.
    Refused(object_store::Error),
}

/// Leaves out the object store: some of them print their keys.
impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bucket").field(&self.url).finish()
    }
}

impl Bucket {
    pub(super) fn new(store: Arc<dyn ObjectStore>, folder: Path, url: String) -> Self {
        Self { store, folder, url }
    }

    /// The URL without user, password and query.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Returns the name of an object for errors.
    pub(super) fn display(&self, name: &str) -> String {
        format!("{}/{name}", self.url.trim_end_matches('/'))
    }

    fn path(&self, name: &str) -> Path {
        let parts = name.split('/').filter(|part| !part.is_empty());
        self.folder.parts().chain(parts.map(Into::into)).collect()
    }

    /// Returns a function for `map_err` that makes an error about an object.
    pub(super) fn fault(&self, name: &str) -> impl FnOnce(object_store::Error) -> Error {
        let object = self.display(name);
        move |source| {
            RemoteError::Bucket {
                object,
                source: Box::new(source),
            }
            .into()
        }
    }

    /// Makes an error about a damaged object.
    pub(super) fn damaged(&self, name: &str, reason: &dyn Display) -> Error {
        let (object, reason) = (self.display(name), reason.to_string());
        RemoteError::Damaged { object, reason }.into()
    }

    /// Makes an error about an answer that says nothing about the object.
    fn too_long(&self, name: &str) -> Error {
        let object = self.display(name);
        let source = "the answer has more bytes than it should have".into();
        RemoteError::Bucket { object, source }.into()
    }

    /// Makes an error about an object that should be there.
    pub(super) fn missing(&self, name: &str) -> Error {
        let object = self.display(name);
        RemoteError::Missing { object }.into()
    }

    /// Reads an object as a whole, or returns `None` if there is none. Fails if it has more than
    /// `bytes_max` bytes, before they are read.
    pub(super) async fn read(&self, name: &str, bytes_max: u64) -> Result<Option<Read>> {
        let path = self.path(name);
        let found = match self.store.get_opts(&path, GetOptions::default()).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            found => found.map_err(self.fault(name))?,
        };
        let (size, modified) = (found.meta.size, modified(&found.meta));
        if size > bytes_max {
            return Err(self.damaged(name, &format_args!("it has {size} bytes")));
        }
        let body = body(found, size).await.map_err(self.fault(name))?;
        let bytes = whole(body.ok_or_else(|| self.too_long(name))?);
        Ok(Some(Read { bytes, modified }))
    }

    /// Reads an object piece by piece, by one request. Fails if it has not `bytes` bytes, before they are
    /// read.
    pub(super) async fn stream(
        &self,
        name: &str,
        bytes: u64,
    ) -> Result<BoxStream<'static, object_store::Result<Bytes>>> {
        let found = match self.store.get(&self.path(name)).await {
            Err(object_store::Error::NotFound { .. }) => return Err(self.missing(name)),
            found => found.map_err(self.fault(name))?,
        };
        let size = found.meta.size;
        if size != bytes {
            return Err(self.wrong_bytes(name, size, bytes));
        }
        Ok(found.into_stream())
    }

    /// Reads a range of an object, which is not empty.
    pub(super) async fn read_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        self.read_pieces(name, range).await.map(whole)
    }

    /// Reads a range of an object, which is not empty, and returns it in pieces. Copies together only those
    /// that came as short ones.
    pub(super) async fn read_pieces(&self, name: &str, range: Range<u64>) -> Result<Vec<Bytes>> {
        let (len, end) = (range.end - range.start, range.end);
        let options = GetOptions {
            range: Some(range.into()),
            ..GetOptions::default()
        };
        let read = async {
            let found = self.store.get_opts(&self.path(name), options).await?;
            body(found, len).await
        };
        let pieces = match read.await {
            Err(object_store::Error::NotFound { .. }) => return Err(self.missing(name)),
            Err(error) => return Err(self.fault_of_range(name, end, error).await),
            Ok(pieces) => pieces.ok_or_else(|| self.too_long(name))?,
        };
        let read: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        if read == len {
            Ok(pieces)
        } else {
            Err(self.damaged(name, &"it, or the answer, was cut"))
        }
    }

    /// Makes an error about an object of which a range up to `end` could not be read. Object stores report
    /// an object that is too short in as many ways as there are stores, so its length is asked for.
    async fn fault_of_range(&self, name: &str, end: u64, error: object_store::Error) -> Error {
        match self.store.head(&self.path(name)).await {
            Ok(meta) if meta.size < end => {
                self.damaged(name, &format_args!("it has only {} bytes", meta.size))
            }
            _ => self.fault(name)(error),
        }
    }

    /// Fails if an object is missing or has not `bytes` bytes.
    pub(super) async fn require_bytes(&self, name: &str, bytes: u64) -> Result<()> {
        match self.meta(name).await? {
            Some(meta) if meta.size == bytes => Ok(()),
            Some(meta) => Err(self.wrong_bytes(name, meta.size, bytes)),
            None => Err(self.missing(name)),
        }
    }

    /// Makes an error about an object of another length.
    fn wrong_bytes(&self, name: &str, found: u64, expected: u64) -> Error {
        self.damaged(name, &format_args!("it has {found} bytes, not {expected}"))
    }

    /// Returns when an object was changed, or `None` if there is none.
    pub(super) async fn modified(&self, name: &str) -> Result<Option<i64>> {
        Ok(self.meta(name).await?.as_ref().map(modified))
    }

    /// Returns what the object store knows of an object, or `None` if there is none.
    async fn meta(&self, name: &str) -> Result<Option<ObjectMeta>> {
        match self.store.head(&self.path(name)).await {
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            found => found.map(Some).map_err(self.fault(name)),
        }
    }

    /// Creates an object only if there is none of its name.
    pub(super) async fn create(&self, name: &str, bytes: Bytes) -> Creation {
        use object_store::Error as E;
        let (path, mode) = (self.path(name), PutMode::Create.into());
        match self.store.put_opts(&path, bytes.into(), mode).await {
            Ok(_) => Creation::Done,
            Err(
                error @ (E::PermissionDenied { .. }
                | E::Unauthenticated { .. }
                | E::NotSupported { .. }
                | E::NotImplemented { .. }
                | E::InvalidPath { .. }
                | E::UnknownConfigurationKey { .. }),
            ) => Creation::Refused(error),
            // Also "not found", which a bucket that was removed gives: reading it back tells.
            Err(error) => Creation::Unclear(error),
        }
    }

    /// Creates or replaces an object.
    pub(super) async fn put(&self, name: &str, payload: PutPayload) -> Result<()> {
        let put = self.store.put(&self.path(name), payload).await;
        put.map(drop).map_err(self.fault(name))
    }

    /// Begins to create or replace an object in parts.
    pub(super) async fn put_in_parts(&self, name: &str) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.store.put_multipart(&self.path(name)).await;
        upload.map_err(self.fault(name))
    }

    /// Removes an object, if there is one.
    pub(super) async fn remove(&self, name: &str) -> Result<()> {
        match self.store.delete(&self.path(name)).await {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            removed => removed.map_err(self.fault(name)),
        }
    }

    /// Removes objects; those that are not there any more are no error.
    pub(super) async fn remove_all(&self, names: Vec<String>) -> Result<()> {
        let paths: Vec<_> = names.iter().map(|name| Ok(self.path(name))).collect();
        let mut removed = self
            .store
            .delete_stream(futures_util::stream::iter(paths).boxed());
        while let Some(result) = removed.next().await {
            match result {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(self.fault("")(error)),
            }
        }
        Ok(())
    }

    /// Lists the objects below a folder. S3, Google Cloud Storage and Azure list them by name, others
    /// in any order.
    pub(super) fn list(&self, folder: &str) -> BoxStream<'static, Result<Listed>> {
        let fault = self.clone();
        let (name, own) = (folder.to_owned(), self.folder.clone());
        let listing = self.store.list(Some(&self.path(folder)));
        let listed = move |meta: ObjectMeta| {
            let parts = meta.location.prefix_match(&own)?;
            let name: Vec<_> = parts.map(|part| part.as_ref().to_owned()).collect();
            Some(Listed {
                name: name.join("/"),
                bytes: meta.size,
                modified: modified(&meta),
            })
        };
        let listing = listing.map_err(move |error| fault.fault(&name)(error));
        listing
            .try_filter_map(move |meta| std::future::ready(Ok(listed(meta))))
            .boxed()
    }

    /// Returns the names of the folders in a folder, sorted.
    pub(super) async fn folders(&self, folder: &str) -> Result<Vec<String>> {
        let path = self.path(folder);
        let listing = self.store.list_with_delimiter(Some(&path)).await;
        let listing = listing.map_err(self.fault(folder))?;
        let last = |path: &Path| path.filename().map(str::to_owned);
        let mut names: Vec<String> = listing.common_prefixes.iter().filter_map(last).collect();
        names.sort_unstable();
        Ok(names)
    }
}

fn modified(meta: &ObjectMeta) -> i64 {
    meta.last_modified.timestamp_millis()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use object_store::azure::MicrosoftAzureBuilder;

    use super::*;
    use crate::remote::Remote;

    #[test]
    fn h79_debugging_a_bucket_prints_its_url_and_no_key() {
        let store = MicrosoftAzureBuilder::new()
            .with_account("account")
            .with_access_key("aHVudGVyMmh1bnRlcjI=")
            .with_container_name("container")
            .build()
            .unwrap();
        // The bytes of the key, which is in base64.
        let key = format!("{:?}", b"hunter2");
        let key = key.trim_matches(['[', ']']);
        assert!(
            format!("{store:?}").contains(key),
            "this test shows nothing"
        );
        let url = "az://container".to_owned();
        let bucket = Bucket::new(Arc::new(store), Path::default(), url);
        let remote = Remote::new(bucket, Duration::ZERO);
        for text in [format!("{remote:?}"), format!("{remote:#?}")] {
            let on_one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(!on_one_line.contains(key), "{text}");
            assert!(text.contains("az://container"), "{text}");
        }
    }
}
