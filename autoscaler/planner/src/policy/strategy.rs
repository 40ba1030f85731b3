//! How the number of nodes is chosen: the strategies' names and parameters.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How the number of a pool's nodes is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// From predicted work, what is on its way, and what is expected to arrive.
    #[default]
    Predictive,
    /// From the number of tasks, as KEDA with the Horizontal Pod Autoscaler does it; for comparison.
    QueueLength,
    /// From the ratio of a measure to its target, as the Nomad Autoscaler's `target-value` does it; for comparison.
    TargetValue,
}

/// Parameters of `predictive`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Predictive {
    /// Standard deviations of the unfinished work that are planned for beyond those that the target wait needs as a rule:
    /// above 0 it gets dearer and waits get shorter.
    pub caution: f64,
    /// How far is looked ahead before an idle node is drained; 1 is what costs least as a rule.
    pub patience: f64,
    /// Whether the same time of earlier days counts in what is expected to arrive.
    pub time_of_day: bool,
}

impl Default for Predictive {
    fn default() -> Self {
        Self { caution: 0.0, patience: 1.0, time_of_day: true }
    }
}

/// Parameters of `queue_length`. The defaults are those of KEDA's RabbitMQ scaler and of the Horizontal Pod Autoscaler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueLength {
    /// Tasks (waiting and running) for each slot.
    pub tasks_per_slot: f64,
    /// How often the queue's length is read (KEDA's `pollingInterval`).
    #[serde(with = "springtide_core::duration")]
    pub poll: Duration,
    /// How often the number of nodes is set (the controller manager's `--horizontal-pod-autoscaler-sync-period`).
    #[serde(with = "springtide_core::duration")]
    pub sync: Duration,
    /// No change while the ratio is so near to 1.
    pub tolerance: f64,
    /// The number goes down to the highest that was wanted in so long.
    #[serde(with = "springtide_core::duration")]
    pub down_stabilisation: Duration,
    /// In one sync the number at most grows by this factor …
    pub up_factor: f64,
    /// … or by so many nodes, whichever is more.
    pub up_nodes: u32,
}

impl Default for QueueLength {
    fn default() -> Self {
        Self {
            tasks_per_slot: 1.0,
            poll: Duration::from_secs(30),
            sync: Duration::from_secs(15),
            tolerance: 0.1,
            down_stabilisation: Duration::from_secs(300),
            up_factor: 2.0,
            up_nodes: 4,
        }
    }
}

/// Parameters of `target_value`. The measure is predicted seconds of work, waiting and running, for each slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TargetValue {
    /// The measure's target, in seconds.
    #[serde(with = "springtide_core::duration")]
    pub target: Duration,
    /// No change while the ratio is so near to 1 (Nomad's `threshold`).
    pub threshold: f64,
    /// Between two looks (Nomad's `evaluation_interval`).
    #[serde(with = "springtide_core::duration")]
    pub evaluation_interval: Duration,
    /// After a change nothing is changed for so long (Nomad's `cooldown`).
    #[serde(with = "springtide_core::duration")]
    pub cooldown: Duration,
}

impl Default for TargetValue {
    fn default() -> Self {
        Self {
            target: Duration::from_secs(30),
            threshold: 0.01,
            evaluation_interval: Duration::from_secs(10),
            cooldown: Duration::from_secs(300),
        }
    }
}
