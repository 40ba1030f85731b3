//! The ports: what the rest of Springtide may ask of a broker.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use springtide_core::wire::{DesiredState, EventMessage, Heartbeat, TaskMessage};
use springtide_core::{LaneName, NodeId};
use tokio::sync::watch;

use crate::delivery::{Consumer, Subscription};
use crate::error::Error;
use crate::health::{Counters, Health};
use crate::rabbit::Lifetime;

/// A process's way to the broker. Cheap to clone.
#[derive(Clone)]
pub struct Broker {
    /// The lanes' queues.
    pub tasks: Arc<dyn TaskQueue>,
    /// Events, heartbeats, desired states.
    pub events: Arc<dyn EventBus>,
    /// Whether the broker can be reached; changes are seen by waiting on it.
    pub health: watch::Receiver<Health>,
    /// What has been counted since the start.
    pub counters: Arc<Counters>,
    /// The tasks behind it; none in memory.
    pub(crate) lifetime: Option<Arc<Lifetime>>,
}

impl Broker {
    /// Says goodbye to the broker: what was acked and published is written, then the connections are closed. Consumers
    /// end. Without it the last acks of a process may get lost, and come again as redeliveries.
    pub async fn close(&self, limit: Duration) -> Result<(), Error> {
        match &self.lifetime {
            Some(lifetime) => lifetime.end(limit).await,
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("health", &*self.health.borrow()).finish_non_exhaustive()
    }
}

/// A task message on its way into a lane's queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Publication {
    /// The lane.
    pub lane: LaneName,
    /// The message.
    pub message: TaskMessage,
    /// 0 to [`names::MAX_PRIORITY`](crate::names::MAX_PRIORITY); higher is delivered first.
    pub priority: u8,
    /// How long it may wait in the queue. After that nobody gets it, and nobody is told.
    pub expiration: Duration,
}

/// How to consume a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumeOptions {
    /// How many deliveries may be unacked at once. Not taking any is having no consumer.
    pub prefetch: NonZeroU16,
    /// The broker fills consumers of a higher priority first.
    pub priority: i32,
}

/// What is in a lane's queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// Messages that nobody holds.
    pub messages: u64,
    /// Consumers that take messages.
    pub consumers: u64,
}

/// The lanes' queues of tasks.
#[async_trait]
pub trait TaskQueue: Send + Sync {
    /// Sees to it that the lane's queue is there. Publishing and consuming do it by themselves as well.
    async fn declare(&self, lane: &LaneName) -> Result<(), Error>;

    /// Publishes all of `batch` at once, persistently, and returns what became of each, in order. Comes back within
    /// the time limit of publications. Priority by priority, a lane's messages stay in order.
    async fn publish(&self, batch: &[Publication]) -> Vec<Result<(), Error>>;

    /// Begins to consume. Returns once the broker has agreed; from then on the consumer survives lost connections,
    /// closed channels and cancellations by the broker.
    async fn consume(&self, lane: &LaneName, options: ConsumeOptions)
    -> Result<Consumer<TaskMessage>, Error>;

    /// What is in a lane's queue now.
    async fn depth(&self, lane: &LaneName) -> Result<QueueDepth, Error>;
}

/// Everything that is no task.
#[async_trait]
pub trait EventBus: Send + Sync {
    /// Publishes events persistently, in order, and returns what became of each message.
    async fn publish_events(&self, messages: &[EventMessage]) -> Vec<Result<(), Error>>;

    /// Consumes the events. Of all consumers, here and in other processes, one gets them, in order; when it goes away
    /// the next one takes over and first gets what was not acked. The others wait in [`Consumer::next`].
    async fn consume_events(&self, prefetch: NonZeroU16) -> Result<Consumer<EventMessage>, Error>;

    /// Tells everybody who subscribed. Not kept on disk; gone after `expires_after`, and when nobody listens.
    async fn publish_heartbeat(&self, heartbeat: &Heartbeat, expires_after: Duration) -> Result<(), Error>;

    /// Hears every heartbeat from now on.
    async fn subscribe_heartbeats(&self) -> Result<Subscription<Heartbeat>, Error>;

    /// Tells every agent that subscribed for this node. [`Error::Unroutable`] when there is none.
    async fn send_desired(&self, desired: &DesiredState, expires_after: Duration) -> Result<(), Error>;

    /// Hears what is wanted of a node from now on. Two agents with one node id (two incarnations) both hear it.
    async fn subscribe_desired(&self, node: &NodeId) -> Result<Subscription<DesiredState>, Error>;
}
