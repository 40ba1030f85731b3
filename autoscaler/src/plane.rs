//! The control plane as the autoscaler sees it: the snapshot that it plans from, and the durable writes that it acts by.

use async_trait::async_trait;
use springtide_client::{Client, Error};
use springtide_core::NodeId;
use springtide_core::api::{
    ClusterView, DrainNode, LaunchView, LeaseGrant, LeaseWish, NodeView, PutLaunch, RetireNode,
};

/// A control plane.
#[async_trait]
pub trait Plane: Send + Sync {
    /// One consistent snapshot of work, nodes and open launches.
    async fn cluster(&self) -> Result<ClusterView, Error>;
    /// Takes or renews a lease.
    async fn lease(&self, name: &str, wish: &LeaseWish) -> Result<LeaseGrant, Error>;
    /// Writes an intent, or what became of it.
    async fn put_launch(&self, id: &str, launch: &PutLaunch) -> Result<LaunchView, Error>;
    /// Has a node take no new tasks.
    async fn drain(&self, node: &NodeId, drain: &DrainNode) -> Result<NodeView, Error>;
    /// Has it take tasks again.
    async fn undrain(&self, node: &NodeId) -> Result<NodeView, Error>;
    /// Commits, fenced, that its machine is about to be terminated.
    async fn retire(&self, node: &NodeId, retire: &RetireNode) -> Result<NodeView, Error>;
}

#[async_trait]
impl Plane for Client {
    async fn cluster(&self) -> Result<ClusterView, Error> {
        Self::cluster(self).await
    }

    async fn lease(&self, name: &str, wish: &LeaseWish) -> Result<LeaseGrant, Error> {
        Self::lease(self, name, wish).await
    }

    async fn put_launch(&self, id: &str, launch: &PutLaunch) -> Result<LaunchView, Error> {
        Self::put_launch(self, id, launch).await
    }

    async fn drain(&self, node: &NodeId, drain: &DrainNode) -> Result<NodeView, Error> {
        Self::drain(self, node, drain).await
    }

    async fn undrain(&self, node: &NodeId) -> Result<NodeView, Error> {
        Self::undrain(self, node).await
    }

    async fn retire(&self, node: &NodeId, retire: &RetireNode) -> Result<NodeView, Error> {
        Self::retire(self, node, retire).await
    }
}

/// The kind of the problem document that says that somebody else has the lease by now.
const FENCED: &str = "urn:springtide:problem:fenced";

/// Whether a write was refused because somebody else leads.
pub fn is_fenced(error: &Error) -> bool {
    matches!(error, Error::Problem(problem) if problem.r#type == FENCED)
}

/// Whether a write was refused because things stand otherwise than was thought: the next snapshot shows how.
pub fn is_outdated(error: &Error) -> bool {
    matches!(error.status(), Some(404 | 409)) && !is_fenced(error)
}
