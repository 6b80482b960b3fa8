//! Pushes of which one request fails.

use std::pin::pin;

use futures_util::future::{Either, select};
use sealstone::remote::PushReport;
use sealstone::{Error, RemoteError, Result};

use crate::bucket::Bucket;
use crate::faulty::{Fault, Faulty};
use crate::{Local, push, remote, runtime};

/// Pushes while one request fails. `None` if the request hung, so that the push was ended.
async fn push_until_it_hangs(
    faulty: &std::sync::Arc<Faulty>,
    local: &Local,
) -> Option<Result<PushReport>> {
    let remote = remote(faulty.clone());
    let push = pin!(push(&remote, local));
    match select(push, pin!(faulty.hangs())).await {
        Either::Left((pushed, _)) => Some(pushed),
        Either::Right(_) => None,
    }
}

/// Makes each request of a push fail in turn, in each way, and checks what the bucket holds then and
/// after the next push. `before` says what was pushed before, and `put` puts what is pushed.
fn every_fault(before: &[u8], put: impl Fn(&Local)) -> usize {
    let runtime = runtime();
    let mut cases = 0;
    for fault in Fault::ALL {
        for number in 0.. {
            let (local, bucket) = (Local::new(), Bucket::new());
            let faulty = Faulty::new(bucket.0.clone());
            let mut old = None;
            for &number in before {
                local.put(number);
                runtime
                    .block_on(push(&remote(faulty.clone()), &local))
                    .unwrap();
                old = Some(local.digests());
            }
            put(&local);
            let new = local.digests();
            faulty.plan(number, fault);
            let pushed = runtime.block_on(push_until_it_hangs(&faulty, &local));
            if !faulty.was_reached() {
                assert!(matches!(pushed, Some(Ok(_))), "{pushed:?}");
                break;
            }
            cases += 1;
            let log = faulty.log();
            let case = format!("{fault:?} {number} {}: {pushed:?}", log[number]);
            faulty.heal();
            let there = runtime.block_on(bucket.check("main")).unwrap_or_default();
            let is_old = there == old.clone().unwrap_or_default();
            match pushed {
                Some(Ok(_)) => assert_eq!(there, new, "{case}"),
                Some(Err(Error::Remote(RemoteError::Unknown { .. }))) | None => {
                    assert!(is_old || there == new, "{case}");
                }
                Some(Err(_)) => assert!(is_old, "{case}"),
            }
            // The same store goes on, or the process that died is started again.
            runtime
                .block_on(push(&remote(faulty.clone()), &local))
                .unwrap_or_else(|error| panic!("{case}: {error}"));
            assert_eq!(runtime.block_on(bucket.check("main")), Some(new), "{case}");
        }
    }
    cases
}

#[test]
fn h70_h71_a_first_push_whose_requests_fail_leaves_a_whole_ref() {
    let cases = every_fault(&[], |local| local.put(1));
    assert!(cases > 100, "{cases}");
    println!("{cases} cases");
}

#[test]
fn h70_h71_a_push_whose_requests_fail_leaves_the_old_state_or_the_new_one() {
    let cases = every_fault(&[1, 2], |local| local.put(3));
    assert!(cases > 80, "{cases}");
    println!("{cases} cases");
}

#[test]
fn h70_h71_an_object_in_several_parts_is_there_as_a_whole_or_not_at_all() {
    let content: Vec<u8> = (0..9_u32 << 20).map(|at| (at * 7 % 251) as u8).collect();
    let cases = every_fault(&[1], |local| {
        local.store.put(&content).unwrap();
    });
    assert!(cases > 40, "{cases}");
    println!("{cases} cases");
}
