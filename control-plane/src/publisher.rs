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
use tokio::time::{Instant, sleep};

use crate::app::App;

/// Released tasks on their way to the broker. More can't be: lanes' queues are kept shallow.
const CAPACITY: usize = 65_536;
/// Publications of which the confirms are awaited together.
const BATCH: usize = 512;
/// Before it is tried once more to give new attempts to what has no confirm.
const AGAIN: Duration = Duration::from_millis(500);

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
    let mut lost = Lost::default();
    loop {
        tokio::select! {
            biased;
            count = receiver.recv_many(&mut batch, BATCH) => {
                if count == 0 {
                    return;
                }
                lost.add(publish_batch(&app, std::mem::take(&mut batch)).await, Instant::now());
            }
            () = sleep(AGAIN), if !lost.0.is_empty() => {}
        }
        lost.republish(&app).await;
    }
}

/// What has no confirm and no new attempt yet. A store that takes nothing for a while, or a lease that was over when the
/// confirms were, must not make it wait until the comparison finds it by its age. If another replica leads meanwhile, that
/// one has seen to it: an attempt that is not the current one any more is left alone.
#[derive(Debug, Default)]
struct Lost(Vec<(ReconcileAction, Instant)>);

impl Lost {
    fn add(&mut self, actions: Vec<ReconcileAction>, now: Instant) {
        let room = CAPACITY.saturating_sub(self.0.len());
        self.0.extend(actions.into_iter().take(room).map(|action| (action, now)));
    }

    /// Gives new attempts, if this replica leads and the store takes it; what is older than `release_ttl` is found by the
    /// comparison.
    async fn republish(&mut self, app: &App) {
        self.0.retain(|(_, since)| since.elapsed() < app.config.release_ttl);
        let actions: Vec<_> = self.0.iter().map(|(action, _)| action.clone()).collect();
        if !actions.is_empty() && republish(app, &actions).await {
            self.0.clear();
        }
    }
}

/// Publishes, and comes back with the attempts that are to be followed by new ones.
async fn publish_batch(app: &App, tasks: Vec<ReleasedTask>) -> Vec<ReconcileAction> {
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
    let lost = publications.iter().zip(confirms).filter_map(|(publication, confirm)| {
        let error = confirm.err()?;
        let (task, attempt) = (publication.message.task, publication.message.attempt);
        if publication.message.exclusive.is_some() {
            // It may have got through; and beside a run of it there must be no other.
            tracing::warn!(%task, attempt, %error, "no confirm; an exclusive task waits for the comparison");
            return None;
        }
        tracing::warn!(%task, attempt, %error, "no confirm; the task gets a new attempt");
        Some(ReconcileAction::Republish { task, attempt })
    });
    lost.collect()
}

/// Gives tasks a new attempt. Whether they have one now, or need none.
async fn republish(app: &App, actions: &[ReconcileAction]) -> bool {
    let Some(fence) = app.leadership.fence() else { return false };
    let moment = app.random.moment(app.now());
    match app.store.reconcile(&fence, actions, &app.config.retry_policy(), moment).await {
        Ok(done) => {
            app.rubbish.discard(done.discard);
            app.publisher.publish(done.republished);
            for (job, ..) in done.changed {
                app.changes.notify(job);
            }
            true
        }
        Err(error) => {
            tracing::warn!(%error, "tasks without a confirm have no new attempt yet");
            false
        }
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

#[cfg(test)]
mod tests {
    use springtide_core::{JobId, TaskId, Timestamp};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::leader;
    use crate::testing::app;

    #[tokio::test(start_paused = true)]
    async fn what_has_no_confirm_waits_for_leadership_but_not_for_ever() {
        let app = app();
        let task = TaskId { job: JobId::new(Timestamp::default(), 1), index: 0 };
        let (mut lost, old) = (Lost::default(), Instant::now());
        lost.add(vec![ReconcileAction::Republish { task, attempt: 1 }], old);
        tokio::time::advance(app.config.release_ttl / 2).await;
        lost.add(vec![ReconcileAction::Republish { task, attempt: 2 }], Instant::now());
        lost.republish(&app).await;
        assert_eq!(lost.0.len(), 2, "nobody leads");
        tokio::time::advance(app.config.release_ttl / 2).await;
        lost.republish(&app).await;
        assert_eq!(lost.0.len(), 1, "the comparison has found the older one");
        let mut leads = app.leadership.watch();
        tokio::spawn(leader::run(Arc::clone(&app), CancellationToken::new()));
        leads.wait_for(Option::is_some).await.unwrap();
        lost.republish(&app).await;
        assert!(lost.0.is_empty());
    }
}
