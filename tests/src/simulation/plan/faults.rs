//! What goes wrong, and when.

use std::time::Duration;

use springtide_broker::memory::Restart;

use crate::simulation::dice::Dice;

/// A fault at its time.
#[derive(Clone, Debug)]
pub struct Timed {
    /// When, from the beginning.
    pub at: Duration,
    /// How often everybody else gets on with what they do at that moment before it happens: so a fault hits the middle
    /// of something, too.
    pub yields: u32,
    /// What.
    pub fault: Fault,
}

/// Something that goes wrong. Numbers name nodes and control planes.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)] // a field is how long it takes, or which part it hits
pub enum Fault {
    /// An agent dies, and is started again after a while.
    AgentDies { node: usize },
    /// An agent dies at its n-th call from now.
    AgentDiesAfter { node: usize, calls: u32 },
    /// An agent is told to end, and is started again.
    AgentStops { node: usize },
    /// An agent stands still.
    AgentStandsStill { node: usize, span: Duration },
    /// An agent's connection is gone for a while.
    AgentCut { node: usize, span: Duration },
    /// The worker of an agent is killed by somebody.
    WorkerKilled { node: usize },
    /// The worker of an agent does not answer for a while.
    WorkerHangs { node: usize, span: Duration },
    /// A control plane dies, and is started again.
    ControlDies { control: usize },
    /// A control plane dies at its n-th call from now.
    ControlDiesAfter { control: usize, calls: u32 },
    /// A control plane is told to end, and is started again.
    ControlStops { control: usize },
    /// A control plane stands still, perhaps beyond its lease.
    ControlStandsStill { control: usize, span: Duration },
    /// A control plane's connection to the broker is gone for a while.
    ControlCut { control: usize, span: Duration },
    /// A control plane can't reach the store for a while.
    StoreCut { control: usize, span: Duration },
    /// The broker goes down and comes back.
    BrokerRestarts { how: Restart, outage: Duration },
    /// The broker takes nothing for a while.
    BrokerBlocked { span: Duration },
    /// The store's disk is full for a while.
    StoreFull { span: Duration },
    /// The store fails now and then, before and after it has committed.
    StoreFlaky { span: Duration },
    /// The store is slow.
    StoreSlow { span: Duration },
    /// The object store takes nothing, or can't be reached.
    ObjectsFail { span: Duration },
    /// Messages are lost, doubled, late and overtake each other, more than usual.
    Storm { span: Duration },
    /// The clock of a node's machine is set.
    NodeClockJumps { node: usize, by_ms: i64 },
    /// The clock of a control plane's machine is set.
    ControlClockJumps { control: usize, by_ms: i64 },
    /// Somebody drains a node, and changes their mind later.
    Drained { node: usize, deadline_s: u64, span: Duration },
}

pub(super) fn draw(dice: &Dice, nodes: usize, controls: usize, calm_at: Duration) -> Vec<Timed> {
    let count = dice.range(super::FAULTS as u64, super::FAULTS as u64 * 2);
    let mut faults: Vec<Timed> = (0..count)
        .map(|_| Timed {
            at: Duration::from_millis(dice.range(500, calm_at.as_millis() as u64 - 1_000)),
            yields: if dice.hits(0.5) { dice.range(0, 60) as u32 } else { 0 },
            fault: fault(dice, nodes, controls),
        })
        .collect();
    faults.sort_by_key(|timed| timed.at);
    faults
}

fn fault(dice: &Dice, nodes: usize, controls: usize) -> Fault {
    let node = dice.index(nodes);
    let control = dice.index(controls);
    let span = dice.millis(200, 40_000);
    let calls = dice.range(1, 40) as u32;
    match dice.range(0, 59) {
        0..6 => Fault::AgentDies { node },
        6..11 => Fault::AgentDiesAfter { node, calls },
        11..13 => Fault::AgentStops { node },
        13..17 => Fault::AgentStandsStill { node, span },
        17..22 => Fault::AgentCut { node, span },
        22..25 => Fault::WorkerKilled { node },
        25..26 => Fault::WorkerHangs { node, span: span / 2 },
        26..29 => Fault::ControlDies { control },
        29..33 => Fault::ControlDiesAfter { control, calls },
        33..35 => Fault::ControlStops { control },
        35..39 => Fault::ControlStandsStill { control, span },
        39..42 => Fault::ControlCut { control, span },
        42..43 => Fault::StoreCut { control, span: span / 2 },
        43..46 => {
            let how = dice.pick(&[Restart::Graceful, Restart::Killed, Restart::Killed, Restart::Wiped]);
            Fault::BrokerRestarts { how, outage: dice.millis(50, 30_000) }
        }
        46..47 => Fault::BrokerBlocked { span },
        47..48 => Fault::StoreFull { span: span / 2 },
        48..50 => Fault::StoreFlaky { span },
        50..51 => Fault::StoreSlow { span },
        51..52 => Fault::ObjectsFail { span: span / 2 },
        52..54 => Fault::Storm { span },
        54..55 => Fault::NodeClockJumps { node, by_ms: jump(dice, 3_600_000) },
        55..57 => Fault::ControlClockJumps { control, by_ms: jump(dice, 60_000) },
        _ => Fault::Drained { node, deadline_s: dice.range(0, 20), span },
    }
}

fn jump(dice: &Dice, most_ms: u64) -> i64 {
    let by = dice.millis(20, most_ms).as_millis() as i64;
    if dice.hits(0.5) { by } else { -by }
}
