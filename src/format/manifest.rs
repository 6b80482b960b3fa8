//! The manifest: which segments make up the store.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{FormatError, record};
use crate::digest::{Digest, HashFunction, ParseHashFunctionError};

/// The first line of a manifest that version 1 of the format can express.
const VERSION_LINE_1: &str = "sealstone 1";
/// The first line of a manifest with an unsealed segment, or with the binding of a retired one.
const VERSION_LINE_2: &str = "sealstone 2";
/// The first line of a manifest that names a hash function.
const VERSION_LINE_3: &str = "sealstone 3";
/// Largest sum of the lengths of a store's data files: 4 EiB.
pub(crate) const DATA_BYTES_MAX: u64 = 1 << 62;

/// What the manifest binds a sealed segment to, so that a sidecar is never paired with other data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedSegment {
    /// Length of the data that the sidecar covers, in bytes.
    pub data_bytes: u64,
    /// Number of entries in the sidecar.
    pub objects: u32,
    /// Checksum of the sidecar: its last 32 bytes.
    pub sidecar_checksum: Digest,
}

/// The state in which the last commit left the store's folder.
///
/// ```
/// use sealstone::format::Manifest;
///
/// let mut manifest = Manifest::default();
/// (manifest.next_id, manifest.active) = (3, Some(2));
/// let text = manifest.encode();
/// assert!(text.starts_with("sealstone 1\nnext 3\nactive 2\nchecksum "));
/// assert_eq!(Manifest::parse(text.as_bytes()), Ok(manifest));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Manifest {
    /// The function that names the objects of the store.
    pub hash_function: HashFunction,
    /// The lowest id that was never used; 2^32 when all were.
    pub next_id: u64,
    /// The segment that was appended to when this was written.
    pub active: Option<u32>,
    /// The sealed segments by id.
    pub sealed: BTreeMap<u32, SealedSegment>,
    /// The unsealed segments, each with the length up to which its data was durable, in bytes;
    /// never 0. They can hold the only copy of what a compaction has kept.
    pub unsealed: BTreeMap<u32, u64>,
    /// The segments whose files will be removed: inputs of a committed compaction, or outputs of a
    /// compaction that was not committed yet. A manifest of version 1 gives no binding for them.
    pub retired: BTreeMap<u32, Option<SealedSegment>>,
}

impl SealedSegment {
    /// Returns the words of a line that describe the segment.
    pub(crate) fn encode(&self) -> String {
        format!(
            "data_bytes {} objects {} sidecar {}",
            self.data_bytes, self.objects, self.sidecar_checksum
        )
    }

    /// Reads the words of [`encode`](Self::encode). `None` if they are others, or claim more objects
    /// than the data has room for.
    pub(crate) fn parse(words: &[&str]) -> Option<Self> {
        let &[
            "data_bytes",
            data_bytes,
            "objects",
            objects,
            "sidecar",
            checksum,
        ] = words
        else {
            return None;
        };
        let segment = Self {
            data_bytes: number(data_bytes)?,
            objects: u32::try_from(number(objects)?).ok()?,
            sidecar_checksum: checksum.parse().ok()?,
        };
        let headers = u64::from(segment.objects) * record::HEADER_BYTES;
        (headers <= segment.data_bytes).then_some(segment)
    }
}

impl Manifest {
    /// Returns the text of the manifest, whose last line is a checksum of all lines before it.
    #[must_use]
    pub fn encode(&self) -> String {
        let needs_version_2 =
            !self.unsealed.is_empty() || self.retired.values().any(Option::is_some);
        let is_default = self.hash_function == HashFunction::default();
        let version = match (is_default, needs_version_2) {
            (false, _) => VERSION_LINE_3,
            (true, true) => VERSION_LINE_2,
            (true, false) => VERSION_LINE_1,
        };
        let mut text = format!("{version}\n");
        if !is_default {
            // Writing to a `String` cannot fail.
            let _ = writeln!(text, "hash {}", self.hash_function);
        }
        let _ = writeln!(text, "next {}", self.next_id);
        if let Some(id) = self.active {
            let _ = writeln!(text, "active {id}");
        }
        for (id, segment) in &self.sealed {
            let _ = writeln!(text, "sealed {id} {}", segment.encode());
        }
        for (id, data_bytes) in &self.unsealed {
            let _ = writeln!(text, "unsealed {id} data_bytes {data_bytes}");
        }
        for (id, segment) in &self.retired {
            let _ = match segment {
                Some(segment) => writeln!(text, "retired {id} {}", segment.encode()),
                None => writeln!(text, "retired {id}"),
            };
        }
        with_checksum(text)
    }

