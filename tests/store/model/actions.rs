//! What a history does to a store, and the strategies that choose it.

use proptest::prelude::*;
use proptest::sample::Index;
use sealstone::Digest;

/// Lengths around the sizes of segments and of the append buffer; the smallest repeat often.
const LENS: [usize; 13] = [
    0,
    1,
    2,
    30,
    195,
    196,
    197,
    1000,
    4092,
    5000,
    (256 << 10) - 4,
    (256 << 10) - 3,
    300_000,
];

/// These segment sizes hold one object, a few, some dozens, or all of them.
pub const SEGMENT_BYTES: [u64; 6] = [0, 1, 200, 4096, 64 << 10, 4 << 20];

pub type Content = (u64, usize);

#[derive(Clone, Debug)]
pub enum Action {
    Put(Content),
    PutAgain(Index),
    PutMany(Vec<Content>),
    Get(Index),
    GetMany(Vec<Index>),
    GetAbsent(u64),
    Find(Index, usize),
    FindText(String),
    Walk,
    /// A walk that goes on while these contents are put and a compaction drops objects.
    WalkBeside(Vec<Content>, Keep),
    Hold(Index),
    LetGo,
    Flush,
    Sync,
    Reopen(usize),
    Compact(Keep),
    CompactInSteps(Steps),
    /// A trim to so many 256ths of the data files.
    Trim(u64),
    Verify,
    Checkpoint,
    OpenBeside(bool),
    ReadBeside(Index),
    Refresh,
    SyncAndRefresh,
    CloseBeside,
}

/// What a compaction keeps: an arbitrary set that depends on the digest alone.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    seed: u8,
    of_256: u16,
}

#[derive(Clone, Debug)]
pub struct Steps {
    pub keep: Keep,
    pub puts: Vec<Content>,
    pub puts_again: Vec<Index>,
    pub sync_between: bool,
    pub finish: bool,
}

impl Keep {
    pub fn keeps(self, digest: &Digest) -> bool {
        let mixed = digest.as_bytes()[7].wrapping_mul(167) ^ self.seed;
        u16::from(mixed) < self.of_256
    }
}

fn contents() -> impl Strategy<Value = Content> {
    let len = prop_oneof![
        12 => 0..7_usize,
        6 => 7..10_usize,
        1 => 10..LENS.len(),
    ];
    (0..12_u64, len.prop_map(|len| LENS[len]))
}

fn batches(count_max: usize) -> impl Strategy<Value = Vec<Content>> {
    prop::collection::vec(contents(), 0..count_max)
}

fn indexes(count_max: usize) -> impl Strategy<Value = Vec<Index>> {
    prop::collection::vec(any::<Index>(), 0..count_max)
}

fn keeps() -> impl Strategy<Value = Keep> {
    let of_256 = prop_oneof![Just(0), Just(256), 0..256_u16, 150..256_u16];
    (any::<u8>(), of_256).prop_map(|(seed, of_256)| Keep { seed, of_256 })
}

fn steps() -> impl Strategy<Value = Steps> {
    let finish = prop::bool::weighted(0.8);
    (keeps(), batches(8), indexes(5), any::<bool>(), finish).prop_map(
        |(keep, puts, puts_again, sync_between, finish)| Steps {
            keep,
            puts,
            puts_again,
            sync_between,
            finish,
        },
    )
}

pub fn actions() -> impl Strategy<Value = Action> {
    prop_oneof![
        30 => contents().prop_map(Action::Put),
        6 => any::<Index>().prop_map(Action::PutAgain),
        8 => batches(20).prop_map(Action::PutMany),
        6 => any::<Index>().prop_map(Action::Get),
        2 => indexes(6).prop_map(Action::GetMany),
        2 => any::<u64>().prop_map(Action::GetAbsent),
        4 => (any::<Index>(), 1..65_usize).prop_map(|(index, len)| Action::Find(index, len)),
        2 => "[0-9a-fA-Fg]{0,3}|é|[0-9a-f]{64,66}".prop_map(Action::FindText),
        4 => Just(Action::Walk),
        2 => (batches(6), keeps()).prop_map(|(puts, keep)| Action::WalkBeside(puts, keep)),
        3 => any::<Index>().prop_map(Action::Hold),
        1 => Just(Action::LetGo),
        3 => Just(Action::Flush),
        5 => Just(Action::Sync),
        6 => (0..SEGMENT_BYTES.len()).prop_map(Action::Reopen),
        3 => keeps().prop_map(Action::Compact),
        4 => steps().prop_map(Action::CompactInSteps),
        3 => (0..=256_u64).prop_map(Action::Trim),
        2 => Just(Action::Verify),
        2 => Just(Action::Checkpoint),
        3 => any::<bool>().prop_map(Action::OpenBeside),
        3 => any::<Index>().prop_map(Action::ReadBeside),
        3 => Just(Action::Refresh),
        3 => Just(Action::SyncAndRefresh),
        1 => Just(Action::CloseBeside),
    ]
}
