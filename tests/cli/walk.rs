//! `put -r`: which files a walk finds, in which order, and what it leaves out.

use std::fs;

#[cfg(target_os = "linux")]
use crate::LOCKED_OR_IO;
use crate::{DONE, Place, USAGE, hex};

/// Returns the paths of the lines that `put` prints.
fn paths(stdout: &str) -> Vec<&str> {
    stdout.lines().map(|line| &line[66..]).collect()
}

#[test]
fn a_second_walk_of_a_tree_prints_the_same_lines_and_adds_nothing() {
    let place = Place::new();
    place.write("tree/b/inner", b"2");
    place.write("tree/a", b"1");
    place.write("tree/c", b"");
    let ran = place.run(&["put", "-r", "tree"]).expect(DONE);
    let paths: Vec<_> = ran.stdout.lines().map(|line| &line[66..]).collect();
    assert_eq!(paths, ["tree/a", "tree/b/inner", "tree/c"]);
    assert!(ran.stderr.contains("3 new, 0 already stored"));

    let objects = place.json(&["stat", "--json"])["objects"].clone();
    let again = place.run(&["put", "-r", "tree"]).expect(DONE);
    assert_eq!(again.stdout, ran.stdout);
    assert!(again.stderr.contains("0 new, 3 already stored"));
    assert_eq!(place.json(&["stat", "--json"])["objects"], objects);
}

#[test]
fn a_walk_is_depth_first_and_takes_the_names_of_a_folder_by_their_bytes() {
    let place = Place::new();
    // The folder `a` comes before the file `a.b`, although the path `a.b` sorts before `a/z`.
    let expected =
        ["B", "a/y/deep", "a/z", "a.b", "b", "\u{e9}"].map(|name| format!("tree/{name}"));
    for name in expected.iter().rev() {
        place.write(name, name.as_bytes());
    }
    let ran = place.run(&["put", "-r", "tree"]).expect(DONE);
    assert_eq!(paths(&ran.stdout), expected);
}

#[test]
fn arguments_keep_their_order_and_paths_their_spelling() {
    let place = Place::new();
    place.write("tree/in", b"1");
    place.write("file", b"2");
    let arguments = [
        "put",
        "-r",
        "file",
        "tree/",
        "./tree",
        "file",
        "tree/../tree",
    ];
    let ran = place.run(&arguments).expect(DONE);
    let expected = ["file", "tree/in", "./tree/in", "file", "tree/../tree/in"];
    assert_eq!(paths(&ran.stdout), expected);
}

#[test]
fn an_empty_folder_adds_nothing() {
    let place = Place::new();
    fs::create_dir_all(place.path("tree/empty")).unwrap();
    let ran = place.run(&["put", "-r", "tree"]).expect(DONE);
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.contains("0 files"), "{}", ran.stderr);
}

#[test]
#[cfg(unix)]
fn a_file_that_a_walk_finds_under_the_name_of_standard_input_is_a_file() {
    let place = Place::new();
    place.write("tree/-", b"a file");
    let script = "cd tree && \"$0\" put -r .";
    let ran = place.run_script(script).unwrap().expect(DONE);
    assert_eq!(ran.stdout, format!("{}  ./-\n", hex(b"a file")));
}

#[test]
#[cfg(target_os = "linux")]
fn a_name_that_is_not_utf_8_is_found_and_printed_as_it_is() {
    use std::os::unix::ffi::OsStrExt as _;

    let place = Place::new();
    fs::create_dir(place.path("tree")).unwrap();
    let folder = place
        .path("tree")
        .join(std::ffi::OsStr::from_bytes(b"\xfe"));
    fs::create_dir(&folder).unwrap();
    let name = std::ffi::OsStr::from_bytes(b"not \xff UTF-8");
    fs::write(folder.join(name), b"1").unwrap();
    let output = place.command(&["put", "-r", "tree"]).output().unwrap();
    let mut expected = format!("{}  ", hex(b"1")).into_bytes();
    expected.extend(b"tree/\xfe/not \xff UTF-8\n");
    assert_eq!(output.stdout, expected);

    let line = &place.json(&["put", "-r", "tree", "--json"]);
    assert_eq!(line["path"], "tree/\u{fffd}/not \u{fffd} UTF-8");
}

