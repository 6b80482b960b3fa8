//! A list of digests, from a file or standard input.

use std::io::{self, BufRead, BufReader, StdinLock};
use std::path::Path;

use sealstone::Digest;
use serde::Deserialize;

use crate::exit::Failure;
use crate::list_lines::{self, Lines, STANDARD_INPUT};

/// Reads the whole list before anything else happens, because a wrong line must not cost an object.
/// `-` is standard input.
pub fn read(path: &Path) -> anyhow::Result<Vec<Digest>> {
    let (name, list) = list_lines::open(path)?;
    parse(&name, list)
}

fn parse(name: &str, list: impl BufRead) -> anyhow::Result<Vec<Digest>> {
    let mut digests = Vec::new();
    for line in list_lines::lines(name, list) {
        let (number, line) = line?;
        let digest = parse_line(&line)
            .map_err(|wrong| Failure::Usage(wrong.text(name, number, "nothing was done")))?;
        digests.extend(digest);
    }
    Ok(digests)
}

/// Bytes of standard input that are read at a time.
const INPUT_BYTES: usize = 256 << 10;

/// The digests on standard input in batches, for commands that answer them. A batch ends where the next
/// line would have to be waited for, so that a program can ask, read the answer, and ask again.
pub struct Batches {
    lines: Lines<'static, BufReader<StdinLock<'static>>>,
    digests_max: usize,
    /// What is wrong with the line behind the last batch.
    failure: Option<Failure>,
}

impl Batches {
    pub fn of_input(digests_max: usize) -> Self {
        let input = BufReader::with_capacity(INPUT_BYTES, io::stdin().lock());
        Self {
            lines: list_lines::lines(STANDARD_INPUT, input),
            digests_max,
            failure: None,
        }
    }

    /// Returns the digest of a line, if it has one.
    fn digest(line: Result<(u64, Vec<u8>), Failure>) -> Result<Option<Digest>, Failure> {
        let (number, line) = line?;
        parse_line(&line).map_err(|wrong| {
            let done = "the lines before it were answered";
            Failure::Usage(wrong.text(STANDARD_INPUT, number, done))
        })
    }
}

impl Iterator for Batches {
    type Item = Result<Vec<Digest>, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(failure) = self.failure.take() {
            return Some(Err(failure));
        }
        let mut batch = Vec::new();
        while batch.len() < self.digests_max && (batch.is_empty() || self.lines.has_next()) {
            let Some(line) = self.lines.next() else {
                break;
            };
            match Self::digest(line) {
                Ok(digest) => batch.extend(digest),
                Err(failure) if batch.is_empty() => return Some(Err(failure)),
                Err(failure) => {
                    self.failure = Some(failure);
                    break;
                }
            }
        }
        (!batch.is_empty()).then_some(Ok(batch))
    }
}

/// What is wrong with a line.
#[derive(Debug)]
enum Wrong {
    NoDigest(String),
    Json(String),
    Several,
    NoLines,
}

impl Wrong {
    /// Returns the message. `done` says what has become of the other lines.
    fn text(&self, name: &str, number: u64, done: &str) -> String {
        let (what, remedy) = match self {
            Self::NoDigest(field) => (
                format!("`{field}` is not a digest"),
                "begin the line with 64 hexadecimal digits or with #",
            ),
            Self::Json(error) => (
                format!("this is no object with a `digest` of 64 digits: {error}"),
                "give each object a line of its own, as --json prints it",
            ),
            Self::Several => (
                "there is more than one digest".to_owned(),
                "give each a line of its own",
            ),
            Self::NoLines => (
                "there is a NUL or a carriage return in the line".to_owned(),
                "end each line with a line feed",
            ),
        };
        format!("{name}, line {number}: {what}; {done}; {remedy}")
    }
}

/// Returns the digest of a line, or `None` for a blank line or a remark.
fn parse_line(line: &[u8]) -> Result<Option<Digest>, Wrong> {
    // No command prints one, so other lines are behind it.
    let is_several_lines = line
        .trim_ascii_end()
        .iter()
        .any(|byte| b"\0\r".contains(byte));
    let Some(field) = first_field(line) else {
        return if is_several_lines {
            Err(Wrong::NoLines)
        } else {
            Ok(None)
        };
    };
    if field.starts_with(b"{") {
        return json_digest(line).map(Some);
    }
    let Some(found) = digest(field) else {
        let field = String::from_utf8_lossy(field).into_owned();
        return Err(Wrong::NoDigest(field));
    };
    // If lines were joined by mistake, the objects of all digests but the first would be dropped.
    if unnamed_fields(line).any(|field| digest(field).is_some()) {
        return Err(Wrong::Several);
    }
    if is_several_lines {
        return Err(Wrong::NoLines);
    }
    Ok(Some(found))
}

