//! `compact`: drops what is not in a list.

use std::io::Write as _;

use sealstone::CompactionStats;
use serde::Serialize;

use crate::args::{CompactArguments, Global};
use crate::exit::{Exit, Failure};
use crate::live_list;
use crate::output::{Output, complain, count, size};
use crate::progress;

#[derive(Serialize)]
struct Outcome<'a> {
    dry_run: bool,
    #[serde(flatten)]
    stats: &'a CompactionStats,
}

pub fn run(
    arguments: &CompactArguments,
    global: &Global,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    let live = live_list::read(&arguments.live)?;
    if live.is_empty() && !arguments.dry_run && !arguments.allow_empty {
        // Most likely the command that should have made the list has failed.
        let list = arguments.live.display();
        return Err(Failure::Usage(format!(
            "{list}: the list is empty, which would drop every object; nothing was done; \
             pass --allow-empty if that is meant"
        ))
        .into());
    }

    let store = global.open_to_write()?;
    let compaction = store.begin_compaction()?;
    let bar = progress::spinner("{spinner} compacting {elapsed}");
    let stats = if arguments.dry_run {
        compaction.plan_list(&live)?
    } else {
        compaction.finish_list(&live)?
    };
    store.close()?;
    bar.finish_and_clear();

    if stats.live_missing > 0 {
        let missing = count(stats.live_missing, "digest");
        complain(format_args!(
            "warning: {missing} in the list not in the store; make sure that the list belongs to it"
        ));
    }
    if global.json {
        let (dry_run, stats) = (arguments.dry_run, &stats);
        output.json(&Outcome { dry_run, stats })?;
    } else {
        print(&stats, arguments.dry_run, output)?;
    }
    Ok(Exit::Done)
}

fn print(stats: &CompactionStats, dry_run: bool, output: &mut Output) -> anyhow::Result<()> {
    let (kept, dropped, mode) = if dry_run {
        ("would keep", "would drop", "; dry run, nothing was dropped")
    } else {
        ("kept", "dropped", "")
    };
    let sign = if stats.bytes_reclaimed < 0 { "-" } else { "" };
    writeln!(
        output,
        "{kept} {}, {dropped} {}{mode}\nreclaimed  {sign}{}\nfiles      {} before, {} after\n\
         segments   {} before, {} after",
        count(stats.live_objects, "object"),
        count(stats.dropped_objects, "object"),
        size(stats.bytes_reclaimed.unsigned_abs()),
        size(stats.bytes_before),
        size(stats.bytes_after),
        stats.segments_before,
        stats.segments_after,
    )?;
    Ok(())
}
