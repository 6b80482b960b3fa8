//! `ls`: lists the digests of the objects.

use std::io::Write as _;

use sealstone::{Digest, Error, Store};
use serde::Serialize;

use crate::args::{Global, LsArguments};
use crate::exit::{Exit, Failure};
use crate::output::{Output, complain};

pub fn run(arguments: &LsArguments, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let store = global.open_to_read()?;
    let mut listing = Listing {
        output,
        json: global.json,
        lines: 0,
    };
    let exit = list(&store, arguments, &mut listing)?;
    let lines = listing.end()?;

    if lines == 0 && !arguments.prefix.is_empty() && exit == Exit::Done {
        let (folder, prefix) = (global.folder()?.display(), &arguments.prefix);
        let text = format!("{folder}: no digest begins with {prefix}; give fewer digits");
        return Err(Failure::NotFound(text).into());
    }
    Ok(exit)
}

fn list(store: &Store, arguments: &LsArguments, listing: &mut Listing<'_>) -> anyhow::Result<Exit> {
    let mut exit = Exit::Done;
    for digest in store.digests() {
        if listing.output.reader_is_gone() {
            break;
        }
        let digest = digest?;
        if !arguments.prefix.matches(&digest) {
            continue;
        }
        if !arguments.long {
            listing.line(&digest, None)?;
            continue;
        }
        match store.get(digest) {
            Ok(Some(object)) => listing.line(&digest, Some(object.len()))?,
            // A compaction has dropped it meanwhile.
            Ok(None) => {}
            // One damaged object must not hide the others.
            Err(error @ Error::Corrupt { .. }) => {
                complain(&error);
                exit = Exit::Damaged;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(exit)
}

/// Lines of text, or one JSON array that is written as it grows.
struct Listing<'a> {
    output: &'a mut Output,
    json: bool,
    lines: u64,
}

#[derive(Serialize)]
struct Entry {
    digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
}

impl Listing<'_> {
    fn line(&mut self, digest: &Digest, bytes: Option<usize>) -> anyhow::Result<()> {
        if self.json {
            let separator: &[u8] = if self.lines == 0 { b"[" } else { b",\n" };
            self.output.write_all(separator)?;
            let digest = digest.to_string();
            self.output.json_value(&Entry { digest, bytes })?;
        } else if let Some(bytes) = bytes {
            writeln!(self.output, "{digest}  {bytes}")?;
        } else {
            writeln!(self.output, "{digest}")?;
        }
        self.lines += 1;
        Ok(())
    }

    fn end(self) -> anyhow::Result<u64> {
        if self.json {
            let end: &[u8] = if self.lines == 0 { b"[]\n" } else { b"]\n" };
            self.output.write_all(end)?;
        }
        Ok(self.lines)
    }
}
