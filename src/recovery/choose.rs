//! Choosing the segment to append to.

use super::{Recovery, UNSEALED_OBJECTS_MAX};
use crate::error::{Error, Result};
use crate::segment::Appender;
use crate::segment::expected::Expected;

impl Recovery<'_> {
    /// Returns `newest` if the store can go on with it, otherwise a new segment. `newest` is the
    /// unsealed segment with the highest id.
    pub(super) fn choose_active(&mut self, newest: Option<Appender>) -> Result<Appender> {
        // A program that knows no manifest appends to the segment with the highest id, and so do
        // we.
        let goes_on = |appender: &Appender| {
            appender.active().objects() <= UNSEALED_OBJECTS_MAX
                && appender.has_room_for(0)
                && Some(appender.active().id()) >= self.highest_data
        };
        match newest {
            Some(appender) if goes_on(&appender) => Ok(appender),
            full => {
                self.sealing.extend(full);
                match self.create_active() {
                    Err(error) if error.is_out_of_space() => self.take_newest().ok_or(error),
                    created => created,
                }
            }
        }
    }

    fn create_active(&mut self) -> Result<Appender> {
        let next_id = self.manifest.next_id;
        let id = u32::try_from(next_id).map_err(|_| Error::SegmentIdsExhausted)?;
        let expected = Expected::of_size(self.options.segment_bytes_max);
        let appender = Appender::create(self.dir, id, self.options.reading(), expected)?;
        self.manifest.next_id = next_id + 1;
        Ok(appender)
    }

    /// Goes on with the newest segment where a full disk has no room for another one: held objects
    /// can be read, and a put that this segment does not take fails until there is room.
    fn take_newest(&mut self) -> Option<Appender> {
        let ids = self.sealing.iter().map(|appender| appender.active().id());
        let (_, newest) = ids.zip(0..).max()?;
        let mut appender = self.sealing.swap_remove(newest);
        if Some(appender.active().id()) < self.highest_data {
            // Another program appends to the highest segment, so this store appends nothing below
            // it.
            appender.close();
        }
        Some(appender)
    }
}
