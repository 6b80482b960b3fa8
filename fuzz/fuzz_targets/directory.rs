//! A store whose files were changed: any damage to any file, with checksums recomputed or not, and
//! links, folders and files of holes instead of files. It is opened read-only and for writing and
//! used in every way. Nothing panics, whatever is read has the digest that was asked for, and
//! nothing outside of the folder is changed or copied.
#![no_main]

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use sealstone::{Digest, Options, ReadMode, Store, VerifyReads};
use sealstone_fuzz::{
    Files, content, forge, options, sample, sample_contents, scratch, write_files,
};

#[derive(Arbitrary, Debug)]
struct Input {
    used_by: UsedBy,
    uses_pread: bool,
    verifies_once: bool,
    allows_missing_segments: bool,
    /// Whether the store is checked before the compaction, or after it.
    is_checked_first: bool,
    is_indexed_at_once: bool,
    /// Whether a plan is made before the compaction, which makes a plan of its own.
    plans: bool,
    keeps_bit: u8,
    changes: Vec<(u8, Change)>,
    disguises: Vec<(u8, Disguise)>,
}

/// Who opens the store. An input has one way only, since opening takes longer than everything else.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
enum UsedBy {
    Reader,
    Writer,
    /// A writer, and a reader when the writer has closed the store.
    WriterThenReader,
}

/// A change of one file. Places are taken modulo its length.
#[derive(Arbitrary, Debug)]
enum Change {
    Flip { place: u16, bit: u8 },
    Write { place: u16, bytes: [u8; 4] },
    WriteLong { place: u16, number: u64 },
    Cut { len: u16 },
    Insert { place: u16, bytes: Vec<u8> },
    Extend { bytes: Vec<u8> },
    ExtendWithZeros { len: u16 },
    Replace { bytes: Vec<u8> },
    Remove,
    CopyTo { other: u8 },
    CopyToName { name: u8 },
    Swap { other: u8 },
    MoveEntry { entry: u8, offset: u16, len: u16 },
    CopyEntry { from: u8, to: u8 },
    Recompute,
    Bind,
}

/// A change of one file that other bytes cannot express.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Disguise {
    /// The file becomes a link to a file that does not belong to the store.
    LinkToPrivate,
    LinkToOther {
        other: u8,
    },
    LinkToNothing,
    /// The file is moved outside, and becomes a link to its new place.
    LinkToItself,
    /// The file grows to a power of two without being stored.
    Sparse {
        exponent: u8,
    },
    /// The file grows in the same way, and its last bytes are repeated at the end.
    SparseWithEnd {
        exponent: u8,
    },
    Folder,
}

/// Names of a store's files, and some that no store uses.
const NAMES: [&str; 16] = [
    "MANIFEST",
    "MANIFEST.tmp",
    "LOCK",
    "seg-000000.dat",
    "seg-000000.idx",
    "seg-000000.jnl",
    "seg-000001.idx.tmp",
    "seg-000004.torn",
    "seg-000009.dat",
    "seg-000009.idx",
    "seg-000009.jnl",
    "seg-7.dat",
    "seg-4294967295.dat",
    "set-000000.run",
    "set-000009.run",
    "set.idx",
];

static SAMPLE: LazyLock<Files> = LazyLock::new(sample);
static CONTENTS: LazyLock<Vec<(Digest, Vec<u8>)>> = LazyLock::new(|| {
    let contents = sample_contents().into_iter();
    contents
        .map(|content| (Digest::of(&content), content))
        .collect()
});

fn place(place: u16, bytes: &[u8]) -> usize {
    usize::from(place) % bytes.len().max(1)
}

fn write(bytes: &mut [u8], begin: usize, new: &[u8]) {
    for (byte, new) in bytes.iter_mut().skip(begin).zip(new) {
        *byte = *new;
    }
}

fn name_of(files: &Files, number: u8) -> String {
    let position = usize::from(number) % files.len().max(1);
    files.keys().nth(position).cloned().unwrap_or_default()
}

/// Returns where an entry of a sidecar begins.
fn entry_at(bytes: &[u8], number: u8) -> usize {
    let count = bytes.len().saturating_sub(44) / 44;
    12 + usize::from(number) % count.max(1) * 44
}

