//! `compact`: drops the objects that are not in a list.

use std::io::Write as _;
use std::path::Path;

use sealstone::{CompactionStats, Digest, Store};
use serde::Serialize;

use crate::args::{CompactArguments, Global};
use crate::digest_list;
use crate::exit::{Exit, Failure};
use crate::output::{Output, count, size};
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
    let list = arguments.live.as_deref();
    let mut live = list.map_or_else(|| Ok(Vec::new()), digest_list::read)?;
    live.sort_unstable();
    live.dedup();
    if let (Some(list), true) = (list, live.is_empty()) {
        // Most likely the command that made the list has failed.
        return Err(would_drop_everything(list, "it contains no digest").into());
    }

    let store = global.open_to_write(arguments.waiting)?;
    if let Some(list) = list {
        // A dry run refuses the same lists, and neither has begun anything by then.
        require_held(&live, list, arguments.allow_unknown, &store)?;
    }
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
        let unknown = count(stats.live_missing, "digest");
        let are = if stats.live_missing == 1 { "is" } else { "are" };
        let note = format_args!("{unknown} of the list {are} not in the store");
        global.messages().note(note);
    }
    if global.json {
        let (dry_run, stats) = (arguments.dry_run, &stats);
        output.json(&Outcome { dry_run, stats })?;
    } else {
        print(&stats, arguments.dry_run, output)?;
    }
    Ok(Exit::Done)
}

/// Refuses a list that names objects which the store does not hold. Most likely it belongs to another
/// store or another day, and objects that were dropped by mistake cannot be brought back.
fn require_held(
    live: &[Digest],
    list: &Path,
    allow_unknown: bool,
    store: &Store,
) -> anyhow::Result<()> {
    let (mut unknown, mut example) = (0, None);
    for digest in live {
        if !store.contains(digest)? {
            unknown += 1;
            example = example.or(Some(digest));
        }
    }
    let Some(example) = example else {
        return Ok(());
    };
    if unknown == live.len() {
        return Err(would_drop_everything(list, "the store holds none of its digests").into());
    }
    if !allow_unknown {
        let are = if unknown == 1 { "is" } else { "are" };
        let (list, unknown) = (list.display(), count(unknown as u64, "digest"));
        return Err(Failure::Usage(format!(
            "{list}: {unknown} {are} not in the store, for instance {example}; nothing was done; make \
             sure that the list belongs to this store, then pass --allow-unknown"
        ))
        .into());
    }
    Ok(())
}

fn would_drop_everything(list: &Path, why: &str) -> Failure {
    let list = list.display();
    Failure::Usage(format!(
        "{list}: {why}, so every object would be dropped; nothing was done; make the list again, \
         or pass --drop-everything instead of --live to drop them all"
    ))
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
