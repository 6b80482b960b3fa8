//! `get`: which object it writes, and what it does to the file that it writes to.

use std::collections::HashMap;
use std::fs;

use sealstone::Digest;

use crate::{DAMAGED, DONE, LOCKED_OR_IO, NOT_FOUND, Place, USAGE, hex};

#[test]
fn get_writes_the_content_for_a_digest_or_a_prefix_in_any_case() {
    let place = Place::with(&[b"first\n", b"second\n"]);
    let digest = hex(b"second\n");
    for wanted in [&digest, &digest.to_uppercase(), &digest[..6], &digest[..63]] {
        let ran = place.run(&["get", wanted]).expect(DONE);
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("second\n", ""));
    }
}

#[test]
fn get_lists_the_candidates_of_an_ambiguous_prefix() {
    let (one, other) = two_contents_with_the_same_first_digits();
    let place = Place::with(&[one.as_bytes(), other.as_bytes()]);
    let (one, other) = (hex(one.as_bytes()), hex(other.as_bytes()));
    let prefix = &one[..6];
    for command in ["get", "has"] {
        place
            .run(&[command, prefix])
            .fails(USAGE, &[prefix, &one, &other, "give more digits"]);
    }
    place.run(&["get", &one]).expect(DONE);
}

fn two_contents_with_the_same_first_digits() -> (String, String) {
    let mut seen = HashMap::new();
    (0..)
        .map(|number: u32| number.to_string())
        .find_map(|content| {
            let first = Digest::of(content.as_bytes()).as_bytes()[..3].to_vec();
            let earlier = seen.insert(first, content.clone())?;
            Some((earlier, content))
        })
        .unwrap()
}

#[test]
fn get_tells_a_wrong_digest_from_one_that_is_not_in_the_store() {
    let place = Place::with(&[b"1"]);
    let long = "0".repeat(65);
    for wrong in ["12345", "xyzxyz", "", &long] {
        place.run(&["get", wrong]).fails(USAGE, &["6 to 64"]);
    }
    place.run(&["get", "000000"]).fails(NOT_FOUND, &["000000"]);
    let absent = hex(b"absent");
    place.run(&["get", &absent]).fails(NOT_FOUND, &[&absent]);
}

#[test]
fn get_replaces_a_file_as_a_whole_or_leaves_it_as_it_was() {
    let place = Place::with(&[b"content", b"rotten content"]);
    place.damage(b"rotten content");
    place.write("out/file", b"as it was");
    for (content, code) in [
        (&b"absent"[..], NOT_FOUND),
        (b"rotten content", DAMAGED),
        (b"content", DONE),
    ] {
        let before = fs::read(place.path("out/file")).unwrap();
        place
            .run(&["get", &hex(content), "-o", "out/file"])
            .expect(code);
        let after = fs::read(place.path("out/file")).unwrap();
        assert_eq!(after, if code == DONE { content } else { &before });
    }
    assert_eq!(fs::read_dir(place.path("out")).unwrap().count(), 1);

    let digest = hex(b"content");
    place.run(&["get", &digest, "-o", "nowhere/file"]).fails(
        LOCKED_OR_IO,
        &["nowhere/file: not written: there is no folder nowhere; choose"],
    );
    place
        .run(&["get", &digest, "-o", "out"])
        .fails(LOCKED_OR_IO, &["out: "]);
    assert_eq!(place.run(&["get", &digest, "-o", "-"]).stdout, "content");
}

#[test]
#[cfg(unix)]
fn get_follows_a_link_and_keeps_it_and_does_not_replace_a_device() {
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};

    let place = Place::with(&[b"content"]);
    place.write("target", b"as it was");
    let permissions = fs::Permissions::from_mode(0o640);
    fs::set_permissions(place.path("target"), permissions).unwrap();
    std::os::unix::fs::symlink("target", place.path("link")).unwrap();
    let digest = hex(b"content");
    place.run(&["get", &digest, "-o", "link"]).expect(DONE);
    assert!(place.path("link").is_symlink());
    assert_eq!(fs::read(place.path("target")).unwrap(), b"content");
    let mode = fs::metadata(place.path("target"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o640);

    place.run(&["get", &digest, "-o", "/dev/null"]).expect(DONE);
    let null = fs::metadata("/dev/null").unwrap();
    assert!(null.file_type().is_char_device());
}

