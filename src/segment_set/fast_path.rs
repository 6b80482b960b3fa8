//! The fast path of a get, the only lookup that is not an adapter of
//! [`copies`](super::SegmentSet::copies).
//!
//! Nearly all gets of a present object end here: the set index leads to the record at once, and the
//! content is its own proof. As an iterator adapter, a get took half as long again when measured.

use super::SegmentSet;
use crate::digest::Digest;
use crate::options::VerifyReads;
use crate::segment::content::{Content, Verified};

/// The result of the first look for an object.
pub(super) enum FirstLook<'a> {
    Found(Verified<'a>),
    /// A record was hashed in vain: its segment, and offset and length of its content.
    Other(u32, u64, usize),
    /// There was no record to look at.
    Nothing,
}

impl SegmentSet {
    /// Looks for an object in its likeliest place: in its own bucket of a run whose page was
    /// checked, in a mapped file, and, with [`VerifyReads::FirstRead`], verified before.
    ///
    /// Branches depend on the bytes read only by whether these are as expected, so the processor
    /// can begin the next get while this one waits for memory.
    #[inline]
    pub(super) fn look_at_once<'a>(
        &'a self,
        digest: &Digest,
        verify: VerifyReads,
    ) -> FirstLook<'a> {
        self.prefetch_if_several(digest);
        let look = self.runs.iter().find_map(|resolved| {
            let run = resolved.run();
            let location = run.first_in_own_bucket(&run.probe(digest))?;
            let segment = resolved.segment(location)?;
            let offset = location.offset();
            segment.prefetch_record(offset);
            let data = segment.data();
            match verify {
                VerifyReads::FirstRead => {
                    let geometry = &run.index().header().geometry;
                    let entry = segment.verified_entry(digest, geometry, &location)?;
                    let bytes = data.mapped(entry.offset, entry.len as usize)?;
                    Self::fetch_unhashed(segment, entry.offset, bytes);
                    let found = Verified::sealed(data, entry.offset, bytes);
                    Some(FirstLook::Found(found))
                }
                VerifyReads::EveryRead => {
                    let bytes = data.mapped_record(offset)?;
                    let content = Content::Sealed {
                        data,
                        offset,
                        bytes,
                    };
                    let found = content.verify(data.hash_function(), digest);
                    Some(match found {
                        Some(found) => FirstLook::Found(found),
                        None => FirstLook::Other(segment.id(), offset, bytes.len()),
                    })
                }
            }
        });
        look.unwrap_or(FirstLook::Nothing)
    }
}
