//! `import` of another store.

use sealstone::{HashFunction, Options};

use crate::stream::summary;
use crate::{DAMAGED, DONE, LOCKED_OR_IO, Place, USAGE, hex};

#[test]
fn an_import_copies_what_the_store_lacks_and_does_not_change_the_other() {
    let other = Place::new();
    other.put_numbers(50);
    let place = Place::with(&[&0_u32.to_le_bytes(), b"only here"]);
    let (files, objects) = (other.files(), other.objects());
    let folder = other.store().display().to_string();
    let ran = place.run(&["import", &folder, "--json"]).expect(DONE);
    let figures = summary(&ran);
    assert_eq!(figures["objects"], 50);
    assert_eq!(figures["bytes"], 200);
    assert_eq!(figures["new"], 49);
    assert_eq!(figures["already_stored"], 1);
    assert!(place.has(b"only here"));
    let copied = place.objects();
    assert!(
        objects
            .iter()
            .all(|object| copied.get(object.0) == Some(object.1))
    );
    assert!(other.files() == files);

    let new = Place::new();
    let ran = new.run(&["import", &folder]).expect(DONE);
    let figures = "50 objects, 200 bytes: 50 new, 0 already stored\n";
    assert!(ran.stderr.ends_with(figures), "{}", ran.stderr);
    assert!(new.objects() == objects);
}

#[test]
fn a_damaged_object_of_the_other_store_is_named_and_the_others_are_copied() {
    let other = Place::with(&[b"1", b"precious", b"3"]);
    other.damage(b"precious");
    let folder = other.store().display().to_string();
    let place = Place::new();
    let ran = place.run(&["import", &folder, "--json", "--quiet"]);
    let ran = ran.expect(DAMAGED);
    assert!(ran.stderr.contains(&hex(b"precious")), "{}", ran.stderr);
    assert_eq!(summary(&ran)["damaged"], 1);
    assert_eq!(place.objects().len(), 2);
    // A store that holds the object needs no copy of it.
    let place = Place::with(&[b"precious"]);
    place.run(&["import", &folder]).expect(DONE);
    assert_eq!(place.objects().len(), 3);
}

#[test]
fn a_damaged_index_is_named_and_the_objects_of_the_other_segments_are_copied() {
    let other = Place::new();
    other.put_numbers(50);
    let files = other.files();
    let mut indexes = files
        .keys()
        .filter(|path| path.extension().is_some_and(|end| end == "idx"));
    let index = indexes.next().unwrap();
    // The data would give back the index of a segment that is whole.
    for (file, at) in [(index.clone(), 20), (index.with_extension("dat"), 3)] {
        let mut bytes = files[&file].clone();
        bytes[at] ^= 1;
        std::fs::write(file, bytes).unwrap();
    }
    let folder = other.store().display().to_string();
    let place = Place::new();
    let ran = place.run(&["import", &folder, "--json"]).expect(DAMAGED);
    assert!(
        ran.stderr.contains("the index of segment"),
        "{}",
        ran.stderr
    );
    let held = place.objects().len();
    assert!(held > 40 && held < 50, "{held}");
}

#[test]
fn a_store_of_another_hash_function_and_a_folder_without_a_store_are_refused() {
    let other = Place::new();
    let options = Options::new().hash_function(HashFunction::Blake3);
    options.open(other.store()).unwrap().close().unwrap();
    let folder = other.store().display().to_string();
    let place = Place::with(&[b"1"]);
    let parts = ["by blake2b, and ", "by blake3; nothing was stored; "];
    place.run(&["import", &folder]).fails(USAGE, &parts);

    place.write("files/file", b"1");
    let ran = place.run(&["import", "files"]);
    ran.fails(LOCKED_OR_IO, &["files: there is no store here"]);
    let ran = place.run(&["import", "files", "--store", "new"]);
    ran.expect(LOCKED_OR_IO);
    assert!(!place.path("new").exists());
}
