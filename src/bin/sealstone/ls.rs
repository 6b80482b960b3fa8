//! `ls`: lists the digests of the objects, or the sizes of those on standard input.

use std::io::Write as _;

use sealstone::{Digest, Store};
use serde::Serialize;

use crate::args::{Global, LsArguments};
use crate::digest_args::{ListPrefix, OrInput};
use crate::digest_list::Batches;
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Number of digests that are looked up before the answers are written.
const BATCH: usize = 4096;

pub fn run(arguments: &LsArguments, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let store = global.open_to_read()?;
    let prefix = match &arguments.prefix {
        Some(OrInput::Input) => return sizes(&store, global, output),
        Some(OrInput::Argument(prefix)) => Some(prefix),
        None => None,
    };
    let mut listing = Listing {
        output,
        is_json: global.json,
        is_empty: true,
    };
    listing.list(&store, arguments.long, prefix)?;

    if let (true, Some(prefix)) = (listing.is_empty, prefix) {
        let folder = global.folder()?.display();
        let text = format!("{folder}: no digest begins with {prefix}; give fewer digits");
        return Err(Failure::NotFound(text).into());
    }
    Ok(Exit::Done)
}

/// Lines of text or of JSON.
struct Listing<'a> {
    output: &'a mut Output,
    is_json: bool,
    is_empty: bool,
}

#[derive(Serialize)]
struct Entry {
    digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

impl Listing<'_> {
    fn list(
        &mut self,
        store: &Store,
        is_long: bool,
        prefix: Option<&ListPrefix>,
    ) -> anyhow::Result<()> {
        for object in store.lengths() {
            if self.output.reader_is_gone() {
                break;
            }
            let (digest, bytes) = object?;
            if prefix.is_none_or(|prefix| prefix.matches(&digest)) {
                self.line(&digest, is_long.then_some(bytes))?;
            }
        }
        Ok(())
    }

    fn line(&mut self, digest: &Digest, bytes: Option<u64>) -> anyhow::Result<()> {
        self.is_empty = false;
        if self.is_json {
            let digest = digest.to_string();
            self.output.json(&Entry { digest, bytes })?;
        } else if let Some(bytes) = bytes {
            writeln!(self.output, "{digest}  {bytes}")?;
        } else {
            writeln!(self.output, "{digest}")?;
        }
        Ok(())
    }
}

/// The answer for a digest on standard input; `bytes` is `None` if the object is missing.
#[derive(Serialize)]
struct Size {
    digest: String,
    bytes: Option<u64>,
}

fn sizes(store: &Store, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let mut exit = Exit::Done;
    // If the reader of the answers goes away, the exit code still depends on all of them.
    for batch in Batches::of_input(BATCH) {
        for digest in batch? {
            let bytes = store.len_of(digest)?;
            if bytes.is_none() {
                exit = Exit::NotFound;
            }
            if global.json {
                let digest = digest.to_string();
                output.json(&Size { digest, bytes })?;
            } else if let Some(bytes) = bytes {
                writeln!(output, "{digest}  {bytes}")?;
            } else {
                writeln!(output, "{digest}  missing")?;
            }
        }
        output.flush()?;
    }
    Ok(exit)
}
