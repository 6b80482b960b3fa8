//! The options of pushes and collections, and the reports of all long work.

use std::time::Duration;

use crate::digest::HashFunction;

/// The default grace period of collections: 24 hours.
const GRACE_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);

/// Options of a [push](super::Remote::push_with). A builder by value.
#[derive(Clone, Debug, Default)]
pub struct PushOptions {
    pub(super) take_over: bool,
}

impl PushOptions {
    /// Makes the default options.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether to push although another store pushed to the ref last, or this one at a time of
    /// which it does not know. The ref then lists what this store holds **instead of** what it listed,
    /// and the other store is fenced.
    ///
    /// Everything is uploaded again, also if the ref lists it and if this store pushed it: so taking over
    /// mends a ref whose files or newest manifest are damaged or missing in the bucket. If no manifest of
    /// the ref can be read any more, the ref begins anew. Default: false.
    #[must_use]
    pub fn take_over(mut self, take_over: bool) -> Self {
        self.take_over = take_over;
        self
    }
}

/// The result of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PushReport {
    /// The number of the manifest that the push has created.
    pub number: u64,
    /// Segments that the manifest lists.
    pub segments: usize,
    /// Segments of these that the ref did not list before: all of them if the ref was taken over.
    pub uploaded_segments: usize,
    /// Bytes that this push has uploaded, without those that an earlier one had uploaded before it was
    /// cut off.
    pub uploaded_bytes: u64,
}

/// The result of a pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PullReport {
    /// The number of the manifest whose state the folder now holds.
    pub number: u64,
    /// Segments of that state.
    pub segments: usize,
    /// Segments of these that were not in the folder before.
    pub downloaded_segments: usize,
    /// Bytes that were downloaded.
    pub downloaded_bytes: u64,
}

/// Options of a [collection](super::Remote::gc). A builder by value.
#[derive(Clone, Copy, Debug)]
pub struct GcOptions {
    pub(super) grace: Duration,
    pub(super) dry_run: bool,
}

impl Default for GcOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl GcOptions {
    /// Makes the default options.
    #[must_use]
    pub fn new() -> Self {
        Self {
            grace: GRACE_DEFAULT,
            dry_run: false,
        }
    }

    /// Sets for how long the files of a state are kept after a newer state has replaced it, and for how
    /// long those of a push that has not ended, by the bucket's clock. It should be longer than any pull,
    /// than readers go without a refresh, and than a push takes for one file. Nothing that the newest
    /// state lists is removed, however short it is. Default: 24 hours.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets whether to remove nothing and only report what would be removed. Default: false.
    #[must_use]
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }
}

/// The result of a collection: what it has removed, or would remove.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GcReport {
    /// Refs that were collected.
    pub refs: u64,
    /// Files of segments that were removed.
    pub files: u64,
    /// The bytes of these files.
    pub bytes: u64,
    /// Manifests that were emptied.
    pub manifests: u64,
}

/// A ref, as its newest manifest describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefInfo {
    /// The name of the ref.
    pub name: String,
    /// The number of the newest manifest.
    pub number: u64,
    /// 1, and 1 more for each time that the ref was taken over.
    pub epoch: u64,
    /// The function that names the objects.
    pub hash_function: HashFunction,
    /// Segments that are listed.
    pub segments: u64,
    /// Objects in them. An object that was put again to repair it counts twice until a compaction.
    pub objects: u64,
    /// Length of their data files, in bytes.
    pub data_bytes: u64,
    /// The reason why the newest manifest cannot be read, if so. Then all figures but `number` are 0.
    pub problem: Option<RefProblem>,
}

/// The result of a check of a ref.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefReport {
    /// The number of the manifest that was checked.
    pub number: u64,
    /// Objects in data files that are sound as a whole.
    pub objects: u64,
    /// The problems that the check has found, sorted.
    pub problems: Vec<RefProblem>,
}

impl RefReport {
    /// Whether nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

/// An object of a bucket that is missing or damaged.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct RefProblem {
    /// The object.
    pub object: String,
    /// The damage that was found.
    pub reason: String,
}