    /// Reads a manifest. Linear in its length.
    ///
    /// # Errors
    ///
    /// [`FormatError::Checksum`] if the text is not complete or was changed;
    /// [`FormatError::Length`] beyond 2^62 bytes of data; [`FormatError::Version`] if a newer
    /// version wrote it or names a function that this version does not know;
    /// [`FormatError::HashFunction`] if it is not compiled in; [`FormatError::Line`] for a line that contradicts another, claims more
    /// objects than its data has room for, or has no meaning although the checksum holds.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let text = std::str::from_utf8(bytes).map_err(|_| FormatError::Checksum)?;
        let body = checked_body(text).ok_or(FormatError::Checksum)?;
        let mut lines = body.split_terminator('\n');
        let mut manifest = Self::default();
        // The number of the first line behind those of the version and the function.
        let mut first = 2;
        match lines.next() {
            Some(VERSION_LINE_1 | VERSION_LINE_2) => {}
            Some(VERSION_LINE_3) => {
                let name = lines.next().and_then(|line| line.strip_prefix("hash "));
                manifest.hash_function =
                    parse_hash_function(name.ok_or(FormatError::Line(first))?)?;
                first += 1;
            }
            _ => return Err(FormatError::Version),
        }
        for (line, number) in lines.zip(first..) {
            manifest.accept(line).ok_or(FormatError::Line(number))?;
        }
        // No file system holds more. With this limit, sums over segments cannot overflow.
        let mut lengths = manifest.sealed.values().map(|segment| segment.data_bytes);
        let total = lengths.try_fold(0_u64, u64::checked_add);
        if total.is_none_or(|total| total > DATA_BYTES_MAX) {
            return Err(FormatError::Length);
        }
        Ok(manifest)
    }

    /// Returns the hash function that a damaged manifest seems to name. `None` if its first two lines
    /// are damaged too, or contradict each other.
    pub(crate) fn hash_function_in(damaged: &[u8]) -> Option<HashFunction> {
        let mut lines = damaged.split(|&byte| byte == b'\n');
        let first = std::str::from_utf8(lines.next()?).ok()?;
        let second = std::str::from_utf8(lines.next()?).ok()?;
        match (first, second.strip_prefix("hash ")) {
            (VERSION_LINE_3, Some(name)) => name.parse().ok(),
            (VERSION_LINE_1 | VERSION_LINE_2, None) => Some(HashFunction::default()),
            _ => None,
        }
    }

    fn accept(&mut self, line: &str) -> Option<()> {
        let words: Vec<&str> = line.split(' ').collect();
        match *words.as_slice() {
            // A second `next` could be lower than ids in use, which would then be used again.
            ["next", next] if self.next_id == 0 => self.next_id = number(next)?,
            ["active", id] => {
                let id = self.fresh_id(id)?;
                self.active.replace(id).is_none().then_some(())?;
            }
            ["sealed", id, ref segment @ ..] => {
                let segment = SealedSegment::parse(segment)?;
                let id = self.fresh_id(id)?;
                self.sealed.insert(id, segment);
            }
            // The active segment has this line beside its own.
            ["unsealed", id, "data_bytes", data_bytes] => {
                let data_bytes = number(data_bytes).filter(|&bytes| bytes > 0)?;
                let id = match number(id)? {
                    active if self.active.map(u64::from) == Some(active) => self.active?,
                    _ => self.fresh_id(id)?,
                };
                (data_bytes <= DATA_BYTES_MAX).then_some(())?;
                self.unsealed
                    .insert(id, data_bytes)
                    .is_none()
                    .then_some(())?;
            }
            ["retired", id] => {
                let id = self.fresh_id(id)?;
                self.retired.insert(id, None);
            }
            ["retired", id, ref segment @ ..] => {
                let segment = SealedSegment::parse(segment)?;
                let id = self.fresh_id(id)?;
                self.retired.insert(id, Some(segment));
            }
            _ => return None,
        }
        Some(())
    }

    /// Reads an id that is below `next` and that no earlier line mentions.
    fn fresh_id(&self, word: &str) -> Option<u32> {
        let id = u32::try_from(number(word)?).ok()?;
        let known = self.active == Some(id)
            || self.sealed.contains_key(&id)
            || self.unsealed.contains_key(&id)
            || self.retired.contains_key(&id);
        (u64::from(id) < self.next_id && !known).then_some(id)
    }
}

