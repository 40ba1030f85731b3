//! From what the control plane and the provider say to the planner's snapshot.

use std::collections::{BTreeMap, BTreeSet};

use springtide_core::api::{ClusterView, NodeView, Predicted};
use springtide_core::node::NodeState;
use springtide_core::{LaneName, NodeId, Priority, Timestamp};
use springtide_planner::{
    Arrived, Demand, Due, LaneDemand, Launch, Memory, Node, Observation, Offer, OfferKey, Override, Policy,
    Pool, PoolState, Run, Snapshot,
};

use crate::launches::OpenLaunch;
use crate::provider::{Life, Machine};

/// What the provider said last.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// When it was asked.
    pub at: Timestamp,
    /// All machines of this cluster.
    pub machines: Vec<Machine>,
}

/// All that a snapshot is made of.
#[derive(Debug)]
pub struct Sight<'a> {
    /// The control plane's.
    pub view: &'a ClusterView,
    /// The provider's; `None`: it can't be asked, and its pools are left alone.
    pub fleet: Option<&'a Fleet>,
    /// The launches of the view that could be read.
    pub launches: &'a [OpenLaunch],
    /// Machines that were given back and may still be shown as running.
    pub given_back: &'a BTreeMap<NodeId, Timestamp>,
    /// Since when nodes have had nothing to do.
    pub idle_since: &'a BTreeMap<NodeId, Timestamp>,
    /// Machines that the provider takes back, and when.
    pub doomed: &'a BTreeMap<NodeId, Timestamp>,
    /// What became of launches lately.
    pub observations: Vec<Observation>,
    /// What the last plan gave back.
    pub memory: Memory,
}

/// The snapshot.
pub fn snapshot(sight: &Sight<'_>, policy: &Policy, overrides: impl Fn(&str) -> Vec<Override>) -> Snapshot {
    let lanes = sight.view.lanes.iter().map(|lane| demand(&lane.name, sight.view)).collect();
    let machines = Machines::new(sight);
    let pools = match sight.fleet {
        None => Vec::new(),
        Some(_) => policy.pools.iter().map(|pool| machines.of(pool, overrides(&pool.name))).collect(),
    };
    Snapshot {
        at: sight.view.at,
        lanes,
        pools,
        observations: sight.observations.clone(),
        memory: sight.memory.clone(),
    }
}

fn demand(lane: &LaneName, view: &ClusterView) -> LaneDemand {
    let of = |priority: Priority| {
        let mut demand = Demand {
            priority,
            waiting: Predicted::default(),
            released: Predicted::default(),
            running: Predicted::default(),
            oldest_waiting: None,
            arrived: Some(arrived(lane, priority, view)),
        };
        for work in view.work.iter().filter(|work| work.lane == *lane && work.priority == priority) {
            demand.waiting = demand.waiting.and(&work.waiting);
            demand.released = demand.released.and(&work.released);
            demand.running = demand.running.and(&work.running);
            demand.oldest_waiting = demand.oldest_waiting.into_iter().chain(work.oldest_waiting).min();
        }
        demand
    };
    let priorities = [Priority::High, Priority::Normal, Priority::Low].map(of).into();
    let due = view.deadlines.iter().filter(|due| due.lane == *lane);
    let deadlines = due.map(|due| Due { by: due.by, load: due.load }).collect();
    LaneDemand { lane: lane.clone(), priorities, deadlines }
}

/// What ever arrived; without a row nothing did.
fn arrived(lane: &LaneName, priority: Priority, view: &ClusterView) -> Arrived {
    let found = view.arrivals.iter().find(|one| one.lane == *lane && one.priority == priority);
    found.map_or_else(Arrived::default, |row| Arrived { tasks: row.tasks, seconds: row.predicted_s })
}

/// Nodes and machines, brought together.
struct Machines<'a> {
    sight: &'a Sight<'a>,
    shown: BTreeMap<&'a NodeId, &'a Machine>,
    nodes: BTreeMap<&'a NodeId, &'a NodeView>,
}

impl<'a> Machines<'a> {
    fn new(sight: &'a Sight<'a>) -> Self {
        let machines = sight.fleet.iter().flat_map(|fleet| &fleet.machines);
        let shown = machines.map(|machine| (&machine.node, machine)).collect();
        let nodes = sight.view.nodes.iter().map(|node| (&node.id, node)).collect();
        Self { sight, shown, nodes }
    }

