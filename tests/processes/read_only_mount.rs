//! A reader that may change nothing: an unprivileged user, and a folder that is mounted read-only,
//! beside a writer that sees it writable.
//!
//! Mounting needs a mount namespace, which root has, and other users where the system allows it.
//! Elsewhere the test says so and tests nothing.
#![cfg(target_os = "linux")]

use crate::common::hash::new_options;
use crate::common::layout::copy_this_program;
use crate::common::workload;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::{env, thread};

use crate::common::workload::{
    assert_holds, assert_lacks, assert_same, assert_unchanged, assert_verifies, contents, put_all,
    snapshot, walk,
};
use sealstone::{Error, Options, ReadMode, Store};
use tempfile::TempDir;

const STORE: &str = "SEALSTONE_MOUNTED_STORE";
const OBJECT_BYTES: usize = 300;

fn options() -> Options {
    new_options().segment_bytes_max(8 << 10)
}

/// Mounts a folder over itself, read-only, and runs a program that sees it so. If this user is
/// root, the program runs as another one, since root may write where nobody else may.
const MOUNT_AND_RUN: &str = r#"
mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" || exit 77
shift
if [ "$(id -ru)" = 0 ] && [ -z "$SEALSTONE_MAPPED" ]; then
    exec setpriv --reuid 65534 --regid 65534 --clear-groups -- "$@"
fi
exec "$@"
"#;

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout.trim_ascii() == b"0"
}

/// The process in the namespace. In an ordinary test run it does nothing.
#[test]
fn reads_where_it_may_not_write() {
    let Ok(folder) = env::var(STORE) else { return };
    let folder = Path::new(&folder);
    let probe = File::create(folder.join("segments/probe")).unwrap_err();
    assert_may_not(&probe);
    // Opening for writing fails too, with an error that names a path in the store.
    match options().open(folder) {
        Err(Error::Io { path, source }) => {
            assert!(path.starts_with(folder), "{}", path.display());
            assert_may_not(&source);
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("the store was opened for writing"),
    }
    let readers = [ReadMode::Mmap, ReadMode::Pread].map(|mode| {
        let options = Options::new().read_only(true).read_mode(mode);
        options.open(folder).unwrap()
    });
    let mut held = contents(0, 100, OBJECT_BYTES);
    let check = |reader: &Store, held: &workload::Contents| {
        assert_holds(reader, held);
        assert_same(&walk(reader), held);
        assert_verifies(reader);
    };
    for reader in &readers {
        check(reader, &held);
    }
    say("has read");
    for line in io::stdin().lines() {
        match line.unwrap().as_str() {
            "more" => held.extend(contents(1000, 100, OBJECT_BYTES)),
            "fewer" => {
                for digest in contents(0, 50, OBJECT_BYTES).keys() {
                    held.remove(digest);
                }
            }
            other => panic!("{other}"),
        }
        for reader in &readers {
            assert!(reader.refresh().unwrap());
            check(reader, &held);
            let dropped = contents(0, 100, OBJECT_BYTES);
            let dropped = dropped.keys().filter(|digest| !held.contains_key(*digest));
            assert_lacks(reader, dropped);
        }
        say("has read");
    }
}

#[track_caller]
fn assert_may_not(error: &io::Error) {
    let (is, may_be) = (error.kind(), io::ErrorKind::PermissionDenied);
    assert!(
        [may_be, io::ErrorKind::ReadOnlyFilesystem].contains(&is),
        "{error}"
    );
}

fn say(what: &str) {
    let mut out = io::stdout().lock();
    out.write_all(format!("\n> {what}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Starts this test program in a namespace of its own.
fn start(folder: &Path, program: &Path) -> Child {
    let mut unshare = Command::new("unshare");
    if is_root() {
        unshare.arg("--mount");
    } else {
        unshare.args(["--user", "--map-root-user", "--mount"]);
        unshare.env("SEALSTONE_MAPPED", "yes");
    }
    let started = unshare
        .args(["sh", "-c", MOUNT_AND_RUN, "sh"])
        .arg(folder)
        .arg(program)
        .args([
            "--exact",
            "read_only_mount::reads_where_it_may_not_write",
            "--nocapture",
        ])
        .env(STORE, folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    started.unwrap()
}

#[test]
fn h3_an_unprivileged_reader_on_a_read_only_mount_follows_a_writer_and_changes_no_byte() {
    let folder = TempDir::new().unwrap();
    let open_to_all = PermissionsExt::from_mode(0o755);
    fs::set_permissions(folder.path(), open_to_all).unwrap();
    let root = folder.path().join("store");
    let program = folder.path().join("program");
    copy_this_program(&program);

    let writer = options().open(&root).unwrap();
    put_all(&writer, &contents(0, 100, OBJECT_BYTES));
    writer.sync().unwrap();
    workload::settle(&root);
    let before = snapshot(&root);

    let mut child = start(&root, &program);
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut has_read = || lines.any(|line| line.unwrap() == "> has read");
    if !has_read() {
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(77), "{status}");
        eprintln!("this user may not mount, so this was not tested");
        return;
    }
    assert_unchanged(&root, &before);

    put_all(&writer, &contents(1000, 100, OBJECT_BYTES));
    writer.sync().unwrap();
    writeln!(stdin, "more").unwrap();
    assert!(has_read());
    let dead = contents(0, 50, OBJECT_BYTES);
    writer.compact(|digest| !dead.contains_key(digest)).unwrap();
    writeln!(stdin, "fewer").unwrap();
    assert!(has_read());
    // Replaced files are removed although the reader had them open.
    workload::settle(&root);
    let before = snapshot(&root);
    drop(stdin);
    let rest = thread::spawn(move || lines.for_each(drop));
    assert!(child.wait().unwrap().success());
    rest.join().unwrap();
    assert_unchanged(&root, &before);
    writer.close().unwrap();
}
