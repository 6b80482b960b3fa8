//! Writes a seed corpus for each target below a folder: `cargo run --example seeds -- FOLDER`.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use sealstone::Digest;
use sealstone::format::journal::Encoder;
use sealstone_fuzz::{Files, content, sample};

fn write(root: &Path, target: &str, seeds: &[Vec<u8>]) -> io::Result<()> {
    let folder = root.join(target);
    fs::create_dir_all(&folder)?;
    for seed in seeds {
        let name = &Digest::of(seed).to_string()[..16];
        fs::write(folder.join(name), seed)?;
    }
    println!("{target}: {} seeds", seeds.len());
    Ok(())
}

fn of_kind(files: &Files, ending: &str) -> Vec<Vec<u8>> {
    let named = files.iter().filter(|(name, _)| name.ends_with(ending));
    named.map(|(_, bytes)| bytes.clone()).collect()
}

/// Gives each journal the header of segment 7, which the target reads, and recomputes its
/// checksums.
fn journals(files: &Files) -> Vec<Vec<u8>> {
    let mut all = of_kind(files, ".jnl");
    for bytes in &mut all {
        let header = Encoder::new(7).into_bytes();
        bytes.splice(..header.len(), header);
        sealstone_fuzz::forge::recompute("seg-000007.jnl", bytes);
    }
    all
}

/// Returns each manifest as a whole, and without the first and the last line, which the target
/// adds.
fn manifests(files: &Files) -> Vec<Vec<u8>> {
    let mut all = of_kind(files, "MANIFEST");
    for whole in all.clone() {
        let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
        all.push(lines[1..lines.len() - 1].concat());
    }
    all
}

/// Returns the lines of manifests of refs behind the head that the target adds.
fn ref_manifests() -> Vec<Vec<u8>> {
    let [nonce, other] = ["01", "02"].map(|byte| byte.repeat(16));
    let words = format!("data_bytes 100 objects 7 sidecar {}", Digest::of(&nonce));
    let lines = [
        "emptied".to_owned(),
        format!("condemned {nonce}\ncondemned {other}\nemptied"),
        "hash sha256".to_owned(),
        format!("hash blake2b\nsealed 0 {words} in {nonce}\nsealed 7 {words} in {other}"),
        format!(
            "hash blake3\nrun {} bytes 4096 in {other}",
            Digest::of(&other)
        ),
    ];
    lines.map(String::into_bytes).to_vec()
}

/// Returns any bytes, for targets that derive their input from them.
fn numbers() -> Vec<Vec<u8>> {
    let lengths = [0, 1, 8, 40, 100, 300, 1000];
    (1_u8..)
        .zip(lengths)
        .map(|(n, len)| content(n, len))
        .collect()
}

fn main() -> io::Result<()> {
    let Some(root) = env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::other("name the folder to write to"));
    };
    let files = sample();
    let sidecars = of_kind(&files, ".idx");
    let forged = sidecars.iter().flat_map(|sidecar| {
        let covered = &sidecar[..sidecar.len() - 32];
        let sound = [&[1], &covered[12..]].concat();
        [sound, [&[0], covered].concat()]
    });
    write(&root, "sidecar_forged", &forged.collect::<Vec<_>>())?;
    write(&root, "sidecar", &sidecars)?;
    write(&root, "records", &of_kind(&files, ".dat"))?;
    write(&root, "journal", &journals(&files))?;
    write(&root, "manifest", &manifests(&files))?;
    write(&root, "ref_manifest", &ref_manifests())?;
    let mut runs = of_kind(&files, ".run");
    runs.extend(numbers());
    write(&root, "set_index", &runs)?;
    write(&root, "directory", &numbers())?;
    write(&root, "operations", &numbers())
}
