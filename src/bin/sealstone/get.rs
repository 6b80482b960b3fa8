//! `get`: the content of one object.

use std::io::Write as _;
use std::path::Path;

use serde_json::json;

use crate::args::{GetArguments, Global};
use crate::atomic_file;
use crate::exit::{Exit, Failure};
use crate::output::Output;

pub fn run(arguments: &GetArguments, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let file = arguments.output.as_deref();
    let file = file.filter(|file| *file != Path::new("-"));
    if global.json && file.is_none() {
        let text = "get --json would mix JSON with the content; pass -o FILE, too";
        return Err(Failure::Usage(text.to_owned()).into());
    }

    let store = global.open_to_read()?;
    let wanted = &arguments.digest;
    let digest = wanted.resolve(&store)?;
    let object = digest.map(|digest| store.get(&digest)).transpose()?;
    let Some(object) = object.flatten() else {
        let folder = global.folder()?.display();
        return Err(Failure::NotFound(format!(
            "{folder}: {wanted} is not in the store; `sealstone ls` lists what is"
        ))
        .into());
    };

    match file {
        Some(file) => atomic_file::write(file, &object)?,
        None => output.write_all(&object)?,
    }
    if let (true, Some(file)) = (global.json, file) {
        output.json(&json!({
            "digest": object.digest().to_string(),
            "bytes": object.len(),
            "file": file.to_string_lossy(),
        }))?;
    }
    Ok(Exit::Done)
}
