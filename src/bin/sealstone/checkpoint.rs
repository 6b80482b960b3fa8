//! `checkpoint`: makes another store with the same objects, out of hard links.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::args::{CheckpointArguments, Global};
use crate::exit::{Exit, Failure};
use crate::output::{Output, count, size};

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
    if is_below(target, &global.folder()?.join("segments")) {
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

/// Returns whether `path`, which need not exist, is `folder` or is below it.
fn is_below(path: &Path, folder: &Path) -> bool {
    let Ok(folder) = fs::canonicalize(folder) else {
        return false;
    };
    let mut existing = path.ancestors().filter_map(|path| {
        // The parent of a relative name is the working directory.
        let is_here = path.as_os_str().is_empty();
        fs::canonicalize(if is_here { Path::new(".") } else { path }).ok()
    });
    existing.next().is_some_and(|path| path.starts_with(folder))
}
