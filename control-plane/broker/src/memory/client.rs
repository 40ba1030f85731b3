//! One process's connection to the in-memory broker: the ports.

use std::num::NonZeroU16;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;
use springtide_core::wire::{DesiredState, EventMessage, Heartbeat, TaskMessage};
use springtide_core::{LaneName, NodeId};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::channel::MemoryChannel;
use super::faults::Fate;
use super::queue::Message;
use super::server::{Raw, Server, Sink, Source, State, Subscription as Record};
use crate::codec::{self, Unreadable};
use crate::delivery::{Consumer, Control, Delivery, Subscription};
use crate::error::Error;
use crate::health::{Counters, Health, Link};
use crate::inbox::Inbox;
use crate::names;
use crate::port::{ConsumeOptions, EventBus, Publication, QueueDepth, TaskQueue};

/// Subscribers hold so many messages that they have not taken.
const SUBSCRIPTION_PREFETCH: usize = 256;

pub(super) struct MemoryClient {
    pub(super) server: Arc<Server>,
    pub(super) id: u64,
    pub(super) health: watch::Receiver<Health>,
    /// Raised when the health has changed: wakes those who wait in the order in which they came, as `watch` does not.
    pub(super) changed: Arc<Notify>,
    pub(super) counters: Arc<Counters>,
    pub(super) timeout: Duration,
}

/// Where a publication goes.
enum Route {
    Queue(String),
    Fanout,
    Node(NodeId),
}

/// A publication, encoded.
struct Parcel {
    route: Route,
    body: Result<Arc<[u8]>, Error>,
    priority: u8,
    expires_after: Option<Duration>,
    durable: bool,
}

impl Parcel {
    fn new<M: Serialize>(route: Route, message: &M) -> Self {
        let body = codec::encode(message).map(Arc::from);
        Self { route, body, priority: 0, expires_after: None, durable: true }
    }
}

impl MemoryClient {
    /// Waits until `works` says so of the connection.
    async fn wait(&self, what: &str, works: impl Fn(&Health) -> bool) -> Result<(), Error> {
        let waiting = async {
            loop {
                let mut changed = pin!(self.changed.notified());
                changed.as_mut().enable();
                if works(&self.health.borrow()) {
                    return;
                }
                changed.await;
            }
        };
        let in_time = tokio::time::timeout(self.timeout, waiting).await;
        in_time.map_err(|_| Error::timeout(format!("{what}: {}", *self.health.borrow()), self.timeout))
    }

    async fn publish_all(&self, parcels: Vec<Parcel>) -> Vec<Result<(), Error>> {
        if let Err(error) = self.wait("a publication", |health| health.publish == Link::Up).await {
            return vec![Err(error); parcels.len()];
        }
        let delay = self.server.with(|state, _| state.dice.delay());
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let results = self.server.with(|state, garbage| {
            let mut results = Vec::with_capacity(parcels.len());
            let mut touched = Vec::new();
            let mut lost = false;
            for parcel in parcels {
                let fate = state.dice.fate(results.is_empty());
                lost |= fate == Fate::ConnectionLost;
                results.push(if lost {
                    let reason = "an injected fault".to_owned();
                    Err(Error::Lost { what: "a publication was confirmed", reason })
                } else {
                    self.deliver(state, parcel, fate, &mut touched)
                });
            }
            for name in touched {
                state.pump(&self.server, &name, garbage);
            }
            if lost {
                let outage = state.dice.outage();
                super::cut(&self.server, state, self.id, Some(outage), garbage);
            }
            results
        });
        if results.iter().any(|result| matches!(result, Err(Error::Timeout { .. }))) {
            tokio::time::sleep(self.timeout).await;
        }
        results
    }

    /// Puts one publication where it belongs, as far as its fate lets it.
    fn deliver(
        &self,
        state: &mut State,
        parcel: Parcel,
        fate: Fate,
        touched: &mut Vec<String>,
    ) -> Result<(), Error> {
        let body = parcel.body?;
        let queues: Vec<String> = match &parcel.route {
            Route::Queue(name) => vec![name.clone()],
            Route::Fanout => state.fanout.iter().cloned().collect(),
            Route::Node(node) => state.direct.get(node).into_iter().flatten().cloned().collect(),
        };
        if let (Route::Node(node), true) = (&parcel.route, queues.is_empty()) {
            self.counters.count_unroutable();
            return Err(Error::Unroutable { what: format!("desired states of node {node}") });
        }
        let copies = match fate {
            Fate::UnconfirmedGone | Fate::ConnectionLost => 0,
            Fate::Fine | Fate::UnconfirmedArrived => 1,
            Fate::Twice => 2,
        };
        for name in queues {
            for _ in 0..copies {
                let message = Message {
                    body: Arc::clone(&body),
                    redelivered: false,
                    expires_at: parcel.expires_after.map(|after| Instant::now() + after),
                    durable: parcel.durable,
                };
                state.push(&name, message, parcel.priority)?;
            }
            if !touched.contains(&name) {
                touched.push(name);
            }
        }
        match fate {
            Fate::UnconfirmedArrived | Fate::UnconfirmedGone => {
                Err(Error::timeout("the confirm of a publication", self.timeout))
            }
            _ => Ok(()),
        }
    }

    async fn publish_one(&self, parcel: Parcel) -> Result<(), Error> {
        self.publish_all(vec![parcel]).await.pop().unwrap_or(Ok(()))
    }

