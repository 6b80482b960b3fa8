//! The objects: random bytes that are the same in every run, made before any clock starts.

use std::fmt;
use std::str::FromStr;

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use rayon::prelude::*;
use sealstone::Digest;

use crate::hashing;

/// The length of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// All objects have this many bytes.
    Fixed(usize),
    /// Log-normal: half below 1,000 bytes, one in a hundred above 40 KB, cut to 200 bytes to 1 MiB.
    /// Nodes of chains and DAGs look like this.
    Mix,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Fixed(bytes) if bytes >= 1024 => f.pad(&format!("{} KiB", bytes / 1024)),
            Self::Fixed(bytes) => f.pad(&format!("{bytes} B")),
            Self::Mix => f.pad("mix"),
        }
    }
}

const MIX_MEDIAN: f64 = 1_000.0;
const MIX_SIGMA: f64 = 1.6;
const MIX_SHORTEST: f64 = 200.0;
const MIX_LONGEST: f64 = 1_048_576.0;

impl FromStr for Size {
    type Err = String;

    /// Parses a [`Size::key`].
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "mix" {
            return Ok(Self::Mix);
        }
        let bytes = text.parse().map_err(|_| format!("{text}: not a size"))?;
        Ok(Self::Fixed(bytes))
    }
}

impl Size {
    /// Returns the size as command lines name it.
    pub fn key(self) -> String {
        match self {
            Self::Fixed(bytes) => bytes.to_string(),
            Self::Mix => "mix".into(),
        }
    }

    fn bytes(self, rng: &mut SmallRng) -> usize {
        match self {
            Self::Fixed(bytes) => bytes,
            Self::Mix => {
                // Box and Muller's way to a normal distribution; `1 - x` keeps zero out of the
                // logarithm.
                let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
                let normal = radius * (std::f64::consts::TAU * rng.random::<f64>()).cos();
                let bytes = MIX_MEDIAN * (MIX_SIGMA * normal).exp();
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "between 200 and a million"
                )]
                let bytes = bytes.clamp(MIX_SHORTEST, MIX_LONGEST) as usize;
                bytes
            }
        }
    }
}

/// Objects in one allocation, made in parallel. One for many, since a million small ones would cost
/// the stores cache misses that are not theirs.
struct Piece {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Piece {
    fn generate(size: Size, numbers: std::ops::Range<u64>) -> Self {
        let mut piece = Self {
            bytes: Vec::new(),
            ends: Vec::new(),
        };
        for number in numbers {
            let mut rng = SmallRng::seed_from_u64(number);
            let start = piece.bytes.len();
            let end = start + size.bytes(&mut rng);
            piece.bytes.resize(end, 0);
            rng.fill_bytes(&mut piece.bytes[start..]);
            piece.ends.push(end);
        }
        piece
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts
            .zip(&self.ends)
            .map(|(&start, &end)| &self.bytes[start..end])
    }
}

/// Objects with consecutive numbers.
pub struct Contents(Vec<Piece>);

const PIECE_OBJECTS: u64 = 1024;

/// About the content of one batch of a bulk put; the same for every store.
const BATCH_BYTES: usize = 16 << 20;

impl Contents {
    /// Makes `objects` objects from number `first` on. Their content depends only on number and
    /// size.
    pub fn generate(size: Size, first: u64, objects: u64) -> Self {
        let end = first + objects;
        let pieces = (0..objects.div_ceil(PIECE_OBJECTS))
            .into_par_iter()
            .map(|piece| {
                let start = first + piece * PIECE_OBJECTS;
                Piece::generate(size, start..end.min(start + PIECE_OBJECTS))
            })
            .collect();
        Self(pieces)
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().flat_map(Piece::iter)
    }

    pub fn bytes(&self) -> usize {
        self.0.iter().map(|piece| piece.bytes.len()).sum()
    }

    /// Returns all objects in batches of 16 MiB.
    pub fn batches(&self) -> Vec<Vec<&[u8]>> {
        let mut batches = Vec::new();
        let mut batch = Vec::new();
        let mut bytes = 0;
        for content in self.iter() {
            bytes += content.len();
            batch.push(content);
            if bytes >= BATCH_BYTES {
                batches.push(std::mem::take(&mut batch));
                bytes = 0;
            }
        }
        if !batch.is_empty() {
            batches.push(batch);
        }
        batches
    }

    pub fn digests(&self) -> Vec<Digest> {
        let contents: Vec<_> = self.iter().collect();
        hashing::on_all_cores(&contents)
    }
}

/// Draws `count` of the `digests`, beforehand, so that the time of a get does not include the cache
/// miss of drawing.
pub fn draw(digests: &[Digest], count: usize, seed: u64) -> Vec<Digest> {
    let mut rng = SmallRng::seed_from_u64(!seed);
    (0..count)
        .map(|_| digests[rng.random_range(0..digests.len())])
        .collect()
}

/// Returns `count` random digests, which no object has.
pub fn absent(count: usize, seed: u64) -> Vec<Digest> {
    let mut rng = SmallRng::seed_from_u64(!seed);
    (0..count)
        .map(|_| Digest::from(rng.random::<[u8; 32]>()))
        .collect()
}
