//! What can go wrong between here and the broker.

use std::time::Duration;

/// An operation on the broker failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The time limit passed.
    #[error("waited {:.1} s for {waiting_for}", after.as_secs_f64())]
    Timeout {
        /// What it waited for, as a noun.
        waiting_for: String,
        /// The time limit.
        after: Duration,
    },
    /// The connection or channel was lost before the answer came.
    #[error("the connection to the broker was lost before {what}: {reason}")]
    Lost {
        /// The answer that did not come.
        what: &'static str,
        /// The client library's or the broker's words.
        reason: String,
    },
    /// No queue takes it: a lane that was deleted, a node without an agent.
    #[error("nobody receives {what}")]
    Unroutable {
        /// `tasks of lane cpu`, `desired states of node n1`, …
        what: String,
    },
    /// The broker answered no.
    #[error("the broker refused {what}: {reason}")]
    Refused {
        /// What was asked of it.
        what: String,
        /// Its words, and what to do if that is known.
        reason: String,
    },
    /// The delivery's channel is gone; the broker gives the message to somebody again.
    #[error("the delivery is stale: its channel is closed and the broker delivers it again")]
    Stale,
    /// The message can't be put into JSON.
    #[error("the message can't be written as JSON: {reason}")]
    Unwritable {
        /// serde's words.
        reason: String,
    },
}

impl Error {
    /// Of a failed publication: whether the message may be in the queue all the same. Then only a new attempt tells the
    /// two apart.
    pub const fn may_have_arrived(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Lost { .. })
    }

    /// Whether the same call may succeed later without anybody doing something about it.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Lost { .. } | Self::Unroutable { .. })
    }

    pub(crate) fn timeout(waiting_for: impl Into<String>, after: Duration) -> Self {
        Self::Timeout { waiting_for: waiting_for.into(), after }
    }
}
