//! Faults, and the operations at which they strike.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};

use sealstone::Error;
use sealstone::test_seam::Operations;

use crate::common::workload::{
    EIO, EMFILE, ENOSPC, Kind, Step, Verdict, seam_with_stillness, system_error,
};

const EINTR: i32 = 4;
const ENOMEM: i32 = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Any operation reports an I/O error and is not done.
    InputOutput,
    /// Every operation that needs room fails for lack of it.
    NoSpace,
    /// A write does half of its work and reports that.
    ShortWrite,
    /// A write does half of its work, and the next one to that file finds no space.
    ShortWriteThenNoSpace,
    /// A signal comes before anything is done.
    Interrupted,
    /// A file or a folder cannot be synced.
    SyncFails,
    /// No file descriptor is left for creating a file, or for opening a folder to sync it.
    NoDescriptor,
    /// No memory is left for creating a file, or for opening a folder to sync it.
    NoMemory,
}

impl Fault {
    pub const ALL: [Self; 8] = [
        Self::InputOutput,
        Self::NoSpace,
        Self::ShortWrite,
        Self::ShortWriteThenNoSpace,
        Self::Interrupted,
        Self::SyncFails,
        Self::NoDescriptor,
        Self::NoMemory,
    ];

    /// Returns whether the fault can happen to an operation. The standard library retries after a
    /// signal when it opens, cuts and syncs files, so these operations never report an
    /// interruption.
    fn concerns(self, step: &Step) -> bool {
        let is_sync = matches!(step.kind, Kind::SyncFile | Kind::SyncDir);
        match self {
            Self::InputOutput => true,
            Self::NoSpace => !matches!(step.kind, Kind::Remove | Kind::Cut),
            Self::ShortWrite | Self::ShortWriteThenNoSpace => {
                step.kind == Kind::Write && step.len > 1
            }
            Self::Interrupted => !is_sync && !matches!(step.kind, Kind::Create | Kind::Cut),
            Self::SyncFails => is_sync,
            Self::NoDescriptor | Self::NoMemory => {
                matches!(step.kind, Kind::Create | Kind::SyncDir)
            }
        }
    }

    /// Returns the error number that a call may report, or `None` if the caller must not notice the
    /// fault.
    fn code(self) -> Option<i32> {
        match self {
            Self::InputOutput | Self::SyncFails => Some(EIO),
            Self::NoSpace | Self::ShortWriteThenNoSpace => Some(ENOSPC),
            Self::ShortWrite | Self::Interrupted => None,
            Self::NoDescriptor => Some(EMFILE),
            Self::NoMemory => Some(ENOMEM),
        }
    }

    fn verdict(self, step: &Step) -> Verdict {
        match self {
            Self::ShortWrite | Self::ShortWriteThenNoSpace => Verdict::Short(step.len / 2),
            Self::Interrupted => system_error(EINTR),
            other => other.code().map_or(Verdict::Go, system_error),
        }
    }
}

/// How often a fault happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// The fault happens to one operation.
    Once,
    /// The fault happens to one operation and all that follow, until it is lifted.
    UntilLifted,
}

/// One fault at one of the operations that it can happen to.
#[derive(Clone)]
pub struct Injector {
    pub fault: Fault,
    pub lasting: Lasting,
    pub at: usize,
    state: Arc<Mutex<State>>,
    /// Held for writing while the files are copied as kill -9 would leave them.
    pub stillness: Arc<RwLock<()>>,
}

#[derive(Default)]
struct State {
    count: usize,
    is_lifted: bool,
    /// Files whose next write finds no space.
    full: BTreeSet<PathBuf>,
    hits: usize,
    /// Whether the fault hit an operation after which the state of the disk is unknown.
    may_poison: bool,
}

impl Injector {
    pub fn new(fault: Fault, lasting: Lasting, at: usize) -> Self {
        Self {
            fault,
            lasting,
            at,
            state: Arc::default(),
            stillness: Arc::default(),
        }
    }

