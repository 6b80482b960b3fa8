//! `compact`.

use crate::{DONE, LOCKED_OR_IO, Place, USAGE, hex};

#[test]
fn compact_keeps_what_put_and_ls_print() {
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
fn compact_dry_run_says_what_would_go_and_changes_nothing() {
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
fn compact_warns_of_digests_that_the_store_does_not_hold() {
    let place = Place::with(&[b"kept"]);
    place.write(
        "list",
        format!("{}\n{}\n", hex(b"kept"), hex(b"absent")).as_bytes(),
    );
    let ran = place.run(&["compact", "--live", "list"]).expect(DONE);
    assert!(
        ran.stderr.starts_with("sealstone: warning: 1 digest"),
        "{}",
        ran.stderr
    );
    assert_eq!(
        place.json(&["compact", "--live", "list", "--json"])["live_missing"],
        1
    );
}

#[test]
fn compact_does_nothing_if_the_list_is_wrong() {
    let place = Place::with(&[b"1", b"2"]);
    let before = place.files();
    let (good, short) = (hex(b"1"), &hex(b"2")[..40]);
    place.write("bad", format!("{good}\n\n{short}  name\n").as_bytes());
    place
        .run(&["compact", "--live", "bad"])
        .fails(USAGE, &["bad, line 3: ", short, "nothing was done"]);
    place.write("empty", b"# nothing\n");
    place
        .run(&["compact", "--live", "empty"])
        .fails(USAGE, &["empty: ", "--allow-empty"]);
    place
        .run(&["compact", "--live", "missing"])
        .fails(LOCKED_OR_IO, &["missing: "]);
    place.run(&["compact"]).fails(USAGE, &["--live"]);
    assert_eq!(place.files(), before);

    place
        .run(&["compact", "--live", "empty", "--allow-empty"])
        .expect(DONE);
    assert_eq!(place.json(&["stat", "--json"])["objects"], 0);
}
