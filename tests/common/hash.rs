//! The hash function by which the tests name objects: the default one, or the one that
//! `SEALSTONE_HASH_FUNCTION` names. A process that a test starts inherits it.

use std::env;
use std::sync::OnceLock;

use sealstone::{Digest, HashFunction, Options};

const VARIABLE: &str = "SEALSTONE_HASH_FUNCTION";

pub fn hash_function() -> HashFunction {
    static FUNCTION: OnceLock<HashFunction> = OnceLock::new();
    *FUNCTION.get_or_init(|| {
        let Ok(name) = env::var(VARIABLE) else {
            return HashFunction::default();
        };
        let function = name.parse();
        function.unwrap_or_else(|error| panic!("{VARIABLE}={name}: {error}"))
    })
}

pub fn digest_of(content: &[u8]) -> Digest {
    hash_function().digest(content)
}

/// Returns options for a new store.
pub fn new_options() -> Options {
    options_of(hash_function())
}

/// Returns options for a new store of this function. They do not name the default, as applications
/// do not.
pub fn options_of(function: HashFunction) -> Options {
    if function == HashFunction::default() {
        Options::new()
    } else {
        Options::new().hash_function(function)
    }
}

/// Returns whether another function than the default is tested, and prints why a test is not for
/// it.
pub fn is_skipped(why: &str) -> bool {
    let function = hash_function();
    let is_other = function != HashFunction::default();
    if is_other {
        println!("left out with {function}: {why}");
    }
    is_other
}
