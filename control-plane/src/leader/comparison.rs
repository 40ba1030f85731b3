//! The store and the nodes agree by comparison, not by memory: whatever got lost on the way, in a broker, an agent or
//! here, is found by looking at both sides again and again.

mod judge;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use springtide_core::node::{NodeEvent, NodeState};
use springtide_core::task::Loss;
use springtide_core::wire::{EventMessage, NodeCondition, V1};
use springtide_core::{TaskId, Timestamp};
use springtide_store::port::{Error, Fence, NodeRow, NodeSighting, ReconcileAction, Reconciliation, Result};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::starts::Starts;
use crate::app::App;
use crate::registry::Seen;
use judge::{Judge, Limits, Verdict, inherited};

/// A node that was lost for so long is taken for gone.
const GONE_AFTER: Duration = Duration::from_mins(10);

/// Markers on their way through the events' queue and back.
#[derive(Clone, Debug)]
pub struct Markers {
    token: u64,
    next: Arc<AtomicU64>,
    last: Arc<watch::Sender<u64>>,
}

impl Markers {
    /// Of the leader with this token; those of others are not counted.
    pub fn new(token: u64) -> Self {
        Self { token, next: Arc::new(AtomicU64::new(1)), last: Arc::new(watch::channel(0).0) }
    }

    /// A marker was read, and all before it has been applied.
    pub fn came_back(&self, id: u64, token: u64) {
        // One that was never put in promises nothing.
        let known = id < self.next.load(Ordering::Relaxed);
        if known && token == self.token {
            self.last.send_if_modified(|last| {
                let newer = id > *last;
                *last = id.max(*last);
                newer
            });
        }
    }

    /// Puts a marker in and waits until it comes back. Whether it did in time.
    async fn round_trip(&self, app: &App) -> bool {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let marker = EventMessage::Marker { v: V1, id, token: self.token };
        let sent = app.parts.broker.events.publish_events(&[marker]).await;
        if let Some(Err(error)) = sent.first() {
            tracing::debug!(%error, "no comparison without the broker");
            return false;
        }
        let mut last = self.last.subscribe();
        let back = last.wait_for(|last| *last >= id);
        matches!(timeout(app.config.confirm_timeout, back).await, Ok(Ok(_)))
    }
}

/// Compares until the term ends.
pub async fn run(app: Arc<App>, fence: Fence, markers: Markers, starts: Starts) {
    let judge = Judge::new(starts);
    let mut memory = Memory { judge, links: 0, due: None, began: Some(app.now()), back: Instant::now() };
    // As often as heartbeats come at least: what they show is answered by the next.
    let pause = app.config.compare_interval.min(app.config.heartbeat_interval);
    loop {
        match compare(&app, &fence, &markers, &mut memory).await {
            Ok(()) => {}
            Err(error @ Error::Fenced { .. }) => tracing::debug!(%error, "no comparison"),
            Err(error) => tracing::warn!(%error, "no comparison"),
        }
        memory.due = Some(Instant::now() + pause);
        sleep(pause).await;
    }
}

/// What a comparison knows of those before it.
struct Memory {
    judge: Judge,
    /// The connections to the broker, and subscriptions through them, that there had been then.
    links: u64,
    /// When the next one was due.
    due: Option<Instant>,
    /// When the last marker came back, or this began.
    back: Instant,
    /// When this replica began to lead, until it has seen to what the last one may not have published.
    began: Option<Timestamp>,
}

async fn compare(app: &App, fence: &Fence, markers: &Markers, memory: &mut Memory) -> Result<()> {
    // In this order: whatever these heartbeats list was said before the marker, so the store knows it afterwards.
    let asked = Instant::now();
    let mut seen = app.registry.all();
    if !markers.round_trip(app).await {
        // Whoever does not hear its own voice can't say that others are silent.
        app.registry.forgive();
        app.metrics.event_lag_seconds.set(memory.back.elapsed().as_secs_f64());
        return Ok(());
    }
    memory.back = Instant::now();
    app.metrics.event_lag_seconds.set(asked.elapsed().as_secs_f64());
    let tasks = app.store.in_flight().await?;
    let counters = &app.parts.broker.counters;
    // A channel that was closed is as deaf as a connection that is gone, until it is open again.
    let links = counters.connections() + counters.subscriptions();
    let cut_off = std::mem::replace(&mut memory.links, links) != links;
    // What began late, or took long.
    let since = memory.due.map_or(asked, |due| due.min(asked));
    if cut_off || since.elapsed() >= app.config.heartbeat_interval {
        // Broker, store or this process has paused: what the nodes said meanwhile may not have been heard.
        app.registry.forgive();
    }
    app.registry.freshen(&mut seen);
    let limits = Limits {
        at: Instant::now(),
        lost_after: app.config.node_lost_after(),
        hears_for: app.registry.hears_for(),
        release_lost_after: app.config.release_ttl
            + app.config.confirm_timeout
            + app.config.node_lost_after(),
    };
    let rows = sight(app, fence, &seen, &limits).await?;
    let Verdict { actions, unwanted } = memory.judge.judge(&tasks, &seen, &limits, app.now());
    let holders: HashSet<_> = app.store.holds().await?.held.into_iter().map(|hold| hold.task).collect();
    let mut actions = without_second_messages(actions, &holders);
    if let Some(began) = memory.began {
        // Confirms are not stored. Not before the marker was back: most of it has started meanwhile, and has said so.
        let doubtful = app.config.leader_lease + app.config.confirm_timeout;
        // An exclusive one waits until its message can't be read any more.
        let tasks: Vec<_> = tasks.iter().filter(|task| !holders.contains(&task.task)).cloned().collect();
        actions.extend(inherited(&tasks, &seen, &limits, began, doubtful));
    }
    correct(app, fence, &actions).await?;
    memory.began = None;
    for row in &rows {
        let cancel = unwanted.get(&row.id).cloned().unwrap_or_default();
        if !cancel.is_empty() || !shows(row, &seen) {
            app.tell_node(row, cancel).await;
        }
    }
    // Whatever a node took or lost may have made room.
    app.publisher.nudge();
    Ok(())
}

