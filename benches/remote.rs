//! Pushes, pulls and reads over the wire, beside plain copies of the same files.
//!
//! `.ci/with_s3 cargo bench --bench remote --all-features` starts a server that speaks S3 on
//! loopback and runs this against it; without `SEALSTONE_S3` it does nothing. It takes some minutes and
//! 12 GiB of disk for 1,000,000 objects of 1 KiB; a number behind `--` is another number of objects.
//!
//! The plain copy uses the same client with parts of the same length, as many at once, so what a push or a
//! pull takes longer is what checking costs. The two alternate, three rounds of each.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Name;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, WriteMultipart,
};
use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};
use sealstone::remote::{Remote, RemoteReader};
use sealstone::{Digest, Store};

/// Length of an object.
const OBJECT_BYTES: usize = 1024;
const ROUNDS: usize = 3;
/// The lengths and numbers of pushes and pulls.
const PART_BYTES: u64 = 8 << 20;
const PARTS_AT_ONCE: usize = 2;
const FILES_AT_ONCE: usize = 4;

fn main() {
    let servers = env::var("SEALSTONE_S3").unwrap_or_default();
    let Some(server) = servers.split_whitespace().last() else {
        println!("SEALSTONE_S3 names no server; see the comment of this program");
        return;
    };
    let count = env::args().find_map(|word| word.parse().ok());
    let count: u32 = count.unwrap_or(1_000_000);
    let root = tempfile::tempdir().expect("a folder");
    let store = Store::open(root.path().join("store")).expect("a new store");
    let mut digests = fill(&store, 0, count);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    copies(server, &store, root.path(), &runtime);
    second_push(server, &store, &mut digests);
    reads(server, &store, &digests, root.path(), count);
}

/// Puts objects of random bytes, and returns their digests.
fn fill(store: &Store, seed: u64, count: u32) -> Vec<Digest> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut digests = Vec::new();
    for _ in 0..count.div_ceil(1000) {
        let contents: Vec<Vec<u8>> = (0..1000)
            .map(|_| {
                let mut content = vec![0; OBJECT_BYTES];
                random.fill_bytes(&mut content);
                content
            })
            .collect();
        digests.extend(store.put_many(&contents).expect("a put"));
    }
    store.sync().expect("a sync");
    digests
}

/// The first push and pull, beside plain copies.
fn copies(server: &str, store: &Store, root: &Path, runtime: &tokio::runtime::Runtime) {
    let (mut pushes, mut uploads, mut pulls, mut downloads) = (vec![], vec![], vec![], vec![]);
    let mut bytes = 0;
    for round in 0..ROUNDS {
        let remote = remote(bucket(server, &format!("push{round}")));
        let begin = Instant::now();
        let report = remote.push(store, "main").expect("a push");
        pushes.push(begin.elapsed());
        bytes = report.uploaded_bytes;

        let plain = bucket(server, &format!("copy{round}"));
        let files = files(&store.root().join("segments"));
        let begin = Instant::now();
        runtime.block_on(upload(&plain, &files));
        uploads.push(begin.elapsed());

        let pulled = root.join("pulled");
        let begin = Instant::now();
        let report = remote.pull("main", &pulled).expect("a pull");
        pulls.push(begin.elapsed());
        let same = files_of_segments(&pulled) == files_of_segments(store.root());
        println!(
            "round {round}: {} segments pulled, the same bytes: {same}",
            report.segments
        );
        assert!(same);
        fs::remove_dir_all(&pulled).expect("a removal");

        let copied = root.join("copied");
        fs::create_dir(&copied).expect("a folder");
        let data: Vec<PathBuf> = files
            .into_iter()
            .filter(|file| has_ending(file, "dat"))
            .collect();
        let begin = Instant::now();
        runtime.block_on(download(&plain, &data, &copied));
        downloads.push(begin.elapsed());
        fs::remove_dir_all(&copied).expect("a removal");
    }
    #[expect(clippy::cast_precision_loss, reason = "figures")]
    let rate = |times: &mut Vec<Duration>| {
        times.sort();
        bytes as f64 / 1e6 / times[times.len() / 2].as_secs_f64()
    };
    let rates = [&mut pushes, &mut uploads, &mut pulls, &mut downloads].map(rate);
    let [push, upload, pull, download] = rates;
    println!(
        "push {push:.0} MB/s, plain upload {upload:.0}: {:.2}",
        push / upload
    );
    println!(
        "pull {pull:.0} MB/s, plain download {download:.0}: {:.2}",
        pull / download
    );
}

