//! `verify`: reads and checks everything, and names what is damaged.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::Path;

use sealstone::{Digest, Store, VerifyReport};
use serde::Serialize;

use crate::args::{Global, VerifyArguments};
use crate::exit::{Exit, undamaged};
use crate::output::{Output, count, size};
use crate::progress;

#[derive(Serialize)]
struct Verdict {
    clean: bool,
    #[serde(serialize_with = "number_of")]
    lost: BTreeSet<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leftovers_removed: Option<usize>,
    #[serde(flatten)]
    report: VerifyReport,
}

pub fn run(
    arguments: &VerifyArguments,
    global: &Global,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    // The verdict is printed first, whatever becomes of the store.
    let mut closed = Ok(());
    let verdict = if arguments.repair {
        let store = global.open_to_write(arguments.waiting)?;
        let mut report = check(&store)?;
        if !report.problems.is_empty() {
            // The first check of a writer repairs what it can; the second finds what is left.
            report = check(&store)?;
        }
        let mut verdict = Verdict::new(report, &store)?;
        if arguments.remove_leftovers && verdict.clean {
            let removed = store.remove_leftovers()?;
            verdict.leftovers_removed = Some(removed.len());
            let leftovers = &mut verdict.report.leftovers;
            leftovers.retain(|leftover| !removed.contains(leftover));
        }
        closed = store.close();
        verdict
    } else {
        let store = global.open_to_read()?;
        Verdict::new(check(&store)?, &store)?
    };

    if global.json {
        output.json(&verdict)?;
    } else {
        verdict.print(output)?;
    }
    closed?;
    if verdict.clean {
        return Ok(Exit::Done);
    }
    let summary = verdict.summary(global.folder()?);
    global.messages().failure(summary, Exit::Damaged);
    Ok(Exit::Damaged)
}

fn check(store: &Store) -> anyhow::Result<VerifyReport> {
    let bar = progress::bytes("verifying");
    let report = store.verify(|progress| {
        bar.set_length(progress.bytes_total);
        bar.set_position(progress.bytes_done);
        ControlFlow::Continue(())
    });
    bar.finish_and_clear();
    Ok(report?)
}

impl Verdict {
    fn new(report: VerifyReport, store: &Store) -> anyhow::Result<Self> {
        let mut lost = BTreeSet::new();
        for object in &report.corrupt {
            // An object that was damaged and put again has a whole copy, too.
            let found = undamaged(store.get(object.digest), |_| ())?;
            if found.flatten().is_none() {
                lost.insert(object.digest);
            }
        }
        Ok(Self {
            clean: report.is_clean(),
            lost,
            leftovers_removed: None,
            report,
        })
    }

    fn print(&self, output: &mut Output) -> anyhow::Result<()> {
        for object in &self.report.corrupt {
            let elsewhere = if self.lost.contains(&object.digest) {
                ""
            } else {
                "; another copy is whole"
            };
            writeln!(
                output,
                "{}  damaged: segment {}, offset {}, {}{elsewhere}",
                object.digest,
                object.segment,
                object.offset,
                count(object.len.into(), "byte"),
            )?;
        }
        for problem in &self.report.problems {
            writeln!(output, "{problem}")?;
        }
        for leftover in &self.report.leftovers {
            writeln!(output, "{leftover}")?;
        }
        if self.clean {
            let (objects, bytes) = (self.report.objects, self.report.bytes);
            let (objects, bytes) = (count(objects, "object"), size(bytes));
            writeln!(output, "{objects}, {bytes}: no damage")?;
        }
        if let Some(removed) = self.leftovers_removed {
            let files = count(removed as u64, "file");
            writeln!(output, "removed {files} that openings had kept")?;
        }
        Ok(())
    }

    /// Returns how much of each kind was found, each with its remedy.
    fn summary(&self, folder: &Path) -> String {
        let corrupt = self.report.corrupt.iter();
        let copies = corrupt.filter(|object| !self.lost.contains(&object.digest));
        let (lost, copies) = (self.lost.len() as u64, copies.count() as u64);
        let problems = self.report.problems.len() as u64;
        let kinds = [
            (lost, "damaged object", "put the original files again"),
            (copies, "damaged duplicate", "`compact` drops such copies"),
            (problems, "other problem", "do what each line says"),
        ];
        let found: Vec<_> = kinds
            .into_iter()
            .filter(|(number, ..)| *number > 0)
            .map(|(number, noun, remedy)| format!("{}: {remedy}", count(number, noun)))
            .collect();
        format!("{}: {}", folder.display(), found.join("; "))
    }
}

fn number_of<S: serde::Serializer>(lost: &BTreeSet<Digest>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(lost.len() as u64)
}
