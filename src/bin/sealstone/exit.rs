//! The exit code and the message of every failure. They are decided here and nowhere else.

use std::io::{self, ErrorKind};
use std::process::ExitCode;

use sealstone::Error;
#[cfg(feature = "remote")]
use sealstone::RemoteError;

use crate::messages::Messages;
use crate::output::{READ_ONLY, unwritable};
use crate::standard_output;

/// How the command ended. `help::SEALSTONE` explains the numbers to the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    Done = 0,
    NotFound = 1,
    Usage = 2,
    Damaged = 3,
    Io = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// A failure that the command line itself finds. The text ends with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Damaged(String),
    #[error("{0}")]
    Io(String),
}

impl Exit {
    pub fn of(error: &anyhow::Error) -> Self {
        error
            .chain()
            .find_map(|cause| {
                cause
                    .downcast_ref()
                    .map(Self::of_failure)
                    .or_else(|| cause.downcast_ref().map(Self::of_store_error))
            })
            .unwrap_or(Self::Io)
    }

    #[cfg(feature = "remote")]
    fn of_remote_error(error: &RemoteError) -> Self {
        match error {
            RemoteError::Damaged { .. }
            | RemoteError::DamagedHere { .. }
            | RemoteError::Missing { .. }
            | RemoteError::MissingHere { .. }
            | RemoteError::ShortHere { .. } => Self::Damaged,
            RemoteError::BadRefName { .. }
            | RemoteError::BadUrl { .. }
            | RemoteError::BadEnvironment { .. }
            | RemoteError::HashFunction { .. }
            | RemoteError::CacheTooSmall { .. }
            | RemoteError::NotAPart { .. } => Self::Usage,
            // A ref that is not there is like a store that is not there.
            _ => Self::Io,
        }
    }

    fn of_failure(failure: &Failure) -> Self {
        match failure {
            Failure::NotFound(_) => Self::NotFound,
            Failure::Usage(_) => Self::Usage,
            Failure::Damaged(_) => Self::Damaged,
            Failure::Io(_) => Self::Io,
        }
    }

    fn of_store_error(error: &Error) -> Self {
        match error {
            Error::Corrupt { .. }
            | Error::CorruptIndex { .. }
            | Error::HashFunctionUnknown { .. }
            | Error::MissingSegment { .. }
            | Error::DigestMismatch(_) => Self::Damaged,
            Error::AmbiguousPrefix { .. }
            | Error::BadPrefix { .. }
            | Error::HashFunction { .. }
            // Only `checkpoint` and `pull` are given a folder that has to be empty.
            | Error::NotEmpty { .. } => Self::Usage,
            #[cfg(feature = "remote")]
            Error::Remote(error) => Self::of_remote_error(error),
            // `NoStore` belongs here and not to `NotFound`: a script that runs `has` must be able to
            // tell a missing object from a disk that is not mounted.
            _ => Self::Io,
        }
    }
}

/// Passes damage of an object or an index to `note`, and returns `None` for it: others can be read beside
/// it.
pub fn undamaged<T>(
    result: sealstone::Result<T>,
    note: impl FnOnce(anyhow::Error),
) -> sealstone::Result<Option<T>> {
    match result {
        Ok(whole) => Ok(Some(whole)),
        Err(error @ (Error::Corrupt { .. } | Error::CorruptIndex { .. })) => {
            note(error.into());
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Returns the messages of an error and of its causes in one line, each once: a message may contain
/// the text of its cause.
pub fn describe(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let message = cause
            .downcast_ref()
            .map_or_else(|| cause.to_string(), store_message);
        if line.contains(&message) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&message);
    }
    line
}

/// Returns the store's own words, unless its remedy is one for programmers.
fn store_message(error: &Error) -> String {
    match error {
        Error::Locked { path } => format!(
            "{}: another writer has this store open; try again when it has finished, or pass \
             --wait SECONDS",
            path.display()
        ),
        Error::MissingSegment { segment, path } => format!(
            "{}: segment {segment} is missing; restore the file from a backup, or pass \
             --allow-missing-segments to go on without its objects",
            path.display()
        ),
        Error::HashFunctionUnknown { path } => format!(
            "{}: the manifest is lost or damaged, and no object tells by which hash function the store \
             names its objects; put the manifest back, or say the function with `put --hash`",
            path.display()
        ),
        #[cfg(feature = "remote")]
        Error::Remote(RemoteError::Fenced { object }) => format!(
            "{object}: another store has pushed to this ref; push to another with --ref, or pass \
             --take-over, which replaces what the ref lists"
        ),
        #[cfg(feature = "remote")]
        Error::Remote(RemoteError::Diverged { object }) => format!(
            "{object}: this store does not know the state that was pushed last: it is older, or a copy; \
             `pull` the ref into a new folder, or pass --take-over, which replaces what the ref lists"
        ),
        Error::HashFunction { store, given } => format!(
            "the store names its objects by {store}, not by {given}; leave --hash out, or name a new \
             store"
        ),
        other => other.to_string(),
    }
}

/// Prints the error that clap found, or the help or the version that was asked for.
pub fn report_usage(error: &clap::Error, messages: Messages) -> Exit {
    if error.use_stderr() {
        let text = error.render().to_string();
        match text.strip_prefix("error: ") {
            Some(text) => messages.failure(text.trim_end(), Exit::Usage),
            // The help, because no command was given. Nobody is left to tell if it cannot be printed.
            None => drop(error.print()),
        }
        return Exit::Usage;
    }
    let printed = if standard_output::is_writable() {
        error.print()
    } else {
        Err(io::Error::other(READ_ONLY))
    };
    match printed {
        // The reader is gone, as in `sealstone --help | head -1`.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Exit::Done,
        Err(error) => {
            messages.failure(unwritable(&error), Exit::Io);
            Exit::Io
        }
        Ok(()) => Exit::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Wrapping {
        text: &'static str,
        source: io::Error,
    }

    fn described(text: &'static str) -> String {
        let source = io::Error::other("the disk is full");
        let error = anyhow::Error::from(Wrapping { text, source });
        describe(&error.context("file"))
    }

    #[test]
    fn each_message_of_a_chain_is_printed_once() {
        let with_cause = "segment: the disk is full; free some space";
        assert_eq!(described(with_cause), format!("file: {with_cause}"));
        assert_eq!(described("segment"), "file: segment: the disk is full");
        assert_eq!(described("file"), "file: the disk is full");
    }

    #[test]
    fn a_store_error_names_the_option_of_the_command_line() {
        let path = "seg-000000.dat".into();
        let error = anyhow::Error::from(Error::MissingSegment { segment: 0, path });
        let line = describe(&error.context("file"));
        assert!(line.starts_with("file: seg-000000.dat: segment 0 is missing; "));
        assert!(line.contains("--allow-missing-segments"), "{line}");
    }
}
