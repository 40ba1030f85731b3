//! The machines of a pool, by what can be expected of them.

use springtide_core::Timestamp;
use springtide_core::node::NodeState;

use crate::offer::Market;
use crate::plan::Cause;
use crate::policy::{Offer, Pool};
use crate::snapshot::{Node, Snapshot};

/// A machine on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Coming {
    /// Its slots.
    pub(crate) slots: f64,
    /// Seconds since it was asked for.
    pub(crate) age: f64,
}

/// The machines of a pool.
#[derive(Debug, Default)]
pub(crate) struct Fleet<'a> {
    /// Active, with something to do.
    pub(crate) busy: Vec<&'a Node>,
    /// Active, with nothing to do.
    pub(crate) idle: Vec<&'a Node>,
    /// On their way.
    pub(crate) coming: Vec<Coming>,
    /// Those of them that are there, and have not reported.
    pub(crate) booting: Vec<&'a Node>,
    /// Draining before their deadline, or empty.
    pub(crate) leaving: Vec<&'a Node>,
    /// To be terminated now, and why.
    pub(crate) over: Vec<(&'a Node, Cause)>,
    /// To be drained whatever the work is, until when, and why.
    pub(crate) failing: Vec<(&'a Node, Timestamp, Cause)>,
    /// Machines that count against `max`: all but those that are being terminated, or that the provider takes back.
    pub(crate) counted: u32,
    /// Those of them on the spot market.
    pub(crate) spot: u32,
    /// What all of them cost in an hour.
    pub(crate) price: f64,
    /// Slots of active nodes.
    pub(crate) active_slots: f64,
}

impl<'a> Fleet<'a> {
    /// The fleet of a pool; `None`: the snapshot does not have it.
    pub(super) fn of(pool: &Pool, snapshot: &'a Snapshot, now: Timestamp) -> Option<Self> {
        let state = snapshot.pools.iter().find(|state| state.name == pool.name)?;
        let mut fleet = Self::default();
        for node in &state.nodes {
            fleet.place(node, pool, now);
        }
        for launch in &state.launches {
            fleet.count(launch.missing, launch.missing * u32::from(launch.offer.market == Market::Spot));
            fleet.price += launch.price_per_hour * f64::from(launch.missing);
            if now.since(launch.asked_at) < pool.boot_timeout {
                let coming =
                    Coming { slots: f64::from(launch.slots), age: now.since(launch.asked_at).as_secs_f64() };
                fleet.coming.extend(std::iter::repeat_n(coming, launch.missing as usize));
            }
        }
        Some(fleet)
    }

    fn count(&mut self, nodes: u32, spot: u32) {
        self.counted = self.counted.saturating_add(nodes);
        self.spot = self.spot.saturating_add(spot);
    }

    fn place(&mut self, node: &'a Node, pool: &Pool, now: Timestamp) {
        if matches!(node.state, NodeState::Gone) {
            return;
        }
        self.price += node.price_per_hour;
        if matches!(node.state, NodeState::Retiring) {
            return;
        }
        if node.doomed_at.is_none() {
            self.count(1, u32::from(node.offer.market == Market::Spot));
        }
        let lost_until = now + pool.lost_deadline;
        match (&node.state, node.doomed_at) {
            (NodeState::Draining { until, .. }, _) if now >= *until => {
                self.over.push((node, Cause::Deadline));
            }
            (NodeState::Empty { .. }, Some(_)) => self.over.push((node, Cause::Interruption)),
            (NodeState::Active | NodeState::Lost, Some(at)) => {
                self.failing.push((node, at, Cause::Interruption));
            }
            (NodeState::Lost, None) => self.failing.push((node, lost_until, Cause::Lost)),
            (NodeState::Launching, _) if now.since(node.launched_at) >= pool.boot_timeout => {
                self.over.push((node, Cause::BootTimeout));
            }
            (NodeState::Launching, None) => {
                let age = now.since(node.launched_at).as_secs_f64();
                self.coming.push(Coming { slots: f64::from(node.slots), age });
                self.booting.push(node);
            }
            (NodeState::Draining { .. } | NodeState::Empty { .. }, None) => self.leaving.push(node),
            (NodeState::Active, None) => {
                self.active_slots += f64::from(node.slots);
                if node.is_idle() { self.idle.push(node) } else { self.busy.push(node) }
            }
            (NodeState::Launching | NodeState::Draining { .. }, Some(_))
            | (NodeState::Retiring | NodeState::Gone, _) => {}
        }
    }

    /// A machine that the plan ends.
    pub(super) fn discount(&mut self, node: &Node) {
        if node.doomed_at.is_none() {
            self.counted -= 1;
            self.spot -= u32::from(node.offer.market == Market::Spot);
        }
    }

    /// A machine on its way that the plan ends.
    pub(super) fn give_back(&mut self, node: &Node, now: Timestamp) {
        let (slots, age) = (f64::from(node.slots), now.since(node.launched_at).as_secs_f64());
        let of_it = |coming: &Coming| (coming.slots, coming.age) == (slots, age);
        if let Some(at) = self.coming.iter().position(of_it) {
            self.coming.swap_remove(at);
        }
        self.discount(node);
    }

    /// Machines that the plan rents.
    pub(super) fn add(&mut self, offer: &Offer, count: u32) {
        self.count(count, if offer.market == Market::Spot { count } else { 0 });
        self.price += offer.price_per_hour * f64::from(count);
        let coming = Coming { slots: f64::from(offer.slots), age: 0.0 };
        self.coming.extend(std::iter::repeat_n(coming, count as usize));
    }

    /// Slots of the nodes that take tasks, and of those on their way.
    pub(crate) fn slots(&self) -> f64 {
        self.active_slots + self.coming.iter().map(|coming| coming.slots).sum::<f64>()
    }

    /// Nodes that take tasks, and those on their way.
    pub(crate) fn nodes(&self) -> u32 {
        (self.busy.len() + self.idle.len() + self.coming.len()) as u32
    }
}
