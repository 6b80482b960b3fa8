//! `export` and `import` of a stream.

use std::collections::BTreeMap;

use sealstone::{Digest, HashFunction, Options, Store};
use serde_json::Value;

use crate::help::shapes;
use crate::{DAMAGED, DONE, LOCKED_OR_IO, Place, Ran, USAGE, hex};

const CONTENTS: [&[u8]; 4] = [b"one", b"", b"three", b"a longer object, the last one"];

impl Place {
    fn export(&self, arguments: &[&str]) -> Vec<u8> {
        let output = self.command(&[&["export"], arguments].concat()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    }

    fn import(&self, stream: &[u8]) -> Ran {
        self.run_with_input(&["import", "-"], stream)
    }

    /// Returns all objects of the store, or none if there is no store.
    pub fn objects(&self) -> BTreeMap<Digest, Vec<u8>> {
        let store = Options::new().read_only(true).open(self.store());
        let Ok(store) = store else {
            return BTreeMap::new();
        };
        let function = store.hash_function();
        let objects = store.iter().map(|object| object.unwrap());
        let objects = objects.map(|object| (function.digest(&object), object.to_vec()));
        objects.collect()
    }
}

/// Returns the last line of standard error, which is JSON.
pub fn summary(ran: &Ran) -> Value {
    let line = ran.stderr.lines().last().unwrap();
    serde_json::from_str(line).unwrap_or_else(|_| panic!("{}", ran.stderr))
}

#[test]
fn a_stream_has_the_bytes_that_the_documentation_says() {
    let mut expected = b"sealstrm\x01\0\0\0blake2b\0\0\0\0\0\0\0\0\0".to_vec();
    for content in CONTENTS {
        expected.push(b'R');
        expected.extend(Digest::of(content).as_bytes());
        expected.extend(u32::try_from(content.len()).unwrap().to_le_bytes());
        expected.extend(content);
    }
    expected.push(b'E');
    expected.extend(4_u64.to_le_bytes());
    expected.extend(37_u64.to_le_bytes());
    assert_eq!(Place::with(&CONTENTS).export(&[]), expected);
}

#[test]
fn a_store_that_was_exported_and_imported_holds_the_same() {
    let place = Place::with(&CONTENTS);
    let stream = place.export(&["--quiet"]);
    let copy = Place::new();
    let ran = copy.import(&stream).expect(DONE);
    assert!(ran.stderr.contains("created a store"), "{}", ran.stderr);
    let figures = "4 objects, 37 bytes: 4 new, 0 already stored\n";
    assert!(ran.stderr.ends_with(figures), "{}", ran.stderr);
    assert_eq!(ran.stdout, "");
    assert_eq!(copy.objects(), place.objects());

    copy.write("stream", &stream);
    let ran = copy.run(&["import", "stream", "--json"]).expect(DONE);
    let summary = summary(&ran);
    assert_eq!(summary["already_stored"], 4);
    assert_eq!(summary["complete"], true);
    let ran = copy.run(&["import", "stream", "--quiet"]).expect(DONE);
    assert_eq!(ran.stderr, "");
}

#[test]
fn an_export_leaves_out_what_the_other_store_lists() {
    let place = Place::with(&CONTENTS);
    let other = Place::with(&[CONTENTS[0], CONTENTS[2], b"only here"]);
    let list = other.run(&["ls"]).stdout;
    place.write("list", list.as_bytes());
    let stream = place.export(&["--except", "list"]);
    let output = place
        .command(&["export", "--except", "-", "--json"])
        .write_stdin(list.as_bytes())
        .output();
    let output = output.unwrap();
    assert_eq!(output.stdout, stream);
    let line: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(line["objects"], 2);
    assert_eq!(line["left_out"], 2);

    let ran = other.run_with_input(&["import", "-", "--json"], &stream);
    assert_eq!(summary(&ran.expect(DONE))["new"], 2);
    let mut expected = place.objects();
    expected.insert(Digest::of(b"only here"), b"only here".to_vec());
    assert_eq!(other.objects(), expected);
    let ran = place.run_with_input(&["export", "--except", "-"], b"no digest");
    ran.fails(USAGE, &["line 1: `no` is not a digest"]);
}

#[test]
fn a_stream_that_was_cut_anywhere_keeps_what_came_whole_and_is_completed_by_the_next_import() {
    let place = Place::with(&CONTENTS[..3]);
    let (stream, whole) = (place.export(&[]), place.objects());
    for length in 0..stream.len() {
        let copy = Place::new();
        let ran = copy.import(&stream[..length]);
        let ran = ran.fails(LOCKED_OR_IO, &["cut", "what came whole is stored; "]);
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        let objects = copy.objects();
        // Each record has 37 bytes before its content.
        let ends = [28 + 40, 28 + 40 + 37, 28 + 40 + 37 + 42];
        let came = ends.iter().filter(|end| length >= **end).count();
        assert_eq!(objects.len(), came, "{length}");
        assert!(
            objects
                .iter()
                .all(|object| whole.get(object.0) == Some(object.1))
        );
        copy.import(&stream).expect(DONE);
        assert_eq!(copy.objects(), whole, "{length}");
    }
}

#[test]
fn a_bit_that_was_flipped_anywhere_stores_no_wrong_object() {
    let place = Place::with(&CONTENTS[..2]);
    let (stream, whole) = (place.export(&[]), place.objects());
    for at in 0..stream.len() {
        for bit in 0..8 {
            let mut flipped = stream.clone();
            flipped[at] ^= 1 << bit;
            let copy = Place::new();
            let ran = copy.import(&flipped);
            let head = 28;
            let codes = if at < head {
                &[USAGE][..]
            } else {
                &[DAMAGED, LOCKED_OR_IO]
            };
            assert!(codes.contains(&ran.code), "{at}, {bit}: {}", ran.stderr);
            assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
            assert!(at >= head || !copy.store().exists(), "{at}, {bit}");
            let objects = copy.objects();
            assert!(
                objects
                    .iter()
                    .all(|object| whole.get(object.0) == Some(object.1))
            );
        }
    }
}

#[test]
fn the_records_before_one_with_another_digest_are_kept() {
    let place = Place::with(&CONTENTS);
    let mut stream = place.export(&[]);
    let at = stream.windows(5).position(|five| five == b"three").unwrap();
    stream[at] ^= 1;
    let copy = Place::new();
    let ran = copy.run_with_input(&["import", "-", "--quiet"], &stream);
    let parts = [
        "standard input, record 3: ",
        "fetch it again",
        "2 objects, ",
    ];
    ran.fails(DAMAGED, &parts);
    assert_eq!(copy.objects().len(), 2);
    assert!(copy.has(CONTENTS[0]) && copy.has(CONTENTS[1]));
}

#[test]
fn an_import_repairs_a_damaged_copy() {
    let stream = Place::with(&CONTENTS).export(&[]);
    let place = Place::with(&CONTENTS);
    place.damage(b"three");
    let ran = place.run_with_input(&["import", "-", "--json"], &stream);
    let figures = summary(&ran.expect(DONE));
    assert_eq!(figures["new"], 1);
    assert_eq!(figures["already_stored"], 3);
    let got = place.run(&["get", &hex(b"three")]).expect(DONE);
    assert_eq!(got.stdout, "three");
}

#[test]
fn a_stream_of_another_hash_function_is_refused_and_a_new_store_takes_it_over() {
    let place = Place::new();
    let options = Options::new().hash_function(HashFunction::Sha256);
    let store = options.open(place.store()).unwrap();
    store.put(b"1").unwrap();
    store.close().unwrap();
    let stream = place.export(&[]);

    let other = Place::with(&[b"2"]);
    let parts = ["blake2b", "the stream by sha256; nothing was stored; "];
    other.import(&stream).fails(USAGE, &parts);
    assert_eq!(other.objects().len(), 1);

    let copy = Place::new();
    copy.import(&stream).expect(DONE);
    let store = Store::open(copy.store()).unwrap();
    assert_eq!(store.hash_function(), HashFunction::Sha256);
    drop(store);
    assert_eq!(copy.objects(), place.objects());
}

#[test]
fn a_newer_stream_bytes_behind_the_end_and_a_missing_record_are_errors() {
    let place = Place::with(&CONTENTS);
    let stream = place.export(&[]);
    let mut newer = stream.clone();
    newer[8] = 2;
    let parts = ["has version 2", "knows version 1", "update this program"];
    Place::new().import(&newer).fails(USAGE, &parts);

    let twice = [&stream[..], &stream].concat();
    let copy = Place::new();
    let parts = ["bytes follow its end; what came before is stored; "];
    copy.import(&twice).expect(DAMAGED);
    copy.import(&twice).fails(DAMAGED, &parts);
    assert_eq!(copy.objects(), place.objects());

    let mut shorter = stream.clone();
    shorter.drain(28..28 + 37 + CONTENTS[0].len());
    let ran = Place::new().run_with_input(&["import", "--quiet", "-"], &shorter);
    ran.fails(DAMAGED, &["its end does not count the records"]);
}

#[test]
fn what_is_no_stream_is_refused_and_an_empty_stream_makes_an_empty_store() {
    let place = Place::new();
    place.write(
        "file",
        b"some text that is longer than the head of a stream",
    );
    let parts = ["file: this is no stream", "nothing was stored; "];
    place.run(&["import", "file"]).fails(USAGE, &parts);
    let ran = place.run(&["import", "missing"]);
    ran.fails(LOCKED_OR_IO, &["missing: ", "check the path"]);
    assert!(!place.store().exists());

    let stream = Place::with(&[]).export(&[]);
    let copy = Place::new();
    copy.import(&stream).expect(DONE);
    copy.run(&["stat"]).expect(DONE);
}

#[test]
fn an_export_names_a_damaged_object_and_writes_the_others() {
    let place = Place::with(&CONTENTS);
    place.damage(b"three");
    let output = place.command(&["export", "--quiet", "--json"]).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(DAMAGED));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains(&hex(b"three")), "{stderr}");
    let last: Value = serde_json::from_str(stderr.lines().last().unwrap()).unwrap();
    assert_eq!(last["damaged"], 1);
    let copy = Place::new();
    copy.import(&output.stdout).expect(DONE);
    assert_eq!(copy.objects().len(), 3);
    assert!(!copy.has(b"three"));
}

