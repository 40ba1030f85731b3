//! Machines: what they run, and how a snapshot shows them.

use std::cmp::Reverse;

use springtide_core::node::NodeState;
use springtide_core::{NodeId, Timestamp};
use springtide_forecast::Distribution;
use springtide_planner::{Node, OfferKey, PoolState, Run};

use super::{Free, duration};
use crate::outcome::NodeRow;

/// A task on a machine.
#[derive(Clone, Copy, Debug)]
struct Running {
    task: u32,
    started: f64,
    predicted: Distribution,
}

/// A machine, beside what the snapshot shows of it.
#[derive(Debug)]
struct Machine {
    pool: usize,
    launched: f64,
    ready: Option<f64>,
    runs: Vec<Running>,
    model: Option<u32>,
    node: Node,
}

/// A task whose machine ended: its number, the seconds that it had run, what it was predicted to take.
pub(super) type Evicted = (u32, f64, Distribution);

/// All machines, by number.
#[derive(Debug)]
pub(super) struct Fleet {
    machines: std::collections::BTreeMap<u64, Machine>,
    next: u64,
    free: Free,
    pools: usize,
    running: usize,
    active: usize,
    active_slots: u32,
    booting: usize,
    predicted: Distribution,
}

/// The number in a node's id.
pub(super) fn number(id: &NodeId) -> u64 {
    id.as_str().trim_start_matches('n').parse().unwrap_or(u64::MAX)
}

impl Fleet {
    pub(super) fn new(pools: usize) -> Self {
        Self {
            machines: std::collections::BTreeMap::new(),
            next: 0,
            free: Free::new(),
            pools,
            running: 0,
            active: 0,
            active_slots: 0,
            booting: 0,
            predicted: Distribution::default(),
        }
    }

    /// A machine is rented; its number.
    pub(super) fn rent(
        &mut self,
        pool: usize,
        offer: OfferKey,
        slots: u32,
        price: f64,
        at: (f64, Timestamp),
    ) -> u64 {
        self.next += 1;
        let id = format!("n{}", self.next).parse().expect("n and a number is a valid name");
        let node = Node {
            id,
            state: NodeState::Launching,
            offer,
            price_per_hour: price,
            slots,
            launched_at: at.1,
            ready_at: None,
            idle_since: None,
            runs: Vec::new(),
            held: 0,
            models: Vec::new(),
            doomed_at: None,
        };
        let machine = Machine { pool, launched: at.0, ready: None, runs: Vec::new(), model: None, node };
        self.machines.insert(self.next, machine);
        self.booting += 1;
        self.next
    }

    /// A machine has booted. Whether it is still there.
    pub(super) fn ready(&mut self, number: u64, at: (f64, Timestamp)) {
        let Some(machine) = self.machines.get_mut(&number) else { return };
        self.booting -= 1;
        machine.ready = Some(at.0);
        machine.node.ready_at = Some(at.1);
        machine.node.idle_since = Some(at.1);
        machine.node.state = NodeState::Active;
        self.take_in(number);
    }

    fn take_in(&mut self, number: u64) {
        let machine = &self.machines[&number];
        self.active += 1;
        self.active_slots += machine.node.slots;
        let free = machine.node.slots - machine.runs.len() as u32;
        if free > 0 {
            self.free.insert((Reverse(free), number));
        }
    }

    fn leave_out(&mut self, number: u64) {
        let machine = &self.machines[&number];
        self.active -= 1;
        self.active_slots -= machine.node.slots;
        self.free.remove(&(Reverse(machine.node.slots - machine.runs.len() as u32), number));
    }

    /// The one with the most room.
    pub(super) fn roomiest(&self) -> Option<u64> {
        self.free.first().map(|(_, number)| *number)
    }

    pub(super) fn model(&self, number: u64) -> Option<u32> {
        self.machines.get(&number).and_then(|machine| machine.model)
    }

    /// A task starts.
    pub(super) fn start(&mut self, number: u64, task: u32, model: u32, predicted: Distribution, now: f64) {
        let Some(machine) = self.machines.get_mut(&number) else { return };
        let free = machine.node.slots - machine.runs.len() as u32;
        self.free.remove(&(Reverse(free), number));
        if free > 1 {
            self.free.insert((Reverse(free - 1), number));
        }
        machine.runs.push(Running { task, started: now, predicted });
        machine.node.runs.push(Run { elapsed: duration(0.0), predicted: Some(predicted) });
        machine.node.idle_since = None;
        machine.model = Some(model);
        self.running += 1;
        self.predicted = self.predicted + predicted;
    }

