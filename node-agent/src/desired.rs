//! Does what the control plane wants of the node. Level-triggered: the whole wish comes again and again, and doing it
//! twice is doing it once.

use std::sync::Arc;
use std::time::Duration;

use springtide_core::RunId;
use springtide_core::wire::{DesiredState, ReturnReason};
use tokio::time::sleep;

use crate::backoff::Backoff;
use crate::node::Node;
use crate::stopper::Stop;

/// Pauses between attempts to listen.
const RETRY: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));

/// Listens for as long as the agent lives.
pub(crate) async fn run(node: Arc<Node>) {
    let mut retry = RETRY;
    loop {
        match node.bus.subscribe_desired(&node.id).await {
            Ok(mut wishes) => {
                retry.reset();
                while let Some(desired) = wishes.next().await {
                    apply(&node, &desired);
                }
            }
            Err(error) => tracing::debug!(%error, "can't listen for what is wanted of this node"),
        }
        sleep(retry.next(node.random.unit())).await;
    }
}

fn apply(node: &Arc<Node>, desired: &DesiredState) {
    if desired.node != node.id || desired.incarnation != node.incarnation {
        return;
    }
    cancel(node, &desired.cancel);
    if !desired.leases.is_empty() {
        node.change(|state| desired.leases.iter().for_each(|kept| state.leases.renew(kept)));
    }
    let mut lane = &desired.lane;
    if node.settings.lanes.get(lane).is_none() {
        // Consuming it would make a queue that nobody serves.
        tracing::warn!(%lane, "the control plane wants a lane that control_plane.lanes does not have");
        lane = &node.role.lane;
    }
    let changes = {
        let gate = &node.state().gate;
        gate.lane != *lane || gate.drain != desired.drain
    };
    if changes {
        tracing::info!(%lane, drain = ?desired.drain, "the control plane wants something else");
        node.change_gate(|gate| {
            gate.lane.clone_from(lane);
            gate.drain.clone_from(&desired.drain);
        });
    }
    for model in &desired.preload {
        node.models.preload(model);
    }
}

fn cancel(node: &Node, runs: &[RunId]) {
    if runs.is_empty() {
        return;
    }
    let stop = Stop::new(ReturnReason::Unwanted, "the control plane no longer wants this run");
    let state = node.state();
    for run in runs {
        if state.ledger.stop_run(*run, &stop) {
            tracing::info!(%run, "cancelling a run that nobody wants");
        }
    }
}

/// Hands back what still runs when the deadline of a drain or of the agent's end is over.
pub(crate) async fn keep_deadlines(node: Arc<Node>) {
    loop {
        let deadline = node.until(|state| state.gate.deadline()).await;
        let now = node.now();
        if now < deadline {
            // The deadline may move, or go.
            tokio::select! {
                biased;
                () = sleep(deadline.since(now)) => {}
                () = node.until(|state| (state.gate.deadline() != Some(deadline)).then_some(())) => {}
            }
            continue;
        }
        node.state()
            .ledger
            .stop_all(ReturnReason::Drained, "it was not done before the deadline of the drain");
        node.until(|state| (state.gate.deadline() != Some(deadline)).then_some(())).await;
    }
}
