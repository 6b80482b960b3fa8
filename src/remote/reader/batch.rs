//! Reads many objects by few requests: neighbouring ranges are read together, and several at once.

use std::ops::Range;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt};

use super::fetch::split_content;
use super::index::{Index, Place};
use super::inner::Inner;
use crate::digest::{Digest, Hashed};
use crate::error::{Error, RemoteError, Result};
use crate::object::Object;
use crate::remote::runtime::blocking;

/// Ranges with less between them are read by one request: reading that much takes about as long as a
/// request whose answer several others wait beside.
const GAP_BYTES_MAX: u64 = 128 << 10;
/// Longest range of one request, unless one object is longer.
const GROUP_BYTES_MAX: u64 = 4 << 20;
/// Requests that are under way at once.
const REQUESTS_AT_ONCE: usize = 16;

/// Objects by their number in what was asked. `None` for those that the ref does not list.
type Answers = Vec<(usize, Option<Object>)>;

/// An object that is wanted, and where it probably is.
#[derive(Clone, Debug)]
struct Wanted {
    /// Its position in what was asked.
    number: usize,
    digest: Digest,
    place: Place,
    /// The part of the data file to read for it.
    range: Range<u64>,
}

/// Wanted objects that one request reads.
#[derive(Debug)]
struct Group {
    segment: usize,
    range: Range<u64>,
    /// In the order of the file.
    wanted: Vec<Wanted>,
}

/// Puts neighbours together.
fn groups(mut wanted: Vec<Wanted>) -> Vec<Group> {
    wanted.sort_by_key(|wanted| (wanted.place.segment, wanted.range.start));
    let mut groups: Vec<Group> = Vec::new();
    for wanted in wanted {
        let (segment, range) = (wanted.place.segment, wanted.range.clone());
        if let Some(last) = groups.last_mut()
            && last.segment == segment
            && range.start <= last.range.end.saturating_add(GAP_BYTES_MAX)
            && range.end.saturating_sub(last.range.start) <= GROUP_BYTES_MAX
        {
            last.range.end = last.range.end.max(range.end);
            last.wanted.push(wanted);
        } else {
            groups.push(Group {
                segment,
                range,
                wanted: vec![wanted],
            });
        }
    }
    groups
}

impl Inner {
    /// Reads objects that are not in the cache. The result has the digests' numbers.
    pub(super) async fn fetch_many(
        &self,
        index: &Index,
        digests: Vec<(usize, Digest)>,
    ) -> Result<Answers> {
        let mut wanted = Vec::new();
        let mut singly = Vec::new();
        for (number, digest) in digests {
            let place = index.places(&digest).next();
            let range = place.as_ref().and_then(|place| {
                let place = place.as_ref().ok()?;
                let sealed = &index.segments()[place.segment].listed.sealed;
                Some((*place, place.first_range(sealed)?))
            });
            match (place, range) {
                (None, _) => {}
                (Some(_), Some((place, range))) => wanted.push(Wanted {
                    number,
                    digest,
                    place,
                    range,
                }),
                // A read of this object alone deals with a damaged run, and with a place where no
                // record can be.
                (Some(_), None) => singly.push((number, digest)),
            }
        }
        // Boxed, so that the whole future can be sent to another thread: the compiler cannot tell
        // otherwise.
        let mut reads: Vec<BoxFuture<'_, Result<Answers>>> = Vec::new();
        for group in groups(wanted) {
            reads.push(self.read_group(index, group).boxed());
        }
        for (number, digest) in singly {
            let read = async move { Ok(vec![(number, self.find(&digest).await?)]) };
            reads.push(read.boxed());
        }
        let reads = futures_util::stream::iter(reads).buffer_unordered(REQUESTS_AT_ONCE);
        reads.try_concat().await
    }

