//! When machines of a spot market could be had: the format of `SkyPilot`'s spot traces.

use std::path::Path;

use serde::Deserialize;

use crate::Error;
use crate::trace::open;

/// Whether a machine could be had, in steps of equal length; it starts again at its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Availability {
    gap: f64,
    steps: Vec<bool>,
}

#[derive(Deserialize)]
struct File {
    metadata: Metadata,
    data: Vec<u8>,
}

#[derive(Deserialize)]
struct Metadata {
    gap_seconds: f64,
}

impl Availability {
    /// In steps of so many seconds.
    pub fn new(gap: f64, steps: Vec<bool>) -> Self {
        Self { gap, steps }
    }

    /// Reads `{"metadata": {"gap_seconds": 195}, "data": [0, 1, …]}`, gzipped or not.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let content = |problem: String| Error::Content { path: path.to_owned(), line: None, problem };
        let file: File = serde_json::from_reader(open(path)?).map_err(|error| content(error.to_string()))?;
        let gap = file.metadata.gap_seconds;
        if !(gap.is_finite() && gap > 0.0) || file.data.is_empty() {
            return Err(content(
                "it needs a positive `gap_seconds` and at least one step of `data`".to_owned(),
            ));
        }
        Ok(Self { gap, steps: file.data.into_iter().map(|step| step > 0).collect() })
    }

    /// Whether a machine can be had at this second of the trace.
    pub fn at(&self, second: f64) -> bool {
        self.steps[(second / self.gap).max(0.0) as usize % self.steps.len()]
    }

    /// The next second after this one at which it changes; `None`: it never does.
    pub fn next_change(&self, second: f64) -> Option<f64> {
        let step = (second / self.gap).max(0.0) as usize;
        let now = self.steps[step % self.steps.len()];
        let ahead = (step + 1..=step + self.steps.len()).find(|at| self.steps[at % self.steps.len()] != now);
        ahead.map(|at| at as f64 * self.gap)
    }

    /// The part of the time in which a machine could be had.
    pub fn share(&self) -> f64 {
        self.steps.iter().filter(|step| **step).count() as f64 / self.steps.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_round_and_knows_its_next_change() {
        let market = Availability::new(10.0, vec![true, true, false]);
        assert!(market.at(0.0) && market.at(19.0) && !market.at(20.0) && market.at(30.0));
        assert_eq!(market.next_change(5.0), Some(20.0));
        assert_eq!(market.next_change(20.0), Some(30.0));
        assert_eq!(Availability::new(10.0, vec![true]).next_change(0.0), None);
    }
}
