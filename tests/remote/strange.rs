//! Object stores that do not do what is asked of them, or do it in a strange order.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use sealstone::remote::{GcOptions, PushOptions};
use sealstone::{Error, RemoteError};

use crate::bucket::Bucket;
use crate::faulty::Faulty;
use crate::{Local, push, push_with, pushed, remote, runtime};

/// What is strange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    /// It creates objects that exist.
    Replaces,
    /// It lists the names that come last first.
    ListsBackward,
    /// Its clock is a year behind.
    IsBehind,
}

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[derive(Debug)]
struct Strange(Arc<dyn ObjectStore>, Habit);

impl fmt::Display for Strange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

#[async_trait]
impl ObjectStore for Strange {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        mut options: PutOptions,
    ) -> Result<PutResult> {
        if self.1 == Habit::Replaces {
            options.mode = PutMode::Overwrite;
        }
        self.0.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut found = self.0.get_opts(location, options).await?;
        if self.1 == Habit::IsBehind {
            found.meta.last_modified -= YEAR;
        }
        Ok(found)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (listing, habit) = (self.0.list(prefix), self.1);
        let listed = async move {
            let mut objects: Vec<ObjectMeta> = listing.try_collect().await?;
            if habit == Habit::ListsBackward {
                objects.reverse();
            }
            if habit == Habit::IsBehind {
                for object in &mut objects {
                    object.last_modified -= YEAR;
                }
            }
            Ok::<_, object_store::Error>(futures_util::stream::iter(objects.into_iter().map(Ok)))
        };
        futures_util::stream::once(listed).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

#[test]
fn h73_a_first_push_refuses_an_object_store_that_creates_what_exists() {
    runtime().block_on(async {
        let (local, bucket) = (Local::new(), Bucket::new());
        let strange = Strange(bucket.0.clone(), Habit::Replaces);
        local.put(1);
        let refused = push(&remote(Arc::new(strange)), &local).await;
        let is_refused = matches!(
            refused,
            Err(Error::Remote(RemoteError::CreateNotExclusive { .. }))
        );
        assert!(is_refused, "{refused:?}");
        assert_eq!(bucket.names("").await, Vec::<String>::new());
    });
}

/// The ref was pushed to an object store that refuses it, and copied to this one.
#[test]
fn h73_a_push_that_takes_over_refuses_an_object_store_that_creates_what_exists() {
    runtime().block_on(async {
        let (local, other, bucket) = (Local::new(), Local::new(), Bucket::new());
        local.put(1);
        other.put(2);
        push(&remote(bucket.0.clone()), &local).await.unwrap();
        let strange = remote(Arc::new(Strange(bucket.0.clone(), Habit::Replaces)));
        let take_over = PushOptions::new().take_over(true);
        let refused = push_with(&strange, &other, &take_over).await;
        let is_refused = matches!(
            refused,
            Err(Error::Remote(RemoteError::CreateNotExclusive { .. }))
        );
        assert!(is_refused, "{refused:?}");
        assert_eq!(bucket.check("main").await, Some(local.digests()));
        assert_eq!(bucket.names("probe").await, Vec::<String>::new());
    });
}

#[test]
fn h75_a_collection_compares_only_times_of_the_bucket() {
    runtime().block_on(async {
        let (local, bucket) = (Local::new(), Bucket::new());
        let remote = remote(Arc::new(Strange(bucket.0.clone(), Habit::IsBehind)));
        local.put(1);
        push(&remote, &local).await.unwrap();
        let compaction = local.store.begin_compaction().unwrap();
        compaction.finish(|_| false).unwrap();
        push(&remote, &local).await.unwrap();
        let go_on = |_: &_| ControlFlow::Continue(());
        let an_hour = GcOptions::new().grace(Duration::from_secs(3600));
        let report = remote.gc_async(&an_hour, go_on).await.unwrap();
        assert_eq!(report.files, 0);
        std::thread::sleep(Duration::from_millis(2));
        let at_once = GcOptions::new().grace(Duration::ZERO);
        let report = remote.gc_async(&at_once, go_on).await.unwrap();
        assert!(report.files > 0);
    });
}

/// More manifests than names that are looked at, in the worst order.
#[test]
fn h76_the_newest_manifest_is_found_with_few_requests_in_any_order_of_names() {
    runtime().block_on(async {
        let (local, bucket) = (Local::new(), Bucket::new());
        let direct = remote(bucket.0.clone());
        for _ in 0..1100 {
            push(&direct, &local).await.unwrap();
        }
        let count = async |habit: Option<Habit>| {
            let inner: Arc<dyn ObjectStore> = match habit {
                Some(habit) => Arc::new(Strange(bucket.0.clone(), habit)),
                None => bucket.0.clone(),
            };
            let faulty = Faulty::new(inner);
            faulty.heal();
            let number = push(&remote(faulty.clone()), &local).await.unwrap().number;
            (number, faulty.log())
        };
        // Three requests for the newest manifest, and the creation.
        let (number, log) = count(None).await;
        assert_eq!(number, 1102);
        assert_eq!(log.len(), 3 + 1, "{log:#?}");
        let (number, log) = count(Some(Habit::ListsBackward)).await;
        assert_eq!(number, 1103);
        assert!(log.len() <= 4 + 2 * 11, "{log:#?}");
    });
}

/// Its number would be 2^64 - 1, behind which there is none to ask for.
#[test]
fn an_object_whose_name_is_zero_is_no_manifest() {
    runtime().block_on(async {
        let (local, bucket, remote) = pushed().await;
        let name = "refs/main/00000000000000000000";
        bucket.write(name, "not ours".into()).await;
        local.put(2);
        assert_eq!(push(&remote, &local).await.unwrap().number, 3);
        let go_on = |_: &_| ControlFlow::Continue(());
        assert!(remote.verify_async("main", go_on).await.unwrap().is_clean());
    });
}
