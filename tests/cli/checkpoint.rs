//! `checkpoint`: the store that it makes, and the folders that it refuses.

use std::fs;

use crate::{DONE, Place, USAGE, hex};

#[test]
fn a_checkpoint_holds_the_objects_and_is_changed_independently() {
    let place = Place::with(&[b"1", b"22"]);
    let ran = place.run(&["checkpoint", "copy"]).expect(DONE);
    assert_eq!(ran.stdout, "copy: 2 objects, 3 bytes\n");

    let (kept, dropped) = (hex(b"1"), hex(b"22"));
    place.write("list", kept.as_bytes());
    place.run(&["compact", "--live", "list"]).expect(DONE);
    assert!(!place.has(b"22"));
    for (digest, content) in [(&kept, "1"), (&dropped, "22")] {
        let ran = place.run(&["--store", "copy", "get", digest]).expect(DONE);
        assert_eq!(ran.stdout, content);
    }
    place.run(&["--store", "copy", "verify"]).expect(DONE);
    place.write("new", b"new");
    place.run(&["--store", "copy", "put", "new"]).expect(DONE);
    assert!(!place.has(b"new"));
}

#[test]
fn a_folder_that_is_not_empty_is_refused_and_stays_as_it_is() {
    let place = Place::with(&[b"1"]);
    place.write("taken/file", b"2");
    for taken in ["taken", "store"] {
        let ran = place.run(&["checkpoint", taken]);
        ran.fails(USAGE, &[taken, "not empty; give one that is"]);
    }
    assert_eq!(fs::read_dir(place.path("taken")).unwrap().count(), 1);
    fs::create_dir(place.path("empty")).unwrap();
    place.run(&["checkpoint", "empty"]).expect(DONE);
}

#[test]
fn a_checkpoint_is_never_made_among_the_files_of_the_store() {
    let place = Place::with(&[b"1"]);
    let before = place.files();
    for target in [
        "store/segments",
        "store/segments/copy",
        "store/segments/a/b",
    ] {
        let ran = place.run(&["checkpoint", target]);
        ran.fails(USAGE, &[target, "nothing was done; choose another"]);
    }
    assert!(place.files() == before);
    // Beside them it does no harm.
    place.run(&["checkpoint", "store/copy"]).expect(DONE);
}