fn change(files: &mut Files, number: u8, change: &Change) {
    let name = name_of(files, number);
    let Some(mut bytes) = files.remove(&name) else {
        return;
    };
    match change {
        Change::Flip { place: at, bit } => {
            let at = place(*at, &bytes);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (bit % 8);
            }
        }
        Change::Write {
            place: at,
            bytes: new,
        } => {
            let at = place(*at, &bytes);
            write(&mut bytes, at, new);
        }
        Change::WriteLong { place: at, number } => {
            let at = place(*at, &bytes);
            write(&mut bytes, at, &number.to_le_bytes());
        }
        Change::Cut { len } => bytes.truncate(place(*len, &bytes)),
        Change::Insert {
            place: at,
            bytes: new,
        } => {
            let at = place(*at, &bytes);
            bytes.splice(at..at, new.iter().copied());
        }
        Change::Extend { bytes: new } => bytes.extend_from_slice(new),
        Change::ExtendWithZeros { len } => bytes.resize(bytes.len() + usize::from(len % 8192), 0),
        Change::Replace { bytes: new } => bytes.clone_from(new),
        Change::Remove => return,
        Change::CopyTo { other } if !files.is_empty() => {
            files.insert(name_of(files, *other), bytes.clone());
        }
        Change::CopyToName { name } => {
            let name = NAMES[usize::from(*name) % NAMES.len()];
            files.insert(name.to_owned(), bytes.clone());
        }
        Change::Swap { other } if !files.is_empty() => {
            let other = files.entry(name_of(files, *other)).or_default();
            std::mem::swap(other, &mut bytes);
        }
        Change::CopyTo { .. } | Change::Swap { .. } => {}
        Change::MoveEntry { entry, offset, len } => {
            let at = entry_at(&bytes, *entry) + 32;
            write(&mut bytes, at, &u64::from(*offset).to_le_bytes());
            write(&mut bytes, at + 8, &u32::from(*len).to_le_bytes());
        }
        Change::CopyEntry { from, to } => {
            let (from, to) = (entry_at(&bytes, *from), entry_at(&bytes, *to));
            let entry = bytes.get(from..from + 44).unwrap_or_default().to_vec();
            write(&mut bytes, to, &entry);
        }
        Change::Recompute => forge::recompute(&name, &mut bytes),
        Change::Bind => {
            files.insert(name, bytes);
            return forge::bind(files);
        }
    }
    files.insert(name, bytes);
}

const PRIVATE: &[u8] = b"a file of somebody else, which nobody may read or change from here";

/// The folder of the private file, and of the files that were moved outside.
const OUTSIDE: &str = "outside";

fn disguise(root: &Path, files: &Files, number: u8, how: Disguise) -> io::Result<()> {
    let name = name_of(files, number);
    let (path, outside) = (root.join("segments").join(&name), root.join(OUTSIDE));
    if !fs::symlink_metadata(&path)?.is_file() {
        // The file is disguised already, and the target of a link must not change.
        return Ok(());
    }
    match how {
        Disguise::LinkToPrivate => {
            fs::remove_file(&path)?;
            symlink(outside.join("private"), path)
        }
        Disguise::LinkToOther { other } => {
            fs::remove_file(&path)?;
            symlink(name_of(files, other), path)
        }
        Disguise::LinkToNothing => {
            fs::remove_file(&path)?;
            symlink(outside.join("nothing"), path)
        }
        Disguise::LinkToItself => {
            fs::rename(&path, outside.join(&name))?;
            symlink(outside.join(&name), path)
        }
        Disguise::Sparse { exponent } => {
            let file = File::options().write(true).open(path)?;
            file.set_len(1 << (exponent % 41))
        }
        Disguise::SparseWithEnd { exponent } => {
            let file = File::options().read(true).write(true).open(path)?;
            // An earlier disguise may have made the file longer.
            let begin = file.metadata()?.len().saturating_sub(100);
            let mut end = Vec::new();
            (&file).seek(SeekFrom::Start(begin))?;
            (&file).read_to_end(&mut end)?;
            file.write_all_at(&end, 1 << (exponent % 41))
        }
        Disguise::Folder => {
            fs::remove_file(&path)?;
            fs::create_dir(path)
        }
    }
}

/// Asserts that the private file is as it was, and that no file of the store contains it.
fn assert_is_private(root: &Path) {
    let private = fs::read(root.join(OUTSIDE).join("private")).expect("the private file");
    assert!(private == PRIVATE, "a private file was changed");
    for entry in fs::read_dir(root.join("segments"))
        .expect("the folder")
        .flatten()
    {
        let metadata = entry.metadata().expect("a file of the folder");
        if metadata.is_file() && metadata.len() < 1 << 20 {
            let bytes = fs::read(entry.path()).expect("a file of the folder");
            let is_copied = bytes.windows(16).any(|part| part == &PRIVATE[..16]);
            assert!(
                !is_copied,
                "{:?} has a copy of a private file",
                entry.path()
            );
        }
    }
}

