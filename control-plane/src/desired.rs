//! What is wanted of a node, as one whole state: said again until its heartbeats show it.

use std::collections::BTreeMap;

use springtide_core::node::NodeState;
use springtide_core::wire::{DesiredState, Drain, V1};
use springtide_core::{NodeId, RunId};
use springtide_store::port::{NodeRow, StopRun};

use crate::app::App;

/// The desired state of a node that should stop these runs. `None`: it was never heard.
pub fn state(node: &NodeRow, cancel: Vec<RunId>) -> Option<DesiredState> {
    let drain = match &node.state {
        NodeState::Draining { until, reason } => Some(Drain { until: *until, reason: reason.clone() }),
        NodeState::Empty | NodeState::Retiring => {
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
    })
}

impl App {
    /// Tells a node what is wanted of it. A message that is lost is repeated by the comparison.
    pub async fn tell_node(&self, node: &NodeRow, cancel: Vec<RunId>) {
        let Some(desired) = state(node, cancel) else { return };
        let expires_after = self.config.heartbeat_interval;
        if let Err(error) = self.parts.broker.events.send_desired(&desired, expires_after).await {
            tracing::debug!(node = %node.id, %error, "a node was not told what is wanted of it; the comparison tells it again");
        }
    }

    /// Has runs stopped that nobody wants any more.
    pub async fn stop_runs(&self, runs: Vec<StopRun>) {
        if runs.is_empty() {
            return;
        }
        let mut by_node: BTreeMap<NodeId, Vec<RunId>> = BTreeMap::new();
        for stop in runs {
            by_node.entry(stop.node).or_default().push(stop.run);
        }
        let nodes = match self.store.nodes(self.now()).await {
            Ok(nodes) => nodes,
            Err(error) => {
                tracing::warn!(%error, "runs that nobody wants are stopped by the comparison");
                return;
            }
        };
        for node in nodes {
            if let Some(cancel) = by_node.remove(&node.id) {
                self.tell_node(&node, cancel).await;
            }
        }
    }
}
