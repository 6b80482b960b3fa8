//! A store for the blocks of a DAG, whose blocks name each other by their digests.

use std::collections::HashSet;
use std::io;

use sealstone::{CompactionStats, Digest, Object, Store};

/// A block: the digests of the blocks that it links to, and data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub links: Vec<Digest>,
    pub data: Vec<u8>,
}

impl Block {
    fn to_bytes(&self) -> Vec<u8> {
        let links = u32::try_from(self.links.len()).expect("fewer than 2^32 links");
        let links = links.to_le_bytes().into_iter();
        let digests = self.links.iter().flat_map(|link| *link.as_bytes());
        links
            .chain(digests)
            .chain(self.data.iter().copied())
            .collect()
    }

    /// `None` if the bytes are not those of a block.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (links, rest) = bytes.split_first_chunk()?;
        let links_bytes = (u32::from_le_bytes(*links) as usize).checked_mul(32)?;
        let (links, data) = rest.split_at_checked(links_bytes)?;
        let links = links.chunks_exact(32).map(Digest::try_from);
        Some(Self {
            links: links.collect::<Result<_, _>>().ok()?,
            data: data.to_vec(),
        })
    }
}

pub struct BlockStore(pub Store);

impl BlockStore {
    /// Stores blocks and makes them durable together. Put blocks before a root that leads to them.
    pub fn put(&self, blocks: &[Block]) -> io::Result<Vec<Digest>> {
        let bytes: Vec<Vec<u8>> = blocks.iter().map(Block::to_bytes).collect();
        let digests = self.0.put_many(&bytes)?;
        self.0.sync()?;
        Ok(digests)
    }

    /// Returns a block, or `None` if the store does not hold it.
    pub fn get(&self, digest: &Digest) -> io::Result<Option<Block>> {
        let object = self.0.get(digest)?;
        let parse = |object: Object| Block::parse(&object).ok_or(io::ErrorKind::InvalidData);
        Ok(object.map(parse).transpose()?)
    }

    /// The blocks that a peer has and this store lacks. Reads no block.
    pub fn missing(&self, offered: &[Digest]) -> io::Result<Vec<Digest>> {
        let held = self.0.contains_many(offered).into_iter();
        let missing = offered
            .iter()
            .zip(held)
            .filter_map(|(digest, held)| match held {
                Ok(true) => None,
                Ok(false) => Some(Ok(*digest)),
                Err(error) => Some(Err(error.into())),
            });
        missing.collect()
    }

    /// Drops the blocks that no root leads to. `roots` is called when the compaction has begun. Blocks that
    /// are put from then on are kept, but not old blocks to which only these link: add no root to old
    /// blocks between the call of `roots` and the end. Fails, and drops nothing, if a block is missing,
    /// since the blocks to which it links are unknown.
    pub fn collect_garbage(
        &self,
        roots: impl FnOnce() -> Vec<Digest>,
    ) -> io::Result<CompactionStats> {
        let compaction = self.0.begin_compaction()?;
        let mut live = HashSet::new();
        let mut left = roots();
        while let Some(digest) = left.pop() {
            if live.insert(digest) {
                let block = self.get(&digest)?.ok_or(io::ErrorKind::NotFound)?;
                left.extend(block.links);
            }
        }
        Ok(compaction.finish_list(&live)?)
    }
}
