//! `checkpoint`: makes another store with the same objects, out of hard links.

use serde::Serialize;

use crate::args::{CheckpointArguments, Global};
use crate::exit::{Exit, Failure};
use crate::output::{Output, count, size};
use crate::own_folder::OwnFolder;

#[derive(Serialize)]
struct Made<'a> {
    checkpoint: &'a str,
    objects: u64,
    content_bytes: u64,
}

pub fn run(
    arguments: &CheckpointArguments,
    global: &Global,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    let target = &arguments.target;
    // The command line is checked before the store is opened.
    let own_folder = OwnFolder::of(global.folder()?);
    if own_folder.is_some_and(|own_folder| own_folder.contains(target)) {
        let text = format!(
            "{}: this is in the folder of the store's own files; nothing was done; choose another",
            target.display()
        );
        return Err(Failure::Usage(text).into());
    }
    let store = global.open_to_write(arguments.waiting)?;
    store.checkpoint(target)?;
    // Nothing was put in between, because this process is the only writer.
    let stats = store.stats();
    store.close()?;

    let made = Made {
        checkpoint: &target.to_string_lossy(),
        objects: stats.objects,
        content_bytes: stats.content_bytes,
    };
    if global.json {
        output.json(&made)?;
    } else {
        let (objects, bytes) = (count(made.objects, "object"), size(made.content_bytes));
        let line = format!("{}: {objects}, {bytes}\n", target.display());
        output.names(line.as_bytes())?;
    }
    Ok(Exit::Done)
}