    async fn subscribe<M: DeserializeOwned + Send + 'static>(
        &self,
        source: Source,
        priority: i32,
        prefetch: usize,
    ) -> Result<Consumer<M>, Error> {
        self.wait("a consumer", |health| !matches!(health.consume, Link::Down { .. })).await?;
        let inbox = Inbox::<M>::new();
        let sink: Arc<dyn Sink> = Arc::new(InboxSink(Arc::clone(&inbox)));
        let subscription = self.server.with(|state, garbage| {
            let id = state.new_id();
            let record = Record { client: self.id, source, priority, prefetch, sink, channel: None };
            state.subscriptions.insert(id, record);
            state.attach(&self.server, id);
            let channel = state.subscriptions.get(&id).and_then(|record| record.channel.clone());
            if let Some(queue) = channel.as_ref().and_then(|channel| state.queue_of(channel.id())) {
                state.pump(&self.server, &queue, garbage);
            }
            garbage.push(Box::new(channel));
            id
        });
        let close = Arc::clone(&inbox);
        let control = MemoryControl {
            server: Arc::clone(&self.server),
            subscription,
            channel: None,
            close: Box::new(move || close.close()),
        };
        Ok(Consumer::new(Box::new(control), inbox))
    }
}

struct InboxSink<M>(Arc<Inbox<M>>);

impl<M: DeserializeOwned + Send + 'static> Sink for InboxSink<M> {
    fn put(&self, raw: Raw) -> Result<(), Unreadable> {
        let message = codec::decode(&raw.body)?;
        let Raw { redelivered, tag, channel, .. } = raw;
        self.0.put(Delivery { message, redelivered, tag, channel });
        Ok(())
    }

    fn clear(&self) -> Box<dyn Send> {
        Box::new(self.0.clear())
    }
}

/// Keeps a consumer's subscription.
struct MemoryControl {
    server: Arc<Server>,
    subscription: u64,
    /// After a cancel: keeps the channel open while the consumer lives.
    channel: Option<Arc<MemoryChannel>>,
    close: Box<dyn Fn() + Send + Sync>,
}

#[async_trait]
impl Control for MemoryControl {
    async fn cancel(&mut self) -> Result<(), Error> {
        let record = self.server.with(|state, _| state.subscriptions.remove(&self.subscription));
        if let Some(channel) = record.and_then(|record| record.channel) {
            channel.cancel();
            self.channel = Some(channel);
        }
        (self.close)();
        Ok(())
    }
}

impl Drop for MemoryControl {
    fn drop(&mut self) {
        // Nothing is left to end after a cancel.
        self.server.with(|state, garbage| state.end(&self.server, self.subscription, garbage));
        (self.close)();
    }
}

#[async_trait]
impl TaskQueue for MemoryClient {
    async fn declare(&self, lane: &LaneName) -> Result<(), Error> {
        self.wait("a queue", |health| !matches!(health.consume, Link::Down { .. })).await?;
        self.server.with(|state, _| {
            state.queue(&names::lane_queue(lane));
        });
        Ok(())
    }

    async fn publish(&self, batch: &[Publication]) -> Vec<Result<(), Error>> {
        let parcels = batch.iter().map(|publication| Parcel {
            priority: publication.priority.min(names::MAX_PRIORITY),
            expires_after: Some(publication.expiration),
            ..Parcel::new(Route::Queue(names::lane_queue(&publication.lane)), &publication.message)
        });
        self.publish_all(parcels.collect()).await
    }

    async fn consume(
        &self,
        lane: &LaneName,
        options: ConsumeOptions,
    ) -> Result<Consumer<TaskMessage>, Error> {
        let source = Source::Queue(names::lane_queue(lane));
        self.subscribe(source, options.priority, options.prefetch.get().into()).await
    }

    async fn depth(&self, lane: &LaneName) -> Result<QueueDepth, Error> {
        self.wait("the depth of a queue", |health| !matches!(health.consume, Link::Down { .. })).await?;
        let (messages, consumers) =
            self.server.with(|state, _| state.queue(&names::lane_queue(lane)).depth(Instant::now()));
        Ok(QueueDepth { messages: messages as u64, consumers: consumers as u64 })
    }
}

#[async_trait]
impl EventBus for MemoryClient {
    async fn publish_events(&self, messages: &[EventMessage]) -> Vec<Result<(), Error>> {
        let parcels =
            messages.iter().map(|message| Parcel::new(Route::Queue(names::EVENTS.to_owned()), message));
        self.publish_all(parcels.collect()).await
    }

    async fn consume_events(&self, prefetch: NonZeroU16) -> Result<Consumer<EventMessage>, Error> {
        self.subscribe(Source::Queue(names::EVENTS.to_owned()), 0, prefetch.get().into()).await
    }

    async fn publish_heartbeat(&self, heartbeat: &Heartbeat, expires_after: Duration) -> Result<(), Error> {
        let parcel = Parcel::new(Route::Fanout, heartbeat);
        self.publish_one(Parcel { expires_after: Some(expires_after), durable: false, ..parcel }).await
    }

    async fn subscribe_heartbeats(&self) -> Result<Subscription<Heartbeat>, Error> {
        self.subscribe(Source::Heartbeats, 0, SUBSCRIPTION_PREFETCH).await.map(Subscription::new)
    }

    async fn send_desired(&self, desired: &DesiredState, expires_after: Duration) -> Result<(), Error> {
        let parcel = Parcel::new(Route::Node(desired.node.clone()), desired);
        self.publish_one(Parcel { expires_after: Some(expires_after), durable: false, ..parcel }).await
    }

    async fn subscribe_desired(&self, node: &NodeId) -> Result<Subscription<DesiredState>, Error> {
        self.subscribe(Source::Node(node.clone()), 0, SUBSCRIPTION_PREFETCH).await.map(Subscription::new)
    }
}
