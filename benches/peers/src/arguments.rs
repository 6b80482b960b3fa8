//! The command line.

use std::path::PathBuf;

use lexopt::prelude::*;

pub const HELP: &str = "\
Compares Sealstone with LMDB, redb, fjall and parity-db.

    cargo run --release --manifest-path benches/peers/Cargo.toml -- [OPTIONS]

  --short        fewer objects, every operation; some minutes instead of about 20
  --folder DIR   where the stores are made and deleted; default: the system's temporary folder
  --only LIST    some of 256,1024,4096,65536,mix (reading at a size), put, figures, hash and cold,
                 with commas; default: all but cold. That measures stores larger than memory, and is
                 not for every machine: it needs about 31 GiB of disk in --folder, and the right to
                 drop the page cache, which slows down whatever else runs
  --rounds N     rounds of each measurement; default: 5, or 3 with --short
  --out DIR      where results.csv, results.md, acceptance.md and the pictures go;
                 default: benches/peers/target/results
  --help         print this text
";

/// The parts that `--only` chooses from.
pub const PARTS: [&str; 9] = [
    "256", "1024", "4096", "65536", "mix", "put", "figures", "hash", COLD,
];

/// The part that is run only if it is chosen.
pub const COLD: &str = "cold";

pub struct Arguments {
    pub folder: PathBuf,
    pub only: Vec<String>,
    pub rounds: usize,
    pub out: PathBuf,
    /// The share of the objects of a whole run; 1 is a whole run.
    pub scale: f64,
}

/// The share of the objects in a short run.
const SHORT_SCALE: f64 = 0.05;

impl Arguments {
    /// Parses the command line; gives `None` for `--help`.
    pub fn parse() -> Result<Option<Self>, lexopt::Error> {
        let mut rounds = None;
        let mut is_short = false;
        let mut scale = None;
        let mut arguments = Self {
            folder: std::env::temp_dir(),
            only: parts_by_default(),
            rounds: 0,
            out: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/results")),
            scale: 1.0,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("short") => is_short = true,
                Long("folder") => arguments.folder = parser.value()?.into(),
                Long("only") => arguments.only = parts(&parser.value()?.string()?)?,
                Long("rounds") => rounds = Some(parser.value()?.parse_with(positive)?),
                Long("out") => arguments.out = parser.value()?.into(),
                // Only tries out whether everything works; figures of such a run say nothing.
                Long("scale") => scale = Some(parser.value()?.parse()?),
                Short('h') | Long("help") => return Ok(None),
                _ => return Err(argument.unexpected()),
            }
        }
        arguments.rounds = rounds.unwrap_or(if is_short { 3 } else { 5 });
        arguments.scale = scale.unwrap_or(if is_short { SHORT_SCALE } else { 1.0 });
        Ok(Some(arguments))
    }
}

fn parts_by_default() -> Vec<String> {
    let parts = PARTS.iter().filter(|&&part| part != COLD);
    parts.map(|&part| part.to_owned()).collect()
}

fn parts(list: &str) -> Result<Vec<String>, String> {
    let check = |part: &str| {
        if PARTS.contains(&part) {
            Ok(part.to_owned())
        } else {
            Err(format!("--only: {part} is not one of {}", PARTS.join(",")))
        }
    };
    list.split(',').map(check).collect()
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{text} is not a number of rounds")),
    }
}