    /// A task ends, or is handed back; when it had started. `None`: it is not there.
    pub(super) fn end_run(&mut self, number: u64, task: u32, _now: f64) -> Option<f64> {
        let machine = self.machines.get_mut(&number)?;
        let at = machine.runs.iter().position(|run| run.task == task)?;
        let takes = machine.node.state == NodeState::Active && machine.node.doomed_at.is_none();
        let free = machine.node.slots - machine.runs.len() as u32;
        let run = machine.runs.swap_remove(at);
        machine.node.runs.swap_remove(at);
        if takes {
            self.free.remove(&(Reverse(free), number));
            self.free.insert((Reverse(free + 1), number));
        }
        self.running -= 1;
        let mean = (self.predicted.mean - run.predicted.mean).max(0.0);
        let variance = (self.predicted.variance - run.predicted.variance).max(0.0);
        self.predicted =
            if self.running == 0 { Distribution::default() } else { Distribution { mean, variance } };
        Some(run.started)
    }

    /// A node takes no more. Whether it has nothing to end.
    pub(super) fn drain(&mut self, number: u64, until: Timestamp, reason: String) -> bool {
        if !self.machines.get(&number).is_some_and(|machine| machine.node.state == NodeState::Active) {
            return false;
        }
        self.leave_out(number);
        let Some(machine) = self.machines.get_mut(&number) else { return false };
        machine.node.state = NodeState::Draining { until, reason };
        machine.runs.is_empty()
    }

    /// A node takes tasks again.
    pub(super) fn undrain(&mut self, number: u64) {
        let Some(machine) = self.machines.get_mut(&number) else { return };
        if matches!(machine.node.state, NodeState::Draining { .. } | NodeState::Empty { .. }) {
            machine.node.state = NodeState::Active;
            self.take_in(number);
        }
    }

    /// Whether a node drains and runs nothing.
    pub(super) fn is_drained(&self, number: u64) -> bool {
        self.machines.get(&number).is_some_and(|machine| {
            machine.runs.is_empty() && matches!(machine.node.state, NodeState::Draining { .. })
        })
    }

    /// A drained node says so. Whether it was still drained.
    pub(super) fn emptied(&mut self, number: u64) -> bool {
        let drained = self.is_drained(number);
        if let Some(machine) = self.machines.get_mut(&number).filter(|_| drained) {
            machine.node.state = NodeState::Empty { reason: String::new() };
        }
        drained
    }

    /// The provider will take it back.
    pub(super) fn doom(&mut self, number: u64, at: Timestamp) {
        if let Some(machine) = self.machines.get_mut(&number) {
            machine.node.doomed_at = Some(at);
        }
    }

    /// The machine ends: what it was, and the tasks that it still ran with the seconds they had run.
    pub(super) fn end(&mut self, number: u64, now: f64) -> Option<(NodeRow, Vec<Evicted>)> {
        let machine = self.machines.get(&number)?;
        match machine.node.state {
            NodeState::Active => self.leave_out(number),
            NodeState::Launching => self.booting -= 1,
            _ => {}
        }
        let machine = self.machines.remove(&number)?;
        self.running -= machine.runs.len();
        if self.running == 0 {
            self.predicted = Distribution::default();
        }
        let evicted = machine.runs.iter().map(|run| (run.task, now - run.started, run.predicted)).collect();
        Some((row(number, &machine, now), evicted))
    }

    /// Machines of a zone's spot market.
    pub(super) fn spot_of(&self, zone: &str) -> Vec<(u64, OfferKey)> {
        let spot = self.machines.iter().filter(|(_, machine)| {
            let offer = &machine.node.offer;
            offer.market == springtide_planner::Market::Spot && offer.zone == zone
        });
        spot.map(|(number, machine)| (*number, machine.node.offer.clone())).collect()
    }

    /// What is still there at the end.
    pub(super) fn rows(&self, now: f64) -> Vec<NodeRow> {
        self.machines.iter().map(|(number, machine)| row(*number, machine, now)).collect()
    }

    /// Fills in the nodes of a snapshot's pools.
    pub(super) fn describe(&mut self, pools: &mut [PoolState], now: f64) {
        debug_assert_eq!(pools.len(), self.pools);
        for pool in &mut *pools {
            pool.nodes.clear();
        }
        for machine in self.machines.values_mut() {
            for (run, shown) in machine.runs.iter().zip(&mut machine.node.runs) {
                shown.elapsed = duration(now - run.started);
            }
            pools[machine.pool].nodes.push(machine.node.clone());
        }
    }

    pub(super) fn idle_slots(&self) -> f64 {
        f64::from(self.active_slots) - (self.running as f64).min(f64::from(self.active_slots))
    }

    pub(super) const fn booting(&self) -> usize {
        self.booting
    }

    pub(super) const fn active(&self) -> usize {
        self.active
    }

    pub(super) const fn running(&self) -> usize {
        self.running
    }

    /// How many tasks run, and what they were predicted to take.
    pub(super) const fn predicted(&self) -> (u64, Distribution) {
        (self.running as u64, self.predicted)
    }
}

fn row(number: u64, machine: &Machine, end: f64) -> NodeRow {
    NodeRow {
        node: number,
        pool: machine.pool as u32,
        offer: machine.node.offer.to_string(),
        slots: machine.node.slots,
        launch: machine.launched,
        ready: machine.ready,
        end,
        price_per_hour: machine.node.price_per_hour,
    }
}
