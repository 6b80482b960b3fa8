//! Opening a store: facts that hold for all commands.

use std::fs;

use sealstone::{Options, Store};

use crate::{DAMAGED, DONE, LOCKED_OR_IO, NOT_FOUND, Place, USAGE, hex};

#[test]
fn a_locked_store_can_be_read_but_not_written() {
    let place = Place::new();
    let writer = Store::open(place.store()).unwrap();
    writer.put(b"content").unwrap();
    writer.sync().unwrap();
    place.write("file", b"1");
    place.write("stream", b"");
    place.write("list", hex(b"content").as_bytes());
    let folder = place.store().display().to_string();
    for arguments in [
        &["put", "file"][..],
        &["compact", "--live", "list"],
        &["verify", "--repair"],
        &["checkpoint", "copy"],
        &["import", "stream"],
    ] {
        place.run(arguments).fails(LOCKED_OR_IO, &[&folder]);
    }
    let digest = hex(b"content");
    assert_eq!(place.run(&["get", &digest]).expect(DONE).stdout, "content");
    for arguments in [&["has", &digest][..], &["ls"], &["stat"], &["verify"]] {
        place.run(arguments).expect(DONE);
    }
    drop(writer);
    place.run(&["put", "file"]).expect(DONE);
}

#[test]
fn commands_that_read_change_no_file() {
    let place = Place::new();
    let options = Options::new().segment_bytes_max(4096);
    let store = options.open(place.store()).unwrap();
    for number in 0..100_u32 {
        store.put(number.to_le_bytes().repeat(100)).unwrap();
    }
    store.close().unwrap();
    let digest = hex(&0_u32.to_le_bytes().repeat(100));
    let before = place.files();
    for arguments in [
        &["get", &digest][..],
        &["has", &digest],
        &["ls", "--long"],
        &["stat"],
        &["verify"],
        &["export"],
        &["diff", "store"],
    ] {
        let output = place.command(arguments).output().unwrap();
        assert!(output.status.success());
        assert!(place.files() == before, "{arguments:?}");
    }
}

#[test]
fn only_put_and_import_create_a_store() {
    let place = Place::new();
    place.write("list", hex(b"1").as_bytes());
    let digest = hex(b"1");
    let folder = place.store().display().to_string();
    for arguments in [
        &["get", &digest][..],
        &["has", &digest],
        &["ls"],
        &["stat"],
        &["verify"],
        &["export"],
        &["diff", "store"],
        &["compact", "--live", "list"],
        &["checkpoint", "copy"],
    ] {
        place.run(arguments).fails(LOCKED_OR_IO, &[&folder]);
        assert!(!place.store().exists(), "{arguments:?}");
    }
}

#[test]
fn a_command_without_the_name_of_a_store_is_refused() {
    let place = Place::new();
    let mut command = place.command(&["ls"]);
    let output = command.env_remove("SEALSTONE_STORE").output().unwrap();
    assert_eq!(output.status.code(), Some(USAGE));
    assert!(String::from_utf8_lossy(&output.stderr).contains("SEALSTONE_STORE"));
    // The option overrides the variable.
    place.write("a", b"1");
    place
        .run(&["put", "a", "--store", "elsewhere"])
        .expect(DONE);
    assert!(place.path("elsewhere").exists() && !place.store().exists());
}

#[test]
fn a_store_with_a_missing_segment_is_read_only_if_that_is_allowed() {
    let place = Place::new();
    place.put_numbers(40);
    fs::remove_file(place.store().join("segments/seg-000000.dat")).unwrap();
    let (lost, held) = (hex(&0_u32.to_le_bytes()), hex(&39_u32.to_le_bytes()));
    place.write("list", held.as_bytes());
    place.write("lost", &0_u32.to_le_bytes());

    let lists = ["compact", "--live", "list", "--dry-run"];
    for (arguments, code) in [
        (&["get", &held][..], DONE),
        (&["get", &lost], NOT_FOUND),
        (&["has", "-q", &held], DONE),
        (&["has", "-q", &lost], NOT_FOUND),
        (&["ls"], DONE),
        (&["ls", "--long"], DONE),
        (&["stat"], DONE),
        (&["verify"], DAMAGED),
        (&["diff", "store"], DONE),
        (&["import", "store"], DONE),
        (&lists, DONE),
        (&["put", "lost"], DONE),
        (&["get", &lost], DONE),
    ] {
        place.run(arguments).fails(
            DAMAGED,
            &["segment 0 is missing", "--allow-missing-segments"],
        );
        let allowed = [arguments, &["--allow-missing-segments"]].concat();
        let note = "segment 0 is missing, so its objects are not found";
        place.run(&allowed).fails(code, &[note]);
    }
}
