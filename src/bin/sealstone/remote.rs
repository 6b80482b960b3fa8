//! `push`, `pull` and `remote`: stores in an object store.

use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use indicatif::ProgressBar;
use sealstone::remote::{GcOptions, PushOptions, RefInfo, Remote};
use serde::Serialize;
use serde_json::json;

use crate::args::Global;
use crate::exit::{Exit, Failure};
use crate::output::{Output, count, size};
use crate::progress;
use crate::remote_args::{
    GcArguments, PullArguments, PushArguments, RemoteCommand, UrlArgument, VerifyRefArguments,
};
use crate::remote_get;

#[derive(Serialize)]
struct Pushed<'a> {
    r#ref: &'a str,
    number: u64,
    segments: usize,
    uploaded_segments: usize,
    uploaded_bytes: u64,
}

#[derive(Serialize)]
struct Pulled<'a> {
    r#ref: &'a str,
    number: u64,
    segments: usize,
    downloaded_segments: usize,
    downloaded_bytes: u64,
}

#[derive(Serialize)]
struct Verdict<'a> {
    r#ref: &'a str,
    clean: bool,
    number: u64,
    objects: u64,
    problems: Vec<serde_json::Value>,
}

#[derive(Serialize)]
struct Collected {
    dry_run: bool,
    refs: u64,
    files: u64,
    bytes: u64,
    manifests: u64,
}

/// Opens the bucket at a URL. The memory of this process is none: nothing would be left of it.
pub fn open(url: &str) -> anyhow::Result<Remote> {
    if url.trim_start().to_ascii_lowercase().starts_with("memory:") {
        let text = "memory: is for tests of a program; give file:///FOLDER or the URL of a bucket";
        return Err(Failure::Usage(text.to_owned()).into());
    }
    Ok(Remote::open(url)?)
}