    fn with_state<T>(&self, run: impl FnOnce(&mut State) -> T) -> T {
        run(&mut self.state.lock().unwrap())
    }

    /// Ends the fault: nothing fails from here on.
    pub fn lift(&self) {
        self.with_state(|state| state.is_lifted = true);
    }

    pub fn hits(&self) -> usize {
        self.with_state(|state| state.hits)
    }

    /// Returns the number of operations so far to which the fault could have happened.
    pub fn count(&self) -> usize {
        self.with_state(|state| state.count)
    }

    /// Returns operations that fail as planned and sync nothing, since power does not fail here.
    pub fn operations(&self) -> Arc<dyn Operations> {
        let injector = self.clone();
        seam_with_stillness(Arc::clone(&self.stillness), move |step| {
            let failing = injector.with_state(|state| injector.judge(state, step));
            failing.unwrap_or(match step.kind {
                Kind::SyncFile | Kind::SyncDir => Verdict::Pretend,
                _ => Verdict::Go,
            })
        })
    }

    fn judge(&self, state: &mut State, step: &Step) -> Option<Verdict> {
        if state.is_lifted {
            return None;
        }
        if step.kind == Kind::Write && state.full.remove(&step.path) {
            return Some(system_error(ENOSPC));
        }
        if !self.fault.concerns(step) {
            return None;
        }
        let number = state.count;
        state.count += 1;
        let is_hit = match self.lasting {
            Lasting::Once => number == self.at,
            // A caller that is interrupted, or gets half, tries again until it succeeds.
            Lasting::UntilLifted if self.fault.code().is_none() => {
                number >= self.at && number.is_multiple_of(2)
            }
            Lasting::UntilLifted => number >= self.at,
        };
        if !is_hit {
            return None;
        }
        state.hits += 1;
        state.may_poison |= matches!(
            step.kind,
            Kind::SyncFile | Kind::SyncDir | Kind::Cut | Kind::Rename
        );
        if self.fault == Fault::ShortWriteThenNoSpace {
            state.full.insert(step.path.clone());
        }
        Some(self.fault.verdict(step))
    }

    /// Fails unless a call may report this error now.
    #[track_caller]
    pub fn assert_expected(&self, error: &Error) {
        let (hits, may_poison) = self.with_state(|state| (state.hits, state.may_poison));
        assert!(hits > 0, "nothing has failed yet: {error}");
        let code = self.fault.code();
        assert!(code.is_some(), "this fault must not be noticed: {error}");
        match error {
            Error::Io { path, source } => {
                assert!(source.raw_os_error() == code, "{error}");
                assert!(path.is_absolute(), "no path: {error}");
            }
            Error::Poisoned { .. } => assert!(may_poison, "no reason to refuse writes: {error}"),
            error => panic!("not an error of the system: {error}"),
        }
    }

    /// Returns the result of a call, or `None` for an expected error. After a fault that comes
    /// once, a second attempt must succeed, unless the state of the disk is unknown.
    #[track_caller]
    pub fn attempt<T>(&self, mut call: impl FnMut() -> Result<T, Error>) -> Option<T> {
        let error = match call() {
            Ok(given) => return Some(given),
            Err(error) => error,
        };
        self.assert_expected(&error);
        if self.lasting == Lasting::UntilLifted && !self.with_state(|state| state.is_lifted) {
            return None;
        }
        match call() {
            Ok(given) => Some(given),
            Err(error @ Error::Poisoned { .. }) => {
                self.assert_expected(&error);
                None
            }
            Err(error) => panic!("the call fails although the fault is gone: {error}"),
        }
    }
}

/// Describes the case in a failure.
impl std::fmt::Debug for Injector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?} at {}", self.fault, self.lasting, self.at)
    }
}

/// Returns whether an error says that writes are refused.
pub fn is_poisoned(error: &Error) -> bool {
    matches!(error, Error::Poisoned { .. })
}
