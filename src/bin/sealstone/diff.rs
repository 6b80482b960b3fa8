//! `diff`: lists the objects that only one of two stores holds.

use std::io::Write as _;

use sealstone::{Digest, Store};
use serde::Serialize;

use crate::args::{DiffArguments, Global};
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Number of digests that are looked up together.
const BATCH: usize = 4096;

pub fn run(
    arguments: &DiffArguments,
    global: &Global,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    let store = global.open_to_read()?;
    let other = global.open_other_to_read(&arguments.other)?;
    let functions = (store.hash_function(), other.hash_function());
    if functions.0 != functions.1 {
        let text = format!(
            "the store names its objects by {}, and {} by {}; name two stores of the same function",
            functions.0,
            arguments.other.display(),
            functions.1,
        );
        return Err(Failure::Usage(text).into());
    }
    let mut differences = Differences {
        output,
        is_json: global.json,
        is_empty: true,
    };
    differences.print_absent(&store, &other, Side::Store)?;
    differences.print_absent(&other, &store, Side::Other)?;
    Ok(if differences.is_empty {
        Exit::Done
    } else {
        Exit::NotFound
    })
}

/// The store that holds an object.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Side {
    Store,
    Other,
}

#[derive(Serialize)]
struct Difference {
    digest: String,
    only_in: Side,
}

/// Lines of text or of JSON.
struct Differences<'a> {
    output: &'a mut Output,
    is_json: bool,
    is_empty: bool,
}

impl Differences<'_> {
    /// Prints the digests of the objects of `from` that `to` does not hold.
    fn print_absent(&mut self, from: &Store, to: &Store, side: Side) -> anyhow::Result<()> {
        let mut digests = from.digests();
        loop {
            let batch = digests
                .by_ref()
                .take(BATCH)
                .collect::<Result<Vec<_>, _>>()?;
            // A reader that went away has seen a difference, so the exit code is known.
            if batch.is_empty() || self.output.reader_is_gone() {
                return Ok(());
            }
            for (digest, is_held) in batch.iter().zip(to.contains_many(&batch)) {
                if !is_held? {
                    self.print(digest, side)?;
                }
            }
        }
    }

    fn print(&mut self, digest: &Digest, only_in: Side) -> anyhow::Result<()> {
        self.is_empty = false;
        if self.is_json {
            let digest = digest.to_string();
            return self.output.json(&Difference { digest, only_in });
        }
        let mark = match only_in {
            Side::Store => '<',
            Side::Other => '>',
        };
        writeln!(self.output, "{mark} {digest}")?;
        Ok(())
    }
}
