//! The last line of `import`.

use indicatif::HumanCount;
use serde::Serialize;

use crate::exit::Exit;
use crate::output::{count, size};

/// The figures of an import. `objects` counts the objects that are durable now, new or not.
#[derive(Clone, Copy, Default, Serialize)]
pub struct Summary {
    pub objects: u64,
    pub bytes: u64,
    pub new: u64,
    pub already_stored: u64,
    pub damaged: u64,
    /// Files that were not read or not removed.
    pub failed: u64,
    pub other_files: u64,
    pub removed: u64,
}

impl Summary {
    pub fn add(&mut self, bytes: u64, is_new: bool) {
        self.objects += 1;
        self.bytes += bytes;
        if is_new {
            self.new += 1;
        } else {
            self.already_stored += 1;
        }
    }

    /// Adds the objects of another count, which has nothing else, and then no objects either.
    pub fn absorb(&mut self, other: &mut Self) {
        self.objects += other.objects;
        self.bytes += other.bytes;
        self.new += other.new;
        self.already_stored += other.already_stored;
        *other = Self::default();
    }

    /// Returns how a command ends that has tried everything.
    pub fn exit(&self) -> Exit {
        if self.damaged > 0 {
            Exit::Damaged
        } else if self.failed > 0 {
            Exit::Io
        } else {
            Exit::Done
        }
    }
}

/// The summary of `--json`.
#[derive(Clone, Copy, Serialize)]
pub struct Report {
    #[serde(flatten)]
    pub summary: Summary,
    /// Whether everything was tried.
    pub complete: bool,
}

impl Report {
    pub fn text(&self) -> String {
        let summary = &self.summary;
        let (objects, bytes) = (count(summary.objects, "object"), size(summary.bytes));
        let (new, held) = (HumanCount(summary.new), HumanCount(summary.already_stored));
        let mut text = format!("{objects}, {bytes}: {new} new, {held} already stored");
        for (number, what) in [
            (summary.removed, "removed"),
            (summary.other_files, "other files left alone"),
            (summary.damaged, "damaged and not stored, see above"),
            (summary.failed, "not read or not removed, see above"),
        ] {
            if number > 0 {
                text = format!("{text}, {} {what}", HumanCount(number));
            }
        }
        if !self.complete {
            text.push_str(
                "; stopped by the error above: what is counted is kept; mend the cause and import \
                 again, which stores the others",
            );
        }
        text
    }
}
