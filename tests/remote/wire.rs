//! Over the wire, to servers that speak S3. `SEALSTONE_S3` has their addresses, separated by spaces, for
//! instance `http://127.0.0.1:5000`. Without it these tests do nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use sealstone::remote::{GcOptions, PushOptions, Remote, TransferProgress};
use sealstone::{Digest, Error, RemoteError, Result, Store};
use tempfile::TempDir;

use crate::{Local, open};

/// The addresses of the servers.
fn servers() -> Vec<String> {
    let servers = env::var("SEALSTONE_S3").unwrap_or_default();
    let servers: Vec<String> = servers.split_whitespace().map(str::to_owned).collect();
    if servers.is_empty() {
        println!("SEALSTONE_S3 names no server, so nothing is tested over the wire");
    }
    servers
}

/// Creates a bucket and returns a client of it.
fn bucket(server: &str, name: &str) -> AmazonS3 {
    let host = server.strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(host).unwrap();
    let request = format!(
        "PUT /{name} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    AmazonS3Builder::new()
        .with_endpoint(server)
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_access_key_id("test")
        .with_secret_access_key("test")
        .with_bucket_name(name)
        .build()
        .unwrap()
}

/// A name that no other run of the tests has used.
fn new_name(what: &str) -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    format!("{what}-{}", since.unwrap().as_nanos())
}

fn remote(store: AmazonS3) -> Remote {
    Remote::with_object_store(Arc::new(store), Duration::from_millis(10))
}

fn go_on<P>(_: &P) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn digests(store: &Store) -> BTreeSet<Digest> {
    store.digests().map(Result::unwrap).collect()
}

#[test]
fn a_store_is_pushed_pulled_checked_and_collected() {
    for server in servers() {
        let remote = remote(bucket(&server, &new_name("life")));
        let local = Local::new();
        local.put(1);
        // In three parts.
        let content: Vec<u8> = (0..17_u32 << 20).map(|at| (at * 7 % 251) as u8).collect();
        local.store.put(&content).unwrap();
        let first = remote.push(&local.store, "main").unwrap();
        assert_eq!(first.number, 2);
        local.put(2);
        let second = remote.push(&local.store, "main").unwrap();
        assert!(second.uploaded_segments < second.segments);

        let root = TempDir::new().unwrap();
        remote.pull("main", root.path()).unwrap();
        assert_eq!(digests(&open(&root)), local.digests());
        let report = remote.verify("main", go_on).unwrap();
        assert!(report.is_clean(), "{server}: {report:?}");
        assert_eq!(report.objects, 41);

        let kept: BTreeSet<Digest> = local.digests().into_iter().step_by(2).collect();
        let compaction = local.store.begin_compaction().unwrap();
        compaction.finish(|digest| kept.contains(digest)).unwrap();
        remote.push(&local.store, "main").unwrap();
        let refs = remote.list().unwrap();
        assert_eq!((refs.len(), refs[0].objects), (1, kept.len() as u64));
        // Times have the precision of a second.
        std::thread::sleep(Duration::from_millis(2100));
        assert_eq!(remote.gc(&GcOptions::new(), go_on).unwrap().files, 0);
        let at_once = GcOptions::new().grace(Duration::ZERO);
        let removed = remote.gc(&at_once, go_on).unwrap();
        assert!(
            removed.files > 0 && removed.manifests > 0,
            "{server}: {removed:?}"
        );
        assert!(remote.verify("main", go_on).unwrap().is_clean());
        local.put(3);
        remote.push(&local.store, "main").unwrap();
        let other = TempDir::new().unwrap();
        remote.pull("main", other.path()).unwrap();
        assert_eq!(digests(&open(&other)), local.digests());
    }
}

/// Eight stores take one ref over at once. `SEALSTONE_S3_RACES` is the number of races.
#[test]
fn h71_of_stores_that_take_a_ref_over_at_once_one_wins_and_the_others_are_fenced() {
    let races = env::var("SEALSTONE_S3_RACES").map_or(5, |races| races.parse().unwrap());
    for server in servers() {
        let remote = remote(bucket(&server, &new_name("races")));
        let stores: Vec<Local> = (0..8).map(|_| Local::new()).collect();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        let begin = Instant::now();
        let mut wins = 0;
        for race in 0..races {
            for (number, local) in (0_u8..).zip(&stores) {
                local.store.put([race, number]).unwrap();
            }
            let tasks = stores.iter().map(|local| {
                let (remote, store) = (remote.clone(), local.store.clone());
                runtime.spawn(async move {
                    let options = PushOptions::new().take_over(true);
                    let pushed =
                        remote.push_async(&store, "main", &options, go_on::<TransferProgress>);
                    pushed.await
                })
            });
            let pushed: Vec<Result<_>> = runtime
                .block_on(join_all(tasks.collect::<Vec<_>>()))
                .into_iter()
                .map(|joined| joined.unwrap())
                .collect();
            // A push that begins after another one has won takes that over, so more than one can win.
            let mut winners = BTreeMap::new();
            for (local, pushed) in stores.iter().zip(pushed) {
                match pushed {
                    Ok(report) => {
                        let other = winners.insert(report.number, local);
                        assert!(other.is_none(), "{server}: two are {}", report.number);
                    }
                    Err(Error::Remote(RemoteError::Fenced { .. })) => {}
                    Err(error) => panic!("{server}: {error:?}"),
                }
            }
            wins += winners.len();
            let (number, last) = winners.last_key_value().expect("one wins");
            let root = TempDir::new().unwrap();
            assert_eq!(remote.pull("main", root.path()).unwrap().number, *number);
            assert_eq!(digests(&open(&root)), last.digests(), "{server}");
        }
        println!(
            "{server}: {races} races, {wins} wins, {:?}",
            begin.elapsed()
        );
    }
}
