//! The broker itself: queues, exchanges, channels, connections, behind one lock.
//!
//! Deliveries hold their channel and a channel closes itself when it is dropped, so nothing that could be the last
//! holder may be dropped under the lock: [`Server::with`] collects such things and drops them afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use springtide_core::NodeId;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::ClientId;
use super::channel::MemoryChannel;
use super::faults::Dice;
use super::queue::{Kind, Message, Overflow, Queue, Sharing};
use super::sight::{Sight, Watcher};
use crate::codec::Unreadable;
use crate::delivery::Reach;
use crate::error::Error;
use crate::health::{Counters, Health, Link};
use crate::names;

/// Messages that one queue takes; more are refused.
const QUEUE_CAP: usize = 1_000_000;
/// Messages that a subscriber's own queue keeps for it.
const SUBSCRIBER_CAP: usize = 10_000;

/// Things to be dropped when the lock is free again.
pub(super) type Garbage = Vec<Box<dyn Send>>;

/// Where a subscription's deliveries go.
pub(super) trait Sink: Send + Sync {
    fn put(&self, raw: Raw) -> Result<(), Unreadable>;
    fn clear(&self) -> Box<dyn Send>;
}

/// A delivery before it is decoded.
pub(super) struct Raw {
    pub(super) body: Arc<[u8]>,
    pub(super) redelivered: bool,
    pub(super) tag: u64,
    pub(super) channel: Arc<MemoryChannel>,
}

/// What a subscription listens to.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Queue(String),
    /// A queue of its own at the fanout exchange.
    Heartbeats,
    /// A queue of its own at the direct exchange.
    Node(NodeId),
}

pub(super) struct Subscription {
    pub(super) client: u64,
    pub(super) source: Source,
    pub(super) priority: i32,
    pub(super) prefetch: usize,
    pub(super) sink: Arc<dyn Sink>,
    /// None while its client has no connection.
    pub(super) channel: Option<Arc<MemoryChannel>>,
}

pub(super) struct Client {
    pub(super) health: watch::Sender<Health>,
    pub(super) changed: Arc<Notify>,
    pub(super) counters: Arc<Counters>,
    /// Counts the cuts, so that the end of an old one does not end a newer one.
    pub(super) cuts: u64,
}

impl Client {
    pub(super) fn change_health(&self, change: impl FnOnce(&mut Health)) {
        self.health.send_modify(change);
        self.changed.notify_waiters();
    }
}

struct ChannelRecord {
    client: u64,
    subscription: u64,
    queue: String,
    open: Arc<AtomicBool>,
}

pub(super) struct State {
    pub(super) queues: BTreeMap<String, Queue>,
    /// Queues of subscribers to heartbeats.
    pub(super) fanout: BTreeSet<String>,
    /// Queues of agents by node id.
    pub(super) direct: BTreeMap<NodeId, BTreeSet<String>>,
    pub(super) subscriptions: BTreeMap<u64, Subscription>,
    pub(super) clients: BTreeMap<u64, Client>,
    channels: BTreeMap<u64, ChannelRecord>,
    pub(super) dice: Dice,
    last_id: u64,
    dead_cap: usize,
    /// Whether publications are taken: up or blocked.
    pub(super) publish: Link,
    pub(super) watcher: Option<Watcher>,
}

pub(super) struct Server(Mutex<State>);

impl Server {
    pub(super) fn new(dice: Dice, dead_cap: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            queues: BTreeMap::new(),
            fanout: BTreeSet::new(),
            direct: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            clients: BTreeMap::new(),
            channels: BTreeMap::new(),
            dice,
            last_id: 0,
            dead_cap,
            publish: Link::Up,
            watcher: None,
        })))
    }

    pub(super) fn with<R>(&self, act: impl FnOnce(&mut State, &mut Garbage) -> R) -> R {
        let mut garbage = Garbage::new();
        let result = act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), &mut garbage);
        drop(garbage);
        result
    }
}

