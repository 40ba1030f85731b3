//! Runs that nobody wants any more: their nodes are told at once, and again with each heartbeat that still lists them. So a
//! command that gets lost costs one heartbeat. What is forgotten here, with this process or because a node says nothing,
//! the comparison finds.
//!
//! Telling may have to wait for the broker, and nobody else has to wait for that: not who cancels, not who hears.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use springtide_core::wire::Heartbeat;
use springtide_core::{NodeId, RunId, Timestamp};
use springtide_store::port::StopRun;
use tokio::sync::Notify;

use crate::app::App;

/// The runs, by node.
#[derive(Debug, Default)]
pub struct Stopping {
    nodes: Mutex<BTreeMap<NodeId, BTreeMap<RunId, Told>>>,
    any_due: Notify,
}

#[derive(Clone, Copy, Debug)]
struct Told {
    since: Timestamp,
    /// Its node is to be told, once more as a rule.
    due: bool,
}

impl Stopping {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, BTreeMap<RunId, Told>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has these stopped.
    pub fn stop(&self, runs: Vec<StopRun>, now: Timestamp) {
        if runs.is_empty() {
            return;
        }
        let mut nodes = self.lock();
        for StopRun { node, run, .. } in runs {
            nodes.entry(node).or_default().insert(run, Told { since: now, due: true });
        }
        self.any_due.notify_one();
    }

    /// A node was heard: it is told again what it still lists, and the rest is over. What silent nodes were told before
    /// `forget` is forgotten.
    pub fn hear(&self, heartbeat: &Heartbeat, forget: Timestamp) {
        let mut nodes = self.lock();
        if nodes.is_empty() {
            return;
        }
        if let Some(runs) = nodes.get_mut(&heartbeat.node) {
            runs.retain(|run, _| heartbeat.runs.iter().any(|report| report.run == *run));
            for told in runs.values_mut() {
                told.due = true;
            }
            self.any_due.notify_one();
        }
        nodes.retain(|_, runs| {
            runs.retain(|_, told| told.since >= forget);
            !runs.is_empty()
        });
    }

    /// Waits until a node is to be told something; takes what that is.
    async fn due(&self) -> BTreeMap<NodeId, Vec<RunId>> {
        loop {
            let due = self.take_due();
            if !due.is_empty() {
                return due;
            }
            self.any_due.notified().await;
        }
    }

    fn take_due(&self) -> BTreeMap<NodeId, Vec<RunId>> {
        let mut due: BTreeMap<NodeId, Vec<RunId>> = BTreeMap::new();
        for (node, runs) in self.lock().iter_mut() {
            for (run, told) in runs.iter_mut().filter(|(_, told)| told.due) {
                told.due = false;
                due.entry(node.clone()).or_default().push(*run);
            }
        }
        due
    }
}

/// Tells nodes what they are to stop, for ever.
pub async fn run(app: Arc<App>) {
    loop {
        let mut due = app.stopping.due().await;
        match app.store.nodes(app.now()).await {
            Ok(nodes) => {
                for node in nodes {
                    if let Some(cancel) = due.remove(&node.id) {
                        app.tell_node(&node, cancel).await;
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "runs that nobody wants are stopped by the comparison"),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use springtide_core::wire::{HostFigures, NodeCondition, RunReport, V1};
    use springtide_core::{Incarnation, JobId, TaskId};

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn run(number: u128) -> RunId {
        RunId::new(at(0), number)
    }

    fn on(node: &str, number: u128) -> StopRun {
        StopRun { node: node.parse().unwrap(), incarnation: Incarnation::new(at(0), 1), run: run(number) }
    }

    /// What is to be told now; nothing, if nothing is.
    fn due(stopping: &Stopping) -> Vec<(String, Vec<RunId>)> {
        let due = stopping.due().now_or_never().unwrap_or_default();
        due.into_iter().map(|(node, runs)| (node.to_string(), runs)).collect()
    }

    fn heartbeat(node: &str, runs: &[u128]) -> Heartbeat {
        let task = TaskId { job: JobId::new(at(0), 1), index: 0 };
        let report =
            |number: &u128| RunReport { task, attempt: 1, run: run(*number), progress: 0.0, elapsed_s: 0.0 };
        Heartbeat {
            v: V1,
            node: node.parse().unwrap(),
            incarnation: Incarnation::new(at(0), 1),
            sequence: 1,
            at: at(0),
            pool: None,
            condition: NodeCondition::Active,
            lane: "cpu".parse().unwrap(),
            consuming: None,
            slots: 2,
            held: Vec::new(),
            runs: runs.iter().map(report).collect(),
            host: HostFigures::default(),
            devices: Vec::new(),
            models: Vec::new(),
            version: String::new(),
        }
    }

    #[test]
    fn what_was_told_to_stop_is_told_with_each_heartbeat_until_one_does_not_list_it() {
        let stopping = Stopping::default();
        stopping.stop(vec![on("a", 1), on("a", 2)], at(10));
        assert_eq!(due(&stopping), [("a".to_owned(), vec![run(1), run(2)])], "at once");
        let due_after = |node: &str, runs: &[u128]| {
            stopping.hear(&heartbeat(node, runs), at(0));
            due(&stopping).into_iter().flat_map(|(_, runs)| runs).collect::<Vec<_>>()
        };
        assert_eq!(due_after("b", &[1]), [], "another node's");
        assert_eq!(due_after("a", &[1, 2, 3]), [run(1), run(2)]);
        assert_eq!(due_after("a", &[2]), [run(2)]);
        assert_eq!(due_after("a", &[1]), [], "it had stopped");
        assert!(stopping.nodes.lock().unwrap().is_empty(), "nothing is kept");
    }

    #[test]
    fn what_a_silent_node_was_told_is_forgotten() {
        let stopping = Stopping::default();
        stopping.stop(vec![on("a", 1)], at(10));
        stopping.hear(&heartbeat("b", &[]), at(11));
        assert!(stopping.nodes.lock().unwrap().is_empty());
    }
}
