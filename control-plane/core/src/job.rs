//! A job's state: a fold over its tasks.

use serde::{Deserialize, Serialize};

/// How many of a job's tasks are in each state. `total` is the sum of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TaskCounts {
    /// All.
    pub total: u32,
    /// In the store only.
    pub waiting: u32,
    /// In a queue or held by a node.
    pub released: u32,
    /// On a node.
    pub running: u32,
    /// Done.
    pub succeeded: u32,
    /// Given up.
    pub failed: u32,
    /// Not wanted any more.
    pub cancelled: u32,
}

/// The state of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    /// None of its tasks has started.
    Queued,
    /// Some have.
    Running,
    /// All are done.
    Succeeded,
    /// All have ended, and one at least failed.
    Failed,
    /// All have ended, none failed, and one at least was cancelled.
    Cancelled,
}

impl JobStatus {
    /// All, in the order of a job's life.
    pub const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// Its name in the API, in metrics and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// Whether it never changes again.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// Whether any task of a job has ever started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EverStarted {
    /// None.
    No,
    /// At least one.
    Yes,
}

impl TaskCounts {
    /// The state that a job with these tasks is in.
    pub const fn status(&self, started: EverStarted) -> JobStatus {
        if self.succeeded + self.failed + self.cancelled < self.total {
            return match started {
                EverStarted::No => JobStatus::Queued,
                EverStarted::Yes => JobStatus::Running,
            };
        }
        if self.failed > 0 {
            JobStatus::Failed
        } else if self.cancelled > 0 {
            JobStatus::Cancelled
        } else {
            JobStatus::Succeeded
        }
    }

    /// How far the job is, 0 to 1, when its running tasks are together `running_progress` tasks far.
    pub fn progress(&self, running_progress: f64) -> f64 {
        let ended = f64::from(self.succeeded + self.failed + self.cancelled);
        let running = running_progress.clamp(0.0, f64::from(self.running));
        if self.total == 0 { 1.0 } else { ((ended + running) / f64::from(self.total)).min(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_ends_when_its_last_task_does() {
        let counts = TaskCounts { total: 3, succeeded: 1, failed: 1, running: 1, ..TaskCounts::default() };
        assert_eq!(counts.status(EverStarted::Yes), JobStatus::Running);
        let counts = TaskCounts { running: 0, succeeded: 2, ..counts };
        assert_eq!(counts.status(EverStarted::Yes), JobStatus::Failed);
        let counts = TaskCounts { total: 2, cancelled: 1, succeeded: 1, ..TaskCounts::default() };
        assert_eq!(counts.status(EverStarted::Yes), JobStatus::Cancelled);
    }

    #[test]
    fn progress_counts_running_tasks_in_part() {
        let counts = TaskCounts { total: 4, succeeded: 1, running: 2, waiting: 1, ..TaskCounts::default() };
        assert!((counts.progress(0.5) - 0.375).abs() < 1e-12);
        assert!((counts.progress(99.0) - 0.75).abs() < 1e-12);
    }
}
