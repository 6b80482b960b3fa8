//! The state that a push replaces.

use std::collections::BTreeSet;

use super::format::{Nonce, RefManifest, RefState};
use super::refs::{Ref, Stored, is_damaged};
use crate::digest::HashFunction;
use crate::error::{Error, Result};

/// The newest manifest of a ref, as a push sees it.
#[derive(Clone, Debug)]
pub(super) struct Base {
    /// The newest manifest. If that is damaged, the newest readable one below it stands in for it, with
    /// the number of the newest.
    pub(super) manifest: RefManifest,
    /// Whether the newest manifest is damaged.
    pub(super) is_damaged: bool,
    /// Whether the push takes the ref over.
    pub(super) is_taken_over: bool,
}

/// Tells the state that a push saw first from a state that came meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The state that this push made. The manifest of a collection repeats it.
    Push(Nonce),
    /// The damaged manifest of this number.
    Damaged(u64),
}

impl Base {
    /// Reads the newest manifest. `None` if the ref has none, and so does not exist. If the manifest is damaged
    /// and the ref is taken over, finds what stands in for it: otherwise nothing could mend the ref. `seen` is
    /// the state that the push saw first; only that is taken over, not what comes meanwhile.
    pub(super) async fn read(
        at: &Ref,
        take_over: bool,
        seen: &mut Option<Seen>,
    ) -> Result<Option<Self>> {
        let mut is_taken_over = |now| take_over && *seen.get_or_insert(now) == now;
        let newest = match at.newest().await {
            Err(error) if take_over && is_damaged(&error) => {
                let Some(number) = at.newest_number().await? else {
                    return Err(error);
                };
                match at.newest_readable(number).await? {
                    // The answer was damaged, and not the manifest.
                    Some(read) if read.manifest.number == number && read.state().is_some() => read,
                    _ if !is_taken_over(Seen::Damaged(number)) => return Err(error),
                    below => return Self::in_place_of_damaged(at, number, below).map(Some),
                }
            }
            newest => match newest? {
                Some(newest) => newest,
                None => return Ok(None),
            },
        };
        Ok(Some(Self {
            is_taken_over: is_taken_over(Seen::Push(newest.manifest.push)),
            manifest: newest.manifest,
            is_damaged: false,
        }))
    }

    /// Makes the base of a push that takes over manifest `number`, which is damaged.
    fn in_place_of_damaged(at: &Ref, number: u64, below: Option<Stored>) -> Result<Self> {
        let manifest = if let Some(below) = below {
            RefManifest {
                number,
                ..below.manifest
            }
        } else {
            // Nothing of the ref is known any more, so it begins anew behind the damaged manifests.
            let random = || Nonce::random().map_err(Error::io(at.bucket.url().as_ref()));
            let [ref_id, push, writer] = [random()?, random()?, random()?];
            RefManifest {
                ref_id,
                number,
                nonce: push,
                writer,
                epoch: 0,
                push,
                parent: None,
                condemned: BTreeSet::new(),
                state: None,
            }
        };
        Ok(Self {
            manifest,
            is_damaged: true,
            is_taken_over: true,
        })
    }

    /// The state whose files the push lists again instead of uploading them. A push that takes over
    /// uploads all files anew, so that it also mends a ref whose files are damaged or missing.
    pub(super) fn listed(&self) -> Option<&RefState> {
        let state = self.manifest.state.as_ref();
        state.filter(|_| !self.is_taken_over)
    }

    /// The function that names the objects of the ref, if it is known.
    pub(super) fn hash_function(&self) -> Option<HashFunction> {
        let state = self.manifest.state.as_ref();
        state.map(|state| state.hash_function)
    }
}