#[test]
fn the_json_of_export_and_import_has_the_fields_that_the_help_shows() {
    let place = Place::with(&CONTENTS);
    let output = place.command(&["export", "--json"]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let export = crate::help::documented(&place, "export");
    assert_eq!(shapes(&stderr), export);
    let ran = place.run_with_input(&["import", "-", "--json"], &output.stdout);
    let import = crate::help::documented(&place, "import");
    assert_eq!(shapes(&ran.stderr), import);
    assert_eq!(crate::help::documented(&place, "import nedb"), import);
}

/// More objects than a batch of either side takes, and some that are a batch of their own.
#[test]
fn many_objects_and_large_ones_come_in_batches() {
    let place = Place::new();
    let store = Store::open(place.store()).unwrap();
    let numbers: Vec<_> = (0..40_000_u32).map(u32::to_le_bytes).collect();
    store.put_many(&numbers).unwrap();
    for byte in 0..3 {
        store.put(vec![byte; 20 << 20]).unwrap();
    }
    store.close().unwrap();
    let copy = Place::new();
    copy.import(&place.export(&[])).expect(DONE);
    assert!(copy.objects() == place.objects());
}

#[test]
#[cfg(target_os = "linux")]
fn a_terminal_gets_no_stream() {
    let place = Place::with(&[b"1"]);
    // util-linux has `script`, which runs a command on a terminal.
    let script = "command -v script >/dev/null || exit 77\n\
                  script --quiet --return --command \"'$0' export\" /dev/null";
    if let Some(ran) = place.run_script(script) {
        assert_eq!(ran.code, USAGE, "{}{}", ran.stdout, ran.stderr);
        assert!(ran.stdout.contains("is a terminal; send"), "{}", ran.stdout);
    }
}
