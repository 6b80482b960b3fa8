//! Any text as a manifest of a ref, with and without a checksum that holds. What is accepted is exactly
//! what encoding it returns.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sealstone::Digest;
use sealstone::remote::format::RefManifest;

/// The lines before those that the target varies most.
const HEAD: &str = "sealstone-ref 1
ref 01010101010101010101010101010101
number 42
nonce 02020202020202020202020202020202
writer 03030303030303030303030303030303
epoch 7
push 04040404040404040404040404040404
parent 05050505050505050505050505050505
";

fuzz_target!(|text: &str| {
    let _ = RefManifest::parse(text.as_bytes());
    for begin in ["", "sealstone-ref 1\n", HEAD] {
        let body = format!("{begin}{text}\n");
        let whole = format!("{body}checksum {}\n", Digest::of(&body));
        if let Ok(manifest) = RefManifest::parse(whole.as_bytes()) {
            assert_eq!(manifest.encode(), whole);
        }
    }
});
