//! The help texts, and whether the program does what they say.

use std::fs;

use serde_json::{Value, json};

use crate::{DAMAGED, DONE, Place, USAGE, hex};

pub const COMMANDS: &[&str] = &[
    "put",
    "get",
    "has",
    "ls",
    "stat",
    "verify",
    "compact",
    "checkpoint",
    "export",
    "import",
    "diff",
    #[cfg(feature = "remote")]
    "push",
    #[cfg(feature = "remote")]
    "pull",
    #[cfg(feature = "remote")]
    "remote",
];

#[test]
fn every_command_has_a_help_with_examples_and_json() {
    let place = Place::new();
    let help = place.run(&["--help"]).expect(DONE);
    assert!(help.stdout.contains("Exit codes:") && help.stderr.is_empty());
    for command in COMMANDS {
        assert!(help.stdout.contains(&format!("  {command} ")), "{command}");
        let help = place.run(&[command, "--help"]).expect(DONE).stdout;
        assert!(
            help.contains("Example") && help.contains("JSON"),
            "{command}"
        );
    }
    place.run(&["--version"]).expect(DONE);
    place.run(&["frobnicate"]).fails(USAGE, &["frobnicate"]);
    place.run(&[]).expect(USAGE);
}

/// Returns the arguments that print each page of help. They end with `end`.
fn pages(end: &str) -> Vec<Vec<&str>> {
    let commands = COMMANDS.iter().chain(&["completions", "man"]);
    let commands = commands.map(|command| vec![*command, end]);
    let others = [vec!["import", "nedb", end], vec![end]];
    let remote: &[_] = if cfg!(feature = "remote") {
        &["ls", "get", "verify", "gc"]
    } else {
        &[]
    };
    let remote = remote.iter().map(|command| vec!["remote", command, end]);
    commands.chain(others).chain(remote).collect()
}

#[test]
fn no_page_of_help_is_wider_than_80_columns() {
    let place = Place::new();
    let text = |arguments: &[&str], columns: &str| {
        let output = place.command(arguments).env("COLUMNS", columns).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    for arguments in [pages("-h"), pages("--help")].concat() {
        let page = text(&arguments, "1000");
        let longest = page
            .lines()
            .max_by_key(|line| line.chars().count())
            .unwrap();
        assert!(longest.chars().count() <= 80, "{arguments:?}: {longest}");
        // Nothing that has lines of its own, such as JSON, is wrapped to fit.
        assert_eq!(text(&arguments, "80"), page, "{arguments:?}");
    }
}

#[test]
fn the_short_help_fits_a_screen_and_leaves_the_examples_to_the_long_one() {
    let place = Place::new();
    for (short, long) in pages("-h").iter().zip(pages("--help")) {
        let [short, long] = [short, &long].map(|page| place.run(page).expect(DONE).stdout);
        let lines_max = if cfg!(feature = "remote") { 35 } else { 32 };
        assert!(short.lines().count() <= lines_max, "{short}");
        assert!(
            !short.contains("Example") && short.contains("see more with '--help'"),
            "{short}"
        );
        assert!(long.contains("Example"), "{long}");
        for option in long
            .lines()
            .filter(|line| line.trim_start().starts_with("--"))
        {
            let name = option.split_whitespace().next().unwrap();
            assert!(short.contains(name), "{name}: {short}");
        }
    }
}

#[test]
fn the_json_of_each_command_has_the_fields_that_its_help_shows() {
    let place = Place::new();
    place.put_numbers(20);
    let held = hex(&0_u32.to_le_bytes());
    place.write("file", b"file");
    place.write("list", held.as_bytes());

    place.write("lines", format!("{}  file", hex(b"file")).as_bytes());
    for (command, argument) in [("put", "file"), ("check", "lines")] {
        let ran = place.run(&[command, "--json", argument]).expect(DONE);
        let printed = format!("{}{}", ran.stdout, ran.stderr.lines().last().unwrap());
        assert_eq!(shapes(&printed), documented(&place, command));
    }
    for (command, arguments) in [
        ("get", &[&held, "-o", "out"][..]),
        ("has", &[&held, "000000"]),
        ("ls", &["--long", &held]),
        ("stat", &[]),
        ("compact", &["--live", "list", "--dry-run"]),
        ("checkpoint", &["copy"]),
    ] {
        let ran = place.run(&[&[command, "--json"], arguments].concat());
        let printed = shapes(&ran.stdout);
        assert_eq!(printed, documented(&place, command), "{command}");
    }

    place.damage(&19_u32.to_le_bytes());
    let files = place.files();
    let mut indexes = files.keys().filter(|path| {
        let end = path.extension();
        end.is_some_and(|end| end == "idx")
    });
    let index = indexes.next().unwrap();
    let mut bytes = files[index].clone();
    bytes[20] ^= 1;
    fs::write(index, bytes).unwrap();
    fs::write(index.with_file_name("MANIFEST.damaged"), b"kept").unwrap();
    let ran = place.run(&["verify", "--json"]).expect(DAMAGED);
    assert_eq!(shapes(&ran.stdout), documented(&place, "verify"));
}

/// Returns the shapes of the JSON values in the help of a command, such as `import nedb`.
pub fn documented(place: &Place, command: &str) -> Vec<Value> {
    let words = command.split(' ').chain(["--help"]);
    let help = place.run(&words.collect::<Vec<_>>()).expect(DONE).stdout;
    shown_behind("\nJSON", &help)
}

/// Returns the shapes of the JSON values that a help shows behind the line that begins with this.
pub fn shown_behind(begin: &str, help: &str) -> Vec<Value> {
    let (_, from) = help.split_once(begin).unwrap();
    let lines = from.lines().skip_while(|line| !line.starts_with("  "));
    let json: Vec<_> = lines.take_while(|line| line.starts_with("  ")).collect();
    shapes(&json.join("\n"))
}

pub fn shapes(text: &str) -> Vec<Value> {
    serde_json::Deserializer::from_str(text)
        .into_iter::<Value>()
        .map(|value| shape(&value.unwrap_or_else(|error| panic!("{error}: {text}"))))
        .collect()
}

/// Replaces each value by the name of its type, and keeps the first element of each array.
fn shape(value: &Value) -> Value {
    match value {
        Value::Null => json!("null"),
        Value::Bool(_) => json!("bool"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("string"),
        Value::Array(values) => values.first().map(shape).into_iter().collect(),
        Value::Object(fields) => {
            let fields = fields.iter();
            let fields = fields.map(|(name, value)| (name.clone(), shape(value)));
            Value::Object(fields.collect())
        }
    }
}
