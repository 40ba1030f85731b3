//! RabbitMQ behind the ports, with lapin.
//!
//! ```text
//!   Supervisor (publish) ── Session ── publisher::Work ◄─ Publisher ◄─ TaskQueue, EventBus
//!   Supervisor (consume) ── Session ── consumer::Work, one per Consumer, each with a channel of its own
//! ```
//!
//! Two connections, since a broker under a memory or disk alarm blocks those that publish. lapin's own recovery is off:
//! it gives up, and it does not cover closed channels and cancelled consumers.

mod backoff;
mod channel;
mod consumer;
mod control;
mod dead;
mod link;
mod parcel;
mod publisher;
mod ticket;
mod topology;

use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lapin::uri::AMQPUri;
use serde::de::DeserializeOwned;
use springtide_core::wire::{DesiredState, EventMessage, Heartbeat, TaskMessage};
use springtide_core::{LaneName, NodeId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, InvalidConfig};
use crate::delivery::{Consumer, Subscription};
use crate::error::Error;
use crate::health::{Counters, Health, Link as LinkHealth};
use crate::inbox::Inbox;
use crate::port::{Broker, ConsumeOptions, EventBus, Publication, QueueDepth, TaskQueue};
use backoff::Backoff;
use consumer::Source;
use control::RabbitControl;
use dead::DeadLetters;
use link::{Link, Role, Settings, Supervisor};
use parcel::Parcel;
use publisher::Publisher;

/// Subscribers hold so many messages that they have not taken.
const SUBSCRIPTION_PREFETCH: NonZeroU16 = NonZeroU16::new(256).expect("not zero");

/// Ends the tasks behind a broker when its last user is gone.
pub(crate) struct Lifetime {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Lifetime {
    /// Ends the tasks and waits until they are done, which includes saying goodbye to the broker.
    pub(crate) async fn end(&self, limit: Duration) -> Result<(), Error> {
        self.stop.cancel();
        self.tasks.close();
        timeout(limit, self.tasks.wait())
            .await
            .map_err(|_| Error::timeout("the connections to the broker to close", limit))
    }
}

impl Drop for Lifetime {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Opens RabbitMQ at `config.url`. Returns at once; the connections are made, and made again, in the background, on the
/// present tokio runtime. `name` is what the broker's operator sees; `seed` is that of the jitter between attempts.
pub fn connect(config: &Config, name: &str, seed: u64) -> Result<Broker, InvalidConfig> {
    let uri = uri(config)?;
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let counters = Arc::new(Counters::default());
    let down = LinkHealth::Down { reason: String::new() };
    let health = Health { address: config.address(), publish: down.clone(), consume: down };
    let (health, watch) = watch::channel(health);
    let health = Arc::new(health);
    let start = |role: Role| {
        let settings = Settings {
            uri: uri.clone(),
            name: name.to_owned(),
            connect_timeout: config.connect_timeout,
            reconnect_delay_max: config.reconnect_delay_max,
            dead_cap: config.dead_cap,
        };
        let supervisor = Supervisor {
            settings,
            role,
            health: Arc::clone(&health),
            counters: Arc::clone(&counters),
            stop: stop.clone(),
            seed: seed ^ role as u64,
        };
        let (link, work) = supervisor.start();
        tasks.spawn(work);
        link
    };
    let (publish, consume) = (start(Role::Publish), start(Role::Consume));
    let limit = config.publish_timeout;
    let (publisher, work) =
        publisher::start(publish, config.publish_window, limit, Arc::clone(&counters), stop.clone());
    tasks.spawn(work.run());
    let lifetime = Arc::new(Lifetime { stop, tasks });
    let client = Arc::new(RabbitClient {
        publisher,
        consume,
        counters: Arc::clone(&counters),
        limit,
        reconnect_delay_max: config.reconnect_delay_max,
        seed: AtomicU64::new(seed.wrapping_add(2)),
        lifetime: Arc::clone(&lifetime),
    });
    let tasks = Arc::clone(&client);
    Ok(Broker { tasks, events: client, health: watch, counters, lifetime: Some(lifetime) })
}

fn uri(config: &Config) -> Result<AMQPUri, InvalidConfig> {
    let wrong = |key, problem: String| InvalidConfig { key, problem };
    let expected = "expected amqp://USER:PASSWORD@HOST:PORT/VHOST or amqps://…";
    if config.is_memory() {
        return Err(wrong("url", format!("`memory:` works inside one process only; {expected}")));
    }
    let mut uri: AMQPUri = config.url.parse().map_err(|e| wrong("url", format!("{e}; {expected}")))?;
    let heartbeat = u16::try_from(config.heartbeat.as_secs()).ok().filter(|seconds| *seconds > 0);
    uri.query.heartbeat =
        Some(heartbeat.ok_or_else(|| wrong("heartbeat", "expected 1 s to 65535 s".to_owned()))?);
    for (key, value) in [
        ("connect_timeout", config.connect_timeout),
        ("reconnect_delay_max", config.reconnect_delay_max),
        ("publish_timeout", config.publish_timeout),
    ] {
        if value.is_zero() {
            return Err(wrong(key, "expected more than nothing".to_owned()));
        }
    }
    Ok(uri)
}

struct RabbitClient {
    publisher: Publisher,
    consume: Link,
    counters: Arc<Counters>,
    limit: Duration,
    reconnect_delay_max: Duration,
    seed: AtomicU64,
    lifetime: Arc<Lifetime>,
}

impl RabbitClient {
    async fn consumer<M: DeserializeOwned + Send + 'static>(
        &self,
        source: Source,
        prefetch: NonZeroU16,
        priority: i32,
    ) -> Result<Consumer<M>, Error> {
        let (cancels, commands) = mpsc::channel(1);
        let (started, start) = oneshot::channel();
        let inbox = Inbox::new();
        let seed = self.seed.fetch_add(1, Ordering::Relaxed);
        let dead = DeadLetters {
            origin: source.describe(),
            publisher: self.publisher.clone(),
            counters: Arc::clone(&self.counters),
        };
        let work = consumer::Work {
            source,
            prefetch,
            priority,
            link: self.consume.clone(),
            dead,
            counters: Arc::clone(&self.counters),
            limit: self.limit,
            backoff: Backoff::new(self.reconnect_delay_max, seed),
            stop: self.lifetime.stop.clone(),
        };
        self.lifetime.tasks.spawn(work.run(Arc::clone(&inbox), commands, started));
        let control = RabbitControl {
            cancels,
            channel: None,
            link: self.consume.clone(),
            limit: self.limit,
            _lifetime: Arc::clone(&self.lifetime),
        };
        // Dropping the control, on any way out, ends the task.
        match timeout(self.limit, start).await {
            Ok(Ok(Ok(()))) => Ok(Consumer::new(Box::new(control), inbox)),
            Ok(Ok(Err(error))) => Err(error),
            _ => Err(self.consume.late("the broker to let a consumer begin", self.limit)),
        }
    }

