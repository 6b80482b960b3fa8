//! Any text as a manifest, with and without a checksum that holds. A manifest that is accepted is
//! the same when it is encoded and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sealstone::Digest;
use sealstone::format::Manifest;

fuzz_target!(|text: &str| {
    let _ = Manifest::parse(text.as_bytes());
    for begin in [
        "sealstone 1",
        "sealstone 3\nhash blake2b-256",
        "sealstone 3",
    ] {
        let body = format!("{begin}\n{text}\n");
        let forged = format!("{body}checksum {}\n", Digest::of(body.as_bytes()));
        if let Ok(manifest) = Manifest::parse(forged.as_bytes()) {
            let again = Manifest::parse(manifest.encode().as_bytes());
            assert_eq!(again, Ok(manifest));
        }
    }
});
