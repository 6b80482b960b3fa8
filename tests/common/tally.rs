//! Counts of failures by kind, with the first example of each.

use std::collections::BTreeMap;
use std::fmt;

#[derive(Debug, Default)]
pub struct Tally(BTreeMap<String, (u64, String)>);

impl Tally {
    pub fn count(&mut self, kind: &str, example: impl fmt::Display) {
        let (count, _) = self
            .0
            .entry(kind.to_owned())
            .or_insert_with(|| (0, example.to_string()));
        *count += 1;
    }

    /// Fails with the table of counts unless it is empty.
    #[track_caller]
    pub fn assert_empty(&self) {
        assert!(self.0.is_empty(), "\n{self}");
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, (count, example)) in &self.0 {
            writeln!(f, "{count:>8}  {kind}; the first: {example}")?;
        }
        Ok(())
    }
}
