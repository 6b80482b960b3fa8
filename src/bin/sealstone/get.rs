//! `get`: writes the content of one object.

use std::path::Path;

use crate::args::{GetArguments, Global};
use crate::destination::Destination;
use crate::digest_args::OrInput;
use crate::exit::{Exit, Failure};
use crate::get_many;
use crate::output::Output;
use crate::own_folder::OwnFolder;

pub fn run(arguments: &GetArguments, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let wanted = match &arguments.digest {
        OrInput::Argument(wanted) => wanted,
        OrInput::Input if arguments.output.is_none() => return get_many::run(global, output),
        OrInput::Input => {
            let text = "`get -` writes to standard output; leave -o out";
            return Err(Failure::Usage(text.to_owned()).into());
        }
    };
    let file = arguments.output.as_deref().unwrap_or(Path::new("-"));
    // The command line is checked before the store is opened.
    let destination = Destination::named(file)?;
    let own_folder = OwnFolder::of(global.folder()?);
    if own_folder.is_some_and(|own_folder| destination.is_in(&own_folder)) {
        let file = file.display();
        let text = format!("{file}: not written: this is a file of the store; choose another");
        return Err(Failure::Usage(text).into());
    }
    if global.json && destination == Destination::StandardOutput {
        let text = "get --json would mix the JSON with the content; pass -o FILE, too";
        return Err(Failure::Usage(text.to_owned()).into());
    }

    let store = global.open_to_read()?;
    let digest = wanted.resolve(&store)?;
    let object = digest.map(|digest| store.get(digest)).transpose()?;
    let Some(object) = object.flatten() else {
        let folder = global.folder()?.display();
        return Err(Failure::NotFound(format!(
            "{folder}: {wanted} is not in the store; `sealstone ls` lists its objects"
        ))
        .into());
    };

    destination.write(&object, file, global, output)?;
    Ok(Exit::Done)
}
