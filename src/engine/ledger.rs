//! The manifest as it is on disk.

use crate::format::Manifest;

/// The manifest that was written last. It is replaced as a whole, after the file was.
pub(super) struct Ledger {
    manifest: Manifest,
}

impl Ledger {
    pub(super) const fn new(manifest: Manifest) -> Self {
        Self { manifest }
    }

    pub(super) const fn next_id(&self) -> u64 {
        self.manifest.next_id
    }

    pub(super) const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Notes that this manifest is on disk now.
    pub(super) fn note_written(&mut self, manifest: Manifest) {
        self.manifest = manifest;
    }

    /// Upper bound of the length of the manifest, in bytes, with this many more segments.
    pub(super) fn bytes_with(&self, segments: usize) -> u64 {
        const SEGMENT_LINE_BYTES_MAX: usize = 160;
        let lines = segments.saturating_mul(SEGMENT_LINE_BYTES_MAX);
        (self.manifest.encode().len() + lines) as u64
    }
}
