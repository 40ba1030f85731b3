//! Giving machines back: committed as `Retiring`, fenced, before the provider is asked; and machines that belong to nobody.

use std::collections::BTreeSet;
use std::time::Duration;

use springtide_core::NodeId;
use springtide_core::api::{DrainNode, NodeView, RetireNode};
use springtide_core::node::NodeState;

use super::{Executor, RoundError, Scene, passable};
use crate::leadership::LEASE;
use crate::observe::state_of;
use crate::provider::{Life, Machine};
use crate::trouble::Part;

/// A machine that was terminated and still runs is terminated again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(15);
/// What a node of no pool may still take for what it runs.
const LAST_DEADLINE: Duration = Duration::from_mins(2);

impl Executor {
    /// Commits that a node's machine is about to be terminated. Whether that was granted; from there on it gets no task.
    pub(super) async fn retire(
        &mut self,
        node: &NodeId,
        pool: &str,
        scene: &mut Scene,
    ) -> Result<bool, RoundError> {
        let configured = scene.policy.pools.iter().find(|one| one.name == pool);
        // One that was never heard is entered: it may speak while it is being terminated.
        let lane = configured
            .and_then(|one| one.lane.clone())
            .or_else(|| scene.view.lanes.first().map(|lane| lane.name.clone()));
        let wish = RetireNode {
            lease: LEASE.to_owned(),
            token: scene.token,
            lane,
            pool: (!pool.is_empty()).then(|| pool.to_owned()),
        };
        let answer = self.plane.retire(node, &wish).await;
        let granted = answer.as_ref().ok().cloned();
        passable(answer.map(drop))?;
        let Some(view) = granted else { return Ok(false) };
        match scene.view.nodes.iter_mut().find(|known| known.id == *node) {
            Some(known) => *known = view,
            None => scene.view.nodes.push(view),
        }
        Ok(true)
    }

    /// Terminates the machines of all nodes that retire, whoever committed that.
    pub(super) async fn terminate(&mut self, scene: &Scene) {
        let retiring: BTreeSet<&NodeId> = scene
            .view
            .nodes
            .iter()
            .filter(|node| state_of(node) == Some(NodeState::Retiring))
            .map(|node| &node.id)
            .collect();
        let asked_lately =
            |node: &NodeId| self.given_back.get(node).is_some_and(|at| scene.now.since(*at) < AGAIN_AFTER);
        let machines = self.fleet.iter().flat_map(|fleet| &fleet.machines);
        let due: Vec<NodeId> = machines
            .filter(|machine| machine.life == Life::Running && retiring.contains(&machine.node))
            .map(|machine| machine.node.clone())
            .filter(|node| !asked_lately(node))
            .collect();
        for batch in due.chunks(self.config.terminate_batch.max(1)) {
            if !self.leadership.is_sure() || !self.paces.terminate.take() {
                return;
            }
            match self.calls.wait("terminate", self.calls.provider.terminate(batch)).await {
                Ok(()) => {
                    self.paces.terminate.answered();
                    self.shared.troubles.clear(Part::Terminate);
                    let now = self.now();
                    self.given_back.extend(batch.iter().map(|node| (node.clone(), now)));
                    self.describe_soon();
                }
                Err(error) => {
                    self.paces.terminate.failed();
                    self.shared.troubles.set(Part::Terminate, error.to_string(), self.now());
                    self.describe_soon();
                    return;
                }
            }
        }
        if due.is_empty() {
            self.shared.troubles.clear(Part::Terminate);
        }
    }

    /// Gives back machines with this cluster's tag that no pool of the configuration has: their pool was taken out, or the
    /// tag is another version's.
    pub(super) async fn sweep(&mut self, scene: &mut Scene) -> Result<(), RoundError> {
        let configured = |machine: &Machine| self.config.pools.iter().any(|pool| pool.name == machine.pool);
        let old = |machine: &Machine| scene.now.since(machine.launched_at) >= self.config.orphan_after;
        let machines = self.fleet.iter().flat_map(|fleet| &fleet.machines);
        let orphans: Vec<Machine> = machines
            .filter(|machine| machine.life == Life::Running && !configured(machine) && old(machine))
            .filter(|machine| !self.given_back.contains_key(&machine.node))
            .cloned()
            .collect();
        for orphan in orphans {
            let view = scene.view.nodes.iter().find(|node| node.id == orphan.node).cloned();
            match Leaving::of(view.as_ref(), scene) {
                Leaving::Drain => {
                    let drain = DrainNode {
                        deadline_s: LAST_DEADLINE.as_secs_f64(),
                        reason: format!(
                            "the pool `{}` is not in the autoscaler's configuration",
                            orphan.pool
                        ),
                    };
                    passable(self.plane.drain(&orphan.node, &drain).await.map(drop))?;
                }
                Leaving::Wait => {}
                Leaving::Retire => {
                    if self.retire(&orphan.node, &orphan.pool, scene).await? {
                        tracing::warn!(node = %orphan.node, pool = orphan.pool, "a machine of no pool is given back");
                        self.shared.metrics.orphans.inc();
                    }
                }
            }
        }
        Ok(())
    }
}

/// How far a machine of no pool is on its way out.
enum Leaving {
    Drain,
    Wait,
    Retire,
}

impl Leaving {
    fn of(view: Option<&NodeView>, scene: &Scene) -> Self {
        match view.and_then(state_of) {
            Some(NodeState::Active) => Self::Drain,
            Some(NodeState::Draining { until, .. }) if until > scene.view.at => Self::Wait,
            Some(NodeState::Retiring) => Self::Wait,
            _ => Self::Retire,
        }
    }
}
