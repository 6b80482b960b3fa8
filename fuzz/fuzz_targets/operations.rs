//! Any sequence of operations on a store, compared with a `BTreeMap`. A read-only handle beside the
//! writer sees everything that was synced before it was refreshed.
#![no_main]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use sealstone::{Digest, Error, Options, ReadMode, Store, VerifyReads};
use sealstone_fuzz::{content, options, scratch};

const OPERATIONS_MAX: usize = 32;

/// A content by number and length. There are few of them, so that the same ones are put again.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Which {
    number: u8,
    len: u8,
}

impl Which {
    fn content(self) -> Vec<u8> {
        // Some contents exceed the size of a segment.
        let len = usize::from(self.len);
        content(
            self.number % 32,
            if self.number % 8 == 7 { len * 8 } else { len },
        )
    }
}

#[derive(Arbitrary, Debug)]
enum Operation {
    Put(Which),
    PutMany(Vec<Which>),
    Get(Which),
    GetMany(Vec<Which>),
    Contains(Which),
    Flush,
    Sync,
    Reopen {
        uses_pread: bool,
        verifies_once: bool,
    },
    Drop,
    Compact {
        bit: u8,
    },
    CompactAround {
        bit: u8,
        put: Vec<Which>,
    },
    Walk,
    Find {
        of: Which,
        digits: u8,
    },
    VerifyReads,
    Refresh,
    ReaderGet(Which),
    Checkpoint,
}

#[derive(Arbitrary, Debug)]
struct Input {
    is_indexed_at_once: bool,
    operations: Vec<Operation>,
}

type Model = BTreeMap<Digest, Vec<u8>>;

struct Run<'a> {
    root: &'a Path,
    options: Options,
    /// `None` only while the store is reopened.
    store: Option<Store>,
    model: Model,
    /// The read-only handle, and the contents of the store when it was last refreshed after a sync.
    reader: Option<(Store, Model)>,
    checkpoints: usize,
}

fn is_kept(digest: &Digest, bit: u8) -> bool {
    digest.as_bytes()[0] >> (bit % 8) & 1 == 0
}

fn assert_is(store: &Store, digest: &Digest, expected: Option<&Vec<u8>>) {
    let found = store.get(digest).expect("nothing is damaged");
    assert_eq!(found.as_deref(), expected.map(Vec::as_slice));
    assert_eq!(
        store.contains(digest).expect("nothing is damaged"),
        expected.is_some()
    );
}

fn assert_walk_is(store: &Store, model: &Model) {
    let mut walked = Model::new();
    for object in store {
        let object = object.expect("nothing is damaged");
        let before = walked.insert(*object.digest(), object.to_vec());
        assert!(before.is_none(), "{} was given twice", object.digest());
    }
    assert!(walked == *model, "a walk gives something else");
    assert_eq!(store.digests().count(), model.len());
    assert_eq!(store.len(), model.len() as u64);
}

