//! Hashes one content at a time, with the fastest implementation on this processor.
//!
//! `blake2b_simd` computes the four columns of a state in one register of AVX2, `blake2` one word
//! after the other in registers of 64 bits. Which is faster depends on the latency of vector
//! instructions: on one generation of processors the first takes 0.7 of the time of the second, on
//! the next 1.75 (BLAKE2/BLAKE2 issue 85). So both are measured, once in a process, when it hashes
//! the first content.

#[cfg(feature = "simd")]
use std::sync::atomic::{AtomicU8, Ordering};
#[cfg(feature = "simd")]
use std::time::{Duration, Instant};

use super::{Output, truncate};
use crate::digest::Digest;

/// The implementations that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Implementation {
    /// `blake2b_simd`, which chooses among AVX2, SSE4.1 and plain code by itself.
    #[cfg(feature = "simd")]
    Vector,
    /// `blake2`, in plain code.
    Plain,
}

impl Implementation {
    /// The fastest. The first call measures for about 50 microseconds; threads that make it at
    /// the same time all measure.
    #[cfg(feature = "simd")]
    #[inline]
    fn fastest() -> Self {
        match FASTEST.load(Ordering::Relaxed) {
            VECTOR => Self::Vector,
            PLAIN => Self::Plain,
            _ => Self::measure(),
        }
    }

    #[cfg(not(feature = "simd"))]
    const fn fastest() -> Self {
        Self::Plain
    }

    #[cfg(feature = "simd")]
    #[cold]
    fn measure() -> Self {
        let content = [0x5a; MEASURED_BYTES];
        let mut shortest = [Duration::MAX; 2];
        // In turn, since the clock of the processor may change. The first round warms up caches.
        for _ in 0..MEASURED_ROUNDS {
            for (implementation, shortest) in
                [Self::Vector, Self::Plain].into_iter().zip(&mut shortest)
            {
                let begin = Instant::now();
                std::hint::black_box(
                    implementation.whole(Output::Long, std::hint::black_box(&content)),
                );
                *shortest = begin.elapsed().min(*shortest);
            }
        }
        // If both are nearly equally fast, chance would decide, so the vector code wins unless the plain
        // code is clearly faster.
        let [vector, plain] = shortest;
        let (fastest, number) = if plain < vector * 19 / 20 {
            (Self::Plain, PLAIN)
        } else {
            (Self::Vector, VECTOR)
        };
        FASTEST.store(number, Ordering::Relaxed);
        fastest
    }

    #[inline]
    fn whole(self, output: Output, content: &[u8]) -> Digest {
        match self {
            #[cfg(feature = "simd")]
            Self::Vector => truncate(
                match output {
                    Output::Long => blake2b_simd::blake2b(content),
                    Output::Short => blake2b_simd::Params::new()
                        .hash_length(output.bytes())
                        .hash(content),
                }
                .as_bytes(),
            ),
            Self::Plain => match output {
                Output::Long => truncate(&<blake2::Blake2b512 as blake2::Digest>::digest(content)),
                Output::Short => truncate(&<blake2::Blake2b256 as blake2::Digest>::digest(content)),
            },
        }
    }
}

/// The number of the fastest implementation, 0 while that is not known.
#[cfg(feature = "simd")]
static FASTEST: AtomicU8 = AtomicU8::new(0);
#[cfg(feature = "simd")]
const VECTOR: u8 = 1;
#[cfg(feature = "simd")]
const PLAIN: u8 = 2;
/// Four blocks: half a microsecond, so that most of the measurements are not disturbed.
#[cfg(feature = "simd")]
const MEASURED_BYTES: usize = 512;
#[cfg(feature = "simd")]
const MEASURED_ROUNDS: usize = 48;

/// Hashes content in one call, which saves the hasher's buffer.
#[inline]
pub(in crate::digest) fn whole(output: Output, content: &[u8]) -> Digest {
    Implementation::fastest().whole(output, content)
}