pub fn push(
    arguments: &PushArguments,
    global: &Global,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    // The command line is checked before the store is opened.
    let remote = open(&arguments.url)?;
    let store = global.open_to_write(arguments.waiting)?;
    let options = PushOptions::new().take_over(arguments.take_over);
    let bar = progress::bytes("pushing");
    let pushed = remote.push_with(&store, &arguments.name, &options, |progress| {
        show(&bar, progress.bytes_done, progress.bytes_total)
    });
    bar.finish_and_clear();
    let report = pushed?;
    store.close()?;

    let pushed = Pushed {
        r#ref: &arguments.name,
        number: report.number,
        segments: report.segments,
        uploaded_segments: report.uploaded_segments,
        uploaded_bytes: report.uploaded_bytes,
    };
    if global.json {
        output.json(&pushed)?;
    } else {
        let segments = count(pushed.uploaded_segments as u64, "segment");
        let bytes = size(pushed.uploaded_bytes);
        let (name, number) = (pushed.r#ref, pushed.number);
        writeln!(output, "{name} {number}: {segments} uploaded, {bytes}")?;
    }
    Ok(Exit::Done)
}

pub fn pull(
    arguments: &PullArguments,
    global: &Global,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    let remote = open(&arguments.url)?;
    let bar = progress::bytes("pulling");
    let pulled = remote.pull_with(&arguments.name, &arguments.target, |progress| {
        show(&bar, progress.bytes_done, progress.bytes_total)
    });
    bar.finish_and_clear();
    let report = pulled?;

    let pulled = Pulled {
        r#ref: &arguments.name,
        number: report.number,
        segments: report.segments,
        downloaded_segments: report.downloaded_segments,
        downloaded_bytes: report.downloaded_bytes,
    };
    if global.json {
        output.json(&pulled)?;
    } else {
        output.names(&pulled_line(&arguments.target, &pulled))?;
    }
    Ok(Exit::Done)
}

fn pulled_line(target: &Path, pulled: &Pulled<'_>) -> Vec<u8> {
    let segments = count(pulled.downloaded_segments as u64, "segment");
    let bytes = size(pulled.downloaded_bytes);
    let (name, number) = (pulled.r#ref, pulled.number);
    let line = format!(
        "{}: {name} {number}, {segments} downloaded, {bytes}\n",
        target.display()
    );
    line.into_bytes()
}

pub fn remote(
    command: &RemoteCommand,
    global: &Global,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    match command {
        RemoteCommand::Ls(arguments) => list(arguments, global, output),
        RemoteCommand::Get(arguments) => remote_get::run(arguments, global, output),
        RemoteCommand::Verify(arguments) => verify(arguments, global, output),
        RemoteCommand::Gc(arguments) => collect(arguments, global, output),
    }
}

fn list(arguments: &UrlArgument, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let mut unreadable = 0;
    for info in open(&arguments.url)?.list()? {
        unreadable += u64::from(info.problem.is_some());
        if global.json {
            output.json(&json!({
                "ref": info.name,
                "number": info.number,
                "epoch": info.epoch,
                "hash_function": info.hash_function,
                "segments": info.segments,
                "objects": info.objects,
                "data_bytes": info.data_bytes,
                "problem": info.problem.map(|problem| json!({
                    "object": problem.object,
                    "reason": problem.reason,
                })),
            }))?;
        } else if let Some(problem) = &info.problem {
            let (object, reason) = (&problem.object, &problem.reason);
            writeln!(output, "{}: {object}: {reason}", info.name)?;
        } else {
            let RefInfo {
                name,
                number,
                objects,
                data_bytes,
                ..
            } = &info;
            let (objects, bytes) = (count(*objects, "object"), size(*data_bytes));
            writeln!(output, "{name} {number}: {objects}, {bytes}")?;
        }
    }
    if unreadable == 0 {
        return Ok(Exit::Done);
    }
    let refs = count(unreadable, "ref");
    let summary =
        format!("{refs} cannot be read; take over with a push from a store that is whole");
    global.messages().failure(summary, Exit::Damaged);
    Ok(Exit::Damaged)
}

fn verify(
    arguments: &VerifyRefArguments,
    global: &Global,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    let remote = open(&arguments.url)?;
    let bar = progress::bytes("verifying");
    let verified = remote.verify(&arguments.name, |progress| {
        show(&bar, progress.bytes_done, progress.bytes_total)
    });
    bar.finish_and_clear();
    let report = verified?;
    if global.json {
        let problems = report.problems.iter();
        let problems =
            problems.map(|found| json!({ "object": found.object, "reason": found.reason }));
        output.json(&Verdict {
            r#ref: &arguments.name,
            clean: report.is_clean(),
            number: report.number,
            objects: report.objects,
            problems: problems.collect(),
        })?;
    } else {
        for problem in &report.problems {
            writeln!(output, "{}: {}", problem.object, problem.reason)?;
        }
        if report.is_clean() {
            let objects = count(report.objects, "object");
            writeln!(
                output,
                "{} {}: {objects}, no damage",
                arguments.name, report.number
            )?;
        }
    }
    if report.is_clean() {
        return Ok(Exit::Done);
    }
    let found = count(report.problems.len() as u64, "problem");
    let summary = format!(
        "{}: {found}; take the ref over from a store that is whole",
        arguments.name
    );
    global.messages().failure(summary, Exit::Damaged);
    Ok(Exit::Damaged)
}

fn collect(arguments: &GcArguments, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let grace = Duration::from_secs(arguments.grace.saturating_mul(60 * 60));
    let options = GcOptions::new().grace(grace).dry_run(arguments.dry_run);
    let bar = progress::spinner("listing {pos} files");
    let collected = open(&arguments.url)?.gc(&options, |progress| {
        bar.set_position(progress.files);
        ControlFlow::Continue(())
    });
    bar.finish_and_clear();
    let report = collected?;
    let collected = Collected {
        dry_run: arguments.dry_run,
        refs: report.refs,
        files: report.files,
        bytes: report.bytes,
        manifests: report.manifests,
    };
    if global.json {
        output.json(&collected)?;
    } else {
        let (files, bytes) = (count(collected.files, "file"), size(collected.bytes));
        let did = if arguments.dry_run {
            "would be removed"
        } else {
            "removed"
        };
        writeln!(output, "{files} {did}, {bytes}")?;
    }
    Ok(Exit::Done)
}

pub fn show(bar: &ProgressBar, done: u64, total: u64) -> ControlFlow<()> {
    bar.set_length(total);
    bar.set_position(done);
    ControlFlow::Continue(())
}
