//! Putting many contents at once.

use super::put::{View, is_held};
use super::writer::Writer;
use crate::digest::{Digest, Hashed};
use crate::error::Result;
use crate::threads::{join, map_parts};

/// Contents are hashed a window at a time, while those of the window before are appended: they are
/// still in the processor's cache then. Of large ones there are a few in a window nevertheless, so
/// that there is one for each thread and lane.
const WINDOW_BYTES: usize = 8 << 20;
const WINDOW_CONTENTS_MIN: usize = 64;
/// What one thread hashes at a time. Fewer bytes are not worth waking another for.
const TASK_BYTES: usize = 128 << 10;
/// How many contents are looked up together, so that what they wait for comes at the same time.
const LOOKUPS: usize = 32;
/// Others' puts wait for no more than this, and one content.
const SECTION_BYTES: usize = 1 << 20;

impl Writer {
    /// Appends those contents that the store does not hold, and gives the digests of all.
    pub(crate) fn put_many(&self, contents: &[&[u8]]) -> Result<Vec<Digest>> {
        self.require_acceptable(0)?;
        let mut digests = Vec::with_capacity(contents.len());
        let mut rest = contents;
        let mut hashed = hash(split_window(&mut rest));
        while !rest.is_empty() {
            let window = split_window(&mut rest);
            // No lock is held while a thread of `rayon` waits, for it may begin another put then.
            let (put, next) = join(|| self.put_all(&hashed), || hash(window));
            put?;
            digests.extend(hashed.iter().map(|hashed| *hashed.digest()));
            hashed = next;
        }
        self.put_all(&hashed)?;
        digests.extend(hashed.iter().map(|hashed| *hashed.digest()));
        Ok(digests)
    }
}

/// Hashes in lanes, and in parallel if there is enough to do.
fn hash<'a>(contents: &[&'a [u8]]) -> Vec<Hashed<'a>> {
    let bytes: usize = contents.iter().map(|content| content.len()).sum();
    let tasks = (bytes / TASK_BYTES).clamp(1, contents.len().max(1));
    if tasks == 1 {
        return Hashed::of_each(contents);
    }
    let parts = contents.chunks(contents.len().div_ceil(tasks)).collect();
    map_parts(parts, Hashed::of_each).concat()
}

/// Takes the next window off the contents.
fn split_window<'a, 'b>(rest: &mut &'b [&'a [u8]]) -> &'b [&'a [u8]] {
    let count = count_within(rest, |content| content.len(), WINDOW_BYTES);
    let (window, others) = rest.split_at(count.max(WINDOW_CONTENTS_MIN).min(rest.len()));
    *rest = others;
    window
}

/// How many of the first items have about as many bytes together. At least one, if there is one.
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
    /// Appends what is not held already, in sections, between which others get their turn.
    fn put_all(&self, contents: &[Hashed<'_>]) -> Result<()> {
        let mut rest = contents;
        while !rest.is_empty() {
            let count = count_within(rest, |hashed| hashed.content().len(), SECTION_BYTES);
            let (section, others) = rest.split_at(count);
            self.put_section(section)?;
            rest = others;
        }
        Ok(())
    }

    /// As `put_one` for several, with one append section.
    fn put_section(&self, contents: &[Hashed<'_>]) -> Result<()> {
        self.require_acceptable(0)?;
        let (phase, set) = self.begin_put()?;
        let mut view = View::of(&set);
        let is_absent = |hashed: &&Hashed<'_>| !is_held(hashed, &phase, &set);
        let mut absent: Vec<&Hashed<'_>> = Vec::new();
        for looked_up in contents.chunks(LOOKUPS) {
            set.prefetch_copies(looked_up.iter().map(Hashed::digest));
            absent.extend(looked_up.iter().filter(is_absent));
        }
        if absent.is_empty() {
            return Ok(());
        }
        let mut appender = self.lock_appender();
        for hashed in absent {
            self.require_acceptable(hashed.content().len())?;
            // What came earlier in this section is the only thing that the lookup has not seen.
            let is_new =
                view.is_current(&appender) && appender.active().find(hashed.digest()).is_none();
            if is_new {
                self.append(&mut appender, hashed)?;
                view.advance();
            } else {
                self.append_absent(&mut appender, &phase, hashed, &set)?;
            }
        }
        Ok(())
    }
}