/// Hashes each of `contents` into its place in `digests`, one after the other.
#[cfg(not(feature = "simd"))]
pub(in crate::digest) fn digest_many<T: AsRef<[u8]>>(
    output: Output,
    contents: &[T],
    digests: &mut [Digest],
) {
    for (content, digest) in contents.iter().zip(digests) {
        *digest = whole(output, content.as_ref());
    }
}

/// Hashes content in parts.
#[derive(Clone, Debug)]
pub(in crate::digest) struct Hasher(State);

#[derive(Clone, Debug)]
enum State {
    #[cfg(feature = "simd")]
    Vector(blake2b_simd::State),
    PlainLong(blake2::Blake2b512),
    PlainShort(blake2::Blake2b256),
}

impl Hasher {
    pub(in crate::digest) fn new(output: Output) -> Self {
        Self::with(Implementation::fastest(), output)
    }

    fn with(implementation: Implementation, output: Output) -> Self {
        Self(match (implementation, output) {
            #[cfg(feature = "simd")]
            (Implementation::Vector, output) => {
                let mut parameters = blake2b_simd::Params::new();
                State::Vector(parameters.hash_length(output.bytes()).to_state())
            }
            (Implementation::Plain, Output::Long) => State::PlainLong(blake2::Digest::new()),
            (Implementation::Plain, Output::Short) => State::PlainShort(blake2::Digest::new()),
        })
    }

    pub(in crate::digest) fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            #[cfg(feature = "simd")]
            State::Vector(state) => _ = state.update(bytes),
            State::PlainLong(state) => blake2::Digest::update(state, bytes),
            State::PlainShort(state) => blake2::Digest::update(state, bytes),
        }
    }

    pub(in crate::digest) fn finish(self) -> Digest {
        match self.0 {
            #[cfg(feature = "simd")]
            State::Vector(state) => truncate(state.finalize().as_bytes()),
            State::PlainLong(state) => truncate(&blake2::Digest::finalize(state)),
            State::PlainShort(state) => truncate(&blake2::Digest::finalize(state)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &[Implementation] = &[
        #[cfg(feature = "simd")]
        Implementation::Vector,
        Implementation::Plain,
    ];

    /// RFC 7693, appendix A, and the vectors of the reference implementation.
    #[test]
    fn each_implementation_gives_the_published_digests() {
        for (output, content, text) in [
            (
                Output::Long,
                &b""[..],
                "786a02f742015903c6c6fd852552d272912f4740e15847618a86e217f71f5419",
            ),
            (
                Output::Long,
                b"abc",
                "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1",
            ),
            (
                Output::Short,
                b"",
                "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8",
            ),
            (
                Output::Short,
                b"abc",
                "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319",
            ),
        ] {
            for &implementation in ALL {
                let mut hasher = Hasher::with(implementation, output);
                content.chunks(2).for_each(|part| hasher.update(part));
                assert_eq!(hasher.finish().to_string(), text);
                assert_eq!(implementation.whole(output, content).to_string(), text);
            }
        }
    }

    #[test]
    fn all_implementations_give_the_same_at_every_length() {
        let buffer: Vec<u8> = (0..2050_u32).map(|i| (i * 31 % 251) as u8).collect();
        for output in [Output::Long, Output::Short] {
            for len in 0..buffer.len() {
                let content = &buffer[len % 7..][..len.saturating_sub(7)];
                let expected = Implementation::Plain.whole(output, content);
                for &implementation in ALL {
                    assert_eq!(implementation.whole(output, content), expected, "{len}");
                    let mut hasher = Hasher::with(implementation, output);
                    let (first, second) = content.split_at(content.len() / 3);
                    hasher.update(first);
                    hasher.update(second);
                    assert_eq!(hasher.finish(), expected, "{len}");
                }
                assert_eq!(whole(output, content), expected, "{len}");
            }
        }
    }
}
