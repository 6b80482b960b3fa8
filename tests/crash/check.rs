//! Checks that recovery of an image keeps what was promised.

use std::any::Any;
use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use sealstone::test_seam::Operations;
use sealstone::{Digest, Error, Options, Problem, Repair, Store};

use crate::common::workload::{is_damage, names};
use crate::image::Image;
use crate::known::Known;
use crate::workload::{STORE, Shape};

pub fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("?"))
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn text(error: Error) -> String {
    error.to_string()
}

fn require(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

/// An image in the folder `root`, and what the application knows of it.
pub struct Checking<'a> {
    pub root: &'a Path,
    pub operations: Arc<dyn Operations>,
    pub shape: Shape,
    pub known: &'a Known,
    pub image: &'a Image,
    /// Whether data files may differ from what was written to them, beyond the synced part. Where a
    /// journal does not cover a write, the difference can be a record as well: zeros are the empty
    /// object, which may have been dropped before, and other bytes an object that nobody ever put.
    /// Each has the digest of its bytes, and nobody asks for it. This is the only reason for
    /// either.
    pub may_hold_garbage: bool,
}

impl Checking<'_> {
    /// Checks the image, and what the engine can do with it afterwards. Returns how many objects
    /// are there that nobody put.
    ///
    /// `variant` chooses the checks that cost time, which only a part of the images gets.
    pub fn check(&self, variant: u64) -> Result<usize, String> {
        let checking = || {
            let root = self.root.join(STORE);
            self.keeps_cut_bytes()?;
            if variant.is_multiple_of(16) {
                self.read_only(&root)?;
            }
            if variant % 8 == 1 {
                self.checkpoints()?;
            }
            self.writer(&root, variant / 16)
        };
        catch_unwind(AssertUnwindSafe(checking)).unwrap_or_else(|panic| Err(message(&*panic)))
    }

    fn options(&self) -> Options {
        self.shape.options(Arc::clone(&self.operations))
    }

    /// Returns options for the store of the application. It names the function in every other
    /// image. In the rest the store must know it, once anything was synced: before, the name of the
    /// manifest need not be durable if the process was killed while it created the store.
    fn options_of_application(&self, variant: u64) -> Options {
        if self.known.synced.is_empty() || variant.is_multiple_of(2) {
            let operations = Arc::clone(&self.operations);
            self.shape.options_of_application(operations)
        } else {
            self.options()
        }
    }

    /// Checks that bytes which recovery cut off were saved before, and stay saved.
    fn keeps_cut_bytes(&self) -> Result<(), String> {
        for (path, cut) in &self.known.cut {
            let saved = self.image.bytes_of(path).unwrap_or_default();
            require(
                saved.windows(cut.len()).any(|bytes| *bytes == **cut),
                || {
                    let (len, path) = (cut.len(), path.display());
                    format!("{len} bytes were cut off but are not in {path}")
                },
            )?;
        }
        Ok(())
    }

    fn read_only(&self, root: &Path) -> Result<(), String> {
        let store = match self.options().read_only(true).open(root) {
            Err(Error::NoStore { .. }) if self.known.synced.is_empty() => return Ok(()),
            opened => opened.map_err(|error| format!("read-only: {error}"))?,
        };
        holds_all(&store, &self.known.synced).map_err(|what| format!("read-only: {what}"))
    }

    fn checkpoints(&self) -> Result<(), String> {
        for (folder, held) in &self.known.checkpoints {
            let store = self.options().open(self.root.join(folder)).map_err(text);
            let checked = store.and_then(|store| {
                holds_all(&store, held)?;
                is_undamaged(&store)
            });
            checked.map_err(|what| format!("{}: {what}", folder.display()))?;
        }
        if let Some((folder, held)) = &self.known.checkpointing {
            let checked = self.is_whole_or_says_so(folder, held);
            checked.map_err(|what| format!("unfinished {}: {what}", folder.display()))?;
        }
        Ok(())
    }

    /// Checks that an unfinished checkpoint, once it holds anything, is not taken for a whole one.
    fn is_whole_or_says_so(&self, folder: &Path, held: &BTreeSet<Digest>) -> Result<(), String> {
        let is_data =
            |path: &Path| path.starts_with(folder) && path.extension() == Some("dat".as_ref());
        if !self.image.files.keys().any(|path| is_data(path)) {
            return Ok(());
        }
        // The checkpoint lacks segments, or parts of them where it has to copy.
        let Ok(store) = self.options().open(self.root.join(folder)) else {
            return Ok(());
        };
        for digest in held {
            match store.get(digest) {
                Ok(None) => return Err(format!("{digest} was put but is not found")),
                Ok(Some(_)) => {}
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    fn writer(&self, root: &Path, variant: u64) -> Result<usize, String> {
        let options = self.options_of_application(variant / 8);
        let store = options.open(root).map_err(text)?;
        is_undamaged(&store)?;
        let function = store.hash_function();
        require(function == self.shape.function, || {
            format!("the objects are named by {function}")
        })?;
        let left = walk(&store)?;
        let strangers = self.judge(&left)?;
        self.has_no_second_copies(&store, left.len())?;
        holds_all(&store, &self.known.synced)?;
        for digest in self.known.dropped.difference(&left) {
            require(!store.contains(digest).map_err(text)?, || {
                format!("{digest} was dropped but is contained")
            })?;
        }
        if variant % 8 == 1 {
            let report = store.verify(|_| ControlFlow::Continue(()));
            let report = report.map_err(text)?;
            // Runs of the set index are not synced: their pages carry checksums.
            let is_derived = |problem: &Problem| problem.run().is_some();
            let is_clean = report.corrupt.is_empty() && report.problems.iter().all(is_derived);
            require(is_clean, || format!("{report:?}"))?;
        }
        let new = store.put(b"put after the crash").map_err(text)?;
        store.sync().map_err(text)?;
        if variant.is_multiple_of(4) {
            store.close().map_err(text)?;
            self.reopened(root, &left, new)?;
        }
        Ok(strangers)
    }

    /// Compares the objects that are left with what is known. Returns how many objects nobody put.
    fn judge(&self, left: &BTreeSet<Digest>) -> Result<usize, String> {
        let known = self.known;
        let empty = self.shape.function.digest(b"");
        let is_certain = |digest: &Digest| !self.may_hold_garbage || *digest != empty;
        for digest in &known.synced {
            require(left.contains(digest), || {
                format!("{digest} was synced but no walk gives it")
            })?;
        }
        for digest in known.dropped.iter().filter(|digest| is_certain(digest)) {
            require(!left.contains(digest), || {
                format!("{digest} was dropped and came back")
            })?;
        }
        let dropping = known.dropping.iter().filter(|digest| is_certain(digest));
        let (there, gone): (Vec<&Digest>, Vec<&Digest>) =
            dropping.partition(|digest| left.contains::<Digest>(digest));
        require(there.is_empty() || gone.is_empty(), || {
            format!("half a compaction: {there:?} there, {gone:?} gone")
        })?;
        let strangers = left.difference(&known.tried).count();
        require(strangers == 0 || self.may_hold_garbage, || {
            format!("{strangers} objects were never put")
        })?;
        Ok(strangers)
    }

    /// Checks that only objects put during a compaction have two copies, or those that garbage
    /// repeats, as zeros repeat the empty object.
    fn has_no_second_copies(&self, store: &Store, distinct: usize) -> Result<(), String> {
        let copies = store.len() - distinct as u64;
        let may_be = self.known.twice.len() as u64;
        require(copies <= may_be || self.may_hold_garbage, || {
            format!("{copies} objects have two copies, but only {may_be} may")
        })
    }

    fn reopened(&self, root: &Path, left: &BTreeSet<Digest>, new: Digest) -> Result<(), String> {
        let store = self.options().open(root).map_err(text)?;
        let mut ignored = 0;
        for repair in &store.recovery().repairs {
            require(self.may_be_ignored(repair), || {
                format!("after recovery and close: {repair}")
            })?;
            ignored += usize::from(matches!(
                repair,
                Repair::IgnoredFile { path } if path.extension().is_some_and(|e| e == "dat")
            ));
        }
        let mut expected = left.clone();
        expected.insert(new);
        require(walk(&store)? == expected, || {
            "changed by reopening".to_owned()
        })?;
        let segments = store.stats().segments;
        drop(store);
        let (temporaries, mut data) = (names(root, &[".tmp"]), names(root, &[".dat"]));
        // A data file whose journal's name was lost may belong to another program. If it is empty,
        // it is left alone and not reported.
        data.retain(|name| {
            let is_used = segments
                .iter()
                .any(|s| format!("seg-{:06}.dat", s.id) == *name);
            is_used
                || fs::metadata(root.join("segments").join(name))
                    .unwrap()
                    .len()
                    > 0
        });
        require(temporaries.is_empty(), || {
            format!("{temporaries:?} are left")
        })?;
        require(data.len() == segments.len() + ignored, || {
            format!("{data:?} are left of {} segments", segments.len())
        })
    }

    /// Returns whether recovery may ignore this file each time: a data file without a whole record
    /// whose journal's name was lost, since it may be a foreign file, or a journal with a wrong
    /// header.
    fn may_be_ignored(&self, repair: &Repair) -> bool {
        let Repair::IgnoredFile { path } = repair else {
            return false;
        };
        let path = path.strip_prefix(self.root).unwrap();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            return self.image.has_garbage;
        }
        self.image.files.contains_key(path)
            && !self.image.files.contains_key(&path.with_extension("jnl"))
    }
}

fn holds_all(store: &Store, digests: &BTreeSet<Digest>) -> Result<(), String> {
    for digest in digests {
        let object = store.get(digest).map_err(text)?;
        let object = object.ok_or_else(|| format!("{digest} was synced but is lost"))?;
        require(store.hash_function().digest(&object) == *digest, || {
            format!("{digest} has wrong bytes")
        })?;
    }
    Ok(())
}

/// Checks that the crash is not taken for damage and that no synced index was lost.
fn is_undamaged(store: &Store) -> Result<(), String> {
    for repair in &store.recovery().repairs {
        let costs_an_index = matches!(repair, Repair::RebuiltSidecar { .. });
        require(!is_damage(repair) && !costs_an_index, || repair.to_string())?;
    }
    Ok(())
}

fn walk(store: &Store) -> Result<BTreeSet<Digest>, String> {
    let mut walked = BTreeSet::new();
    for object in store {
        let object = object.map_err(text)?;
        let digest = *object.digest();
        require(store.hash_function().digest(&object) == digest, || {
            format!("{digest} has wrong bytes")
        })?;
        require(walked.insert(digest), || format!("{digest} came twice"))?;
    }
    Ok(walked)
}
