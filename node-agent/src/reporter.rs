//! Says what happened to tasks, in batches, until the broker confirms it.
//!
//! A batch is whatever waits when there is room for one more publication: an idle node says each thing at once, a busy
//! one says many together, and no timer is needed for either. What is said before something else is confirmed may
//! overtake it; so a task's next event is only reported once the one before is confirmed.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::Value;
use springtide_broker::EventBus;
use springtide_core::wire::{EventMessage, Output, TaskEvent, TaskEventKind, V1};
use tokio::sync::{mpsc, oneshot};

use crate::backoff::Backoff;
use crate::node::Random;

/// Publications without a confirm at once.
const IN_FLIGHT: usize = 4;
/// A message is closed when it is about this long, so that no broker's limit is met.
const MESSAGE_BYTES: usize = 1 << 20;
/// Pauses between attempts to publish.
const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

struct Report {
    event: TaskEvent,
    confirmed: oneshot::Sender<()>,
}

/// Where events are handed in.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    queue: mpsc::Sender<Report>,
}

/// How large batches are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchRule {
    /// The most events in one message.
    pub(crate) most: usize,
    /// The fewest, while another message waits for its confirm. An idle reporter waits for nothing.
    pub(crate) fewest_behind_another: usize,
}

/// The reporting half, to be run as a task.
pub(crate) struct Reporting {
    queue: mpsc::Receiver<Report>,
    bus: Arc<dyn EventBus>,
    rule: BatchRule,
    random: Random,
}

impl Reporter {
    pub(crate) fn new(bus: Arc<dyn EventBus>, rule: BatchRule, random: Random) -> (Self, Reporting) {
        let (sender, queue) = mpsc::channel(rule.most.max(1) * 4);
        (Self { queue: sender }, Reporting { queue, bus, rule, random })
    }

    /// Comes back when the broker has the event. `false`: the agent has ended, nothing was confirmed.
    pub(crate) async fn report(&self, event: TaskEvent) -> bool {
        let (confirmed, confirmation) = oneshot::channel();
        let handed_in = self.queue.send(Report { event, confirmed }).await.is_ok();
        handed_in && confirmation.await.is_ok()
    }
}

impl Reporting {
    pub(crate) async fn run(mut self) {
        let mut waiting: Vec<Report> = Vec::new();
        let mut in_flight = FuturesUnordered::new();
        loop {
            while waiting.len() < self.rule.most {
                let Ok(report) = self.queue.try_recv() else { break };
                waiting.push(report);
            }
            let enough = if in_flight.is_empty() { 1 } else { self.rule.fewest_behind_another.max(1) };
            if waiting.len() >= enough && in_flight.len() < IN_FLIGHT {
                let rest = waiting.split_off(fitting(&waiting));
                let batch = std::mem::replace(&mut waiting, rest);
                in_flight.push(publish(Arc::clone(&self.bus), self.random.clone(), batch));
                continue;
            }
            tokio::select! {
                biased;
                report = self.queue.recv(), if waiting.len() < self.rule.most => match report {
                    Some(report) => waiting.push(report),
                    None if in_flight.is_empty() && waiting.is_empty() => return,
                    None => drop(in_flight.next().await),
                },
                Some(()) = in_flight.next() => {}
            }
        }
    }
}

/// How many of the first reports go into one message.
fn fitting(reports: &[Report]) -> usize {
    let mut bytes = 0;
    let fits = reports.iter().take_while(|report| {
        bytes += estimated_bytes(&report.event);
        bytes <= MESSAGE_BYTES
    });
    fits.count().max(1)
}

/// Rough, and never far too small.
fn estimated_bytes(event: &TaskEvent) -> usize {
    const FIXED: usize = 400;
    FIXED
        + match &event.kind {
            TaskEventKind::Succeeded { outputs, .. } => outputs.iter().map(output_bytes).sum(),
            TaskEventKind::Failed { error, .. } => error.message.len() + error.stderr_tail.len(),
            TaskEventKind::Returned { message, .. } => message.len(),
            TaskEventKind::Started { .. } | TaskEventKind::Checkpointed { .. } => 0,
        }
}

fn output_bytes(output: &Output) -> usize {
    match output {
        Output::Object { key, .. } => key.len() + 200,
        Output::Inline(value) => json_bytes(value),
    }
}

fn json_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 12,
        Value::String(text) => text.len() + 3,
        Value::Array(items) => 2 + items.iter().map(json_bytes).sum::<usize>(),
        Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + 4 + json_bytes(value)).sum(),
    }
}

async fn publish(bus: Arc<dyn EventBus>, random: Random, batch: Vec<Report>) {
    let (events, waiting): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|report| (report.event, report.confirmed)).unzip();
    let message = [EventMessage::Events { v: V1, events }];
    let mut retry = RETRY;
    while let Some(Err(error)) = bus.publish_events(&message).await.pop() {
        let pause = retry.next(random.unit());
        tracing::warn!(%error, events = waiting.len(), pause_s = pause.as_secs_f64(), "events are not confirmed yet");
        tokio::time::sleep(pause).await;
    }
    for confirmed in waiting {
        // Who asked may have been cut off meanwhile.
        let _ = confirmed.send(());
    }
}
