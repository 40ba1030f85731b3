//! Hands released tasks to the broker.
//!
//! A release is durable before it comes here, so nothing depends on this queue: a publication whose confirm did not
//! come in time is followed by a new attempt.

use std::sync::Arc;
use std::time::Duration;

use springtide_broker::Publication;
use springtide_core::wire::{Fence as KeyFence, TaskMessage, V1};
use springtide_store::port::{ReconcileAction, ReleasedTask};
use tokio::sync::{Mutex, Notify, mpsc};

use crate::app::App;

/// Released tasks on their way to the broker. More can't be: lanes' queues are kept shallow.
const CAPACITY: usize = 65_536;
/// Publications of which the confirms are awaited together.
const BATCH: usize = 512;

/// Released tasks on their way out, and the wish that the releaser look again.
#[derive(Debug)]
pub struct Publisher {
    sender: mpsc::Sender<ReleasedTask>,
    receiver: Mutex<mpsc::Receiver<ReleasedTask>>,
    nudged: Notify,
}

impl Default for Publisher {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        Self { sender, receiver: Mutex::new(receiver), nudged: Notify::new() }
    }
}

impl Publisher {
    /// Publishes these tasks soon.
    pub fn publish(&self, released: Vec<ReleasedTask>) {
        for task in released {
            if let Err(error) = self.sender.try_send(task) {
                // The comparison finds it by its age and gives it a new attempt.
                tracing::warn!(%error, "a released task waits for its next attempt");
            }
        }
    }

    /// Tells the releaser that there is work, or room.
    pub fn nudge(&self) {
        self.nudged.notify_one();
    }

    /// Waits for a nudge.
    pub async fn nudged(&self) {
        self.nudged.notified().await;
    }
}

/// Publishes what is released, until the process stops.
pub async fn run(app: Arc<App>) {
    let mut receiver = app.publisher.receiver.lock().await;
    let mut batch = Vec::with_capacity(BATCH);
    while receiver.recv_many(&mut batch, BATCH).await > 0 {
        publish_batch(&app, std::mem::take(&mut batch)).await;
    }
}

async fn publish_batch(app: &App, tasks: Vec<ReleasedTask>) {
    let now = app.now();
    let head_start = app.config.head_start();
    let publications: Vec<Publication> = tasks
        .into_iter()
        .map(|task| {
            let priority = head_start.message_priority(task.priority, task.accepted_at, now);
            let expiration = app.config.release_ttl.saturating_sub(now.since(task.released_at));
            let lane = task.lane.clone();
            let message = message(task, app.config.exclusive_lease());
            Publication { lane, priority, expiration, message }
        })
        .collect();
    let timer = app.metrics.broker_seconds.with_label_values(&["publish"]).start_timer();
    let confirms = app.parts.broker.tasks.publish(&publications).await;
    timer.observe_duration();
    let lost: Vec<ReconcileAction> = publications
        .iter()
        .zip(confirms)
        .filter_map(|(publication, confirm)| {
            let error = confirm.err()?;
            let (task, attempt) = (publication.message.task, publication.message.attempt);
            if publication.message.exclusive.is_some() {
                // It may have got through; and beside a run of it there must be no other.
                tracing::warn!(%task, attempt, %error, "no confirm; an exclusive task waits for the comparison");
                return None;
            }
            tracing::warn!(%task, attempt, %error, "no confirm; the task gets a new attempt");
            Some(ReconcileAction::Republish { task, attempt })
        })
        .collect();
    if !lost.is_empty() {
        republish(app, &lost).await;
    }
}

/// Gives tasks a new attempt. Without leadership nothing happens: the new leader gives one to all that is recent.
pub async fn republish(app: &App, actions: &[ReconcileAction]) {
    let Some(fence) = app.leadership.fence() else { return };
    let moment = app.random.moment(app.now());
    match app.store.reconcile(&fence, actions, &app.config.retry_policy(), moment).await {
        Ok(done) => {
            app.rubbish.discard(done.discard);
            app.publisher.publish(done.republished);
            for (job, ..) in done.changed {
                app.changes.notify(job);
            }
        }
        Err(error) => tracing::warn!(%error, "tasks without a confirm wait for the comparison"),
    }
}

fn message(task: ReleasedTask, lease: Duration) -> TaskMessage {
    TaskMessage {
        v: V1,
        task: task.task,
        attempt: task.attempt,
        model: task.model,
        kind: task.kind,
        input: task.input,
        timeout: task.timeout,
        resources: task.resources,
        solo: task.solo,
        checkpoint: task.checkpoint,
        exclusive: task.exclusive.map(|claim| KeyFence { key: claim.key, token: claim.token, lease }),
        released_at: task.released_at,
    }
}
