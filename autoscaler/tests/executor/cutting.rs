//! Wraps the control plane and the provider so that the executor can be cut off before or after any call.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use springtide_autoscaler::Plane;
use springtide_autoscaler::provider::{self, LaunchId, Launched, Machine, Order, Provider, Request};
use springtide_client::Error;
use springtide_core::NodeId;
use springtide_core::api::{
    ClusterView, DrainNode, LaunchView, LeaseGrant, LeaseWish, NodeView, PutLaunch, RetireNode,
};
use tokio::sync::Notify;

/// On which side of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Before,
    After,
}

/// Counts calls, and stops the caller for ever at one of them.
#[derive(Debug)]
pub struct Cut {
    calls: AtomicU64,
    at: Option<(u64, Side)>,
    /// Told when it happened.
    pub reached: Notify,
}

impl Cut {
    pub fn new(at: Option<(u64, Side)>) -> Arc<Self> {
        Arc::new(Self { calls: AtomicU64::new(0), at, reached: Notify::new() })
    }

    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    async fn around<T>(&self, call: impl Future<Output = T>) -> T {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        self.stop(number, Side::Before).await;
        let result = call.await;
        self.stop(number, Side::After).await;
        result
    }

    async fn stop(&self, number: u64, side: Side) {
        if self.at == Some((number, side)) {
            self.reached.notify_one();
            pending::<()>().await;
        }
    }
}

/// A control plane or a provider, with a cut.
#[derive(Debug)]
pub struct Cutting<T> {
    pub inner: T,
    pub cut: Arc<Cut>,
}

#[async_trait]
impl<T: Plane> Plane for Cutting<T> {
    async fn cluster(&self) -> Result<ClusterView, Error> {
        self.cut.around(self.inner.cluster()).await
    }
    async fn lease(&self, name: &str, wish: &LeaseWish) -> Result<LeaseGrant, Error> {
        self.cut.around(self.inner.lease(name, wish)).await
    }
    async fn put_launch(&self, id: &str, launch: &PutLaunch) -> Result<LaunchView, Error> {
        self.cut.around(self.inner.put_launch(id, launch)).await
    }
    async fn drain(&self, node: &NodeId, drain: &DrainNode) -> Result<NodeView, Error> {
        self.cut.around(self.inner.drain(node, drain)).await
    }
    async fn undrain(&self, node: &NodeId) -> Result<NodeView, Error> {
        self.cut.around(self.inner.undrain(node)).await
    }
    async fn retire(&self, node: &NodeId, retire: &RetireNode) -> Result<NodeView, Error> {
        self.cut.around(self.inner.retire(node, retire)).await
    }
}

#[async_trait]
impl<T: Provider> Provider for Cutting<T> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    async fn prepare(&self, order: &Order) -> provider::Result<Request> {
        self.cut.around(self.inner.prepare(order)).await
    }
    async fn launch(&self, id: &LaunchId, request: &Request) -> provider::Result<Launched> {
        self.cut.around(self.inner.launch(id, request)).await
    }
    async fn machines(&self) -> provider::Result<Vec<Machine>> {
        self.cut.around(self.inner.machines()).await
    }
    async fn terminate(&self, nodes: &[NodeId]) -> provider::Result<()> {
        self.cut.around(self.inner.terminate(nodes)).await
    }
}
