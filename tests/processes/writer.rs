//! A writer in a process of its own, which takes orders from this one.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sealstone::Options;

use crate::common::hash::new_options;
use crate::common::workload::{contents, put_all};

const STORE: &str = "SEALSTONE_TOLD_STORE";

pub const OBJECT_BYTES: usize = 300;

pub fn options() -> Options {
    new_options().segment_bytes_max(8 << 10)
}

/// Lets one test run at a time: a starting child holds the lock files of this process
/// for a moment.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The other process: opens the store for writing and carries out its orders, line by line. In an
/// ordinary test run it does nothing.
#[test]
fn carries_out_orders() {
    let Ok(folder) = env::var(STORE) else { return };
    let store = match options().open(folder) {
        Ok(store) => store,
        Err(error) => return say(&format!("{error:?}")),
    };
    say("done");
    for line in io::stdin().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        match words[0] {
            "put" => put_all(&store, &contents(number(1), number(2), OBJECT_BYTES)),
            "sync" => store.sync().unwrap(),
            "drop" => {
                let dead = contents(number(1), number(2), OBJECT_BYTES);
                store.compact(|digest| !dead.contains_key(digest)).unwrap();
            }
            other => panic!("{other}"),
        }
        say("done");
    }
    store.close().unwrap();
}

fn say(what: &str) {
    let mut out = io::stdout().lock();
    out.write_all(format!("\n> {what}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// The other process, seen from this one.
pub struct Writer {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Writer {
    /// Starts the process and returns what it says about opening.
    pub fn start(folder: &Path) -> (Self, String) {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "writer::carries_out_orders", "--nocapture"])
            .env(STORE, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut writer = Self {
            child,
            stdin,
            stdout,
        };
        let said = writer.listen();
        (writer, said)
    }

    pub fn open(folder: &Path) -> Self {
        let (writer, said) = Self::start(folder);
        assert_eq!(said, "done");
        writer
    }

    pub fn listen(&mut self) -> String {
        loop {
            let mut line = String::new();
            let len = self.stdout.read_line(&mut line).unwrap();
            assert!(len > 0, "the other process has ended");
            if let Some(said) = line.strip_prefix("> ") {
                return said.trim_end().to_owned();
            }
        }
    }

    pub fn tell(&mut self, what: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{what}").unwrap();
        assert_eq!(self.listen(), "done");
    }

    pub fn close(mut self) {
        drop(self.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Writer {
    /// Kills the process as kill -9 does, unless it has ended already.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
