//! `sealstone`: a content-addressed object store on the command line.
//!
//! Standard output carries the answer and nothing else, so that it can be piped; notes, progress and
//! errors go to standard error, by way of `messages.rs` and `progress.rs`. Each command is a file of
//! its own with a function `run`, but for the two of `pages.rs`, and `exit.rs` alone decides the exit
//! codes.

#![forbid(unsafe_code)]

mod args;
mod batch;
mod check;
mod checkpoint;
mod checksum_line;
mod compact;
mod destination;
mod diff;
mod digest_args;
mod digest_list;
mod exit;
mod export;
mod get;
mod get_many;
mod has;
mod help;
mod import;
mod list_lines;
mod ls;
mod messages;
mod open;
mod output;
mod own_folder;
mod pages;
mod progress;
mod put;
#[cfg(feature = "remote")]
mod remote;
#[cfg(feature = "remote")]
mod remote_args;
#[cfg(feature = "remote")]
mod remote_get;
mod sources;
mod standard_input;
mod standard_output;
mod stat;
mod stream;
mod target;
mod terminal;
mod verify;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Arguments, Command};
use crate::exit::Exit;
use crate::messages::Messages;
use crate::output::Output;

fn main() -> ExitCode {
    let exit = match Arguments::try_parse() {
        Ok(arguments) => run_and_report(&arguments),
        Err(error) => {
            // A command line that is wrong has no arguments to ask.
            let is_json = std::env::args_os().any(|argument| argument == "--json");
            exit::report_usage(&error, Messages::new(is_json))
        }
    };
    ExitCode::from(exit)
}

fn run_and_report(arguments: &Arguments) -> Exit {
    let mut output = Output::stdout();
    let result = run(arguments, &mut output);
    // Lines that were printed before an error are still an answer, so they are written in any case.
    let flushed = output.finish();
    match result.and_then(|exit| flushed.map(|()| exit)) {
        Ok(exit) => exit,
        Err(error) => {
            arguments.global.messages().error(&error);
            Exit::of(&error)
        }
    }
}

fn run(arguments: &Arguments, output: &mut Output) -> anyhow::Result<Exit> {
    let global = &arguments.global;
    match &arguments.command {
        Command::Put(arguments) => put::run(arguments, global, output),
        Command::Get(arguments) => get::run(arguments, global, output),
        Command::Has(arguments) => has::run(arguments, global, output),
        Command::Ls(arguments) => ls::run(arguments, global, output),
        Command::Stat(arguments) => stat::run(arguments, global, output),
        Command::Verify(arguments) => verify::run(arguments, global, output),
        Command::Compact(arguments) => compact::run(arguments, global, output),
        Command::Check(arguments) => check::run(arguments, global, output),
        Command::Checkpoint(arguments) => checkpoint::run(arguments, global, output),
        Command::Export(arguments) => export::run(arguments, global, output),
        Command::Import(arguments) => import::run(arguments, global),
        Command::Diff(arguments) => diff::run(arguments, global, output),
        #[cfg(feature = "remote")]
        Command::Push(arguments) => remote::push(arguments, global, output),
        #[cfg(feature = "remote")]
        Command::Pull(arguments) => remote::pull(arguments, global, output),
        #[cfg(feature = "remote")]
        Command::Remote(command) => remote::remote(command, global, output),
        Command::Completions(arguments) => pages::completions(arguments, global, output),
        Command::Man(arguments) => pages::man(arguments, global, output),
    }
}