#[test]
fn get_prints_json_only_if_the_content_goes_to_a_file() {
    let place = Place::with(&[b"content"]);
    let digest = hex(b"content");
    place
        .run(&["get", &digest, "--json"])
        .fails(USAGE, &["-o FILE"]);
    assert_eq!(
        place.json(&["get", &digest, "--json", "-o", "out"]),
        serde_json::json!({ "digest": digest, "bytes": 7, "file": "out" })
    );
}

#[test]
#[cfg(target_os = "linux")]
fn get_writes_to_a_file_that_a_process_has_open_and_does_not_replace_it() {
    let place = Place::with(&[b"content\n"]);
    let digest = hex(b"content\n");
    std::os::unix::fs::symlink("/dev/stdout", place.path("link")).unwrap();
    std::os::unix::fs::symlink("link", place.path("link to it")).unwrap();
    for name in [
        "/dev/stdout",
        "/dev/fd/1",
        "/proc/self/fd/1",
        "link",
        "link to it",
        "-",
    ] {
        place.write("out", b"");
        let kept = fs::File::open(place.path("out")).unwrap();
        let script =
            format!("{{ echo before; \"$0\" get {digest} -o '{name}'; echo after; }} >out");
        place.run_script(&script).unwrap().expect(DONE);
        let text = fs::read_to_string(place.path("out")).unwrap();
        assert_eq!(text, "before\ncontent\nafter\n", "{name}");
        let same = std::io::read_to_string(kept).unwrap();
        assert_eq!(same, text, "{name} has another file now");
    }
    for (name, redirection) in [
        ("/dev/stderr", "2>out"),
        ("/dev/fd/3", "3>out"),
        ("/proc/self/fd/9", "9>>out"),
    ] {
        place.write("out", b"");
        let kept = fs::File::open(place.path("out")).unwrap();
        let script = format!("\"$0\" get {digest} -o {name} {redirection}");
        place.run_script(&script).unwrap().expect(DONE);
        let same = std::io::read_to_string(kept).unwrap();
        assert_eq!(same, "content\n", "{name}");
    }
    place
        .run(&["get", &digest, "--json", "-o", "/dev/stdout"])
        .fails(USAGE, &["-o FILE"]);
}

#[test]
#[cfg(unix)]
fn get_writes_to_a_named_pipe() {
    let place = Place::with(&[b"content\n"]);
    let digest = hex(b"content\n");
    let script = format!(
        "mkfifo pipe || exit 77; \"$0\" get {digest} -o pipe & cat pipe && wait && test -p pipe"
    );
    let ran = place.run_script(&script).unwrap().expect(DONE);
    assert_eq!(ran.stdout, "content\n");
}

#[test]
#[cfg(unix)]
fn get_gives_a_new_file_the_mode_of_any_new_file() {
    use std::os::unix::fs::PermissionsExt as _;

    let place = Place::with(&[b"content"]);
    let script = format!("umask 027; \"$0\" get {} -o new", hex(b"content"));
    place.run_script(&script).unwrap().expect(DONE);
    let mode = fs::metadata(place.path("new")).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o640);
}

#[test]
#[cfg(unix)]
fn get_keeps_the_mode_of_the_file_that_it_replaces() {
    use std::os::unix::fs::PermissionsExt as _;

    let place = Place::with(&[b"content"]);
    place.write("old", b"as it was");
    for mode in [0o600, 0o666, 0o444, 0o4750] {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(place.path("old"), permissions).unwrap();
        let script = format!("umask 077; \"$0\" get {} -o old", hex(b"content"));
        place.run_script(&script).unwrap().expect(DONE);
        let permissions = fs::metadata(place.path("old")).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o7777, mode, "{mode:o}");
    }
}

