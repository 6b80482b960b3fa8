//! `import nedb`: the objects that NEDB keeps in files of their own.

use std::fs;

use sealstone::HashFunction;

use crate::stream::summary;
use crate::{DAMAGED, DONE, LOCKED_OR_IO, Place, USAGE, hex};

/// Returns the name that NEDB gives to a file with this content.
fn name(content: &[u8]) -> String {
    let digits = hex(content);
    format!("objects/{}/{}", &digits[..2], &digits[2..])
}

impl Place {
    fn write_loose(&self, content: &[u8]) {
        self.write(&name(content), content);
    }
}

#[test]
fn loose_objects_are_stored_and_other_files_are_left_alone() {
    let place = Place::new();
    for content in [&b"1"[..], b"2", b""] {
        place.write_loose(content);
    }
    let others = ["objects/index", "objects/ab/note", "objects/ab/cd/deep"];
    for other in others {
        place.write(other, b"other");
    }
    let ran = place.run(&["import", "nedb", "objects"]).expect(DONE);
    assert!(ran.stderr.contains("created a store"), "{}", ran.stderr);
    let figures = "3 objects, 2 bytes: 3 new, 0 already stored, 3 other files left alone\n";
    assert!(ran.stderr.ends_with(figures), "{}", ran.stderr);
    assert!(place.has(b"1") && place.has(b"2") && place.has(b""));
    assert_eq!(place.objects().len(), 3);
    assert!(place.path(&name(b"1")).exists());

    let remove = ["import", "nedb", "--remove", "--json", "objects"];
    let figures = summary(&place.run(&remove).expect(DONE));
    assert_eq!(figures["already_stored"], 3);
    assert_eq!(figures["removed"], 3);
    assert_eq!(figures["other_files"], 3);
    assert!(!place.path(&name(b"1")).exists());
    assert!(others.iter().all(|other| place.path(other).exists()));
    for quiet in [
        ["import", "nedb", "-q", "objects"],
        ["import", "-q", "nedb", "objects"],
    ] {
        assert_eq!(place.run(&quiet).expect(DONE).stderr, "");
    }
}

#[test]
fn a_file_with_another_digest_is_named_and_left() {
    let place = Place::with(&[b"held"]);
    place.write_loose(b"1");
    place.write(&name(b"2"), b"changed");
    place.write(&name(b"held"), b"");
    let ran = place.run(&["import", "nedb", "--remove", "--quiet", "objects"]);
    let parts = [
        &name(b"2")[..],
        &name(b"held"),
        "it was left; ",
        "2 damaged",
    ];
    ran.fails(DAMAGED, &parts);
    assert!(place.path(&name(b"2")).exists() && place.path(&name(b"held")).exists());
    assert!(!place.path(&name(b"1")).exists());
    assert!(place.has(b"1") && place.has(b"held"));
    assert_eq!(place.objects().len(), 2);
}

#[test]
fn the_store_can_be_in_the_folder_of_nedb() {
    let place = Place::new();
    place.write_loose(b"1");
    for new in [1, 0] {
        let ran = place.run(&["import", "--store", "objects", "--json", "nedb", "objects"]);
        let figures = summary(&ran.expect(DONE));
        assert_eq!(figures["objects"], 1);
        assert_eq!(figures["new"], new);
        assert_eq!(figures["other_files"], 0);
    }
}