/// Returns the text before the checksum line, if that line is the last and its checksum holds.
pub(crate) fn checked_body(text: &str) -> Option<&str> {
    let without_newline = text.strip_suffix('\n')?;
    let begin = without_newline.rfind('\n')? + 1;
    let (body, last) = without_newline.split_at_checked(begin)?;
    let checksum = last.strip_prefix("checksum ")?;
    (checksum == Digest::of(body.as_bytes()).to_string()).then_some(body)
}

/// Appends the line with the checksum of the lines that `text` has.
pub(crate) fn with_checksum(mut text: String) -> String {
    let checksum = Digest::of(text.as_bytes());
    // Writing to a `String` cannot fail.
    let _ = writeln!(text, "checksum {checksum}");
    text
}

/// Reads a decimal number without sign or leading zero.
pub(crate) fn number(word: &str) -> Option<u64> {
    let value: u64 = word.parse().ok()?;
    (value.to_string() == word).then_some(value)
}

pub(crate) fn parse_hash_function(name: &str) -> Result<HashFunction, FormatError> {
    name.parse().map_err(|error| match error {
        ParseHashFunctionError::NotCompiledIn { feature } => FormatError::HashFunction { feature },
        ParseHashFunctionError::Unknown => FormatError::Version,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        let segment = SealedSegment {
            data_bytes: 268_435_012,
            objects: 261_121,
            sidecar_checksum: Digest::of(b"sidecar"),
        };
        Manifest {
            hash_function: HashFunction::Blake2b,
            next_id: 9,
            active: Some(8),
            sealed: BTreeMap::from([(1, segment), (4, segment)]),
            unsealed: BTreeMap::from([(6, 4711), (8, 1)]),
            retired: BTreeMap::from([(2, Some(segment)), (3, None)]),
        }
    }

    fn with_checksum(body: &str) -> String {
        format!("{body}checksum {}\n", Digest::of(body.as_bytes()))
    }

    /// Found by fuzzing: ids were checked against the first `next`, and a second one made them free
    /// again.
    #[test]
    fn h6_a_second_next_id_is_a_contradiction() {
        for next in ["next 0", "next 1", "next 4", "next 9"] {
            let forged = with_checksum(&format!("{VERSION_LINE_1}\nnext 4\nretired 3\n{next}\n"));
            let parsed = Manifest::parse(forged.as_bytes());
            assert_eq!(parsed, Err(FormatError::Line(4)), "{next}");
        }
    }

    #[test]
    fn h22_lengths_that_no_file_system_holds_are_refused() {
        let parsed = |last: u64| {
            let mut manifest = sample();
            let lengths = [(1, DATA_BYTES_MAX - 100), (4, last)];
            for (id, data_bytes) in lengths {
                let segment = manifest.sealed.get_mut(&id).unwrap();
                (segment.data_bytes, segment.objects) = (data_bytes, 25);
            }
            Manifest::parse(manifest.encode().as_bytes()).map(drop)
        };
        assert_eq!(parsed(100), Ok(()));
        assert_eq!(parsed(101), Err(FormatError::Length));
        assert_eq!(parsed(u64::MAX), Err(FormatError::Length));
    }

    #[test]
    fn h22_more_objects_than_fit_the_data_are_refused() {
        let parsed = |objects: u32| {
            let mut manifest = sample();
            let segment = manifest.sealed.get_mut(&1).unwrap();
            (segment.data_bytes, segment.objects) = (4003, objects);
            Manifest::parse(manifest.encode().as_bytes()).map(drop)
        };
        assert_eq!(parsed(1000), Ok(()));
        assert!(matches!(parsed(1001), Err(FormatError::Line(_))));
        assert!(matches!(parsed(u32::MAX), Err(FormatError::Line(_))));
    }

    #[test]
    fn an_encoded_manifest_is_read_as_it_was() {
        assert_eq!(Manifest::parse(sample().encode().as_bytes()), Ok(sample()));
    }

    #[test]
    fn every_line_is_written_as_it_is_specified() {
        let sidecar = Digest::of(b"sidecar");
        let segment = format!("data_bytes 268435012 objects 261121 sidecar {sidecar}");
        let body = format!(
            "sealstone 2\nnext 9\nactive 8\nsealed 1 {segment}\nsealed 4 {segment}\n\
             unsealed 6 data_bytes 4711\nunsealed 8 data_bytes 1\n\
             retired 2 {segment}\nretired 3\n"
        );
        assert_eq!(sample().encode(), with_checksum(&body));
    }

    /// An older version of this crate, which does not know the other lines, refuses the first line.
    #[test]
    fn a_manifest_has_the_lowest_version_that_can_express_it() {
        let first_line = |manifest: &Manifest| manifest.encode().lines().next().map(str::to_owned);
        assert_eq!(first_line(&sample()).as_deref(), Some("sealstone 2"));
        let without_bindings = Manifest {
            unsealed: BTreeMap::new(),
            retired: BTreeMap::from([(3, None)]),
            ..sample()
        };
        assert_eq!(
            first_line(&without_bindings).as_deref(),
            Some("sealstone 1")
        );
        let parsed = Manifest::parse(without_bindings.encode().as_bytes());
        assert_eq!(parsed, Ok(without_bindings));
    }

    #[test]
    fn a_hash_function_is_named_in_the_second_line_unless_it_is_the_default() {
        let golden = |name: &str, others: &str| {
            with_checksum(&format!("sealstone 3\nhash {name}\nnext 3\n{others}"))
        };
        for &function in HashFunction::ALL {
            let manifest = Manifest {
                hash_function: function,
                next_id: 3,
                active: Some(2),
                ..Manifest::default()
            };
            let expected = match function {
                HashFunction::Blake2b => with_checksum("sealstone 1\nnext 3\nactive 2\n"),
                _ => golden(function.name(), "active 2\n"),
            };
            assert_eq!(manifest.encode(), expected);
            assert_eq!(Manifest::parse(expected.as_bytes()), Ok(manifest));
        }
        // A function of a newer version.
        let newer = golden("sha3-256", "");
        assert_eq!(Manifest::parse(newer.as_bytes()), Err(FormatError::Version));
        for body in [
            "sealstone 3\nnext 3\n",
            "sealstone 3\nnext 3\nhash sha256\n",
            "sealstone 2\nhash sha256\nnext 3\n",
            "sealstone 3\nhash blake2b\nhash blake2b\nnext 3\n",
            "sealstone 3\n",
        ] {
            let parsed = Manifest::parse(with_checksum(body).as_bytes());
            assert!(matches!(parsed, Err(FormatError::Line(_))), "{body:?}");
        }
    }

    #[cfg(not(all(feature = "sha2", feature = "blake3")))]
    #[test]
    fn a_hash_function_that_is_not_compiled_in_is_refused_with_its_feature() {
        for (name, feature) in [("sha256", "sha2"), ("blake3", "blake3")] {
            let text = with_checksum(&format!("sealstone 3\nhash {name}\nnext 3\n"));
            let is_known = name.parse::<HashFunction>().is_ok();
            let refused = Err(FormatError::HashFunction { feature });
            assert!(is_known || Manifest::parse(text.as_bytes()) == refused);
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = sample().encode().into_bytes();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::parse(&bytes).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(Manifest::parse(&bytes[..len]).is_err(), "length {len}");
        }
    }

    #[test]
    fn contradictions_are_refused_even_with_a_checksum() {
        for lines in [
            "next 2\nactive 2\n",
            "next 2\nactive 1\nactive 0\n",
            "next 2\nactive 1\nretired 1\n",
            "next 2\nretired 1\nretired 1\n",
            "next 02\n",
            "next +2\n",
            "next 2\nretired  1\n",
            "next 2\nretired 1 data_bytes 4\n",
            "next 2\nunsealed 1 data_bytes 0\n",
            "next 2\nunsealed 2 data_bytes 1\n",
            "next 2\nunsealed 1 data_bytes 5\nunsealed 1 data_bytes 5\n",
            "next 2\nactive 1\nunsealed 1 data_bytes 5\nunsealed 1 data_bytes 5\n",
            "next 2\nunsealed 1 data_bytes 5\nretired 1\n",
            "next 2\nunsealed 1 data_bytes 4611686018427387905\n",
            "next 2\nsealed 1 data_bytes 4 objects 4294967296 sidecar 00\n",
            "what 1\n",
        ] {
            let text = with_checksum(&format!("sealstone 1\n{lines}"));
            let result = Manifest::parse(text.as_bytes());
            assert!(matches!(result, Err(FormatError::Line(_))), "{lines:?}");
        }
        let newer = with_checksum("sealstone 4\nnext 1\n");
        assert_eq!(Manifest::parse(newer.as_bytes()), Err(FormatError::Version));
    }
}