    /// Declares a lane's queue; what comes back tells its depth.
    async fn declare_lane(&self, lane: &LaneName) -> Result<QueueDepth, Error> {
        let what = "declaring a lane's queue";
        let deadline = Instant::now() + self.limit;
        let session = self.consume.session(what, self.limit).await?;
        let queue = timeout_at(deadline, link_lane(&session, lane)).await;
        queue.map_err(|_| self.consume.late(what, self.limit))?
    }

    async fn publish_one(&self, parcel: Result<Parcel, Error>) -> Result<(), Error> {
        self.publisher.publish(vec![parcel]).await.pop().unwrap_or(Ok(()))
    }
}

async fn link_lane(session: &link::Session, lane: &LaneName) -> Result<QueueDepth, Error> {
    let queue = topology::declare_lane(&session.connection, lane).await?;
    Ok(QueueDepth { messages: queue.message_count().into(), consumers: queue.consumer_count().into() })
}

#[async_trait]
impl TaskQueue for RabbitClient {
    async fn declare(&self, lane: &LaneName) -> Result<(), Error> {
        self.declare_lane(lane).await.map(drop)
    }

    async fn publish(&self, batch: &[Publication]) -> Vec<Result<(), Error>> {
        self.publisher.publish(batch.iter().map(Parcel::task).collect()).await
    }

    async fn consume(
        &self,
        lane: &LaneName,
        options: ConsumeOptions,
    ) -> Result<Consumer<TaskMessage>, Error> {
        self.consumer(Source::Lane(lane.clone()), options.prefetch, options.priority).await
    }

    async fn depth(&self, lane: &LaneName) -> Result<QueueDepth, Error> {
        self.declare_lane(lane).await
    }
}

#[async_trait]
impl EventBus for RabbitClient {
    async fn publish_events(&self, messages: &[EventMessage]) -> Vec<Result<(), Error>> {
        self.publisher.publish(messages.iter().map(Parcel::events).collect()).await
    }

    async fn consume_events(&self, prefetch: NonZeroU16) -> Result<Consumer<EventMessage>, Error> {
        self.consumer(Source::Events, prefetch, 0).await
    }

    async fn publish_heartbeat(&self, heartbeat: &Heartbeat, expires_after: Duration) -> Result<(), Error> {
        self.publish_one(Parcel::heartbeat(heartbeat, expires_after)).await
    }

    async fn subscribe_heartbeats(&self) -> Result<Subscription<Heartbeat>, Error> {
        self.consumer(Source::Heartbeats, SUBSCRIPTION_PREFETCH, 0).await.map(Subscription::new)
    }

    async fn send_desired(&self, desired: &DesiredState, expires_after: Duration) -> Result<(), Error> {
        self.publish_one(Parcel::desired(desired, expires_after)).await
    }

    async fn subscribe_desired(&self, node: &NodeId) -> Result<Subscription<DesiredState>, Error> {
        self.consumer(Source::Node(node.clone()), SUBSCRIPTION_PREFETCH, 0).await.map(Subscription::new)
    }
}
