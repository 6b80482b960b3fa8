//! Writing a file from its beginning to its end, in blocks.

use super::WritableFile;
use crate::error::Result;

/// Length of a block that the page cache keeps in one huge page.
pub(crate) const HUGE_PAGE_BYTES: usize = 2 << 20;
/// Length of a block where huge pages are not wanted: few system calls, and short ones.
pub(crate) const SMALL_BLOCK_BYTES: usize = 256 << 10;

/// Appends to a file in blocks, at multiples of their length.
///
/// Where it can, Linux keeps the bytes of one write in one piece of memory (large folios: ext4
/// since 6.16, xfs before that). A piece of 2 MiB is mapped with one entry of the page table, so a
/// read at random waits for the memory only, and not for a walk through the page table as well.
#[derive(Debug)]
pub(crate) struct BlockWriter<'a> {
    file: &'a WritableFile,
    block_bytes: usize,
    /// The beginning of the block that is not written yet.
    block: Vec<u8>,
    written_bytes: u64,
}

impl<'a> BlockWriter<'a> {
    /// Begins to write a file that is empty.
    pub(crate) fn new(file: &'a WritableFile, block_bytes: usize) -> Self {
        Self {
            file,
            block_bytes,
            block: Vec::with_capacity(block_bytes),
            written_bytes: 0,
        }
    }

    /// Returns the offset at which the next appended byte will lie.
    pub(crate) fn position(&self) -> u64 {
        self.written_bytes + self.block.len() as u64
    }

    /// Returns how many bytes are in the file.
    pub(crate) const fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Appends `bytes`. After an error any part of what was appended may be in the file.
    pub(crate) fn append(&mut self, mut bytes: &[u8]) -> Result<()> {
        loop {
            if self.block.is_empty() {
                let (whole, rest) = bytes.split_at(bytes.len() - bytes.len() % self.block_bytes);
                self.write(whole)?;
                bytes = rest;
            }
            let room = self.block_bytes - self.block.len();
            let (fits, rest) = bytes.split_at(room.min(bytes.len()));
            self.block.extend_from_slice(fits);
            if self.block.len() < self.block_bytes {
                return Ok(());
            }
            self.write_block()?;
            bytes = rest;
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, self.written_bytes)?;
        self.written_bytes += bytes.len() as u64;
        Ok(())
    }

    fn write_block(&mut self) -> Result<()> {
        let mut block = std::mem::take(&mut self.block);
        self.write(&block)?;
        block.clear();
        self.block = block;
        Ok(())
    }

    /// Writes the last block, which may be shorter, and returns the length of the file.
    pub(crate) fn finish(mut self) -> Result<u64> {
        self.write_block()?;
        Ok(self.written_bytes)
    }
}
