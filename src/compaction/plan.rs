//! What is copied where.

use std::ops::Range;

use crate::format::record;

/// What is to be done: pure numbers, no files.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Inputs that stay as they are, because all their records do.
    pub(crate) kept: Vec<usize>,
    /// Inputs that go.
    pub(crate) replaced: Vec<usize>,
    /// For each new segment, which live records of which inputs, in file order. The range counts
    /// live records in file order.
    pub(crate) outputs: Vec<Vec<(usize, Range<usize>)>>,
}

/// Lays out the live records of the inputs that hold a dead one, in file order, filling segments of
/// at most `segment_bytes_max`. A record that is larger than that gets a segment of its own.
///
/// `live_lengths` has for each input the content lengths of its live records in file order, or
/// `None` if it holds no dead record.
pub(super) fn plan(live_lengths: &[Option<Vec<u32>>], segment_bytes_max: u64) -> Plan {
    let mut plan = Plan {
        kept: Vec::new(),
        replaced: Vec::new(),
        outputs: Vec::new(),
    };
    let mut filled_bytes = u64::MAX;
    for (input, lengths) in live_lengths.iter().enumerate() {
        let Some(lengths) = lengths else {
            plan.kept.push(input);
            continue;
        };
        plan.replaced.push(input);
        let mut begin = 0;
        for (position, &len) in lengths.iter().enumerate() {
            let record_bytes = u64::from(len) + record::HEADER_BYTES;
            if filled_bytes.saturating_add(record_bytes) > segment_bytes_max {
                push_range(&mut plan.outputs, input, begin..position);
                begin = position;
                plan.outputs.push(Vec::new());
                filled_bytes = 0;
            }
            filled_bytes += record_bytes;
        }
        push_range(&mut plan.outputs, input, begin..lengths.len());
    }
    plan
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

    #[test]
    fn a_segment_without_dead_records_is_kept() {
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
    fn a_segment_with_nothing_live_leaves_nothing() {
        let plan = plan(&[Some(vec![]), Some(vec![])], 20);
        assert_eq!((plan.replaced, plan.outputs), (vec![0, 1], vec![]));
    }
}