    /// Reads the objects of a group.
    async fn read_group(&self, index: &Index, group: Group) -> Result<Answers> {
        let segment = &index.segments()[group.segment];
        let bytes = match self.read_range(segment, group.range.clone()).await {
            Ok(bytes) => bytes,
            // A collection has removed the file, or the answer was cut: each read deals with that.
            Err(Error::Remote(RemoteError::Missing { .. } | RemoteError::Damaged { .. })) => {
                Bytes::new()
            }
            Err(error) => return Err(error),
        };
        let (mut whole, mut others) = (Vec::new(), Vec::new());
        for wanted in group.wanted {
            let begin = usize::try_from(wanted.range.start - group.range.start);
            let prefix = begin.ok().filter(|&begin| begin <= bytes.len());
            let prefix = prefix.map(|begin| bytes.slice(begin..)).unwrap_or_default();
            match split_content(&prefix) {
                Ok(content) => whole.push((wanted, content)),
                Err(_) => others.push((wanted, prefix)),
            }
        }
        let (function, cache) = (index.hash_function(), self.cache.clone());
        let checked = blocking(move || {
            let contents: Vec<&[u8]> = whole.iter().map(|(_, content)| &content[..]).collect();
            let hashed = Hashed::of_many(function, &contents);
            let is_right = |(hashed, (wanted, _)): &(&Hashed<'_>, &(Wanted, Bytes))| {
                *hashed.digest() == wanted.digest
            };
            let right = hashed.iter().zip(&whole).filter(is_right);
            let right: Vec<Hashed<'_>> = right.map(|(hashed, _)| *hashed).collect();
            cache.keep(&right);
            let digests: Vec<Digest> = hashed.iter().map(|hashed| *hashed.digest()).collect();
            let found = whole
                .into_iter()
                .zip(digests)
                .map(|((wanted, content), digest)| {
                    let object =
                        (digest == wanted.digest).then(|| Object::in_memory(digest, &content));
                    (wanted, object)
                });
            Ok(found.collect::<Vec<_>>())
        });
        let mut found = Vec::new();
        for (wanted, object) in checked.await? {
            match object {
                Some(object) => found.push((wanted.number, Some(object))),
                None => others.push((wanted, Bytes::new())),
            }
        }
        for (wanted, prefix) in others {
            let object = self.find_from(&wanted, prefix, index).await?;
            found.push((wanted.number, object));
        }
        Ok(found)
    }

    /// Reads an object of which the beginning was read, or something that is not it.
    async fn find_from(
        &self,
        wanted: &Wanted,
        prefix: Bytes,
        index: &Index,
    ) -> Result<Option<Object>> {
        if !prefix.is_empty() {
            let read = self.read_place(index, &wanted.digest, wanted.place, Some(prefix));
            if let Ok(Some(content)) = read.await {
                return Ok(Some(Object::in_memory(wanted.digest, &content)));
            }
        }
        self.find(&wanted.digest).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(number: usize, segment: usize, range: Range<u64>) -> Wanted {
        Wanted {
            number,
            digest: Digest::from([0; 32]),
            place: Place {
                segment,
                offset: range.start + 4,
                len: None,
            },
            range,
        }
    }

    #[test]
    fn neighbours_are_read_together_and_others_are_not() {
        let far = GAP_BYTES_MAX + 1;
        let groups = groups(vec![
            wanted(0, 1, 0..10),
            wanted(1, 0, 20 + far..30 + far),
            wanted(2, 0, 5..20),
            wanted(3, 0, 0..10),
            wanted(4, 0, 30 + far + GAP_BYTES_MAX..40 + far + GAP_BYTES_MAX),
        ]);
        let numbers = |group: &Group| -> Vec<usize> {
            group.wanted.iter().map(|wanted| wanted.number).collect()
        };
        let numbers: Vec<_> = groups.iter().map(numbers).collect();
        assert_eq!(numbers, [vec![3, 2], vec![1, 4], vec![0]]);
        assert_eq!(groups[0].range, 0..20);
    }

    #[test]
    fn a_group_is_no_longer_than_its_bound_unless_one_object_is() {
        let piece = 100 << 10;
        let pieces = (0..100).map(|at| wanted(0, 0, at * piece..(at + 1) * piece));
        let all = groups(pieces.collect());
        assert!(all.len() > 1);
        assert!(
            all.iter()
                .all(|group| group.range.end - group.range.start <= GROUP_BYTES_MAX)
        );
        let long = groups(vec![wanted(0, 0, 0..3 * GROUP_BYTES_MAX)]);
        assert_eq!(long.len(), 1);
    }
}
