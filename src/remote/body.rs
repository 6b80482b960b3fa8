//! Reads the content of an answer. It may be no longer than expected, and takes little more memory than it
//! has bytes.

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::{GetResult, GetResultPayload};

/// Reads the content of an answer. Returns `None` as soon as it is longer than `bytes_max`.
pub(super) async fn body(
    found: GetResult,
    bytes_max: u64,
) -> object_store::Result<Option<Vec<Bytes>>> {
    let mut pieces = match found.payload {
        GetResultPayload::Stream(pieces) => pieces,
        // Its pieces would be short, and each would be read by a task of its own.
        GetResultPayload::File(..) => return Ok(Some(vec![found.bytes().await?])),
    };
    let (mut body, mut bytes) = (Pieces::default(), 0);
    while let Some(piece) = pieces.try_next().await? {
        bytes += piece.len() as u64;
        if bytes > bytes_max {
            return Ok(None);
        }
        body.push(piece);
    }
    body.flush();
    Ok(Some(body.long))
}

/// Puts pieces together to one.
pub(super) fn whole(mut pieces: Vec<Bytes>) -> Bytes {
    match pieces.len() {
        1 => pieces.remove(0),
        _ => pieces.concat().into(),
    }
}

/// Shorter pieces are copied together. A piece keeps the buffer in which the client received it, which can
/// be three times as long as this.
const PIECE_BYTES_MIN: usize = 128 << 10;

/// The pieces of an answer, in memory that is not much more than their bytes.
#[derive(Default)]
struct Pieces {
    long: Vec<Bytes>,
    /// The short pieces behind the last long one, copied together.
    short: Vec<u8>,
}

impl Pieces {
    fn push(&mut self, piece: Bytes) {
        if piece.len() >= PIECE_BYTES_MIN {
            self.flush();
            self.long.push(piece);
            return;
        }
        if self.short.len() + piece.len() > PIECE_BYTES_MIN {
            self.flush();
        }
        self.short.extend_from_slice(&piece);
    }

    fn flush(&mut self) {
        if !self.short.is_empty() {
            self.short.shrink_to_fit();
            self.long.push(std::mem::take(&mut self.short).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use object_store::{Attributes, Extensions, ObjectMeta};
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn pieces_of_any_length_are_put_together_in_their_order_and_take_little_memory() {
        let mut rng = StdRng::seed_from_u64(0);
        for longest in [1, 300, PIECE_BYTES_MIN, 4 * PIECE_BYTES_MIN] {
            let (mut pieces, mut expected) = (Pieces::default(), Vec::new());
            while expected.len() < 5 * PIECE_BYTES_MIN {
                let piece = vec![rng.random(); rng.random_range(0..=longest)];
                expected.extend_from_slice(&piece);
                // The buffer in which a piece was received.
                let mut received = piece.clone();
                received.reserve_exact(3 * PIECE_BYTES_MIN);
                pieces.push(received.into());
            }
            pieces.flush();
            let most = 2 * expected.len().div_ceil(PIECE_BYTES_MIN);
            assert!(pieces.long.len() <= most, "{longest}");
            assert_eq!(whole(pieces.long), expected);
        }
    }

    #[tokio::test]
    async fn h79_an_answer_that_does_not_end_is_not_read_to_its_end() {
        let endless = std::iter::repeat_with(|| Ok(Bytes::from_static(b"content")));
        let found = GetResult {
            payload: GetResultPayload::Stream(futures_util::stream::iter(endless).boxed()),
            meta: ObjectMeta {
                location: "object".into(),
                last_modified: std::time::SystemTime::UNIX_EPOCH.into(),
                size: 1000,
                e_tag: None,
                version: None,
            },
            range: 0..1000,
            attributes: Attributes::default(),
            extensions: Extensions::default(),
        };
        assert!(body(found, 1000).await.unwrap().is_none());
    }
}
