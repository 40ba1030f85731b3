//! Machines that the provider has said it will take back: no capacity from then on, and never given tasks again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use springtide_core::api::NodeView;
use springtide_core::{NodeId, Timestamp};

/// Begins the reason of a drain that an interruption asked for. The store keeps it with the node, so that another
/// autoscaler, or this one after a restart, knows of it as well.
pub const REASON: &str = "interruption: ";

/// After its time a machine is remembered for so long: it may be shown for a while yet.
const REMEMBERED: Duration = Duration::from_hours(1);

/// The machines, and when they are taken back.
#[derive(Debug, Default)]
pub struct Doomed {
    nodes: Mutex<BTreeMap<NodeId, Timestamp>>,
}

impl Doomed {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Timestamp>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A machine is taken back at this time. The earliest time that was said counts. Whether that is news.
    pub fn add(&self, node: &NodeId, at: Timestamp) -> bool {
        let mut nodes = self.lock();
        let earliest = nodes.get(node).copied().map_or(at, |known| known.min(at));
        nodes.insert(node.clone(), earliest) != Some(earliest)
    }

    /// Learns from the reasons of drains; forgets what is long over.
    pub fn learn(&self, nodes: &[NodeView], now: Timestamp) {
        let mut doomed = self.lock();
        doomed.retain(|_, at| now.since(*at) < REMEMBERED);
        for node in nodes {
            // An empty node has no deadline any more, but still why it was drained.
            if node.reason.as_deref().is_some_and(|reason| reason.starts_with(REASON)) {
                doomed.entry(node.id.clone()).or_insert(node.drain_until.unwrap_or(now));
            }
        }
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<NodeId, Timestamp> {
        self.lock().clone()
    }
}
