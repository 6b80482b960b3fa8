//! The manifest of a ref: one state of the store that was pushed to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::str::{FromStr, SplitTerminator};

use super::Nonce;
use crate::digest::{Digest, HashFunction};
use crate::format::manifest::{
    DATA_BYTES_MAX, checked_body, number, parse_hash_function, with_checksum,
};
use crate::format::{FormatError, SealedSegment};

/// The first line.
const VERSION_LINE: &str = "sealstone-ref 1";

/// A manifest of a ref. Its creation is the commit of a push or of a collection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefManifest {
    /// Names the ref for good: the push of its manifest 1.
    pub ref_id: Nonce,
    /// Numbers of a ref begin with 1, without gaps.
    pub number: u64,
    /// Tells this manifest from all others that somebody may have tried to create under its number.
    pub nonce: Nonce,
    /// The store that pushed the state.
    pub writer: Nonce,
    /// 1, and 1 more for each time that the ref was taken over.
    pub epoch: u64,
    /// The push that made the state. The manifest of a collection repeats it.
    pub push: Nonce,
    /// The push whose state this one replaced; `None` in manifest 1.
    pub parent: Option<Nonce>,
    /// Folders from which a collection removes files. No push that is under way may list a file in
    /// them that this manifest does not list.
    pub condemned: BTreeSet<Nonce>,
    /// The segments; `None` if a collection has emptied the manifest.
    pub state: Option<RefState>,
}

/// A state of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefState {
    /// The function that names the objects.
    pub hash_function: HashFunction,
    /// The sealed segments by their id in the store.
    pub segments: BTreeMap<u32, RefSegment>,
    /// Runs of the set index over segments, by the digest of the whole file (BLAKE2b-512 truncated
    /// to 32 bytes). A reader downloads them instead of the sidecars of the segments that they cover.
    pub runs: BTreeMap<Digest, RefRun>,
}

/// A segment in a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefSegment {
    /// The words of the store's own manifest about it.
    pub sealed: SealedSegment,
    /// The folder of the ref in which its files lie.
    pub folder: Nonce,
}

/// A run of the set index in a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefRun {
    /// Length of the file in bytes.
    pub bytes: u64,
    /// The folder of the ref in which the file lies.
    pub folder: Nonce,
}

impl RefManifest {
    /// Returns the text of the manifest, whose last line is a checksum of all lines before it.
    ///
    /// ```
    /// use sealstone::remote::format::RefManifest;
    ///
    /// let id = "000102030405060708090a0b0c0d0e0f";
    /// let lines = format!("sealstone-ref 1\nref {id}\nnumber 1\nnonce {id}\nwriter {id}\nepoch 1\npush {id}\nemptied\n");
    /// let text = format!("{lines}checksum {}\n", sealstone::Digest::of(&lines));
    /// let manifest = RefManifest::parse(text.as_bytes())?;
    /// assert_eq!((manifest.number, manifest.encode()), (1, text));
    /// # Ok::<(), sealstone::format::FormatError>(())
    /// ```
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = format!("{VERSION_LINE}\n");
        // Writing to a `String` cannot fail.
        let mut line = |word: &str, value: &dyn std::fmt::Display| {
            let _ = writeln!(text, "{word} {value}");
        };
        line("ref", &self.ref_id);
        line("number", &self.number);
        line("nonce", &self.nonce);
        line("writer", &self.writer);
        line("epoch", &self.epoch);
        line("push", &self.push);
        if let Some(parent) = &self.parent {
            line("parent", parent);
        }
        for folder in &self.condemned {
            line("condemned", folder);
        }
        let Some(state) = &self.state else {
            text.push_str("emptied\n");
            return with_checksum(text);
        };
        line("hash", &state.hash_function);
        for (id, RefSegment { sealed, folder }) in &state.segments {
            let _ = writeln!(text, "sealed {id} {} in {folder}", sealed.encode());
        }
        for (digest, RefRun { bytes, folder }) in &state.runs {
            let _ = writeln!(text, "run {digest} bytes {bytes} in {folder}");
        }
        with_checksum(text)
    }

    /// Reads a manifest. Linear in its length. One manifest has one text: what is accepted here is
    /// what [`encode`](Self::encode) returns.
    ///
    /// # Errors
    ///
    /// [`FormatError::Checksum`] if the text is not complete or was changed;
    /// [`FormatError::Version`] if a newer version wrote it or names a function that this version
    /// does not know; [`FormatError::HashFunction`] if that is not compiled in;
    /// [`FormatError::Length`] beyond 2^62 bytes of data; [`FormatError::Line`] for a line that is
    /// not the one that belongs there, although the checksum holds.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let text = std::str::from_utf8(bytes).map_err(|_| FormatError::Checksum)?;
        let body = checked_body(text).ok_or(FormatError::Checksum)?;
        let mut reader = Reader::new(body);
        if reader.line != Some(VERSION_LINE) {
            return Err(FormatError::Version);
        }
        reader.advance();
        let mut manifest = Self {
            ref_id: reader.value("ref")?,
            number: reader.number("number")?,
            nonce: reader.value("nonce")?,
            writer: reader.value("writer")?,
            epoch: reader.number("epoch")?,
            push: reader.value("push")?,
            parent: reader.optional("parent")?,
            condemned: BTreeSet::new(),
            state: None,
        };
        // Each manifest but the first follows another.
        if manifest.number == 0 || (manifest.number == 1) != manifest.parent.is_none() {
            return Err(FormatError::Line(reader.at));
        }
        while let Some(folder) = reader.optional("condemned")? {
            if manifest.condemned.last() >= Some(&folder) {
                return Err(FormatError::Line(reader.at - 1));
            }
            manifest.condemned.insert(folder);
        }
        if reader.line == Some("emptied") {
            reader.advance();
        } else {
            manifest.state = Some(reader.state()?);
        }
        match reader.line {
            Some(_) => Err(FormatError::Line(reader.at)),
            None => Ok(manifest),
        }
    }
}

