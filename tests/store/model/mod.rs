//! Random histories of a store, compared at every step with a plain map.
//!
//! The histories are the same every time; `PROPTEST_CASES` sets their number. Durability is tested
//! elsewhere (`processes/kill.rs`, `faults.rs`), so nothing is synced here, which leaves time for
//! many more histories.

mod actions;
mod pair;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use sealstone::{HashFunction, Options, ReadMode, VerifyReads};

use crate::common::hash::{hash_function, options_of};
use crate::common::workload::{self, assert_verifies};
use actions::{SEGMENT_BYTES, actions};
use pair::Pair;

/// The number of histories for each read mode without `PROPTEST_CASES`: about 15 seconds.
const CASES: u32 = 150;
/// The number of histories for each other hash function.
const CASES_OF_OTHERS: u32 = 20;
const ACTIONS_MAX: usize = 60;

/// How a history opens its store.
#[derive(Clone, Copy, Debug)]
struct Manner {
    function: HashFunction,
    mode: ReadMode,
    verify: VerifyReads,
    /// Whether runs of the set index cover sealed segments and blocks are written before a sync. So
    /// small a store has neither by itself.
    is_as_if_large: bool,
}

impl Manner {
    fn options(self) -> Options {
        let options = options_of(self.function)
            .read_mode(self.mode)
            .verify_reads(self.verify)
            .operations(workload::without_syncing());
        if self.is_as_if_large {
            options.set_index_minimum(1, 0).write_block_bytes(256)
        } else {
            options
        }
    }
}

fn cases() -> u32 {
    let cases = std::env::var("PROPTEST_CASES").ok();
    cases.map_or(CASES, |cases| cases.parse().unwrap())
}

fn run(function: HashFunction, mode: ReadMode, cases: u32) {
    let config = Config {
        cases,
        max_shrink_iters: 2000,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let manners =
        (any::<bool>(), any::<bool>()).prop_map(|(is_as_if_large, is_first_only)| Manner {
            function,
            mode,
            verify: if is_first_only {
                VerifyReads::FirstRead
            } else {
                VerifyReads::EveryRead
            },
            is_as_if_large,
        });
    let histories = (
        manners,
        0..SEGMENT_BYTES.len(),
        prop::collection::vec(actions(), 1..ACTIONS_MAX),
    );
    let result =
        TestRunner::new_with_rng(config, rng).run(&histories, |(manner, size, actions)| {
            let mut pair = Pair::new(manner, SEGMENT_BYTES[size]);
            for action in actions {
                pair.apply(action);
            }
            pair.check_everything();
            pair.reopen(SEGMENT_BYTES[size]);
            assert_verifies(pair.store());
            Ok(())
        });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, history)) => panic!("{reason}\nafter {history:?}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}

#[test]
fn a_mapped_store_behaves_as_a_map() {
    run(hash_function(), ReadMode::Mmap, cases());
}

#[test]
fn a_store_that_reads_by_position_behaves_as_a_map() {
    run(hash_function(), ReadMode::Pread, cases());
}

#[test]
fn a_store_of_each_hash_function_behaves_as_a_map() {
    for &function in HashFunction::ALL {
        if function != hash_function() {
            run(function, ReadMode::Mmap, CASES_OF_OTHERS);
        }
    }
}