#[test]
#[cfg(unix)]
fn a_walk_skips_pipes_and_reads_the_pipe_that_is_named() {
    let place = Place::new();
    place.write("tree/a", b"1");
    let script = "mkfifo tree/pipe || exit 77; printf 2 >tree/pipe & \"$0\" put -r tree tree/pipe";
    let Some(ran) = place.run_script(script) else {
        eprintln!("skipped: there is no mkfifo here");
        return;
    };
    let ran = ran.expect(DONE);
    let (file, pipe) = (hex(b"1"), hex(b"2"));
    assert_eq!(ran.stdout, format!("{file}  tree/a\n{pipe}  tree/pipe\n"));
    let note = "skipped tree/pipe: not a regular file; name it";
    assert!(ran.stderr.contains(note), "{}", ran.stderr);
}

#[test]
#[cfg(target_os = "linux")]
fn a_walk_names_what_it_cannot_read_and_stores_the_others() {
    let place = Place::new();
    for name in ["tree/a", "tree/b/hidden", "tree/c", "tree/d", "root/hidden"] {
        place.write(name, name.as_bytes());
    }
    // Root can read everything, so it gives up that right.
    let script = "chmod 000 tree/b tree/c root
        if ls root >/dev/null 2>&1; then
            run='setpriv --bounding-set=-dac_override,-dac_read_search'
            $run true || exit 77
            if $run ls root >/dev/null 2>&1; then exit 77; fi
        fi
        $run \"$0\" put -r root tree
        code=$?; chmod 700 tree/b tree/c root; exit $code";
    let Some(ran) = place.run_script(script) else {
        eprintln!("skipped: this user may read everything");
        return;
    };
    let ran = ran.expect(LOCKED_OR_IO);
    assert_eq!(paths(&ran.stdout), ["tree/a", "tree/d"]);
    for name in ["root", "tree/b", "tree/c"] {
        let line = format!("sealstone: {name}: Permission denied (os error 13); check the path ");
        assert!(ran.stderr.contains(&line), "{}", ran.stderr);
    }
    assert!(ran.stderr.contains("3 not stored"), "{}", ran.stderr);
}

