//! A suspect runs alone: everybody else has to be gone first.

use crate::ledger::Key;
use crate::node::Node;
use crate::stopper::{Stop, Stopper};
use springtide_core::wire::ReturnReason;

/// Waits until the queue is no longer consumed and nothing else is on the node. For `solo_wait` at most: a suspect must
/// not wait behind a task that runs for hours.
pub(super) async fn wait_for_others(node: &Node, key: Key, stopper: &Stopper) -> Result<(), Stop> {
    let limit = node.settings.node.solo_wait;
    let alone = node.until(|state| {
        let alone = state.consuming.is_none() && state.ledger.iter().all(|(other, _)| *other == key);
        alone.then_some(())
    });
    tokio::select! {
        biased;
        stop = stopper.requested() => Err(stop),
        () = alone => Ok(()),
        () = tokio::time::sleep(limit) => {
            let others = node.state().ledger.len().saturating_sub(1);
            let message = format!("{others} other tasks still ran here after {} s", limit.as_secs_f64());
            Err(Stop::new(ReturnReason::SoloTimeout, message))
        }
    }
}
