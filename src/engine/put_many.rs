//! Puts many contents at once.

use super::put::{View, is_duplicate};
use super::writer::Writer;
use crate::digest::{Digest, HashFunction, Hashed};
use crate::error::Result;
use crate::segment_set::Wanted;
use crate::threads::{join, map_parts};

/// Size of a window. One window is hashed while the window before is appended, whose contents are
/// then still in the processor's cache.
const WINDOW_BYTES: usize = 8 << 20;
/// Fewest contents of a window, however large, so that every thread and lane has one.
const WINDOW_CONTENTS_MIN: usize = 64;
/// Bytes that one thread hashes at a time. Fewer are not worth waking another thread.
const TASK_BYTES: usize = 128 << 10;
/// Number of contents that are looked up together, so that they wait for memory at the same time.
const LOOKUPS: usize = 32;
/// Size of a section. Puts of other threads wait for no more than this and one content.
const SECTION_BYTES: usize = 1 << 20;

impl Writer {
    /// Appends the contents that the store does not hold, and returns the digests of all.
    pub(crate) fn put_many(&self, contents: &[&[u8]]) -> Result<Vec<Digest>> {
        self.require_acceptable(0)?;
        let mut digests = Vec::with_capacity(contents.len());
        let mut rest = contents;
        let function = self.shared.hash_function();
        let mut hashed = hash(function, split_window(&mut rest));
        while !rest.is_empty() {
            let window = split_window(&mut rest);
            // No lock is held here: a waiting thread of `rayon` may begin another put meanwhile.
            let (put, next) = join(|| self.put_many_hashed(&hashed), || hash(function, window));
            put?;
            digests.extend(hashed.iter().map(|hashed| *hashed.digest()));
            hashed = next;
        }
        self.put_many_hashed(&hashed)?;
        digests.extend(hashed.iter().map(|hashed| *hashed.digest()));
        Ok(digests)
    }
}

/// Hashes contents in lanes, and in parallel if there are enough bytes.
fn hash<'a>(function: HashFunction, contents: &[&'a [u8]]) -> Vec<Hashed<'a>> {
    let bytes: usize = contents.iter().map(|content| content.len()).sum();
    let tasks = (bytes / TASK_BYTES).clamp(1, contents.len().max(1));
    if tasks == 1 {
        return Hashed::of_many(function, contents);
    }
    let parts = contents.chunks(contents.len().div_ceil(tasks)).collect();
    map_parts(parts, |part| Hashed::of_many(function, part)).concat()
}

/// Splits the next window off the contents.
fn split_window<'a, 'b>(rest: &mut &'b [&'a [u8]]) -> &'b [&'a [u8]] {
    let count = count_within(rest, |content| content.len(), WINDOW_BYTES);
    let (window, others) = rest.split_at(count.max(WINDOW_CONTENTS_MIN).min(rest.len()));
    *rest = others;
    window
}

/// Number of leading items until their bytes reach `bytes_max`; at least one if there is an item.
fn count_within<T>(items: &[T], bytes: impl Fn(&T) -> usize, bytes_max: usize) -> usize {
    let mut sum = 0_usize;
    let within = items.iter().take_while(|item| {
        let is_within = sum < bytes_max;
        sum = sum.saturating_add(bytes(item));
        is_within
    });
    within.count()
}

impl Writer {
    /// Appends the contents that are not held already, in sections, between which puts of other
    /// threads get their turn. Returns for each whether it was appended.
    pub(crate) fn put_many_hashed(&self, contents: &[Hashed<'_>]) -> Result<Vec<bool>> {
        let mut stored = vec![false; contents.len()];
        let (mut rest, mut rest_stored) = (contents, &mut stored[..]);
        while !rest.is_empty() {
            let count = count_within(rest, |hashed| hashed.content().len(), SECTION_BYTES);
            let (section, others) = rest.split_at(count);
            let (section_stored, others_stored) = rest_stored.split_at_mut(count);
            self.put_section(section, section_stored)?;
            let is_held = |stored: &&bool| !**stored;
            self.count_dedup_hits(section_stored.iter().filter(is_held).count());
            (rest, rest_stored) = (others, others_stored);
        }
        Ok(stored)
    }

    /// Does [`put`](Self::put) for several contents, but locks the appender once.
    fn put_section(&self, contents: &[Hashed<'_>], stored: &mut [bool]) -> Result<()> {
        self.require_acceptable(0)?;
        let (phase, set) = self.begin_put()?;
        let mut view = View::of(&set);
        let mut absent: Vec<(&Hashed<'_>, &mut bool)> = Vec::new();
        for (looked_up, stored) in contents.chunks(LOOKUPS).zip(stored.chunks_mut(LOOKUPS)) {
            let digests = looked_up.iter().map(Hashed::digest);
            set.fetch_many(digests.clone(), Wanted::Both);
            set.prefetch_copies(digests, Wanted::Both);
            let looked_up = looked_up.iter().zip(stored);
            absent.extend(looked_up.filter(|(hashed, _)| !is_duplicate(hashed, &phase, &set)));
        }
        if absent.is_empty() {
            return Ok(());
        }
        let mut appender = self.lock_appender();
        for (hashed, stored) in absent {
            self.require_acceptable(hashed.content().len())?;
            // If the view is current, the lookup has missed only records of this very section.
            let is_new =
                view.is_current(&appender) && appender.active().find(hashed.digest()).is_none();
            if is_new {
                self.append(&mut appender, hashed)?;
                view.advance();
                *stored = true;
            } else {
                *stored = self.append_absent(&mut appender, &phase, hashed, &set)?;
            }
        }
        Ok(())
    }
}
