//! Two stores that push to one ref, pulls and collections, their requests in random order.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ops::ControlFlow;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::future::{Either, join_all, select};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sealstone::remote::format::RefManifest;
use sealstone::remote::{GcOptions, PushOptions, Remote};
use sealstone::{Digest, Error, RemoteError, Result, Store};
use tempfile::TempDir;

use crate::bucket::Bucket;
use crate::faulty::Faulty;
use crate::{Local, pull, remote, runtime};

/// What the actors of a schedule have seen.
#[derive(Default)]
struct Tally {
    /// What each push that succeeded has pushed, by the number of its manifest.
    pushed: BTreeMap<u64, BTreeSet<Digest>>,
    /// What somebody has tried to push.
    tried: BTreeSet<BTreeSet<Digest>>,
    outcomes: BTreeMap<&'static str, usize>,
    /// How many stores have stopped pushing.
    stopped: usize,
}

impl Tally {
    fn count(&mut self, outcome: &'static str) {
        *self.outcomes.entry(outcome).or_default() += 1;
    }
}

/// An actor with a bucket of its own: each request lets others go first for a while.
struct Actor {
    bucket: Bucket,
    faulty: Arc<Faulty>,
    remote: Remote,
    random: StdRng,
    tally: Arc<Mutex<Tally>>,
}

impl Actor {
    fn new(bucket: &Bucket, seed: u64, tally: &Arc<Mutex<Tally>>) -> Self {
        let faulty = Faulty::new(bucket.0.clone());
        faulty.dawdle(seed);
        Self {
            bucket: bucket.clone(),
            remote: remote(faulty.clone()),
            faulty,
            random: StdRng::seed_from_u64(seed),
            tally: Arc::clone(tally),
        }
    }

    /// Pushes several times. One push of four dies at some request.
    async fn push(mut self, local: Local) {
        for round in 0..4 {
            local
                .store
                .put(self.random.random::<u64>().to_le_bytes())
                .unwrap();
            if round == 2 {
                let compaction = local.store.begin_compaction().unwrap();
                let kept = self.random.random::<u8>();
                compaction
                    .finish(|digest| digest.as_bytes()[0] > kept)
                    .unwrap();
            }
            let content = local.digests();
            self.tally.lock().unwrap().tried.insert(content.clone());
            let options = PushOptions::new().take_over(self.random.random_bool(0.5));
            let dies_at = if self.random.random_bool(0.25) {
                self.random.random_range(0..20)
            } else {
                usize::MAX
            };
            self.faulty.die_at(dies_at);
            let pushed = {
                let go_on = |_: &_| ControlFlow::Continue(());
                let push = pin!(
                    self.remote
                        .push_async(&local.store, "main", &options, go_on)
                );
                let died = pin!(self.faulty.hangs());
                match select(push, died).await {
                    Either::Left((pushed, _)) => Some(pushed),
                    Either::Right(_) => None,
                }
            };
            let mut tally = self.tally.lock().unwrap();
            match pushed {
                Some(Ok(report)) => {
                    let other = tally.pushed.insert(report.number, content);
                    assert!(other.is_none(), "two pushes are manifest {}", report.number);
                    tally.count("pushed");
                }
                Some(Err(Error::Remote(RemoteError::Fenced { .. }))) => tally.count("fenced"),
                Some(Err(Error::Remote(RemoteError::CollectedTooOften { .. }))) => {
                    tally.count("collected too often");
                }
                Some(Err(error)) => panic!("{error:?}"),
                None => tally.count("died"),
            }
        }
        self.tally.lock().unwrap().stopped += 1;
    }

    /// Waits for a moment. Returns false when all stores have stopped pushing.
    async fn goes_on(&mut self) -> bool {
        let pause = Duration::from_micros(self.random.random_range(0..3000));
        tokio::time::sleep(pause).await;
        self.tally.lock().unwrap().stopped < 2
    }