    fn of(&self, pool: &Pool, overrides: Vec<Override>) -> PoolState {
        let machines = self.shown.values().filter(|machine| machine.pool == pool.name);
        let views = self.nodes.values().filter(|node| node.pool.as_deref() == Some(pool.name.as_str()));
        let ids: BTreeSet<&NodeId> =
            machines.map(|machine| &machine.node).chain(views.map(|node| &node.id)).collect();
        let nodes = ids.into_iter().filter_map(|id| self.node(id, pool)).collect();
        let launches = self.sight.launches.iter().filter(|launch| launch.request.order.pool == pool.name);
        let launches = launches.filter_map(|launch| self.launch(launch)).collect();
        PoolState { name: pool.name.clone(), nodes, launches, overrides }
    }

    fn node(&self, id: &NodeId, pool: &Pool) -> Option<Node> {
        let machine = self.shown.get(id).copied();
        let view = self.nodes.get(id).copied();
        let runs = machine.is_some_and(|machine| machine.life == Life::Running);
        let state = view.map_or(Some(NodeState::Launching), state_of)?;
        let given_back = self.sight.given_back.contains_key(id);
        match &state {
            // Its machine is no more, or ends: nothing can be done about it.
            NodeState::Retiring | NodeState::Lost if !runs => return None,
            NodeState::Launching if !runs || given_back => return None,
            NodeState::Gone => return None,
            _ => {}
        }
        let ended = machine.is_some_and(|machine| machine.life != Life::Running);
        let doomed_at = self.sight.doomed.get(id).copied().or(ended.then_some(self.sight.view.at));
        let launch = self.sight.launches.iter().find(|launch| launch.nodes().contains(id));
        let offer = offer_of(pool, machine, launch);
        let billed_from = machine.map(|machine| machine.launched_at);
        let launched_at = billed_from
            .or(launch.map(|launch| launch.created_at))
            .or(view.and_then(|view| view.first_heard_at))
            .unwrap_or(self.sight.view.at);
        let busy = view.is_some_and(|view| !view.runs.is_empty() || view.held > 0);
        Some(Node {
            id: id.clone(),
            state,
            price_per_hour: offer.price_per_hour,
            slots: view.map(|view| view.slots).filter(|slots| *slots > 0).unwrap_or(offer.slots),
            offer: machine.map_or_else(|| offer.key(), |machine| machine.offer.clone()),
            launched_at,
            ready_at: view.and_then(|view| view.first_heard_at),
            idle_since: self.sight.idle_since.get(id).copied().filter(|_| !busy),
            runs: view.map(runs_of).unwrap_or_default(),
            held: view.map_or(0, |view| view.held),
            models: view.map(|view| view.models.clone()).unwrap_or_default(),
            doomed_at,
        })
    }

    /// A launch of which nodes are still to come.
    fn launch(&self, launch: &OpenLaunch) -> Option<Launch> {
        let here = |id: &NodeId| self.shown.contains_key(id) || self.nodes.contains_key(id);
        let here = match launch.outcome.nodes.as_deref() {
            Some(nodes) => nodes.iter().filter(|id| here(id)).count(),
            None => self.shown.values().filter(|machine| machine.launch == launch.id).count(),
        };
        let order = &launch.request.order;
        // Also what is known not to come: it is launched anew only after this launch is closed.
        let missing = order.count.saturating_sub(u32::try_from(here).unwrap_or(u32::MAX));
        (missing > 0).then(|| Launch {
            id: launch.id.as_str().to_owned(),
            offer: order.offer.clone(),
            price_per_hour: order.price_per_hour,
            slots: order.slots,
            missing,
            asked_at: launch.created_at,
        })
    }
}

/// What a node was rented as; the pool's first offer where that is not known.
fn offer_of(pool: &Pool, machine: Option<&Machine>, launch: Option<&OpenLaunch>) -> Offer {
    let key: Option<&OfferKey> =
        machine.map(|machine| &machine.offer).or(launch.map(|launch| &launch.request.order.offer));
    let known = key.and_then(|key| pool.offers.iter().find(|offer| offer.key() == *key));
    known.or(pool.offers.first()).cloned().unwrap_or_default()
}

fn runs_of(view: &NodeView) -> Vec<Run> {
    let run = |run: &springtide_core::api::RunView| Run {
        elapsed: std::time::Duration::try_from_secs_f64(run.elapsed_s).unwrap_or_default(),
        predicted: None,
    };
    view.runs.iter().map(run).collect()
}

/// A node's state, from its words; `None`: a word of a newer control plane.
pub fn state_of(view: &NodeView) -> Option<NodeState> {
    Some(match view.state.as_str() {
        "launching" => NodeState::Launching,
        "active" => NodeState::Active,
        "draining" => NodeState::Draining {
            until: view.drain_until.unwrap_or_default(),
            reason: view.reason.clone().unwrap_or_default(),
        },
        "empty" => NodeState::Empty { reason: view.reason.clone().unwrap_or_default() },
        "retiring" => NodeState::Retiring,
        "lost" => NodeState::Lost,
        "gone" => NodeState::Gone,
        _ => return None,
    })
}