/// Changes the store, compacts it, and pushes again.
fn second_push(server: &str, store: &Store, digests: &mut Vec<Digest>) {
    let remote = remote(client(server, "push0"));
    let segments = |store: &Store| -> BTreeMap<u32, u64> {
        let segments = store.stats().segments.into_iter();
        segments
            .map(|segment| (segment.id, segment.data_bytes))
            .collect()
    };
    let before = segments(store);
    let new = u32::try_from(digests.len() / 10).unwrap_or(u32::MAX);
    // The first tenth is dropped, so that some segments stay as they are.
    let dropped: std::collections::HashSet<Digest> = digests.drain(..digests.len() / 10).collect();
    digests.extend(fill(store, 1, new));
    let compaction = store.begin_compaction().expect("a compaction");
    compaction
        .finish(|digest| !dropped.contains(digest))
        .expect("a compaction");
    let begin = Instant::now();
    let report = remote.push(store, "main").expect("a push");
    let time = begin.elapsed();
    let after = segments(store);
    let is_new = |(id, bytes): &(&u32, &u64)| **bytes > 0 && before.get(id) != Some(bytes);
    let new = after.iter().filter(is_new);
    let new_bytes: u64 = new.clone().map(|(_, bytes)| bytes).sum();
    println!(
        "second push: {} of {} segments uploaded ({} are new, {new_bytes} bytes of data), {} bytes, {time:.2?}",
        report.uploaded_segments,
        report.segments,
        new.count(),
        report.uploaded_bytes
    );
    let again = remote.push(store, "main").expect("a push");
    println!(
        "third push, of no change: {} bytes uploaded",
        again.uploaded_bytes
    );
}

/// A cold reader.
fn reads(server: &str, store: &Store, digests: &[Digest], root: &Path, count: u32) {
    let slow = Arc::new(Slow {
        inner: client(server, "push0"),
        delay: Duration::from_millis(20),
        requests: AtomicU64::new(0),
    });
    let remote = Remote::with_object_store(slow.clone(), Duration::from_millis(200));
    let cache = root.join("cache");
    let requests = || slow.requests.swap(0, Ordering::Relaxed);
    let begin = Instant::now();
    let reader = remote.reader("main", &cache, 4 << 30).expect("a reader");
    println!("open: {} requests, {:.0?}", requests(), begin.elapsed());

    let mut random = SmallRng::seed_from_u64(2);
    let mut one = || digests[random.random_range(0..digests.len())];
    let hits: Vec<Digest> = (0..1000).map(|_| one()).collect();
    let begin = Instant::now();
    for digest in &hits {
        reader.get(digest).expect("a read").expect("an object");
    }
    println!(
        "1,000 hits: {} requests, {:.1?} each",
        requests(),
        begin.elapsed() / 1000
    );
    let begin = Instant::now();
    for number in 0..100_000_u32 {
        assert!(
            reader
                .get(Digest::of(number.to_le_bytes()))
                .expect("a read")
                .is_none()
        );
    }
    println!(
        "100,000 misses: {} requests, {:.2?} each",
        requests(),
        begin.elapsed() / 100_000
    );
    let batch: Vec<Digest> = (0..1000).map(|_| one()).collect();
    let begin = Instant::now();
    let found = reader.get_many(&batch).expect("a batch");
    assert!(found.iter().all(Option::is_some));
    println!(
        "a batch of 1,000: {} requests, {:.0?}",
        requests(),
        begin.elapsed()
    );
    warm(&reader, store, &hits);
    drop(reader);
    bound(
        client(server, "push0"),
        digests,
        &root.join("bounded"),
        count,
    );
}

