//! How long machines of a pool take from launch to their first heartbeat.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use springtide_core::Timestamp;

use crate::snapshot::Node;

/// Each boot counts so much of the next one: about the last twenty count.
const FORGETTING: f64 = 0.95;
/// How many boots the configured time is worth.
const PRIOR: f64 = 3.0;

/// Boot times, lognormal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Boots {
    samples: f64,
    logarithms: f64,
}

impl Boots {
    /// Learns from nodes that became ready since the snapshot before.
    pub(super) fn note(&mut self, nodes: &[Node], seen: Option<Timestamp>) {
        for node in nodes {
            let Some(ready) = node.ready_at else { continue };
            if seen.is_some_and(|seen| ready > seen) && ready > node.launched_at {
                let took = ready.since(node.launched_at).as_secs_f64();
                self.samples = self.samples * FORGETTING + 1.0;
                self.logarithms = self.logarithms * FORGETTING + took.ln();
            }
        }
    }

    /// The median, with what is configured as prior.
    pub(crate) fn median(&self, configured: Duration) -> f64 {
        let prior = configured.as_secs_f64().ln();
        ((self.logarithms + PRIOR * prior) / (self.samples + PRIOR)).exp()
    }
}
