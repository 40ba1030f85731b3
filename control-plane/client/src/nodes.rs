//! Nodes: look, drain, undrain, retire.

use springtide_core::NodeId;
use springtide_core::api::{DrainNode, NodeView, Page, RetireNode};

use crate::http::Call;
use crate::{Client, Error};

impl Client {
    /// A page of the nodes that are not gone.
    pub async fn nodes(&self, cursor: Option<&str>) -> Result<Page<NodeView>, Error> {
        self.http.json(&Call::get(&["v1", "nodes"]).query("cursor", cursor)).await
    }

    /// Has a node take no new tasks and end those that it has.
    pub async fn drain(&self, node: &NodeId, drain: &DrainNode) -> Result<NodeView, Error> {
        self.http.json(&Call::post(&["v1", "nodes", node.as_str(), "drain"]).json(drain)?.harmless()).await
    }

    /// Has a draining or empty node take tasks again.
    pub async fn undrain(&self, node: &NodeId) -> Result<NodeView, Error> {
        self.http.json(&Call::post(&["v1", "nodes", node.as_str(), "undrain"]).harmless()).await
    }

    /// Commits, fenced, that a node is about to be terminated; irreversible.
    pub async fn retire(&self, node: &NodeId, retire: &RetireNode) -> Result<NodeView, Error> {
        self.http.json(&Call::post(&["v1", "nodes", node.as_str(), "retire"]).json(retire)?.harmless()).await
    }
}
