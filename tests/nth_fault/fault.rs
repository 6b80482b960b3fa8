//! What fails, and at which operation.

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
    /// Whatever needs room has none.
    NoSpace,
    /// A write does half of what it was asked for and says so.
    ShortWrite,
    /// The same, and what follows of that file finds no space.
    ShortWriteThenNoSpace,
    /// A signal came before anything was done.
    Interrupted,
    /// A file or a folder is not synced.
    SyncFails,
    /// A file is created, or a folder opened to be synced, when there is no file descriptor left.
    NoDescriptor,
    /// The same, when there is no memory left.
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

    /// Whether it can happen to an operation. The standard library carries on by itself after a signal
    /// when it opens, cuts and syncs files, so those never say that they were interrupted.
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

    /// What a call may report because of it. `None`: nothing, the caller is not to notice.
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

/// How often it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// To one operation.
    Once,
    /// To it and to all that follow, until it is lifted.
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
    /// Whether it hit something after which it is unknown what is on disk.
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

    /// From here on nothing fails.
    pub fn lift(&self) {
        self.with_state(|state| state.is_lifted = true);
    }

    pub fn hits(&self) -> usize {
        self.with_state(|state| state.hits)
    }

    /// Operations that it could have happened to so far.
    pub fn count(&self) -> usize {
        self.with_state(|state| state.count)
    }

    /// Nothing is synced: power does not fail here.
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
            // Whoever is interrupted, or gets half, tries until it goes on.
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

    /// Fails unless a call may report this now.
    #[track_caller]
    pub fn assert_expected(&self, error: &Error) {
        let (hits, may_poison) = self.with_state(|state| (state.hits, state.may_poison));
        assert!(hits > 0, "nothing has failed yet: {error}");
        let code = self.fault.code();
        assert!(code.is_some(), "this is not to be noticed: {error}");
        match error {
            Error::Io { path, source } => {
                assert!(source.raw_os_error() == code, "{error}");
                assert!(path.is_absolute(), "no path: {error}");
            }
            Error::Poisoned { .. } => assert!(may_poison, "no reason to refuse writes: {error}"),
            error => panic!("not an error of the system: {error}"),
        }
    }

    /// Gives what a call gave, or `None` for an error that may be. A fault that comes once does not
    /// stand in the way of a second attempt, unless it is unknown what is on disk.
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
            Err(error) => panic!("it fails although the fault is gone: {error}"),
        }
    }
}

/// So that a case can say what it was.
impl std::fmt::Debug for Injector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?} at {}", self.fault, self.lasting, self.at)
    }
}

/// Whether an error says that writes are refused.
pub fn is_poisoned(error: &Error) -> bool {
    matches!(error, Error::Poisoned { .. })
}
