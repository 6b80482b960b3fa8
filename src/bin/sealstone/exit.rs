//! How failures end: which exit code and which words, decided here and nowhere else.

use std::io::ErrorKind;
use std::process::ExitCode;

use sealstone::Error;

use crate::output::complain;

/// How the command ended; `help::SEALSTONE` tells the user what the numbers mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// A failure that the command line itself finds. The text says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Usage(String),
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

    fn of_failure(failure: &Failure) -> Self {
        match failure {
            Failure::NotFound(_) => Self::NotFound,
            Failure::Usage(_) => Self::Usage,
            Failure::Io(_) => Self::Io,
        }
    }

    fn of_store_error(error: &Error) -> Self {
        match error {
            Error::Corrupt { .. }
            | Error::CorruptIndex { .. }
            | Error::MissingSegment { .. }
            | Error::DigestMismatch(_) => Self::Damaged,
            Error::AmbiguousPrefix { .. } | Error::BadPrefix { .. } => Self::Usage,
            // `NoStore` is here, not with `NotFound`: a script that asks `has` must be able to
            // tell a missing object from a disk that is not mounted.
            _ => Self::Io,
        }
    }
}

/// The error in a line that ends with the remedy.
pub fn describe(error: &anyhow::Error) -> String {
    let mut parts = Vec::new();
    for cause in error.chain() {
        if let Some(error) = cause.downcast_ref::<Error>() {
            // It tells its own causes, and the remedy comes last.
            parts.push(describe_store_error(error));
            break;
        }
        parts.push(cause.to_string());
    }
    parts.join(": ")
}

/// The store's own words, unless its remedy is one for programmers.
fn describe_store_error(error: &Error) -> String {
    match error {
        Error::Locked { path } => format!(
            "{}: another writer has this store open; try again when it has finished",
            path.display()
        ),
        Error::MissingSegment { segment, path } => format!(
            "{}: segment {segment} is missing; restore the file from a backup, or pass \
             --allow-missing-segments to go on without its objects",
            path.display()
        ),
        other => other.to_string(),
    }
}

/// Prints what clap found wrong, or the help or version that was asked for.
pub fn report_usage(error: &clap::Error) -> Exit {
    let text = error.render().to_string();
    if let Some(text) = text.strip_prefix("error: ") {
        complain(text.trim_end());
        return Exit::Usage;
    }
    match error.print() {
        // As in `sealstone --help | head -1`.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Exit::Io,
        _ if error.use_stderr() => Exit::Usage,
        _ => Exit::Done,
    }
}