#[test]
#[cfg(unix)]
fn get_replaces_the_name_and_leaves_the_old_file_to_open_handles_and_hard_links() {
    let place = Place::with(&[b"content"]);
    place.write("out/file", b"as it was");
    fs::hard_link(place.path("out/file"), place.path("hard link")).unwrap();
    let open = fs::File::open(place.path("out/file")).unwrap();
    place
        .run(&["get", &hex(b"content"), "-o", "out/file"])
        .expect(DONE);
    assert_eq!(fs::read(place.path("out/file")).unwrap(), b"content");
    assert_eq!(fs::read(place.path("hard link")).unwrap(), b"as it was");
    assert_eq!(std::io::read_to_string(open).unwrap(), "as it was");
    assert_eq!(fs::read_dir(place.path("out")).unwrap().count(), 1);
}

#[test]
#[cfg(target_os = "linux")]
fn get_leaves_nothing_behind_if_the_content_cannot_be_written() {
    let content = vec![1; 1 << 20];
    let place = Place::with(&[&content]);
    place.write("out/file", b"as it was");
    for name in ["out/file", "out/new"] {
        // `ulimit` counts blocks of 512 bytes.
        let script = format!(
            "trap '' XFSZ; ulimit -f 100; exec \"$0\" get {} -o {name}",
            hex(&content)
        );
        let ran = place.run_script(&script).unwrap();
        ran.fails(LOCKED_OR_IO, &[name, "not written: File too large"]);
        assert_eq!(fs::read(place.path("out/file")).unwrap(), b"as it was");
        assert_eq!(fs::read_dir(place.path("out")).unwrap().count(), 1);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn get_leaves_nothing_behind_if_the_file_cannot_be_replaced() {
    let place = Place::with(&[b"content"]);
    place.write("out/file", b"as it was");
    // The system refuses to replace a file that is a mount point.
    let script = format!(
        "mount --bind out/file out/file || exit 77; exec \"$0\" get {} -o out/file",
        hex(b"content")
    );
    let Some(ran) = place.run_script_as(&["unshare", "-rm", "sh"], &script) else {
        eprintln!("skipped: this user may not mount a file");
        return;
    };
    ran.fails(LOCKED_OR_IO, &["out/file: not written: "]);
    assert_eq!(fs::read(place.path("out/file")).unwrap(), b"as it was");
    assert_eq!(fs::read_dir(place.path("out")).unwrap().count(), 1);
}

#[test]
#[cfg(target_os = "linux")]
fn get_reports_a_device_that_takes_nothing() {
    let place = Place::with(&[b"content"]);
    place
        .run(&["get", &hex(b"content"), "-o", "/dev/full"])
        .fails(LOCKED_OR_IO, &["/dev/full: not written: No space left"]);
}

#[test]
#[cfg(unix)]
fn get_refuses_a_link_that_leads_nowhere() {
    let place = Place::with(&[b"content"]);
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, place.path(name)).unwrap();
    link("nowhere", "dangling");
    link("dangling", "link to it");
    link("round", "round");
    let digest = hex(b"content");
    for (name, why) in [
        ("dangling", "nowhere, which does not exist"),
        ("link to it", "nowhere, which does not exist"),
        ("round", "more than 40 links"),
    ] {
        place
            .run(&["get", &digest, "-o", name])
            .fails(LOCKED_OR_IO, &[name, why, "choose a file"]);
        assert!(place.path(name).is_symlink() && !place.path("nowhere").exists());
    }
}

#[test]
fn get_refuses_to_write_to_a_file_of_the_store() {
    let place = Place::with(&[b"1", b"22"]);
    let before = place.files();
    for name in ["seg-000000.dat", "MANIFEST", "LOCK", "new"] {
        let file = place.store().join("segments").join(name);
        place
            .run(&["get", &hex(b"22"), "-o", file.to_str().unwrap()])
            .fails(USAGE, &["a file of the store"]);
    }
    assert_eq!(place.files(), before);
}