impl State {
    pub(super) fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// The queue of this name, made if it is not there: the arguments follow from the name.
    pub(super) fn queue(&mut self, name: &str) -> &mut Queue {
        let dead_cap = self.dead_cap;
        self.queues.entry(name.to_owned()).or_insert_with(|| {
            let shared = Kind { sharing: Sharing::All, overflow: Overflow::Refuse, cap: QUEUE_CAP };
            Queue::new(match name {
                names::EVENTS => Kind { sharing: Sharing::SingleActive, ..shared },
                names::DEAD => Kind { overflow: Overflow::DropOldest, cap: dead_cap, ..shared },
                _ if name.starts_with("amq.gen-") => {
                    Kind { overflow: Overflow::DropOldest, cap: SUBSCRIBER_CAP, ..shared }
                }
                _ => shared,
            })
        })
    }

    /// Puts a message into a queue. Does not pump.
    pub(super) fn push(&mut self, name: &str, message: Message, priority: u8) -> Result<(), Error> {
        self.queue(name).push(message, priority).map_err(|_| Error::Refused {
            what: format!("a message for {name}"),
            reason: format!("it holds {QUEUE_CAP} messages already"),
        })
    }

    /// Hands out messages of a queue until no consumer has room or none is left.
    pub(super) fn pump(&mut self, server: &Arc<Server>, name: &str, garbage: &mut Garbage) {
        while let Some(next) = self.queues.get_mut(name).and_then(|queue| queue.assign(Instant::now())) {
            let Some((id, sink, channel)) = self.receiver(next.channel) else {
                // Only a subscription's present channel is active in a queue.
                self.close_channel(next.channel);
                continue;
            };
            if self.dice.closes_channel() {
                garbage.push(Box::new(channel));
                self.detach(id, garbage);
                self.attach(server, id);
                continue;
            }
            let redelivered = next.redelivered || self.dice.lies_about_redelivery();
            self.see(|state| {
                let client = ClientId(state.channels.get(&next.channel)?.client);
                let (channel, tag, body) = (next.channel, next.tag, &*next.body);
                Some(Sight::Delivered { client, queue: name, channel, tag, redelivered, body })
            });
            let raw = Raw { body: Arc::clone(&next.body), redelivered, tag: next.tag, channel };
            if sink.put(raw).is_err() {
                self.bury(id, &next.body);
                self.queue(name).ack(next.channel, next.tag, Reach::One);
            }
        }
    }

    /// Lets the watcher see something.
    pub(super) fn see<'a>(&'a self, what: impl FnOnce(&'a Self) -> Option<Sight<'a>>) {
        if let Some(watcher) = &self.watcher
            && let Some(sight) = what(self)
        {
            watcher(sight);
        }
    }

    fn receiver(&self, channel: u64) -> Option<(u64, Arc<dyn Sink>, Arc<MemoryChannel>)> {
        let id = self.channels.get(&channel)?.subscription;
        let subscription = self.subscriptions.get(&id)?;
        let present = subscription.channel.as_ref().filter(|present| present.id() == channel)?;
        Some((id, Arc::clone(&subscription.sink), Arc::clone(present)))
    }

    /// Keeps an unreadable message where people find it.
    fn bury(&mut self, subscription: u64, body: &Arc<[u8]>) {
        let client = self.subscriptions.get(&subscription).map(|subscription| subscription.client);
        if let Some(client) = client.and_then(|id| self.clients.get(&id)) {
            client.counters.count_unreadable(1);
        }
        let message = Message { body: Arc::clone(body), redelivered: false, expires_at: None, durable: true };
        self.queue(names::DEAD).push(message, 0).expect("it drops the oldest when it is full");
    }

    /// Gives a subscription a channel, and a queue if it has one of its own. Does not pump.
    pub(super) fn attach(&mut self, server: &Arc<Server>, id: u64) {
        let channel = self.new_id();
        let Some(subscription) = self.subscriptions.get(&id) else { return };
        let (priority, prefetch, client) =
            (subscription.priority, subscription.prefetch, subscription.client);
        let own = format!("amq.gen-{channel}");
        let queue = match subscription.source.clone() {
            Source::Queue(name) => name,
            Source::Heartbeats => {
                self.fanout.insert(own.clone());
                own
            }
            Source::Node(node) => {
                self.direct.entry(node).or_default().insert(own.clone());
                own
            }
        };
        self.queue(&queue).subscribe(channel, priority, prefetch);
        let open = Arc::new(AtomicBool::new(true));
        let record = ChannelRecord { client, subscription: id, queue, open: Arc::clone(&open) };
        self.channels.insert(channel, record);
        if let Some(client) = self.clients.get(&client) {
            client.counters.count_subscription();
        }
        if let Some(subscription) = self.subscriptions.get_mut(&id) {
            subscription.channel = Some(Arc::new(MemoryChannel::new(Arc::clone(server), channel, open)));
        }
    }

