//! Priorities of jobs, and how waiting makes up for a lower one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// How urgent a job is.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Runs when nothing else waits, or once it has waited out its difference.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Before all others.
    High,
}

impl Priority {
    /// All priorities, lowest first.
    pub const ALL: [Self; 3] = [Self::Low, Self::Normal, Self::High];

    /// Its name in the API, in metrics and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }

    /// The priority of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|priority| priority.as_str() == name)
    }

    /// The next class above, or itself at the top.
    #[must_use]
    pub const fn next(self) -> Self {
        match self {
            Self::Low => Self::Normal,
            Self::Normal | Self::High => Self::High,
        }
    }

    /// The priority of its messages in a queue with `x-max-priority` 5.
    pub const fn message_priority(self) -> u8 {
        match self {
            Self::Low => 1,
            Self::Normal => 3,
            Self::High => 5,
        }
    }
}

/// How much earlier a job of each priority counts as accepted, relative to `low`.
///
/// A rank is then one static number, and a low job that has waited the difference out stands beside a fresh normal
/// one: ageing without a clock (as in the "virtual start time" of fair queueing schedulers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadStart {
    /// Of `normal` over `low`.
    #[serde(with = "crate::time::seconds")]
    pub normal: Duration,
    /// Of `high` over `low`.
    #[serde(with = "crate::time::seconds")]
    pub high: Duration,
}

impl Default for HeadStart {
    fn default() -> Self {
        Self { normal: Duration::from_mins(15), high: Duration::from_mins(75) }
    }
}

impl HeadStart {
    /// The head start of a priority.
    pub const fn of(&self, priority: Priority) -> Duration {
        match priority {
            Priority::Low => Duration::ZERO,
            Priority::Normal => self.normal,
            Priority::High => self.high,
        }
    }

    /// A job's place in the order of release: smaller is earlier. A deadline can only bring it forward: it then ranks
    /// as if it had been accepted, at its priority, no later than the deadline less the time it needs.
    pub fn rank(
        &self,
        priority: Priority,
        accepted_at: Timestamp,
        latest_start: Option<Timestamp>,
    ) -> Timestamp {
        let rank = accepted_at - self.of(priority);
        // A job due at once ranks with the highest class from its latest start on.
        latest_start.map_or(rank, |start| rank.min(start - self.high))
    }

    /// The priority that a message gets now: its class's, or the next class's once the task has waited the difference
    /// out.
    pub fn message_priority(&self, priority: Priority, accepted_at: Timestamp, now: Timestamp) -> u8 {
        let difference = self.of(priority.next()).saturating_sub(self.of(priority));
        let waited = now.since(accepted_at);
        let aged = priority.next() != priority && waited >= difference;
        if aged { priority.next() } else { priority }.message_priority()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_ages_past_a_fresh_normal() {
        let head = HeadStart::default();
        let early = Timestamp::from_micros(0);
        let late = early + head.normal + Duration::from_secs(1);
        assert!(head.rank(Priority::Low, early, None) < head.rank(Priority::Normal, late, None));
        assert!(head.rank(Priority::Normal, early, None) < head.rank(Priority::Low, early, None));
        assert_eq!(head.message_priority(Priority::Low, early, late), 3);
        assert_eq!(head.message_priority(Priority::Low, early, early), 1);
        assert_eq!(head.message_priority(Priority::High, early, late), 5);
    }

    #[test]
    fn a_deadline_only_brings_forward() {
        let head = HeadStart::default();
        let now = Timestamp::from_micros(0);
        let far = now + Duration::from_hours(48);
        assert_eq!(head.rank(Priority::High, now, Some(far)), head.rank(Priority::High, now, None));
        assert!(head.rank(Priority::Low, now, Some(now)) < head.rank(Priority::Low, now, None));
    }
}
