//! Whether what the engine makes of an image is what was promised.

use std::any::Any;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use sealstone::{Digest, Error, Problem, Repair, Store};

use crate::common::{is_damage, names};
use crate::known::Known;
use crate::log::Unsynced;
use crate::workload::{STORE, Shape};

/// Checks an image that was written to `root`, and what the engine can do with it afterwards.
/// Gives how many objects are there that nobody put.
///
/// `variant` chooses what costs time and is done to a part of the images only.
pub fn check(
    root: &Path,
    shape: Shape,
    known: &Known,
    is_random: bool,
    variant: u64,
) -> Result<usize, String> {
    let checking = || {
        let checking = Checking {
            shape,
            known,
            is_random,
        };
        if variant.is_multiple_of(16) {
            checking.read_only(&root.join(STORE))?;
        }
        if variant % 4 == 1 {
            checking.checkpoints(root)?;
        }
        checking.writer(&root.join(STORE), variant / 16)
    };
    catch_unwind(AssertUnwindSafe(checking)).unwrap_or_else(|panic| Err(message(&*panic)))
}

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

struct Checking<'a> {
    shape: Shape,
    known: &'a Known,
    is_random: bool,
}

impl Checking<'_> {
    fn read_only(&self, root: &Path) -> Result<(), String> {
        let options = self.shape.options(Arc::new(Unsynced)).read_only(true);
        let store = match options.open(root) {
            Err(Error::NoStore { .. }) if self.known.synced.is_empty() => return Ok(()),
            opened => opened.map_err(|error| format!("read-only: {error}"))?,
        };
        holds_synced(&store, &self.known.synced).map_err(|what| format!("read-only: {what}"))
    }

    fn checkpoints(&self, root: &Path) -> Result<(), String> {
        for (folder, held) in &self.known.checkpoints {
            let options = self.shape.options(Arc::new(Unsynced));
            let store = options.open(root.join(folder));
            let store = store.map_err(|error| format!("{}: {error}", folder.display()))?;
            let checked = holds_synced(&store, held);
            let checked = checked.and_then(|()| is_undamaged(&store));
            checked.map_err(|what| format!("{}: {what}", folder.display()))?;
        }
        Ok(())
    }

    fn writer(&self, root: &Path, variant: u64) -> Result<usize, String> {
        let options = self.shape.options(Arc::new(Unsynced));
        let store = options.open(root).map_err(text)?;
        is_undamaged(&store)?;
        let left = walk(&store)?;
        let strangers = self.judge(&left)?;
        holds_synced(&store, &self.known.synced)?;
        for digest in self.known.dropped.difference(&left) {
            require(!store.contains(digest).map_err(text)?, || {
                format!("{digest} was dropped and is contained")
            })?;
        }
        if variant % 4 == 1 {
            let report = store.verify(|_| ControlFlow::Continue(()));
            let report = report.map_err(text)?;
            // The runs of the set index are not synced: their pages carry checksums.
            let is_derived = |problem: &Problem| problem.what.contains("of the set index");
            let is_clean = report.corrupt.is_empty() && report.problems.iter().all(is_derived);
            require(is_clean, || format!("{report:?}"))?;
        }
        let new = store.put(b"put after the crash").map_err(text)?;
        store.sync().map_err(text)?;
        if variant.is_multiple_of(2) {
            store.close().map_err(text)?;
            self.reopened(root, &left, new)?;
        }
        Ok(strangers)
    }

    /// What is left, against what is known. Gives how many objects nobody put.
    fn judge(&self, left: &BTreeSet<Digest>) -> Result<usize, String> {
        let known = self.known;
        // Four zeros behind the last record may be the empty object, put and not synced, or bytes
        // that did not reach the disk.
        let empty = Digest::of(b"");
        let is_certain = |digest: &Digest| !self.is_random || *digest != empty;
        for digest in &known.synced {
            require(left.contains(digest), || {
                format!("{digest} was synced and is not walked over")
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
        // Where the disk holds zeros instead of what was written last and was not synced, that may
        // be taken for an object: it has the digest of what it is, and nobody asks for it.
        let strangers = left.difference(&known.tried).count();
        require(strangers == 0 || self.is_random, || {
            format!("{strangers} were never put")
        })?;
        Ok(strangers)
    }

    fn reopened(&self, root: &Path, left: &BTreeSet<Digest>, new: Digest) -> Result<(), String> {
        let options = self.shape.options(Arc::new(Unsynced));
        let store = options.open(root).map_err(text)?;
        // Garbage without a journal may be a foreign file as well; it is left alone every time.
        let is_ignored = |repair: &&Repair| matches!(repair, Repair::IgnoredFile { .. });
        let repairs = &store.recovery().repairs;
        let ignored = repairs.iter().filter(is_ignored).count();
        let is_clean = repairs.len() == ignored && (ignored == 0 || self.is_random);
        require(is_clean, || {
            format!("after recovery and close: {repairs:?}")
        })?;
        let mut expected = left.clone();
        expected.insert(new);
        require(walk(&store)? == expected, || {
            "changed by reopening".to_owned()
        })?;
        drop(store);
        let temporaries = names(root, &[".tmp"]);
        require(temporaries.is_empty(), || {
            format!("{temporaries:?} are left")
        })
    }
}

fn holds_synced(store: &Store, synced: &BTreeSet<Digest>) -> Result<(), String> {
    for digest in synced {
        let object = store.get(digest).map_err(text)?;
        let object = object.ok_or_else(|| format!("{digest} was synced and is lost"))?;
        require(Digest::of(&object) == *digest, || {
            format!("{digest} has wrong bytes")
        })?;
    }
    Ok(())
}

/// A crash is no damage, and costs no index that was synced.
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
        require(Digest::of(&object) == digest, || {
            format!("{digest} has wrong bytes")
        })?;
        require(walked.insert(digest), || format!("{digest} came twice"))?;
    }
    Ok(walked)
}
