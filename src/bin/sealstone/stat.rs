//! `stat`: shows how much is stored.

use std::io::{self, Write};

use indicatif::HumanCount;
use sealstone::{SEGMENT_BYTES_MAX_DEFAULT, SegmentStats, StoreStats};
use supports_unicode::supports_unicode;

use crate::args::{Global, StatArguments};
use crate::exit::Exit;
use crate::output::{Output, count, size};

/// Width of a bar that shows a full segment, in letters.
const BAR_CELLS: u64 = 10;
/// The blocks that fill an eighth of a cell, two eighths and so on.
const EIGHTHS: [char; 7] = [
    '\u{258f}', '\u{258e}', '\u{258d}', '\u{258c}', '\u{258b}', '\u{258a}', '\u{2589}',
];
const FULL: char = '\u{2588}';

pub fn run(
    arguments: &StatArguments,
    global: &Global,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    let stats = global.open_to_read()?.stats();
    if global.json {
        let mut figures = serde_json::to_value(&stats)?;
        if let Some(fields) = figures.as_object_mut() {
            // Nothing has happened since this process opened the store.
            fields.remove("events");
            // The commands open a store with the default.
            let bytes_max = SEGMENT_BYTES_MAX_DEFAULT.into();
            fields.insert("segment_bytes_max".to_owned(), bytes_max);
        }
        output.json(&figures)?;
        return Ok(Exit::Done);
    }
    print_totals(&stats, output)?;
    if arguments.segments {
        print_segments(&stats.segments, output)?;
    }
    Ok(Exit::Done)
}

fn print_totals(stats: &StoreStats, output: &mut impl Write) -> io::Result<()> {
    let segments = stats.segments.len();
    let uncovered = count(stats.uncovered_segments, "sealed segment");
    writeln!(output, "objects      {}", HumanCount(stats.objects))?;
    writeln!(output, "content      {}", size(stats.content_bytes))?;
    writeln!(output, "data files   {}", size(stats.data_file_bytes))?;
    writeln!(output, "index files  {}", size(stats.index_file_bytes))?;
    writeln!(
        output,
        "set index    {} in {}",
        size(stats.set_index_file_bytes),
        count(stats.set_index_runs, "run"),
    )?;
    writeln!(output, "hash         {}", stats.hash_function)?;
    writeln!(output, "files        {}", HumanCount(stats.files))?;
    writeln!(output, "segments     {segments}")?;
    if stats.torn_files > 0 {
        writeln!(
            output,
            "torn         {} in {} (cut off from segments; `verify --help` says more)",
            size(stats.torn_file_bytes),
            count(stats.torn_files, "file"),
        )?;
    }
    if stats.foreign_files > 0 {
        let files = count(stats.foreign_files, "file");
        writeln!(
            output,
            "foreign      {files} (not the store's; `verify` names them)"
        )?;
    }
    writeln!(output, "uncovered    {uncovered} not yet in the set index")
}

fn print_segments(segments: &[SegmentStats], output: &mut impl Write) -> io::Result<()> {
    writeln!(
        output,
        "\nsegment  state    {:>12}  {:>14}  {:>14}  full",
        "objects", "data bytes", "index bytes"
    )?;
    let is_unicode = supports_unicode();
    for segment in segments {
        writeln!(
            output,
            "{:06}   {:<7}  {:>12}  {:>14}  {:>14}  {:>4} {}",
            segment.id,
            format!("{:?}", segment.state).to_lowercase(),
            HumanCount(segment.objects).to_string(),
            HumanCount(segment.data_bytes).to_string(),
            HumanCount(segment.index_bytes).to_string(),
            format!("{}%", percent(segment.data_bytes)),
            bar(segment.data_bytes, is_unicode),
        )?;
    }
    Ok(())
}

/// Returns how full a segment is; more than 100 if one object is larger than a segment should be.
fn percent(data_bytes: u64) -> u64 {
    data_bytes.saturating_mul(100) / SEGMENT_BYTES_MAX_DEFAULT
}

/// Returns the picture of how full a segment is. A segment that has data shows something, however
/// little.
fn bar(data_bytes: u64, is_unicode: bool) -> String {
    let full = SEGMENT_BYTES_MAX_DEFAULT;
    let units = BAR_CELLS * if is_unicode { 8 } else { 1 };
    let filled = data_bytes.min(full).saturating_mul(units).div_ceil(full);
    if !is_unicode {
        return (0..filled).map(|_| '#').collect();
    }
    let (cells, eighths) = (filled / 8, filled % 8);
    let rest = (1..).zip(EIGHTHS).find(|(number, _)| *number == eighths);
    let rest = rest.map(|(_, block)| block);
    (0..cells).map(|_| FULL).chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_segment_is_full() {
        let full = SEGMENT_BYTES_MAX_DEFAULT;
        let eighth = full / 80;
        for (bytes, blocks, letters) in [
            (0, "", ""),
            (1, "\u{258f}", "#"),
            (4 * eighth, "\u{258c}", "#"),
            (full / 4, "\u{2588}\u{2588}\u{258c}", "###"),
            (full - 1, &FULL.to_string().repeat(10), "##########"),
            (u64::MAX, &FULL.to_string().repeat(10), "##########"),
        ] {
            assert_eq!(bar(bytes, true), blocks, "{bytes}");
            assert_eq!(bar(bytes, false), letters, "{bytes}");
        }
        assert_eq!(percent(full / 2), 50);
        assert_eq!(percent(full * 2), 200);
    }
}