    async fn pull(mut self) {
        while self.goes_on().await {
            let root = TempDir::new().unwrap();
            let pulled = pull(&self.remote, root.path()).await;
            let mut tally = self.tally.lock().unwrap();
            match pulled {
                Ok(report) => {
                    let store = Store::open(root.path()).unwrap();
                    let content = store.digests().map(Result::unwrap).collect();
                    let known = tally.pushed.get(&report.number);
                    assert!(known.is_none_or(|known| *known == content));
                    // The first manifest of the ref lists nothing.
                    assert!(content.is_empty() || tally.tried.contains(&content));
                    tally.count("pulled");
                }
                Err(Error::Remote(RemoteError::NoRef { .. })) => tally.count("no ref yet"),
                Err(Error::Remote(RemoteError::Collected { .. })) => tally.count("collected"),
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    async fn read(mut self) {
        let cache = TempDir::new().unwrap();
        while self.goes_on().await {
            let outcome = match self.read_once(cache.path()).await {
                Ok(()) => "read",
                Err(Error::Remote(RemoteError::NoRef { .. })) => "no ref yet",
                Err(Error::Remote(RemoteError::Collected { .. })) => "collected while it was read",
                Err(error) => panic!("{error:?}"),
            };
            self.tally.lock().unwrap().count(outcome);
        }
    }

    /// Reads all that a ref lists, one by one and together.
    async fn read_once(&mut self, cache: &Path) -> Result<()> {
        let go_on = |_: &_| ControlFlow::Continue(());
        let reader = self.remote.reader_async("main", cache, 4 << 20, go_on);
        let reader = reader.await?;
        let number = reader.number();
        let digests: Vec<Digest> = reader.iter_async().try_collect().await?;
        for digest in &digests {
            match reader.get_async(digest).await? {
                Some(object) => assert_eq!(Digest::of(&object[..]), *digest),
                // It is not listed any more.
                None => assert!(reader.number() > number),
            }
        }
        let found = reader.get_many_async(&digests).await?;
        let is_all = found.iter().all(Option::is_some);
        assert!(is_all || reader.number() > number);
        reader.refresh_async().await.map(drop)
    }

    async fn collect(mut self) {
        let options = GcOptions::new().grace(Duration::ZERO);
        while self.goes_on().await {
            let go_on = |_: &_| ControlFlow::Continue(());
            let collected = self.remote.gc_async(&options, go_on).await;
            let is_whole = self.bucket.check("main").await;
            let mut tally = self.tally.lock().unwrap();
            assert!(
                is_whole.is_none_or(|content| content.is_empty() || tally.tried.contains(&content))
            );
            match collected {
                Ok(report) if report.files > 0 => tally.count("removed"),
                Ok(_) => tally.count("nothing to remove"),
                Err(Error::Remote(RemoteError::Busy { .. })) => tally.count("busy"),
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}

fn run(seed: u64, outcomes: &mut BTreeMap<&'static str, usize>) {
    let bucket = Bucket::new();
    let tally = Arc::default();
    let actor = |number: u64| Actor::new(&bucket, seed * 10 + number, &tally);
    let (one, other) = (Local::new(), Local::new());
    runtime().block_on(async {
        join_all([
            Box::pin(actor(0).push(one)) as std::pin::Pin<Box<dyn Future<Output = ()>>>,
            Box::pin(actor(1).push(other)),
            Box::pin(actor(2).pull()),
            Box::pin(actor(3).collect()),
            Box::pin(actor(4).read()),
        ])
        .await;
        let newest = bucket.newest("main").await;
        let content = bucket.check("main").await;
        let tally = std::mem::take(&mut *tally.lock().unwrap());
        for (outcome, times) in &tally.outcomes {
            *outcomes.entry(outcome).or_default() += times;
        }
        let (Some(newest), Some(content)) = (newest, content) else {
            return;
        };
        // A collection repeats the push that made the state, also when it is the newest manifest.
        let mut numbers = BTreeMap::new();
        for name in bucket.names("refs/main").await {
            let manifest = RefManifest::parse(&bucket.read(&name).await).unwrap();
            if manifest.nonce == manifest.push {
                numbers.insert(manifest.push, manifest.number);
            }
        }
        for number in tally.pushed.keys() {
            assert!(numbers.values().any(|pushed| pushed == number), "{number}");
        }
        let made_by = numbers[&newest.push];
        match tally.pushed.last_key_value() {
            Some((&number, pushed)) if number == made_by => assert_eq!(*pushed, content),
            last => {
                // A push that died behind the last one that was acknowledged, or in front of all, made it.
                // The first manifest of the ref lists nothing.
                assert!(last.is_none_or(|(&number, _)| number < made_by));
                assert!(made_by == 1 || tally.outcomes.contains_key("died"));
                assert!(content.is_empty() || tally.tried.contains(&content));
            }
        }
    });
}

/// `SEALSTONE_REMOTE_SCHEDULES` runs more of them, `SEALSTONE_REMOTE_SEED` begins with another.
#[test]
fn h70_h74_pushes_pulls_and_collections_in_any_order_leave_a_whole_ref() {
    let number = |name: &str, default| {
        let value = env::var(name).ok();
        value.map_or(default, |value| value.parse().unwrap())
    };
    let first = number("SEALSTONE_REMOTE_SEED", 0);
    let mut outcomes = BTreeMap::new();
    for seed in first..first + number("SEALSTONE_REMOTE_SCHEDULES", 100) {
        println!("seed {seed}");
        run(seed, &mut outcomes);
    }
    println!("{outcomes:?}");
    for outcome in ["pushed", "fenced", "died", "pulled", "read", "removed"] {
        assert!(outcomes.contains_key(outcome), "{outcome}: {outcomes:?}");
    }
}
