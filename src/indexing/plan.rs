//! When a run is built, and which runs it takes the place of.

use crate::segment_set::RunSize;

/// A run to be built.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// The runs whose place it takes; it covers their segments and those that no run covers.
    pub(crate) replaced: Vec<usize>,
}

/// A run is replaced when it is at most so many times as large as all that are smaller together. So
/// there are few, each of which is a probe for every lookup, and an object is written again a few
/// times for each doubling of the number of objects.
const MERGE_RATIO: u64 = 4;

/// What is to be done next, if anything. `uncovered_objects`: those in sealed segments that no run
/// covers, `wants_cover` if they are enough for a run of their own.
///
/// A run with more dead than live objects is built anew.
pub(crate) fn plan(runs: &[RunSize], uncovered_objects: u64, wants_cover: bool) -> Option<Step> {
    let has_to_go = |run: &RunSize| run.dead_objects > run.live_objects;
    let mut replaced: Vec<usize> = (0..runs.len()).filter(|&at| has_to_go(&runs[at])).collect();
    if replaced.is_empty() && !wants_cover {
        return None;
    }
    let live = |at: usize| runs[at].live_objects;
    let mut objects = uncovered_objects + replaced.iter().map(|&at| live(at)).sum::<u64>();
    let others = (0..runs.len()).filter(|&at| !has_to_go(&runs[at]));
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
    fn nothing_is_done_without_need() {
        assert_eq!(replaced(&[run(10), run(3)], 100, false), None);
        assert_eq!(replaced(&[], 0, false), None);
    }

    #[test]
    fn small_runs_are_merged_and_large_ones_left() {
        assert_eq!(replaced(&[], 10, true), Some(vec![]));
        assert_eq!(replaced(&[run(1000), run(10)], 10, true), Some(vec![1]));
        assert_eq!(replaced(&[run(120), run(20)], 10, true), Some(vec![0, 1]));
        assert_eq!(replaced(&[run(121), run(20)], 10, true), Some(vec![1]));
        assert_eq!(replaced(&[run(41)], 10, true), Some(vec![]));
    }

    #[test]
    fn runs_of_little_use_are_built_anew() {
        let mostly_dead = RunSize {
            dead_objects: 11,
            ..run(10)
        };
        assert_eq!(replaced(&[run(100), mostly_dead], 0, false), Some(vec![1]));
    }

    /// A thousand seals of equal size: the number of runs and what is written grow logarithmically.
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
