//! Stores of other hash functions: their lines equal those of other people's programs.

use sealstone::HashFunction;

use crate::{DONE, Place, USAGE};

/// Each function with a program that prints the same digests, where that is installed.
const PROGRAMS: [(&str, &[&str]); 4] = [
    ("blake2b", &["b2sum"]),
    ("blake2b-256", &["b2sum", "-l", "256"]),
    ("sha256", &["sha256sum"]),
    ("blake3", &["b3sum"]),
];

#[test]
fn a_new_store_takes_the_hash_function_and_keeps_it() {
    for (name, program) in PROGRAMS {
        let function: HashFunction = name.parse().unwrap();
        let place = Place::new();
        for number in 0..100_usize {
            place.write(&format!("file-{number:02}"), &vec![7; number * 37]);
        }
        let files: Vec<String> = (0..100).map(|number| format!("file-{number:02}")).collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let ran = place
            .run(&[&["put", "--hash", name][..], &files].concat())
            .expect(DONE);
        let line = |number: usize| {
            let digest = function.digest(vec![7; number * 37]);
            format!("{digest}  file-{number:02}\n")
        };
        assert_eq!(ran.stdout, (0..100).map(line).collect::<String>());
        let reference = std::process::Command::new(program[0])
            .args(&program[1..])
            .args(&files)
            .current_dir(place.folder.path())
            .output();
        match reference {
            Ok(reference) => {
                for (line, expected) in ran
                    .stdout
                    .lines()
                    .zip(String::from_utf8_lossy(&reference.stdout).lines())
                {
                    // `b2sum` prints 128 digits unless it is asked for fewer.
                    assert!(expected.starts_with(&line[..64]), "{line} {expected}");
                }
            }
            Err(_) => println!("{program:?} is not installed, so nothing is compared with it"),
        }
        // No option is needed from now on.
        let ran = place.run(&["put", "file-07"]).expect(DONE);
        assert_eq!(ran.stdout, line(7));
        assert_eq!(place.json(&["stat", "--json"])["hash_function"], name);
        let stat = place.run(&["stat"]).expect(DONE);
        assert!(
            stat.stdout.contains(&format!("hash         {name}\n")),
            "{}",
            stat.stdout
        );
        let got = place.run(&["get", &line(7)[..64]]).expect(DONE);
        assert_eq!(got.stdout.as_bytes(), vec![7; 7 * 37]);
        place.run(&["verify"]).expect(DONE);
    }
}

#[test]
fn another_function_than_that_of_the_store_is_refused_with_the_remedy() {
    let place = Place::new();
    place.write("file", b"content");
    place.run(&["put", "--hash", "sha256", "file"]).expect(DONE);
    let ran = place.run(&["put", "--hash", "blake3", "file"]);
    ran.fails(USAGE, &["by sha256, not by blake3", "leave --hash out"]);
    let ran = place.run(&["put", "--hash", "md5", "file"]);
    ran.fails(USAGE, &["no such hash function", "blake2b-256"]);
}
