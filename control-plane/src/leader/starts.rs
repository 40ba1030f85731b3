//! Since when runs are known to have begun, by a clock that does not jump: what a heartbeat says of a run counts only if
//! it is newer than that. The time of day in the store is no measure for it: it may be another replica's, and it may have
//! been set since.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use springtide_core::RunId;
use tokio::time::Instant;

/// What a leader knows in its term: told by the projector, asked by the comparison.
#[derive(Clone, Debug, Default)]
pub struct Starts(Arc<Mutex<HashMap<RunId, Instant>>>);

impl Starts {
    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These starts have been applied.
    pub fn note(&self, runs: impl IntoIterator<Item = RunId>) {
        let now = Instant::now();
        let mut starts = self.lock();
        for run in runs {
            starts.entry(run).or_insert(now);
        }
    }

    /// Since when a run is known that the store has; `at`, if it was not known: an earlier leader applied its start.
    pub fn since(&self, run: RunId, at: Instant) -> Instant {
        *self.lock().entry(run).or_insert(at)
    }

    /// Forgets all runs but these, and those that were noted later than `before`: the store may not have had them yet.
    pub fn keep(&self, runs: &HashSet<RunId>, before: Option<Instant>) {
        self.lock().retain(|run, since| runs.contains(run) || before.is_none_or(|before| *since >= before));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use springtide_core::Timestamp;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_run_is_known_since_it_was_noted_and_forgotten_once_the_store_has_it_no_more() {
        let run = |number| RunId::new(Timestamp::default(), number);
        let (starts, first) = (Starts::default(), Instant::now());
        starts.note([run(1), run(2)]);
        tokio::time::advance(Duration::from_secs(1)).await;
        starts.note([run(1), run(3)]);
        let second = Instant::now();
        assert_eq!((starts.since(run(1), second), starts.since(run(4), second)), (first, second));
        starts.keep(&HashSet::from([run(1)]), Some(second));
        let known = |number| starts.lock().contains_key(&run(number));
        assert_eq!([1, 2, 3, 4].map(known), [true, false, true, true]);
    }
}
