//! Decides when a run is built, and which runs it replaces.

use crate::segment_set::RunSize;

/// A run to be built.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// The runs that it replaces. It covers their segments and the segments that no run covers.
    pub(crate) replaced: Vec<usize>,
}

/// Merges a run into the new one unless it exceeds this many times the combined size of the smaller
/// runs and the uncovered segments. So there are few runs, each of which costs every lookup a
/// probe, and an object is written again a few times for each doubling of the number of objects.
const MERGE_RATIO: u64 = 4;

/// Decides the next step, if any. `uncovered_objects` is the number of objects in sealed segments
/// that no run covers; `wants_cover` says whether they are enough for a run of their own.
///
/// A run with more dead than live objects is built anew.
pub(crate) fn plan(runs: &[RunSize], uncovered_objects: u64, wants_cover: bool) -> Option<Step> {
    let is_mostly_dead = |run: &RunSize| run.dead_objects > run.live_objects;
    let mut replaced: Vec<usize> = (0..runs.len())
        .filter(|&at| is_mostly_dead(&runs[at]))
        .collect();
    if replaced.is_empty() && !wants_cover {
        return None;
    }
    let live = |at: usize| runs[at].live_objects;
    let mut objects = uncovered_objects + replaced.iter().map(|&at| live(at)).sum::<u64>();
    let others = (0..runs.len()).filter(|&at| !is_mostly_dead(&runs[at]));
    let mut others: Vec<usize> = others.collect();
    others.sort_unstable_by_key(|&at| live(at));
    for at in others {
        if live(at) > objects.saturating_mul(MERGE_RATIO) {
            break;
        }
        objects += live(at);
        replaced.push(at);
    }
    replaced.sort_unstable();
    Some(Step { replaced })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(live_objects: u64) -> RunSize {
        RunSize {
            live_objects,
            dead_objects: 0,
        }
    }

    fn replaced(runs: &[RunSize], uncovered: u64, wants_cover: bool) -> Option<Vec<usize>> {
        plan(runs, uncovered, wants_cover).map(|step| step.replaced)
    }

    #[test]
    fn a_run_is_built_only_if_it_is_needed() {
        assert_eq!(replaced(&[run(10), run(3)], 100, false), None);
        assert_eq!(replaced(&[], 0, false), None);
    }

    #[test]
    fn small_runs_are_merged_and_large_runs_are_left() {
        assert_eq!(replaced(&[], 10, true), Some(vec![]));
        assert_eq!(replaced(&[run(1000), run(10)], 10, true), Some(vec![1]));
        assert_eq!(replaced(&[run(120), run(20)], 10, true), Some(vec![0, 1]));
        assert_eq!(replaced(&[run(121), run(20)], 10, true), Some(vec![1]));
        assert_eq!(replaced(&[run(41)], 10, true), Some(vec![]));
    }

    #[test]
    fn mostly_dead_runs_are_built_anew() {
        let mostly_dead = RunSize {
            dead_objects: 11,
            ..run(10)
        };
        assert_eq!(replaced(&[run(100), mostly_dead], 0, false), Some(vec![1]));
    }

    /// With a thousand seals of equal size, the number of runs and the number of times that an
    /// object is written grow logarithmically.
    #[test]
    fn the_cost_of_many_seals_is_logarithmic() {
        let (mut runs, mut written, mut most): (Vec<RunSize>, _, _) = (Vec::new(), 0, 0);
        for _ in 0..1024 {
            let Some(step) = plan(&runs, 1, true) else {
                panic!("nothing to do");
            };
            let objects = 1 + step
                .replaced
                .iter()
                .map(|&at| runs[at].live_objects)
                .sum::<u64>();
            for at in step.replaced.into_iter().rev() {
                runs.remove(at);
            }
            runs.push(run(objects));
            written += objects;
            most = most.max(runs.len());
        }
        assert_eq!(runs.iter().map(|run| run.live_objects).sum::<u64>(), 1024);
        assert!(most <= 7, "{most} runs");
        assert!(written <= 1024 * 10, "{written} written");
    }
}
