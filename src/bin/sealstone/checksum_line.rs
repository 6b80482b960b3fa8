//! The lines `DIGEST  PATH`, as `b2sum` and `sha256sum` write and read them.
//!
//! A name that would break its line is escaped, and a backslash before the digest says so.

use std::fmt::Display;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use sealstone::Digest;

use crate::exit::Failure;
use crate::list_lines;

/// The bytes of a name that are escaped, each with its escape.
const ESCAPES: [(u8, &[u8; 2]); 3] = [(b'\\', b"\\\\"), (b'\n', b"\\n"), (b'\r', b"\\r")];

/// Returns a line with its line feed. On Unix all bytes of the name that are not escaped are kept as
/// they are.
pub fn format(digest: &impl Display, path: &Path) -> Vec<u8> {
    let (mark, mut name) = escaped(path);
    let mut line = format!("{mark}{digest}  ").into_bytes();
    line.append(&mut name);
    line.push(b'\n');
    line
}

/// Returns a name with its escapes, and the mark that begins its line: a backslash if there are any.
pub fn escaped(path: &Path) -> (&'static str, Vec<u8>) {
    let name = path.as_os_str().as_encoded_bytes();
    let mut escaped = Vec::with_capacity(name.len());
    for &byte in name {
        match ESCAPES.iter().find(|(escaped, _)| *escaped == byte) {
            Some((_, escape)) => escaped.extend(*escape),
            None => escaped.push(byte),
        }
    }
    let is_same = escaped.len() == name.len();
    (if is_same { "" } else { "\\" }, escaped)
}

/// A file, and the digest that its content has to have.
#[derive(Debug, PartialEq, Eq)]
pub struct Expected {
    pub digest: Digest,
    pub path: PathBuf,
}

/// Reads a whole list. Blank lines and lines that begin with `#` are ignored, as by `sha256sum -c`.
pub fn read(list: &Path) -> Result<Vec<Expected>, Failure> {
    let (name, list) = list_lines::open(list)?;
    parse(&name, list)
}

fn parse(name: &str, list: impl BufRead) -> Result<Vec<Expected>, Failure> {
    let mut all = Vec::new();
    for line in list_lines::lines(name, list) {
        let (number, line) = line?;
        // A carriage return of a name is escaped, so this one belongs to the end of the line.
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        if line.trim_ascii().is_empty() || line.starts_with(b"#") {
            continue;
        }
        all.push(expected(line).map_err(|wrong| {
            Failure::Usage(format!(
                "{name}, line {number}: {wrong}; nothing was checked; give lines as `put` prints \
                 them, `DIGEST  PATH` with a digest of 64 hexadecimal digits"
            ))
        })?);
    }
    if all.is_empty() {
        return Err(Failure::Usage(format!(
            "{name}: there is no line to check; make the list with `sealstone put FILE.. > LIST`"
        )));
    }
    Ok(all)
}

fn expected(line: &[u8]) -> Result<Expected, &'static str> {
    let (is_escaped, line) = match line.strip_prefix(b"\\") {
        Some(line) => (true, line),
        None => (false, line),
    };
    let digits = line.iter().position(|byte| *byte == b' ');
    let (digits, name) = line.split_at(digits.unwrap_or(line.len()));
    let digest = str::from_utf8(digits).ok().and_then(|digits| {
        let is_whole = digits.len() == 64;
        digits.parse().ok().filter(|_| is_whole)
    });
    let digest = digest.ok_or("it does not begin with a digest")?;
    // `sha256sum --binary` writes a star in place of the second space.
    let name = name.strip_prefix(b"  ").or(name.strip_prefix(b" *"));
    let name = name.filter(|name| !name.is_empty());
    let name = name.ok_or("there is no name behind the digest")?;
    let name = if is_escaped {
        unescaped(name).ok_or("a backslash in the name escapes nothing")?
    } else {
        name.to_vec()
    };
    let path = path(name);
    Ok(Expected { digest, path })
}

fn unescaped(name: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&byte, behind)) = rest.split_first() {
        if byte == b'\\' {
            let (byte, escape) = ESCAPES
                .iter()
                .find(|(_, escape)| rest.starts_with(*escape))?;
            plain.push(*byte);
            rest = &rest[escape.len()..];
        } else {
            plain.push(byte);
            rest = behind;
        }
    }
    Some(plain)
}

#[cfg(unix)]
fn path(name: Vec<u8>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;

    std::ffi::OsString::from_vec(name).into()
}

/// Replaces bytes that are not UTF-8, so no file is found under the name.
#[cfg(not(unix))]
fn path(name: Vec<u8>) -> PathBuf {
    String::from_utf8_lossy(&name).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_break_the_line_is_escaped_as_by_b2sum() {
        let line = |name: &str| String::from_utf8(format(&"d1", Path::new(name))).unwrap();
        assert_eq!(line("plain name"), "d1  plain name\n");
        assert_eq!(line("a\nb"), "\\d1  a\\nb\n");
        assert_eq!(line("a\\b\r"), "\\d1  a\\\\b\\r\n");
    }

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let names = [
            "plain",
            " two  words ",
            "a\nb",
            "\\n",
            "a\\b\r",
            "*",
            "# no",
        ];
        let expected = names.map(|name| Expected {
            digest: Digest::of(name),
            path: name.into(),
        });
        let lines = expected.iter().map(|file| format(&file.digest, &file.path));
        let list = lines.collect::<Vec<_>>().concat();
        assert_eq!(parse("list", &list[..]).unwrap(), expected);

        // Windows adds a mark at the beginning and a carriage return to each line.
        let list = String::from_utf8(list).unwrap().replace('\n', "\r\n");
        let list = format!("\u{feff}# made on Windows\r\n\r\n{list}");
        assert_eq!(parse("list", list.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn a_star_before_the_name_says_that_the_file_was_read_in_binary() {
        let digest = Digest::of("1");
        let list = format!("{digest} *a");
        let path = "a".into();
        assert_eq!(
            parse("list", list.as_bytes()).unwrap(),
            [Expected { digest, path }]
        );
    }

    #[test]
    fn a_wrong_line_is_named_by_its_number() {
        let digest = Digest::of("1");
        for (bad, why) in [
            (format!("{digest}"), "there is no name"),
            (format!("{digest}  "), "there is no name"),
            (format!("{digest} name"), "there is no name"),
            (
                format!("{digest}{digest}  name"),
                "does not begin with a digest",
            ),
            (format!("\\{digest}  a\\tb"), "escapes nothing"),
            (format!("\\{digest}  a\\"), "escapes nothing"),
        ] {
            let list = format!("{digest}  good\n{bad}\n");
            let error = parse("list", list.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("list, line 2: "), "{error}");
            assert!(error.contains(why), "{error}");
        }
        assert!(parse("list", &b"# nothing\n"[..]).is_err());
    }
}
