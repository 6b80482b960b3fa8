//! Decides into which new segment each live record is copied.

use std::ops::Range;

use crate::format::record;

/// The assignment of live records to new segments. It has numbers only, no files.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Inputs that stay as they are.
    pub(crate) kept: Vec<usize>,
    /// Inputs that do not survive the compaction.
    pub(crate) replaced: Vec<usize>,
    /// For each new segment, the inputs and their records that it gets, in order. The range counts
    /// the live records of the input in file order.
    pub(crate) outputs: Vec<Vec<(usize, Range<usize>)>>,
}

/// The size of the live records of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InputSize {
    pub(super) live_bytes: u64,
    /// Whether all records are live. Such an input stays as it is unless it is merged.
    pub(super) is_whole: bool,
}

/// Merges an input with its younger neighbours unless it has more than this many times their
/// combined size. The segments that are left then triple in size from the youngest to the oldest,
/// so there are few of them, and each byte is written again a logarithmic number of times.
const MERGE_RATIO: u64 = 2;

/// Chooses the inputs that are copied although they hold no dead record: each is merged with its
/// younger neighbours if it is small against them and all of them fit into one segment. An input
/// with dead records is copied in any case, and counts as a neighbour. `sizes` has the oldest input
/// first. Takes linear time.
pub(super) fn merged(sizes: &[InputSize], segment_bytes_max: u64) -> Vec<bool> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    // The inputs that are merged among those that were visited and fit into one segment.
    let (mut group, mut younger_bytes) = (sizes.len()..sizes.len(), 0_u64);
    for (input, size) in sizes.iter().enumerate().rev() {
        let joined_bytes = younger_bytes.checked_add(size.live_bytes);
        let fitting_bytes = joined_bytes.filter(|&bytes| bytes <= segment_bytes_max);
        if fitting_bytes.is_none() {
            groups.push(std::mem::replace(&mut group, input + 1..input + 1));
        } else if size.live_bytes <= younger_bytes.saturating_mul(MERGE_RATIO) {
            group.start = input;
        }
        younger_bytes = fitting_bytes.unwrap_or(size.live_bytes);
    }
    groups.push(group);
    let mut is_merged = vec![false; sizes.len()];
    for input in groups.into_iter().flatten() {
        is_merged[input] = sizes[input].is_whole;
    }
    is_merged
}

/// Assigns the live records of the inputs that are copied, in file order, to segments of at most
/// `segment_bytes_max`. A record that is larger than that gets a segment of its own.
///
/// `live_lengths` has for each input the content lengths of its live records in file order, or
/// `None` if it stays as it is.
pub(super) fn plan(live_lengths: &[Option<Vec<u32>>], segment_bytes_max: u64) -> Plan {
    let mut plan = Plan {
        kept: Vec::new(),
        replaced: Vec::new(),
        outputs: Vec::new(),
    };
    // Before the first record there is no segment that could have room for it.
    let mut filling: Option<Filling> = None;
    for (input, lengths) in live_lengths.iter().enumerate() {
        let Some(lengths) = lengths else {
            plan.kept.push(input);
            continue;
        };
        plan.replaced.push(input);
        let mut begin = 0;
        for (position, &len) in lengths.iter().enumerate() {
            let record_bytes = u64::from(len) + record::HEADER_BYTES;
            let filled = filling.and_then(|filling| filling.with(record_bytes, segment_bytes_max));
            filling = Some(filled.unwrap_or_else(|| {
                push_range(&mut plan.outputs, input, begin..position);
                begin = position;
                plan.outputs.push(Vec::new());
                Filling::first(record_bytes)
            }));
        }
        push_range(&mut plan.outputs, input, begin..lengths.len());
    }
    plan
}

/// The size of the output that is being filled.
#[derive(Clone, Copy)]
struct Filling {
    bytes: u64,
    /// Number of records, as a `u32` because a sidecar holds no more.
    records: u32,
}

impl Filling {
    const fn first(record_bytes: u64) -> Self {
        Self {
            bytes: record_bytes,
            records: 1,
        }
    }

    /// Adds another record. Returns `None` if the segment has no room for it.
    fn with(self, record_bytes: u64, segment_bytes_max: u64) -> Option<Self> {
        let bytes = self.bytes.checked_add(record_bytes)?;
        let records = self.records.checked_add(1)?;
        (bytes <= segment_bytes_max).then_some(Self { bytes, records })
    }
}

