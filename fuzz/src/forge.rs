//! Recomputes checksums, as a forger does after changing a file. Written after the format's text,
//! not with the library's own encoders, which refuse to encode nonsense.

use sealstone::Digest;
use sealstone::format::set_index::PAGE_BYTES;

use crate::Files;

const SUM_BYTES: usize = 16;

/// Makes the checksums of a file hold, if the file is long enough to have them.
pub fn recompute(name: &str, bytes: &mut Vec<u8>) {
    let done = match name.rsplit('.').next() {
        Some("idx") => sidecar(bytes),
        Some("jnl") => journal(bytes),
        Some("run") => set_index(bytes),
        Some("MANIFEST") => manifest(bytes),
        _ => None,
    };
    // A file that is too short for a checksum stays as it is.
    let _ = done;
}

fn sidecar(bytes: &mut [u8]) -> Option<()> {
    let (covered, sum) = bytes.split_last_chunk_mut::<32>()?;
    *sum = *Digest::of(covered).as_bytes();
    Some(())
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    usize::try_from(u32::from_le_bytes(*bytes)).ok()
}

/// Recomputes frame by frame, since each checksum covers the checksum before it.
fn journal(bytes: &mut [u8]) -> Option<()> {
    const HEADER_BYTES: usize = sealstone::format::journal::HEADER_BYTES;
    let header = bytes.get(..HEADER_BYTES)?;
    let digest = Digest::of(&[&[0; SUM_BYTES][..], header].concat());
    let mut sum = digest.as_bytes()[..SUM_BYTES].to_vec();
    let mut begin = HEADER_BYTES;
    loop {
        let entries_bytes = number(bytes, begin + 4)?.checked_mul(44)?;
        let end = begin.checked_add(16)?.checked_add(entries_bytes)?;
        let digest = Digest::of(&[&sum, bytes.get(begin..end)?].concat());
        sum.copy_from_slice(&digest.as_bytes()[..SUM_BYTES]);
        let stored = bytes.get_mut(end..end.checked_add(SUM_BYTES)?)?;
        stored.copy_from_slice(&sum);
        begin = end + SUM_BYTES;
    }
}

/// Returns the checksums of the pages of a run, from the beginning of its table on.
pub fn page_sums(table: &[u8]) -> impl Iterator<Item = u64> + '_ {
    let numbered = (0..).zip(table.as_chunks::<PAGE_BYTES>().0);
    numbered.map(|(number, page)| {
        let digest = Digest::of(page);
        let leading = digest.as_bytes().first_chunk().expect("it has 32 bytes");
        u64::from_le_bytes(*leading).wrapping_add(number)
    })
}

/// Recomputes the checksum of the header, and the checksums of the pages at the end.
fn set_index(bytes: &mut [u8]) -> Option<()> {
    let covered_bytes = number(bytes, 4)?.checked_mul(48)?.checked_add(44)?;
    let (covered, rest) = bytes.split_at_mut_checked(covered_bytes)?;
    *rest.first_chunk_mut::<32>()? = *Digest::of(covered).as_bytes();
    let table_at = (covered_bytes + 32).next_multiple_of(PAGE_BYTES);
    let pages = bytes.len().checked_sub(table_at)? / (PAGE_BYTES + 8);
    let (table, stored) = bytes[table_at..].split_at_mut(pages * PAGE_BYTES);
    for (stored, sum) in stored.chunks_exact_mut(8).zip(page_sums(table)) {
        stored.copy_from_slice(&sum.to_le_bytes());
    }
    Some(())
}

fn manifest(bytes: &mut Vec<u8>) -> Option<()> {
    const LINE: &[u8] = b"checksum ";
    let at = bytes.windows(LINE.len()).rposition(|part| part == LINE)?;
    bytes.truncate(at);
    let sum = Digest::of(&*bytes);
    bytes.extend_from_slice(format!("checksum {sum}\n").as_bytes());
    Some(())
}

/// Makes the manifest describe the sidecars and data that are there, which only a commit of the
/// store should do.
pub fn bind(files: &mut Files) {
    let manifest = files.get("MANIFEST").map(Vec::as_slice);
    let Ok(mut manifest) = sealstone::format::Manifest::parse(manifest.unwrap_or_default()) else {
        return;
    };
    for (id, segment) in &mut manifest.sealed {
        let sidecar = files.get(&format!("seg-{id:06}.idx"));
        if let Some(sum) = sidecar.and_then(|sidecar| sidecar.last_chunk::<32>()) {
            segment.sidecar_checksum = (*sum).into();
        }
        if let Some(count) = sidecar.and_then(|sidecar| sidecar.get(4..)?.first_chunk()) {
            segment.objects = u32::from_le_bytes(*count);
        }
        if let Some(data) = files.get(&format!("seg-{id:06}.dat")) {
            segment.data_bytes = data.len() as u64;
        }
    }
    files.insert("MANIFEST".to_owned(), manifest.encode().into_bytes());
}