/// Reads lines in their order.
struct Reader<'a> {
    lines: SplitTerminator<'a, char>,
    /// The present line, or `None` behind the last.
    line: Option<&'a str>,
    /// Its number, counted from 1.
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(body: &'a str) -> Self {
        // Not `lines`, which would also end a line at `\r\n`.
        let mut lines = body.split_terminator('\n');
        let line = lines.next();
        Self { lines, line, at: 1 }
    }

    fn advance(&mut self) {
        self.line = self.lines.next();
        self.at += 1;
    }

    /// Returns what follows `word` in the present line, or `None` if it begins with another word.
    fn rest(&self, word: &str) -> Option<&'a str> {
        self.line?.strip_prefix(word)?.strip_prefix(' ')
    }

    fn wrong<T>(&self) -> Result<T, FormatError> {
        Err(FormatError::Line(self.at))
    }

    /// Reads a line of this word and a value, if the present line begins with the word.
    fn optional<T: FromStr>(&mut self, word: &str) -> Result<Option<T>, FormatError> {
        let Some(rest) = self.rest(word) else {
            return Ok(None);
        };
        let Ok(value) = rest.parse() else {
            return self.wrong();
        };
        self.advance();
        Ok(Some(value))
    }

    fn value<T: FromStr>(&mut self, word: &str) -> Result<T, FormatError> {
        match self.optional(word)? {
            Some(value) => Ok(value),
            None => self.wrong(),
        }
    }

    fn number(&mut self, word: &str) -> Result<u64, FormatError> {
        let Some(value) = self.rest(word).and_then(number) else {
            return self.wrong();
        };
        self.advance();
        Ok(value)
    }

    fn state(&mut self) -> Result<RefState, FormatError> {
        let Some(name) = self.rest("hash") else {
            return self.wrong();
        };
        let mut state = RefState {
            hash_function: parse_hash_function(name)?,
            segments: BTreeMap::new(),
            runs: BTreeMap::new(),
        };
        self.advance();
        let mut data_bytes = 0_u64;
        while let Some(words) = self.rest("sealed") {
            let last = state.segments.last_key_value().map(|(&id, _)| id);
            let Some((id, segment)) = parse_segment(words).filter(|(id, _)| last < Some(*id))
            else {
                return self.wrong();
            };
            data_bytes = data_bytes.saturating_add(segment.sealed.data_bytes);
            state.segments.insert(id, segment);
            self.advance();
        }
        // No file system holds more. With this limit, sums over segments cannot overflow.
        if data_bytes > DATA_BYTES_MAX {
            return Err(FormatError::Length);
        }
        while let Some(words) = self.rest("run") {
            let last = state.runs.last_key_value().map(|(digest, _)| *digest);
            let Some((digest, run)) = parse_run(words).filter(|(digest, _)| last < Some(*digest))
            else {
                return self.wrong();
            };
            state.runs.insert(digest, run);
            self.advance();
        }
        Ok(state)
    }
}

/// Reads the words of a line `sealed` behind the first.
fn parse_segment(words: &str) -> Option<(u32, RefSegment)> {
    let words: Vec<&str> = words.split(' ').collect();
    let [id, sealed @ .., "in", folder] = words.as_slice() else {
        return None;
    };
    let id = u32::try_from(number(id)?).ok()?;
    let sealed = SealedSegment::parse(sealed)?;
    // One checksum has one spelling, so that the text that is accepted is the text of `encode`.
    if !words.contains(&sealed.sidecar_checksum.to_string().as_str()) {
        return None;
    }
    let folder = folder.parse().ok()?;
    Some((id, RefSegment { sealed, folder }))
}

/// Reads the words of a line `run` behind the first.
fn parse_run(words: &str) -> Option<(Digest, RefRun)> {
    let words: Vec<&str> = words.split(' ').collect();
    let [name, "bytes", bytes, "in", folder] = words.as_slice() else {
        return None;
    };
    let digest: Digest = name.parse().ok()?;
    // One digest has one spelling.
    if digest.to_string() != *name {
        return None;
    }
    let bytes = number(bytes)?;
    let folder = folder.parse().ok()?;
    Some((digest, RefRun { bytes, folder }))
}

#[cfg(test)]
mod tests;