impl Plan {
    /// Whether each input is kept or replaced, and each live record of the replaced inputs goes
    /// into exactly one output. A record that a plan leaves out is lost in the commit, so this does
    /// not rely on how the plan was made. Takes time linear in the ranges, not in the records.
    pub(super) fn covers(&self, live_lengths: &[Option<Vec<u32>>]) -> bool {
        let is_replaced = |&input: &usize| live_lengths[input].is_some();
        let (replaced, kept): (Vec<usize>, Vec<usize>) =
            (0..live_lengths.len()).partition(is_replaced);
        let mut covered = vec![0; live_lengths.len()];
        let mut ranges = self.outputs.iter().flatten();
        let follow_each_other = ranges.all(|(input, range)| {
            let follows = covered.get(*input) == Some(&range.start) && !range.is_empty();
            if follows {
                covered[*input] = range.end;
            }
            follows
        });
        let live = |lengths: &Option<Vec<u32>>| lengths.as_ref().map_or(0, Vec::len);
        follow_each_other
            && self.kept == kept
            && self.replaced == replaced
            && covered.into_iter().eq(live_lengths.iter().map(live))
    }

    /// The planned number of records of each output.
    pub(super) fn output_records(&self) -> impl Iterator<Item = usize> + '_ {
        let outputs = self.outputs.iter();
        outputs.map(|parts| parts.iter().map(|(_, range)| range.len()).sum())
    }
}

