//! From what is wanted to actions, within the limits.

use std::cmp::Reverse;

use springtide_core::Timestamp;
use springtide_core::node::NodeState;

use super::fleet::Fleet;
use super::limits::{Bounds, Money};
use super::offers;
use crate::memory::{Memory, PoolMemory};
use crate::plan::{Action, Cause, Limit, Outlook};
use crate::policy::Pool;
use crate::snapshot::Node;
use crate::strategy::Band;

/// What is decided for one pool.
pub(super) struct Step<'a> {
    pub(super) pool: &'a Pool,
    pub(super) fleet: Fleet<'a>,
    pub(super) band: Band,
    pub(super) bounds: Bounds<'a>,
    /// Slots of other pools of the same lane.
    pub(super) others: f64,
    /// The snapshot is fresh and has the lane.
    pub(super) known: bool,
    pub(super) now: Timestamp,
    /// When the snapshot was taken.
    pub(super) taken: Timestamp,
    pub(super) memory: PoolMemory,
}

/// Rounding errors of sums of slots.
const CRUMB: f64 = 1e-6;

/// What is missing.
#[derive(Clone, Copy, Debug)]
struct Missing {
    /// Slots, for the work and the spares.
    slots: f64,
    /// Nodes, for the floor.
    nodes: u32,
}

impl Missing {
    fn any(self) -> bool {
        self.slots > CRUMB || self.nodes > 0
    }

    /// Nodes with so many slots that make up for it.
    fn in_nodes_of(self, slots: u32) -> u32 {
        let for_work = ((self.slots - CRUMB) / f64::from(slots.max(1))).ceil().max(0.0) as u32;
        for_work.max(self.nodes)
    }

    fn less(&mut self, count: u32, slots: u32) {
        self.slots -= f64::from(count) * f64::from(slots);
        self.nodes = self.nodes.saturating_sub(count);
    }
}

impl<'a> Step<'a> {
    /// Does it; how the pool stands before.
    pub(super) fn run(&mut self, actions: &mut Vec<Action>, memory: &Memory, money: &mut Money) -> Outlook {
        let mut limits = Vec::new();
        let wanted = self.nodes_for(self.band.slots.low);
        let mut outlook = Outlook {
            pool: self.pool.name.clone(),
            active: (self.fleet.busy.len() + self.fleet.idle.len()) as u32,
            coming: self.fleet.coming.len() as u32,
            leaving: self.fleet.leaving.len() as u32,
            wanted,
            target: self.fleet.nodes(),
            limits: Vec::new(),
            reason: self.band.reason.clone(),
            price_per_hour: self.fleet.price,
        };
        self.replace_failing(actions);
        if self.bounds.frozen {
            return Outlook { limits: vec![Limit::Frozen], ..outlook };
        }
        let mut missing = self.missing();
        if missing.any() {
            // A snapshot from before the last launch may not have it: planned from again, it would be launched twice.
            if self.memory.up_at.is_some_and(|up| self.taken < up) {
                limits.push(Limit::Stale);
                return Outlook { limits, ..outlook };
            }
            let cause = self.cause(missing);
            let mut added = self.undrain(&mut missing, cause, actions);
            // What ends makes room for what comes.
            self.retire(actions);
            added += self.launch(missing, cause, actions, memory, money, &mut limits);
            outlook.target += added;
            if added > 0 {
                self.memory.up_at = Some(self.now);
            }
        } else {
            outlook.target -= self.shrink(actions, &mut limits);
            self.retire(actions);
        }
        limits.sort_unstable();
        limits.dedup();
        Outlook { limits, ..outlook }
    }

    fn unit(&self) -> f64 {
        f64::from(offers::unit(self.pool))
    }

    /// Slots of the lane.
    fn have(&self) -> f64 {
        self.fleet.slots() + self.others
    }

    fn spare_slots(&self) -> f64 {
        f64::from(self.bounds.spares) * self.unit()
    }

    /// Nodes of this pool with which the lane has so many slots. Nodes may have other numbers of slots than what would
    /// be rented: what is there counts as it is.
    fn nodes_for(&self, slots: f64) -> u32 {
        let more = ((slots - self.have()) / self.unit() - CRUMB).ceil();
        (f64::from(self.fleet.nodes()) + more).max(0.0) as u32
    }

    fn missing(&self) -> Missing {
        Missing {
            slots: (self.band.slots.low + self.spare_slots() - self.have()).max(0.0),
            nodes: self.bounds.floor.saturating_sub(self.fleet.nodes()),
        }
    }