impl Run<'_> {
    fn store(&self) -> &Store {
        self.store.as_ref().expect("it is open between operations")
    }

    fn put(&mut self, content: Vec<u8>) {
        let digest = self.store().put(&content).expect("nothing fails");
        assert_eq!(digest, Digest::of(&content));
        self.model.insert(digest, content);
    }

    fn put_many(&mut self, which: &[Which]) {
        let contents = which.iter().take(16).map(|which| which.content());
        let contents: Vec<Vec<u8>> = contents.collect();
        let digests = self.store().put_many(&contents).expect("nothing fails");
        assert_eq!(digests.len(), contents.len());
        for (digest, content) in digests.into_iter().zip(contents) {
            assert_eq!(digest, Digest::of(&content));
            self.model.insert(digest, content);
        }
    }

    fn get_many(&self, which: &[Which]) {
        let digests = which.iter().map(|which| Digest::of(&which.content()));
        let digests: Vec<Digest> = digests.collect();
        let found = self.store().get_many(&digests);
        assert_eq!(found.len(), digests.len());
        for (digest, found) in digests.iter().zip(found) {
            let found = found.expect("nothing is damaged");
            let expected = self.model.get(digest).map(Vec::as_slice);
            assert_eq!(found.as_deref(), expected);
        }
    }

    fn reopen(&mut self, closes: bool) {
        let store = self.store.take().expect("it is open between operations");
        if closes {
            store.close().expect("nothing fails");
        } else {
            // The process did not crash, so everything that was written is there.
            drop(store);
        }
        let store = self.options.open(self.root).expect("nothing is damaged");
        self.store = Some(store);
    }

    fn compact(&mut self, bit: u8, put: &[Which]) {
        let compaction = self.store().begin_compaction().expect("none is running");
        let before = std::mem::take(&mut self.model);
        self.put_many(put);
        let pinned = std::mem::replace(&mut self.model, before);
        let keep = |digest: &Digest| is_kept(digest, bit);
        compaction.finish(keep).expect("nothing is damaged");
        self.model.retain(|digest, _| is_kept(digest, bit));
        self.model.extend(pinned);
    }

    fn find(&self, digest: &Digest, digits: u8) {
        let prefix = &digest.to_string()[..1 + usize::from(digits) % 64];
        let mut matching = self.model.keys();
        let mut matching = matching
            .by_ref()
            .filter(|d| d.to_string().starts_with(prefix));
        let (first, second) = (matching.next(), matching.next());
        match self.store().find(prefix) {
            Ok(found) => {
                assert_eq!(found.as_ref(), first);
                assert!(second.is_none());
            }
            Err(Error::AmbiguousPrefix { candidates, .. }) => {
                assert!(second.is_some() && candidates.len() > 1);
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn refresh(&mut self) {
        self.store().sync().expect("nothing fails");
        let reader = match self.reader.take() {
            Some((reader, _)) => {
                reader.refresh().expect("nothing is damaged");
                reader
            }
            None => {
                let options = self.options.clone().read_only(true);
                options.open(self.root).expect("nothing is damaged")
            }
        };
        assert_walk_is(&reader, &self.model);
        self.reader = Some((reader, self.model.clone()));
    }

    fn checkpoint(&mut self) {
        let target = self.root.join(format!("checkpoint-{}", self.checkpoints));
        self.checkpoints += 1;
        self.store().checkpoint(&target).expect("nothing fails");
        let options = self.options.clone().read_only(true);
        let copy = options.open(target).expect("nothing is damaged");
        assert_walk_is(&copy, &self.model);
    }

    fn step(&mut self, operation: &Operation) {
        match operation {
            Operation::Put(which) => self.put(which.content()),
            Operation::PutMany(which) => self.put_many(which),
            Operation::Get(which) | Operation::Contains(which) => {
                let digest = Digest::of(&which.content());
                assert_is(self.store(), &digest, self.model.get(&digest));
            }
            Operation::GetMany(which) => self.get_many(which),
            Operation::Flush => self.store().flush().expect("nothing fails"),
            Operation::Sync => self.store().sync().expect("nothing fails"),
            Operation::Reopen {
                uses_pread,
                verifies_once,
            } => {
                let modes = [ReadMode::Mmap, ReadMode::Pread];
                let verify = [VerifyReads::EveryRead, VerifyReads::FirstRead];
                let options = self.options.clone();
                let options = options.read_mode(modes[usize::from(*uses_pread)]);
                self.options = options.verify_reads(verify[usize::from(*verifies_once)]);
                self.reopen(true);
            }
            Operation::Drop => self.reopen(false),
            Operation::Compact { bit } => self.compact(*bit, &[]),
            Operation::CompactAround { bit, put } => self.compact(*bit, put),
            Operation::Walk => assert_walk_is(self.store(), &self.model),
            Operation::Find { of, digits } => self.find(&Digest::of(&of.content()), *digits),
            Operation::VerifyReads => {
                let report = self.store().verify(|_| ControlFlow::Continue(()));
                let report = report.expect("nothing fails");
                assert!(report.is_clean(), "{report:?}");
            }
            Operation::Refresh => self.refresh(),
            Operation::ReaderGet(which) => {
                // The handle keeps what it saw, whatever was compacted since.
                if let Some((reader, model)) = &self.reader {
                    let digest = Digest::of(&which.content());
                    assert_is(reader, &digest, model.get(&digest));
                }
            }
            Operation::Checkpoint => self.checkpoint(),
        }
    }
}

fuzz_target!(|input: Input| {
    let folder = scratch();
    let options = options(input.is_indexed_at_once);
    let store = options.open(folder.path()).expect("the folder is empty");
    let mut run = Run {
        root: folder.path(),
        options,
        store: Some(store),
        model: Model::new(),
        reader: None,
        checkpoints: 0,
    };
    for operation in input.operations.iter().take(OPERATIONS_MAX) {
        run.step(operation);
    }
    run.reopen(true);
    assert_walk_is(run.store(), &run.model);
    for (digest, content) in &run.model {
        assert_is(run.store(), digest, Some(content));
    }
});