/// Reads from the cache, beside reads from the store.
fn warm(reader: &RemoteReader, store: &Store, hits: &[Digest]) {
    let (mut cached, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..15 {
        let begin = Instant::now();
        for digest in hits {
            assert!(reader.get(digest).expect("a read").is_some());
        }
        cached.push(begin.elapsed());
        let begin = Instant::now();
        for digest in hits {
            assert!(store.get(digest).expect("a read").is_some());
        }
        plain.push(begin.elapsed());
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2] / u32::try_from(hits.len()).unwrap_or(1)
    };
    let (cached, plain) = (median(&mut cached), median(&mut plain));
    let ratio = cached.as_secs_f64() / plain.as_secs_f64();
    println!("warm: {cached:.0?} a read, from a store {plain:.0?}: {ratio:.2}");
}

/// Whether a cache that is too small for what is read stays within its bound.
fn bound(client: AmazonS3, digests: &[Digest], cache: &Path, count: u32) {
    let bound = u64::from(count) * OBJECT_BYTES as u64 / 8;
    let remote = remote(client);
    let reader = remote.reader("main", cache, bound).expect("a reader");
    let (most, looks, is_done) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let begin = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                most.fetch_max(bytes_on_disk(cache), Ordering::Relaxed);
                looks.fetch_add(1, Ordering::Relaxed);
            }
        });
        let readers: Vec<_> = (0..8_u64)
            .map(|seed| {
                let reader = &reader;
                scope.spawn(move || {
                    let mut random = SmallRng::seed_from_u64(seed);
                    for _ in 0..100_000 / 8 {
                        // Half of the reads ask for a twentieth of the objects.
                        let all = digests.len();
                        let among = if random.random() { all } else { all / 20 };
                        let digest = digests[random.random_range(0..among)];
                        assert!(reader.get(digest).expect("a read").is_some());
                    }
                })
            })
            .collect();
        for reader in readers {
            reader.join().expect("no panic");
        }
        is_done.store(true, Ordering::Relaxed);
    });
    let (most, looks) = (most.into_inner(), looks.into_inner());
    println!(
        "100,000 reads through a cache of {bound} bytes: at most {most} in {looks} looks, {:.1?}",
        begin.elapsed()
    );
    assert!(most <= bound);
}

fn client(server: &str, name: &str) -> AmazonS3 {
    AmazonS3Builder::new()
        .with_endpoint(server)
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_access_key_id("test")
        .with_secret_access_key("test")
        .with_bucket_name(name)
        .build()
        .expect("a client")
}

/// Creates a bucket and returns a client of it.
fn bucket(server: &str, name: &str) -> AmazonS3 {
    let host = server.strip_prefix("http://").expect("an address");
    let mut connection = TcpStream::connect(host).expect("a server");
    let request = format!(
        "PUT /{name} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    connection.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("an answer");
    client(server, name)
}

fn remote(client: AmazonS3) -> Remote {
    Remote::with_object_store(Arc::new(client), Duration::from_millis(200))
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|own| own == ending)
}

/// The files of a store that a push uploads.
fn files(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).expect("a folder");
    let files = files.map(|file| file.expect("an entry").path());
    let is_pushed = |path: &PathBuf| {
        ["dat", "idx", "run"]
            .iter()
            .any(|own| has_ending(path, own))
    };
    files.filter(is_pushed).collect()
}

fn files_of_segments(root: &Path) -> BTreeMap<PathBuf, Digest> {
    let files = files(&root.join("segments")).into_iter();
    let files = files.filter(|file| !has_ending(file, "run"));
    let name = |file: &Path| PathBuf::from(file.file_name().expect("a name"));
    let digests = files.map(|file| (name(&file), Digest::of(fs::read(&file).expect("a file"))));
    // The segment that is appended to is empty, and has an id of its own in each store.
    digests
        .filter(|(_, digest)| *digest != Digest::of(""))
        .collect()
}