    /// The queue that a channel consumes.
    pub(super) fn queue_of(&self, channel: u64) -> Option<String> {
        self.channels.get(&channel).map(|record| record.queue.clone())
    }

    /// Ends a subscription and hands what it held to others.
    pub(super) fn end(&mut self, server: &Arc<Server>, id: u64, garbage: &mut Garbage) {
        let channel = self.subscriptions.get(&id).and_then(|subscription| subscription.channel.as_ref());
        let queue = channel.and_then(|channel| self.queue_of(channel.id()));
        self.detach(id, garbage);
        if let Some(subscription) = self.subscriptions.remove(&id) {
            garbage.push(Box::new(subscription.sink));
        }
        if let Some(queue) = queue {
            self.pump(server, &queue, garbage);
        }
    }

    /// Closes a subscription's channel; what it held goes back. Does not pump.
    pub(super) fn detach(&mut self, id: u64, garbage: &mut Garbage) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        let Some(channel) = subscription.channel.take() else { return };
        let sink = Arc::clone(&subscription.sink);
        self.close_channel(channel.id());
        garbage.push(sink.clear());
        garbage.push(Box::new(channel));
    }

    /// Closes a channel and forgets its queue if that was its own. Returns the queue's name.
    pub(super) fn close_channel(&mut self, id: u64) -> Option<String> {
        let record = self.channels.remove(&id)?;
        record.open.store(false, Ordering::SeqCst);
        if let Some(queue) = self.queues.get_mut(&record.queue) {
            queue.close(id);
        }
        if record.queue.starts_with("amq.gen-") {
            self.queues.remove(&record.queue);
            self.fanout.remove(&record.queue);
            self.direct.retain(|_, queues| {
                queues.remove(&record.queue);
                !queues.is_empty()
            });
        }
        Some(record.queue)
    }

    /// Closes all channels of a client, as a lost connection does, and hands what they held to others.
    pub(super) fn disconnect(
        &mut self,
        server: &Arc<Server>,
        client: u64,
        reason: &str,
        garbage: &mut Garbage,
    ) {
        self.close_client(client, reason, garbage);
        self.pump_all(server, garbage);
    }

    fn pump_all(&mut self, server: &Arc<Server>, garbage: &mut Garbage) {
        for name in self.queues.keys().cloned().collect::<Vec<_>>() {
            self.pump(server, &name, garbage);
        }
    }

    /// Closes all channels of a client. Does not pump.
    pub(super) fn close_client(&mut self, client: u64, reason: &str, garbage: &mut Garbage) {
        let Some(record) = self.clients.get_mut(&client) else { return };
        record.cuts += 1;
        let down = Link::Down { reason: reason.to_owned() };
        record.change_health(|health| {
            health.publish = down.clone();
            health.consume = down;
        });
        let subscriptions = self.subscriptions.iter().filter(|(_, s)| s.client == client);
        for id in subscriptions.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.detach(id, garbage);
        }
        // Channels of cancelled consumers, which have no subscription any more.
        let channels = self.channels.iter().filter(|(_, channel)| channel.client == client);
        for id in channels.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.close_channel(id);
        }
    }

    /// Gives a client its connection and consumers back.
    pub(super) fn reconnect(&mut self, server: &Arc<Server>, client: u64, garbage: &mut Garbage) {
        let publish = self.publish.clone();
        let Some(record) = self.clients.get_mut(&client) else { return };
        record.counters.count_connection();
        record.change_health(|health| {
            health.publish = publish;
            health.consume = Link::Up;
        });
        let lost = self.subscriptions.iter().filter(|(_, s)| s.client == client && s.channel.is_none());
        for id in lost.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.attach(server, id);
        }
        self.pump_all(server, garbage);
    }
}