    /// What a node that is added is for.
    fn cause(&self, missing: Missing) -> Cause {
        if f64::from(missing.nodes) * self.unit() > missing.slots - CRUMB {
            Cause::Floor
        } else if self.band.slots.low <= self.have() + CRUMB {
            Cause::Spares
        } else {
            Cause::Demand
        }
    }

    /// Nodes that the provider takes back, and lost ones, get a deadline.
    fn replace_failing(&self, actions: &mut Vec<Action>) {
        for &(node, deadline, cause) in &self.fleet.failing {
            // That a node is lost is old news in an old snapshot.
            if cause == Cause::Lost && !self.known {
                continue;
            }
            let reason = match cause {
                Cause::Interruption => format!("the provider takes it back at {deadline}"),
                _ => "it has not been heard of".to_owned(),
            };
            let (pool, node) = (self.pool.name.clone(), node.id.clone());
            actions.push(Action::Drain { pool, node, deadline, cause, reason });
        }
    }

    /// Rents machines; how many.
    fn launch(
        &mut self,
        mut missing: Missing,
        cause: Cause,
        actions: &mut Vec<Action>,
        memory: &Memory,
        money: &mut Money,
        limits: &mut Vec<Limit>,
    ) -> u32 {
        let mut added = 0;
        let available = offers::available(self.pool, memory, self.now);
        if available.is_empty() && missing.any() {
            limits.push(Limit::NoCapacity);
        }
        let mut room = self.bounds.max.saturating_sub(self.fleet.counted);
        let counted = self.fleet.counted;
        let all = missing.in_nodes_of(offers::unit(self.pool)).min(room);
        for offer in available {
            let mut count = missing.in_nodes_of(offer.slots);
            if count > room {
                limits.push(Limit::Max);
                count = room;
            }
            if offers::is_spot(offer) {
                count = count.min(offers::spot_room(self.pool, counted, self.fleet.spot, all));
            }
            let affordable = money.affords(self.pool, self.fleet.price, offer.price_per_hour, count);
            if affordable < count {
                limits.push(Limit::Budget);
                count = affordable;
            }
            if count == 0 {
                continue;
            }
            missing.less(count, offer.slots);
            room -= count;
            added += count;
            money.spend(offer.price_per_hour * f64::from(count));
            self.fleet.add(offer, count);
            actions.push(Action::Launch {
                pool: self.pool.name.clone(),
                offer: offer.key(),
                count,
                slots: offer.slots,
                price_per_hour: offer.price_per_hour,
                cause,
                reason: self.reason(cause),
            });
        }
        added
    }

    /// Nodes that the planner drained itself are taken back first: they are there already. How many.
    fn undrain(&mut self, missing: &mut Missing, cause: Cause, actions: &mut Vec<Action>) -> u32 {
        let mut kept = Vec::new();
        let mut count = 0;
        for node in std::mem::take(&mut self.fleet.leaving) {
            let full = self.fleet.nodes() + count >= self.bounds.max;
            if full || !missing.any() || !self.memory.drained.contains(&node.id) {
                kept.push(node);
                continue;
            }
            missing.less(1, node.slots);
            count += 1;
            self.memory.drained.remove(&node.id);
            self.fleet.active_slots += f64::from(node.slots);
            let (pool, node) = (self.pool.name.clone(), node.id.clone());
            actions.push(Action::Undrain { pool, node, cause, reason: self.reason(cause) });
        }
        self.fleet.leaving = kept;
        count
    }

    fn reason(&self, cause: Cause) -> String {
        match cause {
            Cause::Floor => {
                let by = self.bounds.raised_by.map(|by| format!(" ({by})")).unwrap_or_default();
                format!("at least {} nodes are to be there{by}", self.bounds.floor)
            }
            Cause::Spares => format!("{} warm spares; {}", self.bounds.spares, self.band.reason),
            Cause::Limit => format!("at most {} nodes are to be there", self.bounds.max),
            _ => self.band.reason.clone(),
        }
    }

    /// Slots beyond so many, and beyond what is kept in any case.
    fn beyond(&self, slots: f64) -> f64 {
        self.have() - slots.max(self.band.slots.low) - self.spare_slots()
    }

