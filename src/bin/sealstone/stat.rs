//! `stat`: shows how much is stored.

use std::io::{self, Write};

use indicatif::HumanCount;
use sealstone::{SegmentStats, StoreStats};

use crate::args::{Global, StatArguments};
use crate::exit::Exit;
use crate::output::{Output, count, size};

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
        "\nsegment  state    {:>12}  {:>16}  {:>16}",
        "objects", "data bytes", "index bytes"
    )?;
    for segment in segments {
        writeln!(
            output,
            "{:06}   {:<7}  {:>12}  {:>16}  {:>16}",
            segment.id,
            format!("{:?}", segment.state).to_lowercase(),
            HumanCount(segment.objects).to_string(),
            HumanCount(segment.data_bytes).to_string(),
            HumanCount(segment.index_bytes).to_string(),
        )?;
    }
    Ok(())
}
