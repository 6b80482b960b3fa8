//! `remote get`: writes the content of one object that a ref lists.

use std::path::Path;

use crate::args::Global;
use crate::destination::Destination;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::own_folder::OwnFolder;
use crate::progress;
use crate::remote::{open, show};
use crate::remote_args::RemoteGetArguments;

pub fn run(
    arguments: &RemoteGetArguments,
    global: &Global,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    let file = arguments.output.as_deref().unwrap_or(Path::new("-"));
    // The command line is checked before anything is downloaded.
    let destination = Destination::named(file)?;
    if global.json && destination == Destination::StandardOutput {
        let text = "remote get --json would mix the JSON with the content; pass -o FILE, too";
        return Err(Failure::Usage(text.to_owned()).into());
    }
    for folder in ["sealstone-cache/objects", "sealstone-cache/index"] {
        let cache = arguments.cache.as_ref().map(|cache| cache.join(folder));
        let own_folder = cache.and_then(|cache| OwnFolder::of(&cache));
        if own_folder.is_some_and(|own_folder| destination.is_in(&own_folder)) {
            let file = file.display();
            let text = format!("{file}: not written: this is a file of the cache; choose another");
            return Err(Failure::Usage(text).into());
        }
    }

    // It is removed at the end.
    let temporary;
    let cache = if let Some(cache) = &arguments.cache {
        cache.as_path()
    } else {
        temporary = tempfile::tempdir()?;
        temporary.path()
    };
    let remote = open(&arguments.url)?;
    let bar = progress::bytes("reading the index");
    let cache_bytes = arguments.cache_bytes;
    let reader = remote.reader_with(&arguments.name, cache, cache_bytes, |progress| {
        show(&bar, progress.bytes_done, progress.bytes_total)
    });
    bar.finish_and_clear();
    let digest = arguments.digest;
    let Some(object) = reader?.get(digest)? else {
        let (url, name) = (&arguments.url, &arguments.name);
        return Err(Failure::NotFound(format!(
            "{url}: {digest} is not in the ref {name}; `sealstone remote ls` lists the refs"
        ))
        .into());
    };
    destination.write(&object, file, global, output)?;
    Ok(Exit::Done)
}
