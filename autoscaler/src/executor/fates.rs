//! What befell machines, for the planner: it avoids offers whose machines are taken back, or never come up.

use std::collections::BTreeSet;

use springtide_core::NodeId;
use springtide_planner::{Market, Observation};

use super::{Executor, Scene};
use crate::provider::Life;

/// Of the machines that the provider shows.
#[derive(Debug, Default)]
pub(super) struct Fates {
    /// The control plane knows them: their agents were heard, or they were given back.
    known: BTreeSet<NodeId>,
    /// The planner was told of them, or they were given back before there was anything to tell.
    settled: BTreeSet<NodeId>,
}

impl Executor {
    /// Looks for machines that have ended and were never heard, and for those on the spot market that are taken back.
    pub(super) fn note_fates(&mut self, scene: &Scene) {
        let Some(fleet) = &self.fleet else { return };
        let doomed = self.shared.doomed.all();
        self.fates.known.extend(scene.view.nodes.iter().map(|node| node.id.clone()));
        // That is forgotten sooner than the provider ceases to show them.
        self.fates.settled.extend(self.given_back.keys().cloned());
        let mut seen = Vec::new();
        for machine in &fleet.machines {
            let node = &machine.node;
            if self.fates.settled.contains(node) {
                continue;
            }
            let (offer, at) = (machine.offer.clone(), scene.now);
            // Whoever was heard long ago may be forgotten by now, but no longer boots.
            let boots = scene.policy.pools.iter().any(|pool| {
                pool.name == machine.pool && scene.now.since(machine.launched_at) < pool.boot_timeout
            });
            let unheard = !self.fates.known.contains(node);
            if doomed.contains_key(node) && offer.market == Market::Spot {
                seen.push((node.clone(), Observation::Interrupted { offer, at }));
            } else if machine.life != Life::Running && boots && unheard {
                tracing::warn!(%node, pool = machine.pool, "a machine has ended before its agent was heard");
                let launched_at = machine.launched_at;
                seen.push((node.clone(), Observation::NeverHeard { offer, launched_at, at }));
            }
        }
        let shown: BTreeSet<&NodeId> = fleet.machines.iter().map(|machine| &machine.node).collect();
        self.fates.known.retain(|node| shown.contains(node));
        self.fates.settled.retain(|node| shown.contains(node));
        for (node, observation) in seen {
            self.fates.settled.insert(node);
            self.observe(observation);
        }
    }

    /// A machine that had its time to boot is given back.
    pub(super) fn note_boot_timeout(&mut self, node: &NodeId, scene: &Scene) {
        let machines = self.fleet.iter().flat_map(|fleet| &fleet.machines);
        let Some(machine) = machines.into_iter().find(|machine| machine.node == *node) else { return };
        let (offer, launched_at) = (machine.offer.clone(), machine.launched_at);
        self.fates.settled.insert(node.clone());
        self.observe(Observation::NeverHeard { offer, launched_at, at: scene.now });
    }
}
