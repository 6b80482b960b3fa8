//! `has`: looks up whether objects are in the store.

use std::fmt::Display;
use std::io::Write as _;

use sealstone::Digest;
use serde::Serialize;

use crate::args::{Global, HasArguments};
use crate::digest_args::OrInput;
use crate::digest_list::Batches;
use crate::exit::Exit;
use crate::output::Output;

/// Number of digests that are looked up together.
const BATCH: usize = 4096;

pub fn run(arguments: &HasArguments, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let store = global.open_to_read()?;
    // All arguments are checked before the first answer is printed.
    let mut asked = Vec::new();
    for argument in &arguments.digests {
        asked.push(match argument {
            OrInput::Argument(wanted) => match wanted.resolve(&store)? {
                Some(digest) => Asked::Digest(digest),
                None => Asked::Unknown(wanted.to_string()),
            },
            OrInput::Input => Asked::Input,
        });
    }
    let mut answers = Answers {
        output,
        is_json: global.json,
        is_quiet: arguments.quiet,
        exit: Exit::Done,
    };
    // If the reader of the answers goes away, the exit code still depends on all of them.
    for asked in asked {
        match asked {
            Asked::Digest(digest) => answers.print(&digest, store.contains(digest)?)?,
            Asked::Unknown(digits) => answers.print(&digits, false)?,
            Asked::Input => {
                for batch in Batches::of_input(BATCH) {
                    let batch = batch?;
                    for (digest, is_present) in batch.iter().zip(store.contains_many(&batch)) {
                        answers.print(digest, is_present?)?;
                    }
                    answers.output.flush()?;
                }
            }
        }
    }
    Ok(answers.exit)
}

/// What the user asks about.
enum Asked {
    Digest(Digest),
    /// A prefix with which no digest of the store begins.
    Unknown(String),
    /// The digests on standard input.
    Input,
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
    exit: Exit,
}

impl Answers<'_> {
    fn print(&mut self, asked: &impl Display, present: bool) -> anyhow::Result<()> {
        if !present {
            self.exit = Exit::NotFound;
        }
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
