//! `has`: looks up whether objects are in the store.

use std::io::Write as _;

use sealstone::Store;
use serde_json::json;

use crate::args::{Global, HasArguments};
use crate::digest_args::WantedDigest;
use crate::exit::Exit;
use crate::output::Output;

pub fn run(arguments: &HasArguments, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let store = global.open_to_read()?;
    let answers: Vec<_> = arguments
        .digests
        .iter()
        .map(|wanted| look_up(&store, wanted))
        .collect::<anyhow::Result<_>>()?;

    if !arguments.quiet {
        print(&answers, global.json, output)?;
    }
    if answers.iter().all(|(_, present)| *present) {
        Ok(Exit::Done)
    } else {
        Ok(Exit::NotFound)
    }
}

fn look_up(store: &Store, wanted: &WantedDigest) -> anyhow::Result<(String, bool)> {
    match wanted.resolve(store)? {
        Some(digest) => Ok((digest.to_string(), store.contains(digest)?)),
        None => Ok((wanted.to_string(), false)),
    }
}

fn print(answers: &[(String, bool)], json: bool, output: &mut Output) -> anyhow::Result<()> {
    if json {
        let answers: Vec<_> = answers
            .iter()
            .map(|(digest, present)| json!({ "digest": digest, "present": present }))
            .collect();
        return output.json(&answers);
    }
    for (digest, present) in answers {
        let answer = if *present { "yes" } else { "no" };
        writeln!(output, "{digest}  {answer}")?;
    }
    Ok(())
}