/// The exit code alone would not show that a file is kept if its object could not be stored.
#[test]
fn nothing_is_removed_that_is_not_stored() {
    let place = Place::new();
    place.write_loose(b"1");
    let options = sealstone::Options::new().hash_function(HashFunction::Sha256);
    options.open(place.store()).unwrap().close().unwrap();
    let remove = ["import", "nedb", "--remove", "objects"];
    let parts = ["by sha256, and NEDB by blake2b; nothing was stored; "];
    place.run(&remove).fails(USAGE, &parts);
    assert!(place.path(&name(b"1")).exists());

    place.write("no-store", b"");
    let ran = place.run(&[
        "--store", "no-store", "import", "nedb", "--remove", "objects",
    ]);
    ran.expect(LOCKED_OR_IO);
    let writer = options.open(place.store()).unwrap();
    place.run(&remove).fails(LOCKED_OR_IO, &["--wait SECONDS"]);
    writer.close().unwrap();
    assert!(place.path(&name(b"1")).exists());
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_removes_nothing() {
    let place = Place::new();
    let content = vec![7; 1 << 20];
    place.write_loose(&content);
    let script = "mkdir small || exit 77\n\
                  mount -t tmpfs -o size=256k tmpfs small 2>/dev/null || exit 77\n\
                  exec \"$0\" --store small/store import nedb --remove objects";
    let launcher = ["unshare", "--user", "--map-root-user", "--mount", "sh"];
    let Some(ran) = place.run_script_as(&launcher, script) else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    let parts = [
        "No space left on device",
        "0 objects, 0 bytes",
        "stopped by the error",
    ];
    ran.fails(LOCKED_OR_IO, &parts);
    assert_eq!(fs::read(place.path(&name(&content))).unwrap(), content);
}

#[test]
fn a_damaged_copy_in_the_store_is_repaired_before_the_file_is_removed() {
    let place = Place::with(&[b"precious"]);
    place.damage(b"precious");
    place.write_loose(b"precious");
    let remove = ["import", "nedb", "--remove", "--json", "objects"];
    let figures = summary(&place.run(&remove).expect(DONE));
    assert_eq!(
        (&figures["new"], &figures["removed"]),
        (&1.into(), &1.into())
    );
    assert!(!place.path(&name(b"precious")).exists());
    let got = place.run(&["get", &hex(b"precious")]).expect(DONE);
    assert_eq!(got.stdout, "precious");
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_that_cannot_be_removed_is_named_and_its_object_is_stored() {
    let place = Place::new();
    place.write_loose(b"1");
    let script = "mount --bind objects objects 2>/dev/null || exit 77\n\
                  mount -o remount,bind,ro objects 2>/dev/null || exit 77\n\
                  exec \"$0\" import nedb --remove objects";
    let launcher = ["unshare", "--user", "--map-root-user", "--mount", "sh"];
    let Some(ran) = place.run_script_as(&launcher, script) else {
        eprintln!("skipped: no folder can be made read-only here");
        return;
    };
    let ran = ran.expect(LOCKED_OR_IO);
    for part in [
        &name(b"1")[..],
        "stored, but not removed: ",
        "1 new",
        "1 not read or not removed",
    ] {
        assert!(ran.stderr.contains(part), "no `{part}` in: {}", ran.stderr);
    }
    assert!(place.has(b"1") && place.path(&name(b"1")).exists());
}

#[test]
fn a_source_that_is_no_folder_is_refused_and_a_store_is_not_created_for_nothing() {
    let place = Place::new();
    place.write("file", b"1");
    let ran = place.run(&["import", "nedb", "file"]);
    ran.fails(USAGE, &["file: this is not a folder; nothing was stored; "]);
    let ran = place.run(&["import", "nedb", "missing"]);
    ran.fails(LOCKED_OR_IO, &["missing: ", "check the path"]);
    fs::create_dir(place.path("empty")).unwrap();
    place.run(&["import", "nedb", "empty"]).expect(DONE);
    assert!(!place.store().exists());
}

#[test]
fn a_folder_of_the_name_nedb_can_be_imported() {
    let place = Place::new();
    let other = Place::with(&[b"1"]);
    fs::rename(other.store(), place.path("nedb")).unwrap();
    place.run(&["import"]).fails(USAGE, &["SOURCE"]);
    place.run(&["import", "nedb"]).fails(USAGE, &["DIR"]);
    let ran = place.run(&["import", "file", "nedb", "objects"]);
    ran.fails(USAGE, &["either a SOURCE or `nedb DIR`"]);
    place.run(&["import", "./nedb"]).expect(DONE);
    assert!(place.has(b"1"));
}
