//! The help texts, and whether the program does what they say.

use std::fs;

use serde_json::{Value, json};

use crate::{DAMAGED, DONE, Place, USAGE, hex};

const COMMANDS: [&str; 8] = [
    "put",
    "get",
    "has",
    "ls",
    "stat",
    "verify",
    "compact",
    "checkpoint",
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

#[test]
fn no_line_of_an_example_or_of_json_is_wrapped_at_a_width_of_100() {
    let place = Place::new();
    // What clap leaves as it is comes behind the last options.
    let text = |arguments: &[&str], columns: &str| {
        let output = place.command(arguments).env("COLUMNS", columns).output();
        let help = String::from_utf8(output.unwrap().stdout).unwrap();
        help.split_once("  -h, --help").unwrap().1.to_owned()
    };
    let mut helps = COMMANDS.map(|command| vec![command, "--help"]).to_vec();
    helps.push(vec!["--help"]);
    for arguments in helps {
        let wide = text(&arguments, "1000");
        assert_eq!(text(&arguments, "100"), wide, "{arguments:?}");
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

/// Returns the shapes of the JSON values in the help of a command.
fn documented(place: &Place, command: &str) -> Vec<Value> {
    let help = place.run(&[command, "--help"]).expect(DONE).stdout;
    let (_, from) = help.split_once("\nJSON").unwrap();
    let lines = from.lines().skip(1);
    let json: Vec<_> = lines.take_while(|line| line.starts_with("  ")).collect();
    shapes(&json.join("\n"))
}

fn shapes(text: &str) -> Vec<Value> {
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