fn push_range(outputs: &mut [Vec<(usize, Range<usize>)>], input: usize, range: Range<usize>) {
    if let Some(output) = outputs.last_mut()
        && !range.is_empty()
    {
        output.push((input, range));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(live_bytes: &[u64]) -> Vec<InputSize> {
        let whole = |&live_bytes| InputSize {
            live_bytes,
            is_whole: true,
        };
        live_bytes.iter().map(whole).collect()
    }

    /// The numbers of the merged inputs.
    fn merged_of(sizes: &[InputSize], segment_bytes_max: u64) -> Vec<usize> {
        let merged = merged(sizes, segment_bytes_max);
        (0..sizes.len()).filter(|&input| merged[input]).collect()
    }

    #[test]
    fn small_segments_are_merged_and_large_segments_are_left() {
        assert_eq!(merged_of(&sizes(&[10, 10, 10]), 100), [0, 1, 2]);
        assert_eq!(merged_of(&sizes(&[61, 20, 10]), 100), [1, 2]);
        assert_eq!(merged_of(&sizes(&[60, 20, 10]), 100), [0, 1, 2]);
        assert_eq!(merged_of(&sizes(&[60, 20, 10]), 89), [1, 2]);
        // The 30 are too long for the 10 alone, and not for a segment that needs both.
        assert_eq!(merged_of(&sizes(&[30, 10]), 200), [0; 0]);
        assert_eq!(merged_of(&sizes(&[80, 30, 10]), 200), [0, 1, 2]);
        // The youngest three fit into a segment, and the 40 beside them is left with the 90.
        assert_eq!(merged_of(&sizes(&[90, 40, 40, 40, 10]), 100), [2, 3, 4]);
        assert_eq!(merged_of(&sizes(&[90]), 100), [0; 0]);
        assert_eq!(merged_of(&sizes(&[90, 90, 90]), 100), [0; 0]);
        assert_eq!(merged_of(&sizes(&[u64::MAX, u64::MAX]), u64::MAX), [0; 0]);
        assert_eq!(merged_of(&[], 100), [0; 0]);
    }

    #[test]
    fn a_segment_with_dead_records_is_a_neighbour_and_not_merged_itself() {
        let mut sizes = sizes(&[20, 10]);
        sizes[1].is_whole = false;
        assert_eq!(merged_of(&sizes, 100), [0]);
        // Nothing is left of the neighbour, so there is nothing to merge with.
        sizes[1].live_bytes = 0;
        assert_eq!(merged_of(&sizes, 100), [0; 0]);
    }

    /// A store grows by one segment between compactions that drop nothing, as by checkpoints.
    #[test]
    fn the_cost_of_many_small_segments_is_logarithmic() {
        const SEGMENT_BYTES_MAX: u64 = 1 << 20;
        let (mut segments, mut written, mut most): (Vec<u64>, _, _) = (Vec::new(), 0, 0);
        for _ in 0..1024 {
            segments.push(1);
            let merged = merged(&sizes(&segments), SEGMENT_BYTES_MAX);
            let replaced = |is_wanted| {
                let both = segments.iter().zip(&merged);
                let wanted = both.filter(move |(_, merged)| **merged == is_wanted);
                wanted.map(|(bytes, _)| *bytes)
            };
            let output: u64 = replaced(true).sum();
            written += output;
            let kept: Vec<u64> = replaced(false).collect();
            segments = kept
                .into_iter()
                .chain((output > 0).then_some(output))
                .collect();
            most = most.max(segments.len());
        }
        assert_eq!(segments.iter().sum::<u64>(), 1024);
        assert!(most <= 10, "{most} segments");
        assert!(written <= 1024 * 20, "{written} written");
    }

    #[test]
    fn an_input_that_is_not_copied_is_kept() {
        let plan = plan(&[None, Some(vec![1]), None], 100);
        assert_eq!(plan.kept, [0, 2]);
        assert_eq!(plan.replaced, [1]);
        assert_eq!(plan.outputs, [vec![(1, 0..1)]]);
    }

    #[test]
    fn segments_are_filled_across_inputs_and_in_order() {
        let plan = plan(&[Some(vec![6, 6, 6]), Some(vec![6, 200, 6])], 20);
        assert_eq!(
            plan.outputs,
            [
                vec![(0, 0..2)],
                vec![(0, 2..3), (1, 0..1)],
                vec![(1, 1..2)],
                vec![(1, 2..3)],
            ]
        );
    }

    #[test]
    fn h50_each_live_record_is_planned_once_at_every_segment_size() {
        let live_lengths = [
            Some(vec![0, 6, u32::MAX]),
            None,
            Some(vec![]),
            Some(vec![u32::MAX, 1]),
        ];
        for segment_bytes_max in [0, 1, 4, 5, 1 << 32, (1 << 32) + 4, u64::MAX - 1, u64::MAX] {
            let plan = plan(&live_lengths, segment_bytes_max);
            assert!(plan.covers(&live_lengths), "{segment_bytes_max}");
            let records: Vec<usize> = plan.output_records().collect();
            assert_eq!(records.iter().sum::<usize>(), 5);
            if segment_bytes_max > u64::MAX / 2 {
                assert_eq!(records, [5]);
            }
        }
    }

    #[test]
    fn an_output_holds_no_more_records_than_a_sidecar_can_count() {
        let full = Filling {
            bytes: 0,
            records: u32::MAX,
        };
        assert!(full.with(4, u64::MAX).is_none());
        let long = Filling {
            bytes: u64::MAX - 3,
            records: 1,
        };
        assert!(long.with(4, u64::MAX).is_none());
    }

    #[test]
    fn h50_a_plan_that_leaves_records_out_or_copies_them_twice_does_not_cover() {
        type Change = fn(&mut Plan);
        let live_lengths = [Some(vec![6; 3]), None, Some(vec![6; 2])];
        let whole = || plan(&live_lengths, 20);
        let changes: [Change; 8] = [
            |plan| plan.outputs.clear(),
            |plan| _ = plan.outputs.pop(),
            |plan| plan.outputs[0][0].1.end = 1,
            |plan| plan.outputs[0][0].1.end = 4,
            |plan| plan.outputs[0][0].1.start = 1,
            |plan| plan.outputs[0].push((7, 0..1)),
            |plan| plan.kept.clear(),
            |plan| _ = plan.replaced.pop(),
        ];
        assert!(whole().covers(&live_lengths));
        for (number, change) in changes.iter().enumerate() {
            let mut plan = whole();
            change(&mut plan);
            assert!(!plan.covers(&live_lengths), "{number}");
        }
    }

    #[test]
    fn segments_without_live_records_are_replaced_by_none() {
        let plan = plan(&[Some(vec![]), Some(vec![])], 20);
        assert_eq!((plan.replaced, plan.outputs), (vec![0, 1], vec![]));
    }
}