/// Reads everything in every way. With `is_whole`, nothing may be missing.
fn read(store: &Store, is_whole: bool) {
    let digests: Vec<Digest> = CONTENTS.iter().map(|(digest, _)| *digest).collect();
    let batch = store.get_many(&digests);
    let reader = store.reader();
    for ((digest, content), in_batch) in CONTENTS.iter().zip(batch) {
        let alone = store.get(digest);
        for found in [&alone, &in_batch] {
            if let Ok(Some(found)) = found {
                assert!(found[..] == content[..], "wrong bytes for {digest}");
            }
            assert!(
                !is_whole || matches!(found, Ok(Some(_))),
                "{digest} is lost"
            );
        }
        if let Ok(Some(found)) = reader.get(digest) {
            assert!(found[..] == content[..], "wrong bytes for {digest}");
        }
        let _ = store.contains(digest);
        let _ = store.find(&digest.to_string()[..3]);
    }
    for object in store.iter().flatten() {
        assert_eq!(
            Digest::of(&object),
            *object.digest(),
            "wrong bytes in a walk"
        );
    }
    let _ = (store.stats(), store.len(), store.digests().count());
}

/// Checks everything. With `is_whole`, nothing may be damaged.
fn check(store: &Store, is_whole: bool) {
    let report = store.verify(|_| ControlFlow::Continue(()));
    assert!(!is_whole || report.is_ok_and(|report| report.is_clean()));
}

/// Puts contents that may be in the store and one that is not, and compacts.
fn write_and_compact(store: &Store, input: &Input) {
    let new = content(200, 100);
    let contents = CONTENTS.iter().step_by(4).map(|(_, content)| content);
    let mut kept = Vec::new();
    for content in contents.chain([&new]) {
        if let Ok(digest) = store.put(content) {
            let read = store.get(&digest).expect("it was put just now");
            assert!(read.is_some_and(|read| read[..] == content[..]));
            kept.push((digest, content));
        }
    }
    let _ = store.sync();
    let keeps = |digest: &Digest| {
        digest.as_bytes()[0] >> (input.keeps_bit % 8) & 1 == 0
            || kept.iter().any(|(k, _)| k == digest)
    };
    if let Ok(compaction) = store.begin_compaction() {
        if input.plans {
            let _ = compaction.plan(keeps);
        }
        let _ = compaction.finish(keeps);
    }
    for (digest, content) in &kept {
        let read = store.get(digest).expect("it was put before the compaction");
        assert!(read.is_some_and(|read| read[..] == content[..]));
    }
}

fn open_and_read(root: &Path, options: &Options, is_whole: bool) {
    match options.clone().read_only(true).open(root) {
        Ok(store) => {
            read(&store, is_whole);
            check(&store, is_whole);
            let _ = store.refresh();
        }
        Err(error) => assert!(!is_whole, "{error}"),
    }
}

fn open_and_write(root: &Path, options: &Options, input: &Input, is_whole: bool) {
    match options.open(root) {
        Ok(store) => {
            read(&store, is_whole);
            if input.is_checked_first {
                check(&store, is_whole);
            }
            write_and_compact(&store, input);
            read(&store, false);
            if !input.is_checked_first {
                check(&store, false);
            }
            let _ = store.close();
        }
        Err(error) => assert!(!is_whole, "{error}"),
    }
}

fuzz_target!(|input: Input| {
    let mut files = SAMPLE.clone();
    for (number, what) in input.changes.iter().take(8) {
        change(&mut files, *number, what);
    }
    let mut options = options(input.is_indexed_at_once);
    options = options.allow_missing_segments(input.allows_missing_segments);
    if input.uses_pread {
        options = options.read_mode(ReadMode::Pread);
    }
    if input.verifies_once {
        options = options.verify_reads(VerifyReads::FirstRead);
    }
    let folder = scratch();
    write_files(folder.path(), &files);
    let root = folder.path();
    fs::create_dir(root.join(OUTSIDE)).expect("a folder");
    fs::write(root.join(OUTSIDE).join("private"), PRIVATE).expect("a private file");
    for &(number, how) in input.disguises.iter().take(4) {
        // An earlier disguise may be in the way.
        let _ = disguise(root, &files, number, how);
    }
    let is_whole = files == *SAMPLE && input.disguises.is_empty();
    if input.used_by == UsedBy::Reader {
        open_and_read(root, &options, is_whole);
        return assert_is_private(root);
    }
    open_and_write(root, &options, &input, is_whole);
    assert_is_private(root);
    if input.used_by == UsedBy::WriterThenReader {
        open_and_read(root, &options, false);
    }
});
