//! `completions` and `man`: what shells and `man` know of the command line. Both are made from the
//! definition of the arguments, so they have every command and option.

use std::io::Write as _;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::args::{Arguments, CompletionsArguments, Global, ManArguments};
use crate::exit::{Exit, Failure};
use crate::output::Output;

pub fn completions(
    arguments: &CompletionsArguments,
    global: &Global,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    refuse_json(global)?;
    // clap panics if its writer fails, so it writes to memory.
    let mut script = Vec::new();
    let mut program = Arguments::command();
    clap_complete::generate(arguments.shell, &mut program, "sealstone", &mut script);
    output.write_all(&script)?;
    Ok(Exit::Done)
}

pub fn man(arguments: &ManArguments, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    refuse_json(global)?;
    let mut program = Arguments::command();
    // The options of every command belong to the commands only after this.
    program.build();
    let described = match &arguments.command {
        None => program,
        Some(name) => program.find_subcommand(name).cloned().ok_or_else(|| {
            Failure::Usage(format!(
                "{name}: there is no such command; `sealstone -h` lists them"
            ))
        })?,
    };
    output.write_all(&page(described)?)?;
    Ok(Exit::Done)
}

fn refuse_json(global: &Global) -> Result<(), Failure> {
    if global.json {
        let text = "a script or a page has no JSON form; leave --json out";
        return Err(Failure::Usage(text.to_owned()));
    }
    Ok(())
}

/// Returns a page whose last section is the end of the long help, which has examples and JSON.
fn page(command: Command) -> anyhow::Result<Vec<u8>> {
    let details = command.get_after_long_help().map(ToString::to_string);
    let command = command.after_long_help(None::<&str>);
    let mut page = Vec::new();
    let source = concat!("sealstone ", env!("CARGO_PKG_VERSION"));
    Man::new(command).source(source).render(&mut page)?;
    if let Some(details) = details {
        page.extend(section(&details).to_roff().bytes());
    }
    Ok(page)
}

/// Sets text as `man` expects it. clap would join the lines of examples and of JSON.
fn section(text: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["DETAILS"]);
    let mut is_example = false;
    for line in text.lines() {
        if line.starts_with(' ') != is_example {
            is_example = !is_example;
            roff.control(if is_example { "nf" } else { "fi" }, []);
        }
        if line.is_empty() {
            roff.control("PP", []);
        } else {
            roff.text([roman(line)]);
        }
    }
    if is_example {
        roff.control("fi", []);
    }
    roff
}