/// An exclusive task is not published again beside a message that may yet be read. It goes back to waiting instead, and
/// waits there until nobody can be running it.
fn without_second_messages(actions: Vec<ReconcileAction>, holders: &HashSet<TaskId>) -> Vec<ReconcileAction> {
    let evict = |action| match action {
        ReconcileAction::Republish { task, attempt } if holders.contains(&task) => {
            let message = "its message was not taken in time".to_owned();
            ReconcileAction::Evict { task, attempt, loss: Loss::Explained, message }
        }
        action => action,
    };
    actions.into_iter().map(evict).collect()
}

/// Carries out corrections, and tells whoever waits for them.
pub(super) async fn correct(app: &App, fence: &Fence, actions: &[ReconcileAction]) -> Result<()> {
    if actions.is_empty() {
        return Ok(());
    }
    for action in actions {
        let kind = match action {
            ReconcileAction::Evict { task, message, .. } => {
                tracing::info!(%task, message, "back to waiting");
                "evicted"
            }
            ReconcileAction::Republish { task, .. } => {
                tracing::info!(%task, "a new attempt");
                "republished"
            }
        };
        app.metrics.corrections.with_label_values(&[kind]).inc();
    }
    let moment = app.random.moment(app.now());
    let done: Reconciliation =
        app.store.reconcile(fence, actions, &app.config.retry_policy(), moment).await?;
    app.rubbish.discard(done.discard);
    app.publisher.publish(done.republished);
    for (job, ..) in done.changed {
        app.changes.notify(job);
    }
    app.publisher.nudge();
    Ok(())
}

/// Brings the rows of nodes up to what was heard, and to silence.
async fn sight(app: &App, fence: &Fence, seen: &[Seen], limits: &Limits) -> Result<Vec<NodeRow>> {
    let now = app.now();
    let lost_after = limits.lost_after;
    let is_live = |seen: &Seen| seen.was_live(lost_after, limits.at);
    let live: Vec<NodeSighting> = seen
        .iter()
        .filter(|seen| is_live(seen) || seen.heartbeat.condition == NodeCondition::Leaving)
        .map(sighting)
        .collect();
    app.store.sight_nodes(fence, &live, now).await?;
    let mut rows = app.store.nodes(now).await?;
    for row in &mut rows {
        let heard = seen.iter().find(|seen| seen.heartbeat.node == row.id);
        // One that said goodbye may have come back since it was looked.
        let live = heard.is_some_and(|seen| seen.spoke(lost_after, limits.at));
        let judged_long_enough =
            heard.is_some() || (now.since(row.changed_at) >= lost_after && limits.hears_for >= lost_after);
        if live || !judged_long_enough {
            continue;
        }
        let event = match row.state {
            NodeState::Active | NodeState::Draining { .. } | NodeState::Empty { .. } => NodeEvent::Silent,
            NodeState::Lost if now.since(row.changed_at) >= GONE_AFTER => NodeEvent::Ended,
            // Its machine was to be terminated.
            NodeState::Retiring => NodeEvent::Ended,
            _ => continue,
        };
        if app.registry.get(&row.id).is_some_and(|seen| seen.silent_since > limits.at) {
            // It spoke while the store was asked.
            continue;
        }
        if event == NodeEvent::Ended {
            app.registry.forget(&row.id);
        }
        tracing::warn!(node = %row.id, ?event, "not heard of");
        *row = app.store.change_node(&row.id, event, Some(fence), now).await?;
    }
    Ok(rows)
}

/// What a heartbeat says about a node's row.
pub fn sighting(seen: &Seen) -> NodeSighting {
    let heartbeat = &seen.heartbeat;
    NodeSighting {
        id: heartbeat.node.clone(),
        incarnation: heartbeat.incarnation,
        lane: heartbeat.lane.clone(),
        pool: heartbeat.pool.clone(),
        slots: heartbeat.slots,
        empty: heartbeat.condition == NodeCondition::Empty,
        leaving: heartbeat.condition == NodeCondition::Leaving,
    }
}

/// Whether a node's heartbeat shows what its row wants of it.
fn shows(row: &NodeRow, seen: &[Seen]) -> bool {
    let Some(seen) = seen.iter().find(|seen| seen.heartbeat.node == row.id) else { return true };
    let drains = matches!(seen.heartbeat.condition, NodeCondition::Draining { .. } | NodeCondition::Empty);
    let should =
        matches!(row.state, NodeState::Draining { .. } | NodeState::Empty { .. } | NodeState::Retiring);
    let consumes_another = seen.heartbeat.consuming.as_ref().is_some_and(|lane| *lane != row.lane);
    drains == should && !consumes_another
}
