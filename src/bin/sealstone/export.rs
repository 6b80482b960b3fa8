//! `export`: writes the objects of a store as a stream.

use std::io::{self, BufWriter, IsTerminal as _};

use sealstone::{Digest, Store};
use serde::Serialize;

use crate::args::{ExportArguments, Global};
use crate::batch::{self, Batch};
use crate::digest_list;
use crate::exit::{self, Exit, Failure};
use crate::messages::Messages;
use crate::output::{Output, count, size};
use crate::stream::Writer;

/// Bytes that are written at once, so that the next program is not woken for each few objects.
const BUFFER_BYTES: usize = 256 << 10;

pub fn run(
    arguments: &ExportArguments,
    global: &Global,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    if io::stdout().is_terminal() {
        let text = "standard output is a terminal; send the stream to a file or to another program";
        return Err(Failure::Usage(text.to_owned()).into());
    }
    // The list can come from a program that waits for nothing but that this one reads all of it.
    let mut except = match &arguments.except {
        Some(list) => digest_list::read(list)?,
        None => Vec::new(),
    };
    except.sort_unstable();
    batch::start_threads()?;
    let store = global.open_to_read()?;
    let messages = global.messages();
    let summary = {
        let buffered = BufWriter::with_capacity(BUFFER_BYTES, &mut *output);
        let mut export = Export {
            stream: Writer::begin(buffered, store.hash_function())?,
            messages,
            summary: Summary::default(),
        };
        export.all(&store, &except)?;
        export.stream.end()?;
        export.summary
    };
    let has_damage = summary.damaged > 0;
    if (!arguments.quiet || has_damage) && !output.reader_is_gone() {
        messages.summary(&summary, || summary.text())?;
    }
    Ok(if has_damage {
        Exit::Damaged
    } else {
        Exit::Done
    })
}

struct Export<'a> {
    stream: Writer<BufWriter<&'a mut Output>>,
    messages: Messages,
    summary: Summary,
}

impl Export<'_> {
    /// Writes the objects that are not in `except`, which is sorted.
    fn all(&mut self, store: &Store, except: &[Digest]) -> anyhow::Result<()> {
        let mut batch = Batch::default();
        for object in store.lengths() {
            let Some((digest, bytes)) = self.undamaged(object)? else {
                continue;
            };
            if except.binary_search(&digest).is_ok() {
                self.summary.left_out += 1;
                continue;
            }
            if batch.is_full_for(bytes) {
                self.batch(store, &batch.take())?;
            }
            if self.stream.output().get_ref().reader_is_gone() {
                return Ok(());
            }
            batch.push(digest, bytes);
        }
        self.batch(store, &batch.take())
    }

    fn batch(&mut self, store: &Store, digests: &[Digest]) -> anyhow::Result<()> {
        for (digest, object) in digests.iter().zip(store.get_many(digests)) {
            // An object that is absent now was dropped after its digest was read.
            if let Some(content) = self.undamaged(object)?.flatten() {
                self.stream.record(digest, &content)?;
                self.summary.objects += 1;
                self.summary.bytes += content.len() as u64;
            }
        }
        Ok(())
    }

    /// Returns `None` for damage, after it was named.
    fn undamaged<T>(&mut self, result: sealstone::Result<T>) -> anyhow::Result<Option<T>> {
        Ok(exit::undamaged(result, |error| {
            self.summary.damaged += 1;
            self.messages.error(&error);
        })?)
    }
}

#[derive(Clone, Copy, Default, Serialize)]
struct Summary {
    objects: u64,
    bytes: u64,
    left_out: u64,
    damaged: u64,
}

impl Summary {
    fn text(self) -> String {
        let (objects, bytes) = (count(self.objects, "object"), size(self.bytes));
        let mut text = format!("{objects}, {bytes}");
        if self.left_out > 0 {
            let left_out = indicatif::HumanCount(self.left_out);
            text = format!("{text}, {left_out} of the list left out");
        }
        if self.damaged > 0 {
            let damaged = indicatif::HumanCount(self.damaged);
            text = format!("{text}, {damaged} damaged and not in the stream; see above");
        }
        text
    }
}
