//! `ls`: lists the digests of the objects.

use std::io::Write as _;

use sealstone::{Digest, Store};
use serde::Serialize;

use crate::args::{Global, LsArguments};
use crate::exit::{Exit, Failure};
use crate::output::Output;

pub fn run(arguments: &LsArguments, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let store = global.open_to_read()?;
    let mut listing = Listing {
        output,
        is_json: global.json,
        is_empty: true,
    };
    list(&store, arguments, &mut listing)?;
    if listing.is_empty && !arguments.prefix.is_empty() {
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
