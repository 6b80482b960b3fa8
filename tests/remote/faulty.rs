//! An object store that counts requests, and makes one of them fail.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result, UploadPart,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Notify;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails and has no effect.
    Before,
    /// It has its effect, and the answer is lost.
    After,
    /// It has no effect, and the answer is "exists", as S3 answers a conflict.
    Conflict,
    /// It has its effect, and the answer is "exists", as of a request that was sent twice.
    OwnExists,
    /// It has no effect, and the answer is that it is not allowed.
    Denied,
    /// It has its effect, and the answer is that it is not allowed, as of a request that was sent twice.
    OwnDenied,
    /// It has no effect, and there is never an answer.
    HangsBefore,
    /// It has its effect, and there is never an answer.
    HangsAfter,
    /// Half of what is read arrives.
    Cut,
    /// A bit of what is read is another one.
    Flip,
    /// Nothing.
    None,
}

impl Fault {
    pub(crate) const ALL: [Self; 10] = [
        Self::Before,
        Self::After,
        Self::Conflict,
        Self::OwnExists,
        Self::Denied,
        Self::OwnDenied,
        Self::HangsBefore,
        Self::HangsAfter,
        Self::Cut,
        Self::Flip,
    ];

    fn is_after(self) -> bool {
        matches!(
            self,
            Self::After | Self::OwnExists | Self::OwnDenied | Self::HangsAfter
        )
    }

    fn is_of_content(self) -> bool {
        matches!(self, Self::Cut | Self::Flip)
    }
}

type Call = Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// What happens to a request, and what is done before it.
type Counted = (Option<Fault>, Option<BoxFuture<'static, ()>>);

/// Counts requests and makes one fail.
pub(crate) struct Faulty {
    inner: Arc<dyn ObjectStore>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    requests: AtomicUsize,
    plan: Mutex<Option<(usize, Fault)>>,
    /// What is done before a request.
    call: Mutex<Option<(usize, Call)>>,
    log: Mutex<Vec<String>>,
    hangs: Notify,
    /// Chooses how often others go first, before each request and after it.
    random: Mutex<Option<StdRng>>,
}

impl Faulty {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>) -> Arc<Self> {
        let shared = Arc::default();
        Arc::new(Self { inner, shared })
    }

    /// Makes request `number` from here on fail, counted from 0.
    pub(crate) fn plan(&self, number: usize, fault: Fault) {
        self.shared.log.lock().unwrap().clear();
        self.shared.requests.store(0, Ordering::SeqCst);
        *self.shared.plan.lock().unwrap() = Some((number, fault));
    }

    /// Calls something before request `number` from here on, counted from 0, and makes none fail.
    pub(crate) fn call_at(
        &self,
        number: usize,
        call: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) {
        self.plan(number, Fault::None);
        *self.shared.call.lock().unwrap() = Some((number, Box::new(call)));
    }

    /// Lets other tasks go first, before each request and after it, as often as the seed says.
    pub(crate) fn dawdle(&self, seed: u64) {
        *self.shared.random.lock().unwrap() = Some(StdRng::seed_from_u64(seed));
    }

    /// Makes request `number` from here on hang, before or after its effect. After that, what waits for
    /// it ends.
    pub(crate) fn die_at(&self, number: usize) {
        let fault = if number.is_multiple_of(2) {
            Fault::HangsBefore
        } else {
            Fault::HangsAfter
        };
        self.plan(number, fault);
    }

    /// Counts from 0 again, and makes no request fail.
    pub(crate) fn heal(&self) {
        self.plan(usize::MAX, Fault::Before);
    }

    /// Whether as many requests were made that the planned one was among them.
    pub(crate) fn was_reached(&self) -> bool {
        let (number, _) = self.shared.plan.lock().unwrap().unwrap();
        self.shared.requests.load(Ordering::SeqCst) > number
    }

    /// The requests that were made.
    pub(crate) fn log(&self) -> Vec<String> {
        self.shared.log.lock().unwrap().clone()
    }

    /// Waits until a request hangs.
    pub(crate) async fn hangs(&self) {
        self.shared.hangs.notified().await;
    }
}

impl Shared {
    /// Counts a request and returns what happens to it.
    fn count(&self, verb: &str, location: &Path) -> Counted {
        self.log.lock().unwrap().push(format!("{verb} {location}"));
        let number = self.requests.fetch_add(1, Ordering::SeqCst);
        let plan = *self.plan.lock().unwrap();
        let fault = plan.and_then(|(at, fault)| (at == number).then_some(fault));
        let call = self.call.lock().unwrap();
        let call = call.as_ref().filter(|(at, _)| *at == number);
        let fault = fault.filter(|fault| *fault != Fault::None);
        (fault, call.map(|(_, call)| call()))
    }

    async fn let_others_go(&self) {
        let random = |random: &mut StdRng| random.random_range(0..30);
        let times = self.random.lock().unwrap().as_mut().map_or(0, random);
        for _ in 0..times {
            tokio::task::yield_now().await;
        }
    }

