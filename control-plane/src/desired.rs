//! What is wanted of a node, as one whole state: said again until its heartbeats show it.

use springtide_core::RunId;
use springtide_core::node::NodeState;
use springtide_core::wire::{DesiredState, Drain, KeyLease, V1};
use springtide_store::port::NodeRow;

use crate::app::App;

/// The desired state of a node that should stop these runs. `None`: it was never heard.
pub fn state(node: &NodeRow, cancel: Vec<RunId>) -> Option<DesiredState> {
    let drain = match &node.state {
        NodeState::Draining { until, reason } => Some(Drain { until: *until, reason: reason.clone() }),
        NodeState::Empty { .. } | NodeState::Retiring => {
            Some(Drain { until: node.changed_at, reason: node.state.as_str().to_owned() })
        }
        _ => None,
    };
    Some(DesiredState {
        v: V1,
        node: node.id.clone(),
        incarnation: node.incarnation?,
        lane: node.lane.clone(),
        drain,
        cancel,
        preload: Vec::new(),
        leases: Vec::new(),
    })
}

impl App {
    /// Tells a node what is wanted of it. A message that is lost is repeated by the comparison.
    pub async fn tell_node(&self, node: &NodeRow, cancel: Vec<RunId>) {
        if let Some(desired) = state(node, cancel) {
            self.send_desired(&desired).await;
        }
    }

    /// Tells a node that the keys of exclusive tasks are kept for it. A message that is lost is repeated by the next.
    pub async fn tell_node_of_keys(&self, node: &NodeRow, leases: Vec<KeyLease>) {
        if let Some(desired) = state(node, Vec::new()) {
            self.send_desired(&DesiredState { leases, ..desired }).await;
        }
    }

    async fn send_desired(&self, desired: &DesiredState) {
        let expires_after = self.config.heartbeat_interval;
        if let Err(error) = self.parts.broker.events.send_desired(desired, expires_after).await {
            tracing::debug!(node = %desired.node, %error, "a node was not told what is wanted of it; the comparison tells it again");
        }
    }
}
