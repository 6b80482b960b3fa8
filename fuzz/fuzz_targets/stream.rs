//! Any bytes as a stream of `sealstone export`, and any bytes behind a head that is right. A stream
//! that is accepted is the same when its records are written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sealstone::HashFunction;

#[expect(dead_code, reason = "the command line uses the rest")]
#[path = "../../src/bin/sealstone/stream/mod.rs"]
mod stream;

use stream::{Reader, StreamError, Writer};

fuzz_target!(|bytes: &[u8]| {
    let _ = rewritten(bytes);
    let mut behind_head = head();
    behind_head.extend_from_slice(bytes);
    if let Ok(again) = rewritten(&behind_head) {
        assert_eq!(again, behind_head);
    }
});

fn head() -> Vec<u8> {
    let mut head = Vec::new();
    Writer::begin(&mut head, HashFunction::default()).expect("memory can be written to");
    head
}

fn rewritten(bytes: &[u8]) -> Result<Vec<u8>, StreamError> {
    let mut reader = Reader::new(bytes)?;
    let mut again = Vec::new();
    let mut writer = Writer::begin(&mut again, reader.hash_function())?;
    while let Some(record) = reader.next_record()? {
        let digest = record.digest;
        let mut content = Vec::new();
        record.append_content(&mut content)?;
        assert!(content.len() < bytes.len());
        writer.record(&digest, &content)?;
    }
    writer.end()?;
    Ok(again)
}
