//! Nodes as rows.

use springtide_core::node::NodeState;
use springtide_core::{Incarnation, LaneName, NodeId, Timestamp};

/// A node as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeRow {
    /// Which.
    pub id: NodeId,
    /// The start of its agent that was heard last.
    pub incarnation: Option<Incarnation>,
    /// Its state.
    pub state: NodeState,
    /// The lane that it is made for.
    pub lane: LaneName,
    /// The pool that it belongs to.
    pub pool: Option<String>,
    /// How many tasks it takes at once.
    pub slots: u32,
    /// When it was heard first.
    pub first_seen: Timestamp,
    /// When its row changed last (not each heartbeat).
    pub changed_at: Timestamp,
}

/// What a heartbeat says about a node's row.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeSighting {
    /// Which.
    pub id: NodeId,
    /// The start of its agent.
    pub incarnation: Incarnation,
    /// The lane that it is made for.
    pub lane: LaneName,
    /// The pool that it belongs to.
    pub pool: Option<String>,
    /// How many tasks it takes at once.
    pub slots: u32,
    /// It drains and holds nothing.
    pub empty: bool,
    /// It said goodbye.
    pub leaving: bool,
}
