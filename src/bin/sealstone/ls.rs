//! `ls`: lists the digests of the objects, or the sizes of those on standard input.

use std::io::Write as _;

use sealstone::{DIGEST_BYTES, Digest, Store};
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
        line: Vec::new(),
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
    /// The line that is printed, which keeps its memory for the next one.
    line: Vec<u8>,
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
        } else {
            self.line.clear();
            write_line(&mut self.line, digest, bytes)?;
            self.output.write_all(&self.line)?;
        }
        Ok(())
    }
}

/// Appends `DIGEST` or `DIGEST  BYTES`. `writeln!` takes several times as long, which is a good part of the
/// time of a list of a million objects.
fn write_line(line: &mut Vec<u8>, digest: &Digest, bytes: Option<u64>) -> anyhow::Result<()> {
    let mut digits = [0; 2 * DIGEST_BYTES];
    hex::encode_to_slice(digest, &mut digits)?;
    line.extend_from_slice(&digits);
    if let Some(bytes) = bytes {
        line.extend_from_slice(b"  ");
        line.extend_from_slice(itoa::Buffer::new().format(bytes).as_bytes());
    }
    line.push(b'\n');
    Ok(())
}

/// The answer for a digest on standard input; `bytes` is `None` if the object is missing.
#[derive(Serialize)]
struct Size {
    digest: String,
    bytes: Option<u64>,
}

fn sizes(store: &Store, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let mut exit = Exit::Done;
    let mut line = Vec::new();
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
            } else if bytes.is_some() {
                line.clear();
                write_line(&mut line, &digest, bytes)?;
                output.write_all(&line)?;
            } else {
                writeln!(output, "{digest}  missing")?;
            }
        }
        output.flush()?;
    }
    Ok(exit)
}
