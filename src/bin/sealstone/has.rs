//! `has`: looks up whether objects are in the store.

use std::fmt;
use std::io::Write as _;
use std::path::Path;

use sealstone::{Digest, Store};
use serde::Serialize;

use crate::args::{Global, HasArguments};
use crate::digest_args::DigestOrInput;
use crate::digest_list;
use crate::exit::Exit;
use crate::output::Output;

/// Number of digests that are looked up together.
const BATCH: usize = 4096;

pub fn run(arguments: &HasArguments, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let store = global.open_to_read()?;
    // All arguments and lines are checked before the first answer is printed.
    let mut asked = Vec::new();
    for argument in &arguments.digests {
        match argument {
            DigestOrInput::Digest(wanted) => asked.push(match wanted.resolve(&store)? {
                Some(digest) => Asked::Digest(digest),
                None => Asked::Unknown(wanted.to_string()),
            }),
            DigestOrInput::Input => {
                let digests = digest_list::read(Path::new("-"))?;
                asked.extend(digests.into_iter().map(Asked::Digest));
            }
        }
    }
    let mut answers = Answers {
        output,
        is_json: global.json,
        is_quiet: arguments.quiet,
    };
    let mut exit = Exit::Done;
    // If the reader of the answers goes away, the exit code still depends on all of them.
    for asked in asked.chunks(BATCH) {
        for (asked, is_present) in look_up(&store, asked)? {
            answers.print(asked, is_present)?;
            if !is_present {
                exit = Exit::NotFound;
            }
        }
    }
    Ok(exit)
}

/// An object that the user asks about.
enum Asked {
    Digest(Digest),
    /// A prefix with which no digest of the store begins.
    Unknown(String),
}

impl fmt::Display for Asked {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(digest) => digest.fmt(formatter),
            Self::Unknown(digits) => digits.fmt(formatter),
        }
    }
}

/// Returns whether the store holds each, in their order.
fn look_up<'a>(store: &Store, asked: &'a [Asked]) -> anyhow::Result<Vec<(&'a Asked, bool)>> {
    let digests = asked.iter().filter_map(|asked| match asked {
        Asked::Digest(digest) => Some(*digest),
        Asked::Unknown(_) => None,
    });
    let mut answers = store
        .contains_many(&digests.collect::<Vec<_>>())
        .into_iter();
    let answers = asked.iter().map(|asked| {
        let is_present = match asked {
            Asked::Digest(_) => answers.next().unwrap_or(Ok(false))?,
            Asked::Unknown(_) => false,
        };
        Ok((asked, is_present))
    });
    answers.collect()
}

#[derive(Serialize)]
struct Answer {
    digest: String,
    present: bool,
}

struct Answers<'a> {
    output: &'a mut Output,
    is_json: bool,
    is_quiet: bool,
}

impl Answers<'_> {
    fn print(&mut self, asked: &Asked, present: bool) -> anyhow::Result<()> {
        if self.is_quiet {
            return Ok(());
        }
        if self.is_json {
            let digest = asked.to_string();
            return self.output.json(&Answer { digest, present });
        }
        let answer = if present { "yes" } else { "no" };
        writeln!(self.output, "{asked}  {answer}")?;
        Ok(())
    }
}