    /// Makes a request, or not, and answers it, or not.
    async fn request<T>(
        &self,
        ((fault, call), location): (Counted, &Path),
        request: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        if let Some(call) = call {
            call.await;
        }
        self.let_others_go().await;
        let Some(fault) = fault.filter(|fault| !fault.is_of_content()) else {
            let answer = request.await;
            self.let_others_go().await;
            return answer;
        };
        if fault.is_after() {
            request.await?;
        }
        let source = || "this request was planned to fail".into();
        match fault {
            Fault::Conflict | Fault::OwnExists => Err(Error::AlreadyExists {
                path: location.to_string(),
                source: source(),
            }),
            Fault::Denied | Fault::OwnDenied => Err(Error::PermissionDenied {
                path: location.to_string(),
                source: source(),
            }),
            Fault::HangsBefore | Fault::HangsAfter => {
                self.hangs.notify_one();
                std::future::pending().await
            }
            _ => Err(Error::Generic {
                store: "test",
                source: source(),
            }),
        }
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let is_create = matches!(options.mode, PutMode::Create);
        let verb = if is_create { "create" } else { "put" };
        let fault = self.shared.count(verb, location);
        let put = self.inner.put_opts(location, payload, options);
        self.shared.request((fault, location), put).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let fault = self.shared.count("begin", location);
        let begin = self.inner.put_multipart_opts(location, options);
        let inner = self.shared.request((fault, location), begin).await?;
        Ok(Box::new(FaultyUpload {
            inner,
            shared: Arc::clone(&self.shared),
            location: location.clone(),
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let verb = if options.head { "head" } else { "get" };
        let (fault, call) = self.shared.count(verb, location);
        let get = self.inner.get_opts(location, options);
        let found = self.shared.request(((fault, call), location), get).await?;
        let Some(fault) = fault.filter(|fault| fault.is_of_content()) else {
            return Ok(found);
        };
        let (meta, range) = (found.meta.clone(), found.range.clone());
        let (attributes, extensions) = (found.attributes.clone(), found.extensions.clone());
        let mut bytes = found.bytes().await?.to_vec();
        let middle = bytes.len() / 2;
        if fault == Fault::Cut {
            bytes.truncate(middle);
        } else if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 1;
        }
        let bytes = futures_util::stream::once(async move { Ok(Bytes::from(bytes)) });
        Ok(GetResult {
            payload: GetResultPayload::Stream(bytes.boxed()),
            meta,
            range,
            attributes,
            extensions,
        })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let fault = self.shared.count("ranges", location);
        let get = self.inner.get_ranges(location, ranges);
        self.shared.request((fault, location), get).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let (inner, shared) = (Arc::clone(&self.inner), Arc::clone(&self.shared));
        let delete = move |location: Result<Path>| {
            let (inner, shared) = (Arc::clone(&inner), Arc::clone(&shared));
            async move {
                let location = location?;
                let fault = shared.count("delete", &location);
                let one = futures_util::stream::once(std::future::ready(Ok(location.clone())));
                let mut deleted = inner.delete_stream(one.boxed());
                let delete = async move { deleted.next().await.unwrap() };
                shared.request((fault, &location), delete).await
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let prefix = prefix.cloned();
        let location = prefix.clone().unwrap_or_default();
        let (fault, call) = self.shared.count("list", &location);
        let (inner, shared) = (Arc::clone(&self.inner), Arc::clone(&self.shared));
        let listing = async move {
            if let Some(call) = call {
                call.await;
            }
            let listing = inner.list(prefix.as_ref());
            let Some(fault) = fault.filter(|fault| !fault.is_of_content()) else {
                return listing;
            };
            // Some of the listing arrives.
            let failed = async move {
                let fault = match fault {
                    Fault::HangsBefore | Fault::HangsAfter => Fault::HangsBefore,
                    _ => Fault::Before,
                };
                let counted = (Some(fault), None);
                shared
                    .request((counted, &location), std::future::pending())
                    .await
            };
            listing.take(1).chain(failed.into_stream()).boxed()
        };
        futures_util::stream::once(listing).flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let location = prefix.cloned().unwrap_or_default();
        let fault = self.shared.count("folders", &location);
        let listing = self.inner.list_with_delimiter(prefix);
        self.shared.request((fault, &location), listing).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    shared: Arc<Shared>,
    location: Path,
}

impl fmt::Debug for FaultyUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultyUpload")
    }
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, part: PutPayload) -> UploadPart {
        let fault = self.shared.count("part", &self.location);
        let put = self.inner.put_part(part);
        let (shared, location) = (Arc::clone(&self.shared), self.location.clone());
        async move { shared.request((fault, &location), put).await }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let fault = self.shared.count("complete", &self.location);
        let complete = self.inner.complete();
        self.shared.request((fault, &self.location), complete).await
    }

    async fn abort(&mut self) -> Result<()> {
        let fault = self.shared.count("abort", &self.location);
        let abort = self.inner.abort();
        self.shared.request((fault, &self.location), abort).await
    }
}
