//! The file `REMOTE` in the folder of a store, in which it notes what it knows of refs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Nonce;
use crate::format::FormatError;
use crate::format::manifest::{checked_body, number, with_checksum};

/// The first line.
const VERSION_LINE: &str = "sealstone-remote 1";

/// The contents of the file `REMOTE`: the name of the store as a writer, and the refs that it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriterState {
    /// Names the store in the manifests of refs.
    pub writer: Nonce,
    /// The refs that the store knows, by their ids.
    pub refs: BTreeMap<Nonce, KnownRef>,
}

/// A ref that a store knows, and the last pushes to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownRef {
    /// The last push of which it is known that it was committed.
    pub pushed: Option<Nonce>,
    /// The highest segment id that the store had used when it noted this.
    pub highest_id: u32,
    /// The push that is under way, or was cut off.
    pub uploading: Option<Uploading>,
    /// The pushes of which it is unknown whether they were committed, each with the number of its
    /// manifest.
    pub doubt: BTreeMap<Nonce, u64>,
}

/// A push that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Uploading {
    /// The folder into which it puts its files.
    pub folder: Nonce,
    /// The number of the manifest that was the newest when it began with the folder.
    pub base: u64,
}

impl WriterState {
    /// Makes the state of a writer that knows no ref.
    pub(in crate::remote) fn new(writer: Nonce) -> Self {
        let refs = BTreeMap::new();
        Self { writer, refs }
    }

    /// Returns the text of the file, whose last line is a checksum of all lines before it.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = format!("{VERSION_LINE}\nwriter {}\n", self.writer);
        for (id, known) in &self.refs {
            // Writing to a `String` cannot fail.
            let _ = writeln!(text, "ref {id} highest {}", known.highest_id);
            if let Some(pushed) = &known.pushed {
                let _ = writeln!(text, "pushed {pushed}");
            }
            if let Some(Uploading { folder, base }) = &known.uploading {
                let _ = writeln!(text, "uploading {folder} base {base}");
            }
            for (push, number) in &known.doubt {
                let _ = writeln!(text, "doubt {push} number {number}");
            }
        }
        with_checksum(text)
    }

    /// Reads the file. Linear in its length. One state has one text.
    ///
    /// # Errors
    ///
    /// [`FormatError::Checksum`] if the text is not complete or was changed; [`FormatError::Version`]
    /// if a newer version wrote it; [`FormatError::Line`] for a line that is not one that belongs
    /// there, although the checksum holds.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let text = std::str::from_utf8(bytes).map_err(|_| FormatError::Checksum)?;
        let body = checked_body(text).ok_or(FormatError::Checksum)?;
        let mut lines = body.split_terminator('\n').zip(1..);
        if lines.next().map(|(line, _)| line) != Some(VERSION_LINE) {
            return Err(FormatError::Version);
        }
        let writer = lines
            .next()
            .and_then(|(line, _)| line.strip_prefix("writer "));
        let writer = writer.and_then(|writer| writer.parse().ok());
        let mut state = Self::new(writer.ok_or(FormatError::Line(2))?);
        let mut last = None;
        for (line, number) in lines {
            state
                .accept(line, &mut last)
                .ok_or(FormatError::Line(number))?;
        }
        if state.encode() == text {
            Ok(state)
        } else {
            // Lines in another order, twice, or of another spelling.
            Err(FormatError::Line(3))
        }
    }

    /// Takes a line. `last` is the ref that the lines before it speak of.
    fn accept(&mut self, line: &str, last: &mut Option<Nonce>) -> Option<()> {
        let words: Vec<&str> = line.split(' ').collect();
        if let ["ref", id, "highest", highest] = *words.as_slice() {
            let id = id.parse().ok()?;
            let highest_id = u32::try_from(number(highest)?).ok()?;
            *last = Some(id);
            let known = KnownRef {
                highest_id,
                ..KnownRef::default()
            };
            return self.refs.insert(id, known).is_none().then_some(());
        }
        let known = self.refs.get_mut(&(*last)?)?;
        match *words.as_slice() {
            ["pushed", push] => known.pushed = Some(push.parse().ok()?),
            ["uploading", folder, "base", base] => {
                let (folder, base) = (folder.parse().ok()?, number(base)?);
                known.uploading = Some(Uploading { folder, base });
            }
            ["doubt", push, "number", at] => {
                known.doubt.insert(push.parse().ok()?, number(at)?);
            }
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of a file that must be read for ever.
    const GOLDEN: &str = "\
sealstone-remote 1
writer 01010101010101010101010101010101
ref 02020202020202020202020202020202 highest 7
pushed 03030303030303030303030303030303
uploading 04040404040404040404040404040404 base 41
doubt 05050505050505050505050505050505 number 42
doubt 06060606060606060606060606060606 number 43
ref 07070707070707070707070707070707 highest 4294967295
";

    fn sample() -> WriterState {
        let nonce = |byte| Nonce::from([byte; 16]);
        let known = KnownRef {
            pushed: Some(nonce(3)),
            highest_id: 7,
            uploading: Some(Uploading {
                folder: nonce(4),
                base: 41,
            }),
            doubt: BTreeMap::from([(nonce(5), 42), (nonce(6), 43)]),
        };
        let other = KnownRef {
            highest_id: u32::MAX,
            ..KnownRef::default()
        };
        WriterState {
            writer: nonce(1),
            refs: BTreeMap::from([(nonce(2), known), (nonce(7), other)]),
        }
    }

    fn parse(body: &str) -> Result<WriterState, FormatError> {
        WriterState::parse(with_checksum(body.to_owned()).as_bytes())
    }

    #[test]
    fn the_text_is_the_golden_one() {
        assert_eq!(sample().encode(), with_checksum(GOLDEN.to_owned()));
        assert_eq!(parse(GOLDEN), Ok(sample()));
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() {
        let text = sample().encode();
        for cut in 0..text.len() {
            let parsed = WriterState::parse(&text.as_bytes()[..cut]);
            assert_eq!(parsed, Err(FormatError::Checksum), "{cut}");
        }
        for at in 0..text.len() * 8 {
            let mut flipped = text.clone().into_bytes();
            flipped[at / 8] ^= 1 << (at % 8);
            let parsed = WriterState::parse(&flipped);
            assert_eq!(parsed, Err(FormatError::Checksum), "{at}");
        }
    }

    #[test]
    fn lines_twice_in_another_order_or_of_another_spelling_are_refused() {
        let lines: Vec<&str> = GOLDEN.lines().collect();
        let text = |lines: &[&str]| lines.join("\n") + "\n";
        for at in 0..lines.len() {
            let mut twice = lines.clone();
            twice.insert(at, lines[at]);
            assert!(parse(&text(&twice)).is_err(), "{}", lines[at]);
            if at > 0 {
                let mut swapped = lines.clone();
                swapped.swap(at - 1, at);
                // The last doubt, behind the last ref, is one about that ref.
                assert_ne!(parse(&text(&swapped)), Ok(sample()), "{}", lines[at]);
            }
        }
        for (line, other) in [
            ("highest 7", "highest 07"),
            ("highest 7", "highest 4294967296"),
            ("base 41", "base +41"),
            ("number 42", "number"),
            ("pushed 03", "pushes 03"),
        ] {
            assert!(parse(&GOLDEN.replacen(line, other, 1)).is_err(), "{other}");
        }
        let newer = GOLDEN.replacen("sealstone-remote 1", "sealstone-remote 2", 1);
        assert_eq!(parse(&newer), Err(FormatError::Version));
    }
}
