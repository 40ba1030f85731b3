//! Says how the node is: every `heartbeat_interval`, and sooner when something changes.

use std::sync::Arc;
use std::time::Duration;

use springtide_core::lane::Device;
use springtide_core::wire::{DeviceFigures, Heartbeat, RunReport, V1};
use tokio::time::{Instant, sleep_until};

use crate::ledger::Stage;
use crate::node::{Node, Urgency};

/// The least time between two heartbeats.
const GAP: Duration = Duration::from_millis(150);
/// The same for what is only nice to know, such as progress.
const LONG_GAP: Duration = Duration::from_secs(1);

/// Says it again and again.
pub(crate) async fn run(node: Arc<Node>) {
    let interval = node.settings.node.heartbeat_interval;
    loop {
        say(&node).await;
        let said = Instant::now();
        let soon = async {
            node.heartbeat.rung(Urgency::Soon).await;
            sleep_until(said + GAP.min(interval)).await;
        };
        let eventually = async {
            node.heartbeat.rung(Urgency::Eventually).await;
            sleep_until(said + LONG_GAP.min(interval)).await;
        };
        tokio::select! {
            biased;
            () = soon => {}
            () = eventually => {}
            () = sleep_until(said + interval) => {}
        }
    }
}

/// Says it once.
pub(crate) async fn say(node: &Node) {
    // What the lease of a key is counted from: no later than what is said was the case.
    let at = Instant::now();
    let heartbeat = compose(node);
    node.state().leases.said(heartbeat.sequence, at);
    let expires_after = node.settings.node.heartbeat_interval * 2;
    if let Err(error) = node.bus.publish_heartbeat(&heartbeat, expires_after).await {
        tracing::debug!(%error, "a heartbeat was not said");
    }
}

fn compose(node: &Node) -> Heartbeat {
    let models = node.models.list();
    let at = node.now();
    let now = Instant::now();
    let state = node.state();
    let mut held = Vec::new();
    let mut runs = Vec::new();
    for (key, entry) in state.ledger.iter() {
        match entry.stage {
            Stage::Started { run, since, progress } => runs.push(RunReport {
                task: key.task,
                attempt: key.attempt,
                run,
                progress,
                elapsed_s: now.saturating_duration_since(since).as_secs_f64(),
            }),
            Stage::Preparing | Stage::Submitted => held.push((key.task, key.attempt)),
        }
    }
    let pool = &node.settings.node.pool;
    Heartbeat {
        v: V1,
        node: node.id.clone(),
        incarnation: node.incarnation,
        sequence: node.next_heartbeat(),
        at,
        pool: (!pool.is_empty()).then(|| pool.clone()),
        condition: state.condition(),
        lane: node.role.lane.clone(),
        consuming: state.consuming.clone(),
        slots: u32::from(node.settings.node.max_concurrent_tasks.get()),
        held,
        runs,
        host: state.figures.host,
        devices: node.role.devices.iter().map(|id| device(id, &state.figures)).collect(),
        models,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn device(id: &str, figures: &crate::probe::Figures) -> DeviceFigures {
    if let Some(gpu) = figures.gpus.iter().find(|gpu| gpu.figures.id == id) {
        return gpu.figures.clone();
    }
    let kind = if id == "cpu" { Device::Cpu } else { Device::Cuda };
    DeviceFigures {
        id: id.to_owned(),
        kind,
        name: format!("{} cores", figures.host.cores),
        utilization: if kind == Device::Cpu { figures.host.cpu } else { 0.0 },
        memory_used_bytes: 0,
        memory_total_bytes: 0,
    }
}