#[test]
#[cfg(target_os = "linux")]
fn a_walk_goes_on_behind_a_folder_whose_path_is_too_long() {
    let place = Place::new();
    place.write("tree/z", b"1");
    // 21 names of 200 bytes are longer than the 4,096 bytes of a path.
    let script = "name=$(printf '%0200d' 0); cd tree
        for level in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21; do
            mkdir $name && cd -P $name || exit 77
        done
        cd \"$SEALSTONE_STORE/..\" && exec \"$0\" put -r tree";
    let Some(ran) = place.run_script(script) else {
        eprintln!("skipped: this shell does not enter a folder with so long a path");
        return;
    };
    let ran = ran.expect(LOCKED_OR_IO);
    assert_eq!(paths(&ran.stdout), ["tree/z"]);
    assert!(
        ran.stderr.contains("0000: File name too long"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("1 not stored"), "{}", ran.stderr);
}

#[test]
#[cfg(unix)]
fn a_walk_through_a_link_to_the_store_leaves_its_files_out() {
    let place = Place::with(&[b"1"]);
    place.write("store/beside", b"2");
    std::os::unix::fs::symlink("store", place.path("link")).unwrap();
    std::os::unix::fs::symlink("store/segments", place.path("files")).unwrap();
    let ran = place.run(&["put", "-r", "link", "files"]).expect(DONE);
    assert_eq!(paths(&ran.stdout), ["link/beside"]);
    for skipped in ["link/segments", "files"] {
        let note = format!("sealstone: skipped {skipped}: the store's own files\n");
        assert!(ran.stderr.contains(&note), "{}", ran.stderr);
    }
}

#[test]
fn a_folder_without_r_is_refused_before_anything_is_stored() {
    let place = Place::new();
    place.write("file", b"1");
    place.write("tree/a", b"2");
    let ran = place.run(&["put", "file", "tree"]);
    ran.fails(USAGE, &["tree is a folder", "pass -r"]);
    assert!(!place.store().exists());
}

#[test]
#[cfg(unix)]
fn a_link_is_followed_if_it_is_named_and_skipped_if_a_walk_finds_it() {
    let place = Place::new();
    place.write("outside/a", b"1");
    place.write("tree/b", b"2");
    let link = |from: &str, to: &str| std::os::unix::fs::symlink(from, place.path(to)).unwrap();
    link("../outside", "tree/folder");
    link("../outside/a", "tree/file");
    link("nowhere", "tree/dangling");
    link("outside", "named");

    let ran = place.run(&["put", "-r", "tree", "named"]).expect(DONE);
    let (inside, named) = (hex(b"2"), hex(b"1"));
    assert_eq!(ran.stdout, format!("{inside}  tree/b\n{named}  named/a\n"));
    // One line is enough for all of them.
    let note =
        "sealstone: skipped 3 symbolic links, such as tree/dangling; name a link or pass --follow";
    assert!(ran.stderr.contains(note), "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("symbolic link").count(), 1);
    assert!(ran.stderr.contains("3 skipped"), "{}", ran.stderr);
}

#[test]
#[cfg(unix)]
fn a_link_that_is_skipped_alone_is_named() {
    let place = Place::new();
    fs::create_dir(place.path("tree")).unwrap();
    std::os::unix::fs::symlink("nowhere", place.path("tree/link")).unwrap();
    let ran = place.run(&["put", "-r", "tree"]).expect(DONE);
    let note = "sealstone: skipped the symbolic link tree/link; name it or pass --follow";
    assert!(ran.stderr.starts_with(note), "{}", ran.stderr);
}

/// The walk has begun when the first batch, of 1,024 files, creates the store below it.
#[test]
fn a_walk_leaves_out_a_store_that_it_has_created_itself() {
    let place = Place::new();
    for number in 0..1100 {
        place.write(&format!("tree/a/{number:04}"), b"1");
    }
    place.write("tree/z/file", b"2");
    let ran = place.run(&["put", "-r", "tree", "--store", "tree/z/store"]);
    let ran = ran.expect(DONE);
    assert!(!ran.stdout.contains("seg-"), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("tree/z/file\n"));
    let note = "skipped tree/z/store/segments: the store's own files";
    assert!(ran.stderr.contains(note), "{}", ran.stderr);
}

#[test]
fn a_walk_leaves_out_the_files_of_the_store_itself() {
    let place = Place::with(&[b"0"]);
    place.write("a", b"1");
    for _ in 0..2 {
        for root in [".", "store", "store/segments"] {
            let ran = place.run(&["put", "-r", root]).expect(DONE);
            assert!(!ran.stdout.contains("seg-"), "{}", ran.stdout);
            assert!(ran.stderr.contains("segments: the store's own files"));
        }
    }
    // This store shares its folder with the files.
    let arguments = ["put", "-r", ".", "--store", "."];
    let ran = place.run(&arguments).expect(DONE);
    assert!(!ran.stdout.contains("./segments"), "{}", ran.stdout);
    let ran = place.run(&arguments).expect(DONE);
    assert!(ran.stdout.contains("./a\n"), "{}", ran.stdout);
    assert!(ran.stderr.contains("skipped ./segments"), "{}", ran.stderr);
}

#[test]
#[cfg(unix)]
fn a_walk_that_follows_links_stores_what_they_lead_to_and_names_loops() {
    let place = Place::with(&[b"0"]);
    place.write("outside/a", b"1");
    place.write("tree/b", b"2");
    let link = |from: &str, to: &str| std::os::unix::fs::symlink(from, place.path(to)).unwrap();
    link("../outside", "tree/folder");
    link("../outside/a", "tree/file");
    link("..", "tree/round");
    link("../store/segments", "tree/own");
    link("../store/segments/seg-000000.dat", "tree/own file");
    let ran = place.run(&["put", "-r", "--follow", "tree"]).expect(DONE);
    let expected = ["tree/b", "tree/file", "tree/folder/a"];
    // `round` is the folder with everything, in which `tree` is met once more.
    let met: Vec<_> = paths(&ran.stdout)
        .into_iter()
        .filter(|path| !path.starts_with("tree/round/"))
        .collect();
    assert_eq!(met, expected);
    assert!(!ran.stdout.contains("segments"), "{}", ran.stdout);
    for (name, why) in [
        ("tree/own", "the store's own files"),
        ("tree/own file", "the store's own files"),
        (
            "tree/round/tree/round",
            "a link to a folder that contains it",
        ),
    ] {
        let note = format!("sealstone: skipped {name}: {why}\n");
        assert!(ran.stderr.contains(&note), "{}", ran.stderr);
    }

    link("nowhere", "tree/dangling");
    let ran = place.run(&["put", "-r", "--follow", "tree"]);
    let ran = ran.fails(crate::LOCKED_OR_IO, &["tree/dangling: No such file"]);
    assert!(ran.stderr.contains("2 not stored"), "{}", ran.stderr);
    place
        .run(&["put", "--follow", "tree"])
        .fails(USAGE, &["--recursive"]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_walk_through_a_mount_of_the_store_leaves_its_files_out() {
    let place = Place::with(&[b"1"]);
    place.write("tree/mounted/hidden", b"hidden by the mount");
    place.write("tree/files/hidden", b"hidden by the mount");
    place.write("tree/file", b"2");
    place.write("store/beside", b"3");
    let script =
        "mount --bind store tree/mounted && mount --bind store/segments tree/files || exit 77
        exec \"$0\" put -r tree tree/files";
    let Some(ran) = place.run_script_as(&["unshare", "-rm", "sh"], script) else {
        eprintln!("skipped: this user may not mount a folder");
        return;
    };
    let ran = ran.expect(DONE);
    assert_eq!(paths(&ran.stdout), ["tree/file", "tree/mounted/beside"]);
    for skipped in ["tree/mounted/segments", "tree/files"] {
        let note = format!("sealstone: skipped {skipped}: the store's own files\n");
        assert!(ran.stderr.contains(&note), "{}", ran.stderr);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn nothing_is_written_among_the_files_of_the_store_through_a_mount() {
    let place = Place::with(&[b"1"]);
    place.write("mounted/hidden", b"hidden by the mount");
    let digest = crate::hex(b"1");
    let script = format!(
        "mount --bind store mounted || exit 77
        \"$0\" get {digest} -o mounted/segments/seg-000000.dat
        \"$0\" get {digest} -o mounted/segments/new
        \"$0\" checkpoint mounted/segments/other
        exec \"$0\" verify"
    );
    let Some(ran) = place.run_script_as(&["unshare", "-rm", "sh"], &script) else {
        eprintln!("skipped: this user may not mount a folder");
        return;
    };
    let ran = ran.expect(DONE);
    let refusals = [
        "seg-000000.dat: not written: this is a file of the store",
        "new: not written: this is a file of the store",
        "other: this is in the folder of the store's own files",
    ];
    for refusal in refusals {
        assert!(ran.stderr.contains(refusal), "{}", ran.stderr);
    }
    assert!(!ran.stdout.contains("seg"), "{}", ran.stdout);
}