async fn upload(client: &AmazonS3, files: &[PathBuf]) {
    let uploads = files.iter().map(|path| async move {
        let name = Name::from(path.file_name().expect("a name").to_string_lossy().as_ref());
        let file = File::open(path).expect("a file");
        let len = file.metadata().expect("a length").len();
        let part = |offset: u64| {
            let mut part =
                vec![0; usize::try_from(PART_BYTES.min(len - offset)).expect("a length")];
            file.read_exact_at(&mut part, offset).expect("a read");
            Bytes::from(part)
        };
        if len <= PART_BYTES {
            client.put(&name, part(0).into()).await.expect("an upload");
            return;
        }
        let upload = client.put_multipart(&name).await.expect("an upload");
        let mut writer = WriteMultipart::new_with_chunk_size(upload, 8 << 20);
        let mut offset = 0;
        while offset < len {
            writer
                .wait_for_capacity(PARTS_AT_ONCE)
                .await
                .expect("an upload");
            writer.put(part(offset));
            offset += PART_BYTES;
        }
        writer.finish().await.expect("an upload");
    });
    let uploads = futures_util::stream::iter(uploads).buffer_unordered(FILES_AT_ONCE);
    uploads.collect::<()>().await;
}

async fn download(client: &AmazonS3, files: &[PathBuf], target: &Path) {
    let downloads = files.iter().map(|path| async move {
        let name = path.file_name().expect("a name");
        let len = path.metadata().expect("a length").len();
        let file = File::create(target.join(name)).expect("a file");
        let name = Name::from(name.to_string_lossy().as_ref());
        let parts = (0..len.div_ceil(PART_BYTES)).map(|part| part * PART_BYTES);
        let reads = parts.map(|begin| {
            let name = name.clone();
            async move {
                let range = begin..len.min(begin + PART_BYTES);
                client
                    .get_range(&name, range)
                    .await
                    .map(|part| (begin, part))
            }
        });
        let mut reads = std::pin::pin!(futures_util::stream::iter(reads).buffered(PARTS_AT_ONCE));
        while let Some((begin, part)) = reads.try_next().await.expect("a download") {
            file.write_all_at(&part, begin).expect("a write");
        }
        file.sync_all().expect("a sync");
    });
    let downloads = futures_util::stream::iter(downloads).buffer_unordered(FILES_AT_ONCE);
    downloads.collect::<()>().await;
}

fn bytes_on_disk(folder: &Path) -> u64 {
    let mut sum = 0;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sum += bytes_on_disk(&path);
        } else if let Ok(status) = path.metadata() {
            sum += status
                .len()
                .max(std::os::unix::fs::MetadataExt::blocks(&status) * 512);
        }
    }
    sum
}

/// Counts requests, and makes each wait before it goes out.
#[derive(Debug)]
struct Slow {
    inner: AmazonS3,
    delay: Duration,
    requests: AtomicU64,
}

impl Slow {
    async fn wait(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(self.delay).await;
    }
}

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slow")
    }
}

#[async_trait]
impl ObjectStore for Slow {
    async fn put_opts(
        &self,
        name: &Name,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.wait().await;
        self.inner.put_opts(name, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        name: &Name,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.wait().await;
        self.inner.put_multipart_opts(name, options).await
    }

    async fn get_opts(&self, name: &Name, options: GetOptions) -> object_store::Result<GetResult> {
        self.wait().await;
        self.inner.get_opts(name, options).await
    }

    fn delete_stream(
        &self,
        names: BoxStream<'static, object_store::Result<Name>>,
    ) -> BoxStream<'static, object_store::Result<Name>> {
        self.inner.delete_stream(names)
    }

    fn list(&self, prefix: Option<&Name>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Name>) -> object_store::Result<ListResult> {
        self.wait().await;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &Name,
        to: &Name,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
