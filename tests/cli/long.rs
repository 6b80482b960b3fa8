//! Contents that are longer than the memory that the program may have.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};

use sealstone::{Digest, HashFunction, Hasher, Options};

use crate::{DAMAGED, DONE, LOCKED_OR_IO, Place, Ran};

const BYTES: u64 = 160 << 20;
/// In KiB, as `ulimit` counts.
const MEMORY: u32 = 140 << 10;

impl Place {
    /// Writes a file of zeros with some text near its end, and returns its digest.
    fn write_long(&self, name: &str) -> Digest {
        let mut file = File::create_new(self.path(name)).unwrap();
        file.set_len(BYTES).unwrap();
        file.seek(SeekFrom::Start(BYTES - 1000)).unwrap();
        file.write_all(b"text").unwrap();
        let mut hasher = Hasher::new(HashFunction::default());
        io::copy(&mut File::open(self.path(name)).unwrap(), &mut hasher).unwrap();
        hasher.finish()
    }

    fn run_in_little_memory(&self, arguments: &str) -> Ran {
        let script = format!("ulimit -d {MEMORY}; exec \"$0\" {arguments}");
        self.run_script(&script).unwrap()
    }

    fn assert_holds_long(&self, digest: Digest) {
        let store = Options::new().read_only(true).open(self.store()).unwrap();
        assert_eq!(store.get(digest).unwrap().unwrap().len() as u64, BYTES);
        assert_eq!(store.len(), 1);
    }
}

#[test]
fn contents_longer_than_memory_are_put_and_imported() {
    let place = Place::new();
    let digest = place.write_long("long");
    let ran = place.run_in_little_memory("put long").expect(DONE);
    assert_eq!(ran.stdout, format!("{digest}  long\n"));
    place.assert_holds_long(digest);
    // It is held already, and standard input does not say how long it is.
    let ran = place.run_in_little_memory("put - <long").expect(DONE);
    assert_eq!(ran.stdout, format!("{digest}  -\n"));
    assert!(
        ran.stderr.contains("0 new, 1 already stored"),
        "{}",
        ran.stderr
    );

    let copy = Place::new();
    let stream = copy.path("stream");
    let script = format!("exec \"$0\" export >{}", stream.display());
    place.run_script(&script).unwrap().expect(DONE);
    copy.run_in_little_memory("import stream").expect(DONE);
    copy.assert_holds_long(digest);

    // The stream is cut, and then its content changed.
    let other = Place::new();
    let file = File::options().write(true).open(&stream).unwrap();
    let whole = file.metadata().unwrap().len();
    file.set_len(whole - 2000).unwrap();
    let import = format!("import {}", stream.display());
    let ran = other.run_in_little_memory(&import).expect(LOCKED_OR_IO);
    assert!(ran.stderr.contains("the stream is cut"), "{}", ran.stderr);
    file.set_len(whole).unwrap();
    let ran = other.run_in_little_memory(&import).expect(DAMAGED);
    assert!(ran.stderr.contains("record 1"), "{}", ran.stderr);
    assert!(other.objects().is_empty());
}

#[test]
fn long_files_of_nedb_are_imported_and_damaged_ones_are_left() {
    let place = Place::new();
    let digest = place.write_long("long").to_string();
    let name = |digits: &str| format!("objects/{}/{}", &digits[..2], &digits[2..]);
    let damaged = name(&"0".repeat(64));
    for name in [name(&digest), damaged.clone()] {
        place.write(&name, b"");
        std::fs::copy(place.path("long"), place.path(&name)).unwrap();
    }
    let ran = place.run_in_little_memory("import nedb --remove objects");
    let ran = ran.expect(DAMAGED);
    assert!(ran.stderr.contains(&damaged), "{}", ran.stderr);
    place.assert_holds_long(digest.parse().unwrap());
    assert!(!place.path(&name(&digest)).exists());
    assert!(place.path(&damaged).exists());
}