/// Parses an object as the commands print it with --json. Behind it there must be nothing: joined lines
/// have more than one digest.
fn json_digest(line: &[u8]) -> Result<Digest, Wrong> {
    #[derive(Deserialize)]
    struct Line {
        digest: String,
    }
    let line: Line =
        serde_json::from_slice(line).map_err(|error| Wrong::Json(error.to_string()))?;
    let digest = line.digest.parse::<Digest>();
    digest.map_err(|error| Wrong::Json(error.to_string()))
}

fn first_field(line: &[u8]) -> Option<&[u8]> {
    let mut fields = line.split(u8::is_ascii_whitespace);
    fields
        .find(|field| !field.is_empty())
        .filter(|field| !field.starts_with(b"#"))
}

/// Returns the fields behind the first one. Two spaces begin the name of a file, which is no field: a
/// digest can be the name of a file.
fn unnamed_fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let begin = line.trim_ascii_start();
    let end = begin.iter().position(u8::is_ascii_whitespace);
    let rest = end.map_or(&[][..], |end| &begin[end..]);
    let is_name = rest.starts_with(b"  ");
    let fields = rest.split(u8::is_ascii_whitespace);
    fields.filter(move |field| !is_name && !field.is_empty())
}

fn digest(field: &[u8]) -> Option<Digest> {
    // `put` begins a line with a backslash if it had to escape the name.
    let digits = field.strip_prefix(b"\\").unwrap_or(field);
    str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum_line;

    #[test]
    fn comments_blank_lines_and_lines_of_put_are_understood() {
        let (one, two, three) = (Digest::of(b"1"), Digest::of(b"2"), Digest::of(b"3"));
        let mut list = format!("# kept\n\n  \t\n{one}\r\n").into_bytes();
        list.extend(checksum_line::format(&two, Path::new("a\nb \\ c")));
        list.extend(format!("  {three}  caf\u{e9}").into_bytes());
        list.push(0xff);
        assert_eq!(parse("list", &list[..]).unwrap(), [one, two, three]);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_digest() {
        let digest = Digest::of(b"1");
        let list = format!("\u{feff}{digest}\n{digest}\n");
        assert_eq!(parse("list", list.as_bytes()).unwrap(), [digest, digest]);
        let list = format!("{digest}\n\u{feff}{digest}\n");
        assert!(parse("list", list.as_bytes()).is_err());
    }

    #[test]
    fn a_line_with_two_digests_is_refused() {
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let named = format!("{one}  {two}");
        assert_eq!(parse("list", named.as_bytes()).unwrap(), [one]);
        for between in [" ", "\r", "\t", " name ", " \\"] {
            let list = format!("{one}{between}{two}\n");
            let error = parse("list", list.as_bytes()).unwrap_err().to_string();
            assert!(
                error.starts_with("list, line 1: there is more than one"),
                "{error}"
            );
        }
    }

    /// Lists whose line feeds became something else: only their first digest would be kept.
    #[test]
    fn a_list_of_a_single_line_is_refused() {
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        for end in ["\0", "\r"] {
            for list in [
                format!("{one}  name{end}{two}  name{end}"),
                format!("# remark{end}{two}"),
            ] {
                let error = parse("list", list.as_bytes()).unwrap_err().to_string();
                assert!(error.starts_with("list, line 1: "), "{error}");
            }
        }
        let list = format!("{one}\r\n{two}  name\r\n\r\n");
        assert_eq!(parse("list", list.as_bytes()).unwrap(), [one, two]);
    }

    #[test]
    fn a_line_without_an_end_takes_bounded_memory() {
        let list = io::repeat(b'a');
        let lines = list_lines::lines("list", BufReader::new(list));
        let failures = lines.take(3).map(|line| line.unwrap_err().to_string());
        assert!(
            failures
                .into_iter()
                .all(|text| text.contains("is longer than"))
        );
    }

    #[test]
    fn an_object_of_json_has_one_digest_and_a_line_of_its_own() {
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let list = format!(
            "\u{feff}{{\"digest\": \"{one}\", \"bytes\": 1}}\r\n{two}\n {{\"digest\":\"{two}\"}} "
        );
        assert_eq!(parse("list", list.as_bytes()).unwrap(), [one, two, two]);
        let object = format!("{{\"digest\":\"{one}\"}}");
        let cut = &object[..object.len() - 1];
        for bad in [
            cut,
            "{",
            "{}",
            "{\"digest\": 1}",
            &object.replace(&one.to_string(), "99b0c4"),
            &format!("{object}{object}"),
            &format!("{object},"),
            &format!("{object} {two}"),
            &format!("{cut},\"digest\":\"{two}\"}}"),
            &format!("[{object}]"),
        ] {
            let list = format!("{one}\n{bad}\n");
            let error = parse("list", list.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("list, line 2: "), "{error}");
            assert!(error.contains("; nothing was done; "), "{error}");
        }
    }

    #[test]
    fn a_wrong_line_is_named_by_its_number() {
        let good = Digest::of(b"1");
        for bad in ["abc123", &good.to_string()[1..], "\u{fffd}"] {
            let list = format!("#\n{good}\n{bad}\n");
            let error = parse("list", list.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("list, line 3: "), "{error}");
        }
    }
}
