//! The life of a node.
//!
//! ```text
//! Launching → Active ⇄ Draining → Empty → Retiring → Gone
//!             Active | Draining | Empty → Lost → Active | Gone
//! ```
//!
//! `Retiring` is irreversible and is committed before the cloud is asked to terminate, so that a machine which is on
//! its way out never gets work again.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// The state of a node, as the store has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum NodeState {
    /// Asked for; its agent has not been heard.
    Launching,
    /// Takes tasks.
    Active,
    /// Takes no new task.
    Draining {
        /// What is not done by then is handed back.
        #[schema(value_type = String)]
        until: Timestamp,
        /// Why, for people.
        reason: String,
    },
    /// Drained, holds nothing.
    Empty {
        /// Why it was drained: whoever decides whether it may come back has to know.
        #[serde(default)]
        reason: String,
    },
    /// About to be terminated.
    Retiring,
    /// Not heard of for `node_lost_after`.
    Lost,
    /// Terminated.
    Gone,
}

/// What can happen to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeEvent {
    /// Its agent was heard and holds something, or may take something.
    Heard,
    /// Its agent was heard, drains and holds nothing.
    HeardEmpty,
    /// Not heard of for `node_lost_after`.
    Silent,
    /// Somebody wants it empty.
    Drain {
        /// The deadline.
        until: Timestamp,
        /// Why.
        reason: String,
    },
    /// Nobody wants it empty any more.
    Undrain,
    /// The autoscaler is about to terminate it.
    Retire,
    /// It said goodbye, or its provider says that it is no more.
    Ended,
}

/// The node's state does not allow this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a node that is {state} can't {wanted}")]
pub struct InvalidTransition {
    state: &'static str,
    wanted: &'static str,
}

impl NodeState {
    /// Its name in the API, in metrics and in the store.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Launching => "launching",
            Self::Active => "active",
            Self::Draining { .. } => "draining",
            Self::Empty { .. } => "empty",
            Self::Retiring => "retiring",
            Self::Lost => "lost",
            Self::Gone => "gone",
        }
    }

    /// Whether it may be given tasks.
    pub const fn takes_tasks(&self) -> bool {
        matches!(self, Self::Active)
    }

    /// The state after an event.
    pub fn after(self, event: NodeEvent) -> Result<Self, InvalidTransition> {
        let refused = |state: &Self, wanted| Err(InvalidTransition { state: state.as_str(), wanted });
        #[allow(clippy::match_same_arms, reason = "grouped by event: each group reads as a rule")]
        match (self, event) {
            (_, NodeEvent::Ended) => Ok(Self::Gone),
            // A node that was taken for gone and speaks again starts over; one that retires goes on retiring.
            (Self::Launching | Self::Lost | Self::Gone, NodeEvent::Heard | NodeEvent::HeardEmpty) => {
                Ok(Self::Active)
            }
            (Self::Draining { reason, .. }, NodeEvent::HeardEmpty) => Ok(Self::Empty { reason }),
            (state, NodeEvent::Heard | NodeEvent::HeardEmpty) => Ok(state),
            (Self::Active | Self::Draining { .. } | Self::Empty { .. }, NodeEvent::Silent) => Ok(Self::Lost),
            (state, NodeEvent::Silent) => Ok(state),
            (Self::Active | Self::Draining { .. } | Self::Lost, NodeEvent::Drain { until, reason }) => {
                Ok(Self::Draining { until, reason })
            }
            // The latest reason holds: that its provider takes it back is said of an empty node as well.
            (Self::Empty { .. }, NodeEvent::Drain { reason, .. }) => Ok(Self::Empty { reason }),
            (Self::Retiring, NodeEvent::Drain { .. }) => Ok(Self::Retiring),
            (state, NodeEvent::Drain { .. }) => refused(&state, "be drained"),
            (Self::Active | Self::Draining { .. } | Self::Empty { .. }, NodeEvent::Undrain) => {
                Ok(Self::Active)
            }
            (state, NodeEvent::Undrain) => refused(&state, "be undrained"),
            // One that was never heard, or has said goodbye, may speak while its machine is being terminated.
            (
                Self::Launching | Self::Empty { .. } | Self::Lost | Self::Retiring | Self::Gone,
                NodeEvent::Retire,
            ) => Ok(Self::Retiring),
            // Past its deadline the autoscaler may retire a node that would not empty; the caller checks the time.
            (Self::Draining { .. }, NodeEvent::Retire) => Ok(Self::Retiring),
            (state, NodeEvent::Retire) => refused(&state, "be retired: drain it first"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain() -> NodeEvent {
        NodeEvent::Drain { until: Timestamp::from_micros(1), reason: "test".into() }
    }

    #[test]
    fn a_drained_node_can_come_back_until_it_retires() {
        let empty = NodeState::Active.after(drain()).unwrap().after(NodeEvent::HeardEmpty).unwrap();
        assert_eq!(empty, NodeState::Empty { reason: "test".into() });
        assert_eq!(empty.clone().after(NodeEvent::Undrain).unwrap(), NodeState::Active);
        let retiring = empty.after(NodeEvent::Retire).unwrap();
        assert!(retiring.clone().after(NodeEvent::Undrain).is_err());
        assert_eq!(retiring.after(NodeEvent::Heard).unwrap(), NodeState::Retiring);
    }

    #[test]
    fn a_busy_node_is_not_retired() {
        let refused = NodeState::Active.after(NodeEvent::Retire).unwrap_err();
        assert_eq!(refused.to_string(), "a node that is active can't be retired: drain it first");
    }

    #[test]
    fn a_node_that_was_never_heard_is_retired_and_stays_so() {
        let retiring = NodeState::Launching.after(NodeEvent::Retire).unwrap();
        assert_eq!(retiring.after(NodeEvent::Heard).unwrap(), NodeState::Retiring);
    }

    #[test]
    fn a_lost_node_is_back_when_it_is_heard() {
        let lost = NodeState::Active.after(NodeEvent::Silent).unwrap();
        assert_eq!(lost, NodeState::Lost);
        assert_eq!(lost.after(NodeEvent::Heard).unwrap(), NodeState::Active);
    }
}
