//! Folds what the nodes report into the store, in the order in which it was said.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use springtide_broker::{Consumer, Delivery};
use springtide_core::RunId;
use springtide_core::task::Ignored;
use springtide_core::wire::{EventMessage, TaskEvent, TaskEventKind};
use springtide_store::port::{Applied, Error, EventOutcome, Fence, StopRun};
use tokio::time::sleep;

use super::comparison::Markers;
use super::pace::Pace;
use super::starts::Starts;
use crate::app::App;

/// Messages that one transaction folds at most.
const BATCH: usize = 256;
/// The least time between two transactions, unless a full batch waits.
const PACE: Duration = Duration::from_millis(5);
/// Messages held at once; the rest waits in the broker.
const PREFETCH: NonZeroU16 = NonZeroU16::new(1_000).expect("not zero");
/// After a failure of the broker or the store.
const PAUSE: Duration = Duration::from_millis(200);
/// How many finished runs pass between two saves of the forecasts.
const SAVE_EVERY: usize = 500;

/// Folds until the term ends.
pub async fn run(app: Arc<App>, fence: Fence, markers: Markers, starts: Starts) {
    match app.store.forecasts().await {
        Ok(rows) => app.forecasts.load(rows),
        Err(error) => tracing::warn!(%error, "forecasts are learned anew"),
    }
    loop {
        match app.parts.broker.events.consume_events(PREFETCH).await {
            Ok(mut events) => fold(&app, &fence, &markers, &starts, &mut events).await,
            Err(error) => tracing::warn!(%error, "no events are heard"),
        }
        sleep(PAUSE).await;
    }
}

async fn fold(
    app: &App,
    fence: &Fence,
    markers: &Markers,
    starts: &Starts,
    events: &mut Consumer<EventMessage>,
) {
    let mut unsaved = 0;
    let mut pace = Pace::new(PACE);
    let mut is_full = false;
    loop {
        if !is_full {
            pace.rest().await;
        }
        let deliveries = events.next_batch(BATCH).await;
        if deliveries.is_empty() {
            return;
        }
        pace.begin();
        is_full = deliveries.len() == BATCH;
        let (messages, held): (Vec<_>, Vec<_>) = deliveries.into_iter().map(Delivery::split).unzip();
        let mut batch: Vec<TaskEvent> = Vec::new();
        let mut came_back = Vec::new();
        for message in messages {
            match message {
                EventMessage::Events { events, .. } => batch.extend(events),
                EventMessage::Marker { id, token, .. } => came_back.push((id, token)),
            }
        }
        if !batch.is_empty() {
            let Some(applied) = apply(app, fence, &batch).await else { return };
            starts.note(batch.iter().filter_map(started));
            unsaved += applied.finished.len();
            app.stopping.stop(started_in_vain(&batch, &applied), app.now());
            tell(app, &batch, applied);
        }
        // Only now: what a marker promises is that all before it has been applied.
        for (id, token) in came_back {
            markers.came_back(id, token);
        }
        if let Some(last) = held.into_iter().last() {
            // A lost ack means that these come again, and that they are then found to be stale.
            let _ = last.ack_through();
        }
        if unsaved >= SAVE_EVERY {
            unsaved = 0;
            save_forecasts(app).await;
        }
    }
}

/// Applies a batch, as often as it takes. `None`: this replica leads no more.
async fn apply(app: &App, fence: &Fence, batch: &[TaskEvent]) -> Option<Applied> {
    loop {
        let moment = app.random.moment(app.now());
        let timer = app.metrics.store_seconds.with_label_values(&["apply"]).start_timer();
        match app.store.apply(fence, batch, &app.config.retry_policy(), moment).await {
            Ok(applied) => {
                timer.observe_duration();
                return Some(applied);
            }
            Err(error @ Error::Fenced { .. }) => {
                tracing::warn!(%error, "events are left to the new leader");
                return None;
            }
            Err(error) => {
                tracing::error!(%error, events = batch.len(), "events can't be applied; trying again");
                sleep(PAUSE).await;
            }
        }
    }
}

const fn started(event: &TaskEvent) -> Option<RunId> {
    match event.kind {
        TaskEventKind::Started { run, .. } => Some(run),
        _ => None,
    }
}

/// Runs of tasks that had ended before: cancelled on their way to the node, as a rule. The comparison would find them as
/// well, later.
fn started_in_vain(batch: &[TaskEvent], applied: &Applied) -> Vec<StopRun> {
    let ended = |outcome: &EventOutcome| *outcome == EventOutcome::Ignored(Ignored::Terminal);
    let starts = batch.iter().zip(&applied.outcomes).filter(|(_, outcome)| ended(outcome));
    starts
        .filter_map(|(event, _)| {
            let run = started(event)?;
            Some(StopRun { node: event.node.clone(), incarnation: event.incarnation, run })
        })
        .collect()
}

/// Tells whoever waits, and learns.
fn tell(app: &App, batch: &[TaskEvent], applied: Applied) {
    for (event, outcome) in batch.iter().zip(&applied.outcomes) {
        let outcome = match outcome {
            EventOutcome::Counted => "counted",
            EventOutcome::Ignored(why) => why.as_str(),
            EventOutcome::Unknown => "unknown",
        };
        app.metrics.events.with_label_values(&[event.kind.as_str(), outcome]).inc();
    }
    for (priority, wait) in &applied.waits {
        app.metrics.wait_seconds.with_label_values(&[priority.as_str()]).observe(wait.as_secs_f64());
    }
    for run in &applied.finished {
        let labels = [run.model.name(), run.device.as_str()];
        app.metrics.run_seconds.with_label_values(&labels).observe(run.run.as_secs_f64());
        if !run.load.is_zero() {
            app.metrics.load_seconds.with_label_values(&labels).observe(run.load.as_secs_f64());
        }
    }
    app.forecasts.learn(&applied.finished);
    app.rubbish.discard(applied.discard);
    for (event, outcome) in batch.iter().zip(&applied.outcomes) {
        if let TaskEventKind::Succeeded { outputs, .. } = &event.kind
            && *outcome == EventOutcome::Counted
            && event.attempt > 1
        {
            // An earlier attempt may have stored outputs and died before it said so.
            let won = outputs.iter().filter_map(|output| output.key().map(str::to_owned)).collect();
            app.rubbish.discard_lost_outputs(event.task, won);
        }
    }
    for (job, ..) in applied.changed {
        app.changes.notify(job);
    }
    if applied.keys_freed {
        app.keys.nudge();
    }
    // A task that started or ended has made room in a queue.
    app.publisher.nudge();
}

/// Keeps what was learned; what is lost in a crash is learned again.
pub async fn save_forecasts(app: &App) {
    if let Err(error) = app.store.save_forecasts(&app.forecasts.rows()).await {
        tracing::debug!(%error, "forecasts are not saved now");
    }
}
