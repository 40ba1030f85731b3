//! When a node's tasks keep failing, the node is the suspect: it pauses itself, longer each time.

use std::collections::BTreeSet;
use std::time::Duration;

use springtide_core::TaskId;

use crate::backoff::Backoff;

/// Counts different tasks that failed in a row.
#[derive(Debug)]
pub(crate) struct FailureStreak {
    limit: usize,
    failed: BTreeSet<TaskId>,
    backoff: Backoff,
}

impl FailureStreak {
    pub(crate) fn new(limit: usize, min: Duration, max: Duration) -> Self {
        Self { limit, failed: BTreeSet::new(), backoff: Backoff::new(min, max) }
    }

    /// A task failed in a way that its node may be to blame for. How long to pause, if that is one too many.
    pub(crate) fn failed(&mut self, task: TaskId, jitter: f64) -> Option<Duration> {
        self.failed.insert(task);
        if self.failed.len() < self.limit {
            return None;
        }
        self.failed.clear();
        Some(self.backoff.next(jitter))
    }

    /// A task succeeded: the node works.
    pub(crate) fn succeeded(&mut self) {
        self.failed.clear();
        self.backoff.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use springtide_core::{JobId, Timestamp};

    fn task(index: u32) -> TaskId {
        TaskId { job: JobId::new(Timestamp::default(), 1), index }
    }

    #[test]
    fn different_tasks_in_a_row_pause_the_node_and_one_task_does_not() {
        let mut streak = FailureStreak::new(2, Duration::from_secs(2), Duration::from_secs(60));
        assert_eq!((streak.failed(task(1), 1.0), streak.failed(task(1), 1.0)), (None, None));
        assert_eq!(streak.failed(task(2), 1.0), Some(Duration::from_secs(2)));
        assert_eq!(streak.failed(task(3), 1.0), None);
        assert_eq!(streak.failed(task(4), 1.0), Some(Duration::from_secs(4)), "longer the second time");
        streak.failed(task(5), 1.0);
        streak.succeeded();
        assert_eq!(streak.failed(task(6), 1.0), None, "a success in between");
    }
}
