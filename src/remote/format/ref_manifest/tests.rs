use super::*;

/// The text of a manifest that must be read for ever.
const GOLDEN: &str = "\
sealstone-ref 1
ref 01010101010101010101010101010101
number 42
nonce 02020202020202020202020202020202
writer 03030303030303030303030303030303
epoch 7
push 04040404040404040404040404040404
parent 05050505050505050505050505050505
condemned 06060606060606060606060606060606
condemned 07070707070707070707070707070707
hash blake2b
sealed 1 data_bytes 268435012 objects 261121 sidecar 62d0f4fea89bcc9d85f25de8b1f5bf2d3aca5d1c3a9c2c2ce8ba4a3b1eab7e42 in 08080808080808080808080808080808
sealed 4 data_bytes 0 objects 0 sidecar 62d0f4fea89bcc9d85f25de8b1f5bf2d3aca5d1c3a9c2c2ce8ba4a3b1eab7e42 in 04040404040404040404040404040404
run 0909090909090909090909090909090909090909090909090909090909090909 bytes 3145728 in 08080808080808080808080808080808
run 0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a bytes 0 in 04040404040404040404040404040404
";

fn nonce(byte: u8) -> Nonce {
    Nonce::from([byte; 16])
}

fn sample() -> RefManifest {
    let segment = |data_bytes, objects, folder| RefSegment {
        sealed: SealedSegment {
            data_bytes,
            objects,
            sidecar_checksum: "62d0f4fea89bcc9d85f25de8b1f5bf2d3aca5d1c3a9c2c2ce8ba4a3b1eab7e42"
                .parse()
                .unwrap(),
        },
        folder: nonce(folder),
    };
    let run = |bytes, folder| RefRun {
        bytes,
        folder: nonce(folder),
    };
    RefManifest {
        ref_id: nonce(1),
        number: 42,
        nonce: nonce(2),
        writer: nonce(3),
        epoch: 7,
        push: nonce(4),
        parent: Some(nonce(5)),
        condemned: BTreeSet::from([nonce(6), nonce(7)]),
        state: Some(RefState {
            hash_function: HashFunction::Blake2b,
            segments: BTreeMap::from([
                (1, segment(268_435_012, 261_121, 8)),
                (4, segment(0, 0, 4)),
            ]),
            runs: BTreeMap::from([
                (Digest::from([9; 32]), run(3_145_728, 8)),
                (Digest::from([10; 32]), run(0, 4)),
            ]),
        }),
    }
}

fn parse(body: &str) -> Result<RefManifest, FormatError> {
    RefManifest::parse(with_checksum(body.to_owned()).as_bytes())
}

#[test]
fn the_text_is_the_golden_one() {
    assert_eq!(sample().encode(), with_checksum(GOLDEN.to_owned()));
    assert_eq!(parse(GOLDEN), Ok(sample()));
}

#[test]
fn an_emptied_manifest_keeps_all_but_the_segments() {
    let emptied = RefManifest {
        state: None,
        ..sample()
    };
    let (head, _) = GOLDEN.split_once("hash ").unwrap();
    assert_eq!(emptied.encode(), with_checksum(format!("{head}emptied\n")));
    assert_eq!(RefManifest::parse(emptied.encode().as_bytes()), Ok(emptied));
}

#[test]
fn the_first_manifest_has_no_parent_and_every_other_has_one() {
    let first = RefManifest {
        number: 1,
        parent: None,
        ..sample()
    };
    assert_eq!(
        RefManifest::parse(first.encode().as_bytes()),
        Ok(first.clone())
    );
    for (number, parent) in [
        (1, Some(nonce(5))),
        (2, None),
        (0, None),
        (0, Some(nonce(5))),
    ] {
        let wrong = RefManifest {
            number,
            parent,
            ..first.clone()
        };
        let parsed = RefManifest::parse(wrong.encode().as_bytes());
        assert!(matches!(parsed, Err(FormatError::Line(_))), "{number}");
    }
}

#[test]
fn h78_every_cut_and_every_flipped_bit_is_noticed() {
    let text = sample().encode();
    for cut in 0..text.len() {
        let parsed = RefManifest::parse(&text.as_bytes()[..cut]);
        assert_eq!(parsed, Err(FormatError::Checksum), "{cut}");
    }
    for at in 0..text.len() * 8 {
        let mut flipped = text.clone().into_bytes();
        flipped[at / 8] ^= 1 << (at % 8);
        assert_eq!(
            RefManifest::parse(&flipped),
            Err(FormatError::Checksum),
            "{at}"
        );
    }
}

#[test]
fn lines_that_are_missing_twice_or_in_another_order_are_refused() {
    let lines: Vec<&str> = GOLDEN.lines().collect();
    let text = |lines: &[&str]| lines.join("\n") + "\n";
    for at in 0..lines.len() {
        let is_optional = ["condemned", "sealed", "run"]
            .iter()
            .any(|word| lines[at].starts_with(word));
        let mut without = lines.clone();
        without.remove(at);
        assert_eq!(parse(&text(&without)).is_ok(), is_optional, "{}", lines[at]);
        let mut twice = lines.clone();
        twice.insert(at, lines[at]);
        assert!(parse(&text(&twice)).is_err(), "{}", lines[at]);
        if at > 0 {
            let mut swapped = lines.clone();
            swapped.swap(at - 1, at);
            assert!(parse(&text(&swapped)).is_err(), "{}", lines[at]);
        }
    }
}

#[test]
fn lines_of_other_spellings_are_refused() {
    for (line, other) in [
        ("number 42", "number 042"),
        ("number 42", "number +42"),
        ("epoch 7", "epoch 7 "),
        ("epoch 7", "epoch"),
        ("nonce 02", "nonce 2"),
        ("hash blake2b", "hash blake2b\nunknown 1"),
        ("sealed 1 ", "sealed 01 "),
        ("sealed 1 ", "sealed 5 "),
        ("sealed 1 ", "sealed 4294967296 "),
        ("sidecar 62d0f4fe", "sidecar 62D0F4FE"),
        ("objects 261121", "objects 67108754"),
        (" in 08", " at 08"),
        ("run 0a0a", "run 0A0A"),
        ("run 0a0a", "run 0a"),
        ("bytes 3145728", "bytes +1"),
        ("bytes 3145728", "long 3145728"),
        ("parent", "condemned"),
    ] {
        let body = GOLDEN.replacen(line, other, 1);
        assert!(matches!(parse(&body), Err(FormatError::Line(_))), "{other}");
    }
    let longer = GOLDEN.replacen("268435012", &DATA_BYTES_MAX.to_string(), 1);
    assert!(parse(&longer).is_ok());
    let too_long = GOLDEN.replacen("268435012", &(DATA_BYTES_MAX + 1).to_string(), 1);
    assert_eq!(parse(&too_long), Err(FormatError::Length));
    let newer = GOLDEN.replacen("sealstone-ref 1", "sealstone-ref 2", 1);
    assert_eq!(parse(&newer), Err(FormatError::Version));
    for hash in ["hash md5", "hash blake2b\r"] {
        let unknown = GOLDEN.replacen("hash blake2b", hash, 1);
        assert_eq!(parse(&unknown), Err(FormatError::Version));
    }
}
