//! `get -`: writes the contents of the objects whose digests are on standard input, each behind a line
//! that has its length.

use std::io::Write as _;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use sealstone::{Digest, Object};
use serde::{Serialize, Serializer};

use crate::args::Global;
use crate::digest_list::Batches;
use crate::exit::{Exit, undamaged};
use crate::output::Output;

/// Number of objects that are read together: enough for their reads to overlap, and few enough for the
/// first answer to come soon if the objects are large.
const BATCH: usize = 64;

pub fn run(global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let store = global.open_to_read()?;
    let mut exit = Exit::Done;
    for batch in Batches::of_input(BATCH) {
        let batch = batch?;
        for (digest, object) in batch.iter().zip(store.get_many(&batch)) {
            let found = undamaged(object, |error| global.messages().error(&error))?;
            let answer = match found {
                Some(Some(object)) => Answer::Found(object),
                Some(None) => Answer::Missing(*digest),
                None => Answer::Damaged(*digest),
            };
            exit = exit.max(answer.exit());
            if global.json {
                output.json(&answer.json())?;
            } else {
                answer.write(output)?;
            }
        }
        output.flush()?;
        // To read on would cost the disk, so the exit code then tells of the answers that were given.
        if output.reader_is_gone() {
            break;
        }
    }
    Ok(exit)
}

enum Answer {
    Found(Object),
    Missing(Digest),
    Damaged(Digest),
}

impl Answer {
    fn exit(&self) -> Exit {
        match self {
            Self::Found(_) => Exit::Done,
            Self::Missing(_) => Exit::NotFound,
            Self::Damaged(_) => Exit::Damaged,
        }
    }

    fn write(&self, output: &mut Output) -> anyhow::Result<()> {
        match self {
            Self::Found(object) => {
                writeln!(output, "{} {}", object.digest(), object.len())?;
                output.write_all(object)?;
                writeln!(output)?;
            }
            Self::Missing(digest) => writeln!(output, "{digest} missing")?,
            Self::Damaged(digest) => writeln!(output, "{digest} damaged")?,
        }
        Ok(())
    }

    fn json(&self) -> Line<'_> {
        let (digest, result, object) = match self {
            Self::Found(object) => (object.digest(), "ok", Some(object)),
            Self::Missing(digest) => (digest, "missing", None),
            Self::Damaged(digest) => (digest, "damaged", None),
        };
        Line {
            digest: digest.to_string(),
            result,
            bytes: object.map(|object| object.len()),
            content: object.map(|object| Base64(object)),
        }
    }
}

/// A line of `--json`.
#[derive(Serialize)]
struct Line<'a> {
    digest: String,
    result: &'static str,
    bytes: Option<usize>,
    content: Option<Base64<'a>>,
}

/// Content that is encoded while it is written, so that no copy of it is in memory.
struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&Base64Display::new(self.0, &STANDARD))
    }
}