    /// Gives back machines on their way and drains idle nodes that are too many; how many.
    fn shrink(&mut self, actions: &mut Vec<Action>, limits: &mut Vec<Limit>) -> u32 {
        let (nodes, bounds) = (self.fleet.nodes(), self.bounds);
        let over = nodes.saturating_sub(bounds.max);
        let surplus = self.beyond(self.band.slots.high).max(self.beyond(self.band.slots.most));
        if over == 0 && (surplus < 1.0 - CRUMB || nodes <= bounds.floor) {
            return 0;
        }
        if !self.known {
            limits.push(Limit::Stale);
            return 0;
        }
        if self.memory.up_at.is_some_and(|up| self.now.since(up) < self.pool.reversal_pause) {
            limits.push(Limit::Hysteresis);
            return 0;
        }
        self.give_back_coming(actions) + self.drain_idle(actions)
    }

    /// Machines that boot and are not needed any more, the last one first: the rest of its boot costs most.
    fn give_back_coming(&mut self, actions: &mut Vec<Action>) -> u32 {
        let mut count = 0;
        let mut booting = self.fleet.booting.clone();
        booting.retain(|node| self.billed(node));
        booting.sort_by_key(|node| (Reverse(node.launched_at), node.id.clone()));
        for node in booting {
            let too_many = self.beyond(self.band.slots.most) >= f64::from(node.slots) - CRUMB;
            if !too_many || self.fleet.nodes() <= self.bounds.floor {
                break;
            }
            count += 1;
            self.fleet.give_back(node, self.now);
            let (pool, reason) = (self.pool.name.clone(), self.reason(Cause::Surplus));
            actions.push(Action::Retire { pool, node: node.id.clone(), cause: Cause::Surplus, reason });
        }
        count
    }

    fn drain_idle(&mut self, actions: &mut Vec<Action>) -> u32 {
        let (nodes, floor) = (self.fleet.nodes(), self.bounds.floor);
        let over = nodes.saturating_sub(self.bounds.max);
        let mut surplus = self.beyond(self.band.slots.high);
        let mut count = 0;
        for node in self.cheapest_to_lose() {
            let slots = f64::from(node.slots);
            let cause = if count < over { Cause::Limit } else { Cause::Surplus };
            if cause == Cause::Surplus && (slots > surplus + CRUMB || nodes - count <= floor) {
                continue;
            }
            surplus -= slots;
            count += 1;
            let deadline = self.now + self.pool.drain_deadline;
            self.memory.drained.insert(node.id.clone());
            self.fleet.active_slots -= slots;
            let reason = self.reason(cause);
            let (pool, node) = (self.pool.name.clone(), node.id.clone());
            actions.push(Action::Drain { pool, node, deadline, cause, reason });
        }
        count
    }

    /// Whether what the provider charges for at least is used up.
    fn billed(&self, node: &Node) -> bool {
        self.now.since(node.launched_at) >= self.pool.billing_minimum
    }

    /// Idle nodes: the most expensive slot first, then the emptiest cache, then the one that is idle for longest.
    fn cheapest_to_lose(&self) -> Vec<&'a Node> {
        let mut idle: Vec<&'a Node> =
            self.fleet.idle.iter().copied().filter(|node| self.billed(node)).collect();
        idle.sort_by(|a, b| {
            let price = |node: &Node| node.price_per_hour / f64::from(node.slots.max(1));
            let since = |node: &Node| node.idle_since.unwrap_or(self.now);
            let keep = |node: &Node| (node.models.len(), since(node));
            price(b).total_cmp(&price(a)).then(keep(a).cmp(&keep(b))).then_with(|| a.id.cmp(&b.id))
        });
        idle
    }

    /// Empty nodes that nobody wants back, and those past their deadline.
    fn retire(&mut self, actions: &mut Vec<Action>) {
        if !self.known {
            return;
        }
        let empty = self.fleet.leaving.iter().filter(|node| matches!(node.state, NodeState::Empty { .. }));
        let mut over: Vec<_> = empty.map(|node| (*node, Cause::Empty)).collect();
        over.extend(&self.fleet.over);
        over.sort_by_key(|(node, cause)| (Reverse(*cause), node.id.clone()));
        for (node, cause) in over {
            let reason = match cause {
                Cause::BootTimeout => {
                    format!("it has not reported within {:?}", self.pool.boot_timeout)
                }
                Cause::Deadline => "the deadline of its drain is past".to_owned(),
                Cause::Interruption => "it is empty, and the provider takes it back".to_owned(),
                _ => "it is drained and empty".to_owned(),
            };
            self.fleet.discount(node);
            let (pool, node) = (self.pool.name.clone(), node.id.clone());
            actions.push(Action::Retire { pool, node, cause, reason });
        }
    }
}
