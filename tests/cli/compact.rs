//! `compact`: which lists it accepts, and what it drops.

use crate::{DONE, LOCKED_OR_IO, Place, USAGE, hex};

#[test]
fn compact_reads_the_lines_of_put_and_ls() {
    let place = Place::with(&[b"dropped", b"listed"]);
    place.write("odd \\ name", b"kept");
    let lines = place.run(&["put", "odd \\ name"]).expect(DONE).stdout;
    let listed = place.run(&["ls", "--long", &hex(b"listed")]).stdout;
    let list = format!("# kept\n\n{lines}\t{listed}");
    let ran = place.run_with_input(&["compact", "--live", "-"], list.as_bytes());
    let ran = ran.expect(DONE);
    assert!(ran.stdout.contains("kept 2 objects, dropped 1 object\n"));
    assert_eq!(ran.stderr, "");
    assert!(place.has(b"kept") && place.has(b"listed") && !place.has(b"dropped"));
    place.run(&["verify"]).expect(DONE);
}

#[test]
fn compact_reads_the_json_of_put_and_ls() {
    let place = Place::with(&[b"dropped", b"listed"]);
    place.write("file", b"kept");
    let lines = place.run(&["put", "--json", "file"]).expect(DONE).stdout;
    let prefix = &hex(b"listed")[..6];
    let listed = place.run(&["ls", "--json", "--long", prefix]).stdout;
    let list = format!("\u{feff}{lines}{listed}");
    let ran = place.run_with_input(&["compact", "--live", "-"], list.as_bytes());
    assert_eq!(ran.expect(DONE).stderr, "");
    assert!(place.has(b"kept") && place.has(b"listed") && !place.has(b"dropped"));
}

#[test]
fn compact_drops_nothing_if_a_line_of_json_is_wrong() {
    let place = Place::with(&[b"1", b"2"]);
    let before = place.files();
    let listed = place.run(&["ls", "--json"]).expect(DONE).stdout;
    // The first is what a full disk leaves, the second an array, the third pretty-printed.
    for bad in [
        listed[..listed.len() - 2].to_owned(),
        format!("[{}]", listed.trim_end().replace('\n', ",\n")),
        listed.replace('{', "{\n"),
    ] {
        place.write("bad", bad.as_bytes());
        let ran = place.run(&["compact", "--live", "bad"]);
        ran.fails(USAGE, &["bad, line ", "nothing was done"]);
        assert_eq!(place.files(), before);
    }
}

#[test]
fn a_dry_run_of_compact_gives_the_figures_of_a_real_run_and_changes_nothing() {
    let place = Place::with(&[b"dropped", b"kept"]);
    place.write("list", hex(b"kept").as_bytes());
    let before = place.run(&["ls", "--long"]).stdout;
    let ran = place.run(&["compact", "--live", "list", "--dry-run"]);
    let ran = ran.expect(DONE);
    assert!(
        ran.stdout
            .contains("would keep 1 object, would drop 1 object"),
        "{}",
        ran.stdout
    );
    let mut planned = place.json(&["compact", "--live", "list", "--dry-run", "--json"]);
    assert_eq!(place.run(&["ls", "--long"]).stdout, before);
    place.run(&["verify"]).expect(DONE);

    let done = place.json(&["compact", "--live", "list", "--json"]);
    assert_eq!(planned["dry_run"], true);
    planned["dry_run"] = false.into();
    assert_eq!(done, planned);
    assert_eq!(done["dropped_objects"], 1);
    assert!(!place.has(b"dropped"));
}

#[test]
fn compact_refuses_a_list_with_an_unknown_digest_unless_told_to_accept_it() {
    let place = Place::with(&[b"kept", b"other"]);
    let (kept, absent) = (hex(b"kept"), hex(b"absent"));
    place.write("list", format!("{kept}\n{absent}\n{absent}\n").as_bytes());
    let before = place.files();
    assert_refused(
        &place,
        "list",
        &["1 digest", &absent, "pass --allow-unknown"],
    );
    assert_eq!(place.files(), before);

    let arguments = ["compact", "--live", "list", "--allow-unknown"];
    let ran = place.run(&arguments).expect(DONE);
    assert_eq!(
        ran.stderr,
        "sealstone: 1 digest of the list is not in the store\n"
    );
    assert!(place.has(b"kept") && !place.has(b"other"));
    let stats = place.json(&[&arguments[..], &["--json"]].concat());
    assert_eq!(stats["live_missing"], 1);
}

#[test]
fn compact_drops_every_object_only_if_told_to() {
    let place = Place::with(&[b"1", b"2"]);
    place.write("of another store", hex(b"absent").as_bytes());
    place.write("empty", b"# nothing\n");
    let before = place.files();
    for list in ["of another store", "empty"] {
        assert_refused(&place, list, &["every object", "pass --drop-everything"]);
        place
            .run(&["compact", "--live", list, "--allow-unknown"])
            .fails(USAGE, &[list, "pass --drop-everything"]);
    }
    place
        .run(&["compact", "--live", "empty", "--drop-everything"])
        .fails(USAGE, &["--drop-everything"]);
    assert_eq!(place.files(), before);

    let ran = place.run(&["compact", "--drop-everything", "--dry-run"]);
    let ran = ran.expect(DONE);
    assert!(
        ran.stdout.contains("would drop 2 objects"),
        "{}",
        ran.stdout
    );
    assert_eq!(place.json(&["stat", "--json"])["objects"], 2);
    place.run(&["compact", "--drop-everything"]).expect(DONE);
    assert_eq!(place.json(&["stat", "--json"])["objects"], 0);
}

/// Shows that a list is refused with these words, by a dry run as by a real one.
#[track_caller]
fn assert_refused(place: &Place, list: &str, parts: &[&str]) {
    let real = place.run(&["compact", "--live", list]);
    let real = real.fails(USAGE, &[&[list, "nothing was done"], parts].concat());
    let dry = place.run(&["compact", "--live", list, "--dry-run"]);
    let dry = dry.expect(USAGE);
    assert_eq!((dry.stdout, dry.stderr), (real.stdout, real.stderr));
}

#[test]
fn compact_does_nothing_if_a_line_of_the_list_is_wrong() {
    let place = Place::with(&[b"1", b"2"]);
    let before = place.files();
    let (good, short) = (hex(b"1"), &hex(b"2")[..40]);
    place.write("bad", format!("{good}\n\n{short}  name\n").as_bytes());
    place
        .run(&["compact", "--live", "bad"])
        .fails(USAGE, &["bad, line 3: ", short, "nothing was done"]);
    place
        .run(&["compact", "--live", "missing"])
        .fails(LOCKED_OR_IO, &["missing: "]);
    let folder = place.run(&["compact", "--live", "."]);
    folder.fails(LOCKED_OR_IO, &[".: ", "check the path"]);
    place.run(&["compact"]).fails(USAGE, &["--live"]);
    assert_eq!(place.files(), before);
}
