//! Messages on standard error: lines of text, or with `--json` an object a line.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;
use serde_json::json;

use crate::args::Global;
use crate::exit::{Exit, describe};
use crate::terminal::visible;

/// The form that the user wants.
#[derive(Clone, Copy, Debug)]
pub struct Messages {
    is_json: bool,
}

impl Global {
    pub fn messages(&self) -> Messages {
        Messages::new(self.json)
    }
}

impl Messages {
    pub fn new(is_json: bool) -> Self {
        Self { is_json }
    }

    pub fn error(self, error: &anyhow::Error) {
        self.failure(describe(error), Exit::of(error));
    }

    /// Prints an error that ends the command with this code unless there is another.
    pub fn failure(self, message: impl Display, exit: Exit) {
        if self.is_json {
            say(json!({ "error": message.to_string(), "exit_code": exit as u8 }));
        } else {
            complain(message);
        }
    }

    /// Prints what is no error.
    pub fn note(self, message: impl Display) {
        if self.is_json {
            say(json!({ "note": message.to_string() }));
        } else {
            complain(message);
        }
    }

    /// Prints the last line of a command: its figures, or what `text` says of them.
    pub fn summary(
        self,
        figures: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> anyhow::Result<()> {
        if self.is_json {
            say(serde_json::to_string(figures)?);
        } else {
            complain(text());
        }
        Ok(())
    }
}

fn complain(message: impl Display) {
    say(format_args!("sealstone: {message}"));
}

/// Prints a line on standard error. Unlike `eprintln!`, it does not panic if the line cannot be
/// written. On a terminal, control characters of the names in it are escaped.
fn say(message: impl Display) {
    let mut stderr = io::stderr().lock();
    let line = format!("{message}\n");
    let line = if stderr.is_terminal() {
        visible(line.as_bytes())
    } else {
        line.as_bytes().into()
    };
    let _ = stderr.write_all(&line);
}
