//! Measurements that need a process of their own: the heap of one store alone, a kill -9, and stores
//! that are larger than memory.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::{fs, thread};

use sealstone::{Digest, Store};

use crate::contents::{Contents, Size};
use crate::hashing;
use crate::kinds::kinds;
use crate::larger_than_memory;
use crate::workload::Workload;

/// The first argument of a child.
pub const CHILD: &str = "child";

/// Gets that are made before the heap is measured.
const HEAP_GETS: u64 = 1_000;

/// Returns the call of this program as a child, with a folder as its last argument.
pub fn command(arguments: &[&str], folder: &Path) -> Command {
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command.arg(CHILD).args(arguments).arg(folder);
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    command
}

/// Does what the parent asked for in the `arguments` after [`CHILD`].
pub fn run(arguments: &[String]) {
    match arguments {
        [what, kind, size, objects, folder] if what == "heap" => {
            let size = size.parse().expect("the parent wrote it");
            let objects = objects.parse().expect("the parent wrote it");
            println!("{}", heap_in_child(kind, size, objects, Path::new(folder)));
        }
        [what, bytes, folder] if what == "fill" => {
            let bytes = bytes.parse().expect("the parent wrote it");
            fill_in_child(bytes, Path::new(folder));
        }
        [what, arguments @ .., folder] if what == larger_than_memory::CHILD => {
            larger_than_memory::run_in_child(arguments, Path::new(folder));
        }
        other => panic!("{other:?}: no child is started with this"),
    }
}

/// Returns by how much the anonymous memory of a process grows when it opens a store, gets a
/// thousand objects and misses one, in bytes an object.
pub fn heap(kind: &str, folder: &Path, workload: &Workload) -> f64 {
    let objects = workload.objects.to_string();
    let output = command(&["heap", kind, &workload.size.key(), &objects], folder)
        .output()
        .expect("a child starts");
    assert!(output.status.success(), "the child failed");
    let printed = String::from_utf8(output.stdout).expect("a number");
    let bytes: f64 = printed.trim().parse().expect("a number");
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let each = bytes / workload.objects as f64;
    each
}

fn heap_in_child(kind: &str, size: Size, objects: u64, folder: &Path) -> u64 {
    let step = objects.div_ceil(HEAP_GETS);
    let digests: Vec<Digest> = (0..objects)
        .step_by(usize::try_from(step).expect("64 bits"))
        .flat_map(|number| Contents::generate(size, number, 1).digests())
        .collect();
    let kinds = kinds();
    let kind = kinds
        .iter()
        .find(|candidate| candidate.name() == kind)
        .expect("the parent knows the names");
    let before = anonymous_bytes();
    let mut after = 0;
    kind.use_a_little(folder, &digests, &mut || after = anonymous_bytes());
    after.saturating_sub(before)
}

/// Returns `RssAnon`: heap and stacks that are in memory, without mapped files.
fn anonymous_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .expect("Linux says so since 4.5");
    let kilobytes = line.trim().trim_end_matches("kB").trim();
    kilobytes.parse::<u64>().expect("a number") * 1024
}

/// Leaves a store as kill -9 does, with `bytes` synced in the active segment.
pub fn fill_and_kill(folder: &Path, bytes: u64) {
    let mut child = command(&["fill", &bytes.to_string()], folder)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child starts");
    let printed = child.stdout.take().expect("it is piped");
    let line = BufReader::new(printed).lines().next();
    let line = line.and_then(Result::ok);
    assert_eq!(line.as_deref(), Some("synced"), "the child failed");
    child.kill().expect("a child can be killed"); // SIGKILL
    child.wait().expect("a child can be waited for");
}

const FILL_BYTES: usize = 1 << 10;

fn fill_in_child(bytes: u64, folder: &Path) {
    let store = Store::open(folder).expect("Sealstone opens");
    let objects = bytes / FILL_BYTES as u64;
    let contents = Contents::generate(Size::Fixed(FILL_BYTES), 0, objects);
    for content in contents.iter() {
        store.put(content).expect("Sealstone puts");
    }
    store.sync().expect("Sealstone syncs");
    println!("synced");
    loop {
        thread::park();
    }
}

/// The digest of the first object of [`fill_and_kill`].
pub fn filled_first() -> Digest {
    let contents = Contents::generate(Size::Fixed(FILL_BYTES), 0, 1);
    hashing::digest(contents.iter().next().expect("one object"))
}
