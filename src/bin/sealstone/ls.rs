//! `ls`: lists the digests of the objects.

use std::io::Write as _;

use sealstone::{Digest, Store};
use serde::Serialize;

use crate::args::{Global, LsArguments};
use crate::exit::{Exit, Failure};
use crate::output::{JsonArray, Output};

pub fn run(arguments: &LsArguments, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let store = global.open_to_read()?;
    let mut listing = Listing {
        output,
        array: global.json.then(JsonArray::default),
        is_empty: true,
    };
    list(&store, arguments, &mut listing)?;
    let is_empty = listing.end()?;

    if is_empty && !arguments.prefix.is_empty() {
        let (folder, prefix) = (global.folder()?.display(), &arguments.prefix);
        let text = format!("{folder}: no digest begins with {prefix}; give fewer digits");
        return Err(Failure::NotFound(text).into());
    }
    Ok(Exit::Done)
}

fn list(store: &Store, arguments: &LsArguments, listing: &mut Listing<'_>) -> anyhow::Result<()> {
    for object in store.lengths() {
        if listing.output.reader_is_gone() {
            break;
        }
        let (digest, bytes) = object?;
        if arguments.prefix.matches(&digest) {
            listing.line(&digest, arguments.long.then_some(bytes))?;
        }
    }
    Ok(())
}

/// Lines of text, or one JSON array.
struct Listing<'a> {
    output: &'a mut Output,
    /// For JSON.
    array: Option<JsonArray>,
    is_empty: bool,
}

#[derive(Serialize)]
struct Entry {
    digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

impl Listing<'_> {
    fn line(&mut self, digest: &Digest, bytes: Option<u64>) -> anyhow::Result<()> {
        self.is_empty = false;
        if let Some(array) = &mut self.array {
            let digest = digest.to_string();
            array.push(self.output, &Entry { digest, bytes })?;
        } else if let Some(bytes) = bytes {
            writeln!(self.output, "{digest}  {bytes}")?;
        } else {
            writeln!(self.output, "{digest}")?;
        }
        Ok(())
    }

    /// Returns whether there was nothing to list.
    fn end(self) -> anyhow::Result<bool> {
        if let Some(array) = self.array {
            array.end(self.output)?;
        }
        Ok(self.is_empty)
    }
}
