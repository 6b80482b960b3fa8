//! Every operation of a store's life fails in every way that it can.
//!
//! A fault is counted only where it can happen, so the Nth is the Nth operation that it concerns.
//! Threads in the background make that a different operation in every run, which changes nothing:
//! the checks are right for any order. A fault moves on until a life ends before it strikes.
//!
//! By default a sample is run. `SEALSTONE_FAULTS=all cargo test --release --test nth_fault --
//! --nocapture` runs all and prints their number.

#[path = "../common/mod.rs"]
mod common;
mod fault;
mod life;

use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use std::{env, thread};

use fault::{Fault, Injector, Lasting};
use life::Life;

/// Panics in any thread, except in the checks of this test.
static ENGINE_PANICS: AtomicUsize = AtomicUsize::new(0);

fn count_panics() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let is_check = info
            .location()
            .is_some_and(|location| location.file().contains("tests"));
        if !is_check {
            ENGINE_PANICS.fetch_add(1, Ordering::AcqRel);
        }
        print(info);
    }));
}

#[derive(Default)]
struct Tally {
    cases: AtomicUsize,
    hits: AtomicUsize,
    /// Operations that the fault concerns, counted in the life that ended before it struck.
    operations: AtomicUsize,
    failed: Mutex<Vec<String>>,
}

/// Moves a fault from operation to operation.
fn live_all(fault: Fault, lasting: Lasting, begin: usize, step: usize, tally: &Tally) {
    for at in (begin..).step_by(step) {
        let injector = Injector::new(fault, lasting, at);
        let lived = panic::catch_unwind(AssertUnwindSafe(|| Life::run(&injector)));
        if lived.is_err() {
            tally.failed.lock().unwrap().push(format!("{injector:?}"));
        }
        if injector.hits() == 0 {
            tally
                .operations
                .fetch_add(injector.count(), Ordering::AcqRel);
            return;
        }
        tally.cases.fetch_add(1, Ordering::AcqRel);
        tally.hits.fetch_add(injector.hits(), Ordering::AcqRel);
    }
}

#[test]
fn any_fault_at_any_operation_is_an_error_and_loses_nothing() {
    count_panics();
    let step = match env::var("SEALSTONE_FAULTS").as_deref() {
        Ok("all") => 1,
        Ok(step) => step.parse().unwrap(),
        Err(_) => 7,
    };
    let begin = Instant::now();
    let tally = Tally::default();
    let kinds: Vec<(Fault, Lasting)> = Fault::ALL
        .into_iter()
        .flat_map(|fault| [(fault, Lasting::Once), (fault, Lasting::UntilLifted)])
        .collect();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(&(fault, lasting)) = kinds.get(next.fetch_add(1, Ordering::AcqRel)) {
                    // Each kind begins at another operation of the sample.
                    live_all(fault, lasting, fault as usize % step, step, &tally);
                }
            });
        }
    });
    let failed = tally.failed.into_inner().unwrap();
    let panics = ENGINE_PANICS.load(Ordering::Acquire);
    let cases = tally.cases.into_inner();
    eprintln!(
        "{} operations x faults, {cases} lives with a fault, {} faults: {panics} panics, {} broken \
         promises, {:.1} s",
        tally.operations.into_inner(),
        tally.hits.into_inner(),
        failed.len(),
        begin.elapsed().as_secs_f64()
    );
    assert!(
        failed.is_empty() && panics == 0,
        "{panics} panics, {failed:?}"
    );
    assert!(cases > 2000 / step, "{cases}");
}
