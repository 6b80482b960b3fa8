//! Rolls: goes on with a new segment.

use std::sync::Arc;

use super::background::Job;
use super::writer::Writer;
use crate::error::{Error, Result};
use crate::format::record;
use crate::segment::Appender;
use crate::segment::begun::Begun;

impl Writer {
    /// Goes on with a new segment and leaves the full one to the thread that seals.
    pub(super) fn roll(&self, appender: &mut Appender, content_bytes: u64) -> Result<()> {
        appender.flush()?;
        let next = self.begin_next(appender, content_bytes + record::HEADER_BYTES)?;
        self.publish(|set| set.with_active(Arc::clone(next.active())));
        *appender = next;
        self.seal_requests.send(Job::Seal);
        Ok(())
    }

    /// Goes on with a segment whose id is higher than `id`. A program that knows no manifest, such
    /// as NEDB v3, appends to the segment with the highest id, which must therefore never be a
    /// sealed or a retired segment.
    ///
    /// If the segment that was appended to before is empty, returns its id. It is then no longer
    /// part of the store, and its files can be removed.
    pub(super) fn go_on_above(&self, id: u32) -> Result<Option<u32>> {
        let mut appender = self.lock_appender();
        if appender.active().id() > id {
            return Ok(None);
        }
        if !appender.is_vacant() {
            self.roll(&mut appender, 0)?;
            return Ok(None);
        }
        let next = self.begin_next(&mut appender, 0)?;
        let empty = Arc::clone(appender.active());
        let active = Arc::clone(next.active());
        empty.discard();
        self.publish(|set| set.with_active_instead(empty.id(), Arc::clone(&active)));
        *appender = next;
        Ok(Some(empty.id()))
    }

    /// Begins a segment with room for a first record of `first_bytes`.
    fn begin_next(&self, appender: &mut Appender, first_bytes: u64) -> Result<Appender> {
        let begun = match appender.take_begun() {
            Some(begun) if self.ids.is_newest(begun.id()) => begun,
            older => {
                if let Some(older) = older {
                    older.discard(self.dir());
                }
                self.begin_segment()?
            }
        };
        let journal = match begun.create_journal(self.dir()) {
            Ok(journal) => journal,
            Err(error) => {
                // The next attempt goes on with this segment, so that no attempt uses up an id.
                appender.keep_begun(begun);
                return Err(error);
            }
        };
        let expected = appender.expected_next(first_bytes);
        let reading = self.shared.options.reading();
        Ok(Appender::begin(begun, journal, reading, expected))
    }

    /// Creates the data file of a new segment. The id counts as used only if the file exists.
    fn begin_segment(&self) -> Result<Begun> {
        let ids = self.ids.take(1)?;
        // All ids fit into a `u32`.
        let id = u32::try_from(ids.start).map_err(|_| Error::SegmentIdsExhausted)?;
        Begun::create(self.dir(), id).inspect_err(|_| {
            if !self.dir().holds_segment(id) {
                self.ids.give_back(ids);
            }
        })
    }
}
