//! What the loop, the HTTP endpoints and those who hear of interruptions share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use springtide_core::{NodeId, Timestamp};
use springtide_planner::Outlook;
use tokio::sync::Notify;

use crate::alerts::Book;
use crate::doomed::Doomed;
use crate::metrics::Metrics;
use crate::trouble::Troubles;

/// One for each process.
#[derive(Debug)]
pub struct Shared {
    /// What is wrong.
    pub troubles: Troubles,
    /// What Prometheus reads.
    pub metrics: Metrics,
    /// Alerts that are obeyed.
    pub alerts: Book,
    /// Machines that the provider takes back.
    pub doomed: Doomed,
    /// Has the loop look at once.
    pub wake: Notify,
    leads: AtomicBool,
    rounds: AtomicBool,
    pools: Mutex<BTreeMap<String, Outlook>>,
    /// The machines that were described last, and when; `None`: not yet.
    machines: Mutex<Option<(Timestamp, BTreeSet<NodeId>)>>,
}

impl Shared {
    /// Nothing is known yet.
    pub fn new(alerts: Book) -> Self {
        Self {
            troubles: Troubles::default(),
            metrics: Metrics::default(),
            alerts,
            doomed: Doomed::default(),
            wake: Notify::new(),
            leads: AtomicBool::new(false),
            rounds: AtomicBool::new(false),
            pools: Mutex::default(),
            machines: Mutex::default(),
        }
    }

    /// A round is over.
    pub fn set_leads(&self, leads: bool) {
        self.leads.store(leads, Ordering::Relaxed);
        self.rounds.store(true, Ordering::Relaxed);
        self.metrics.leader.set(i64::from(leads));
    }

    /// Whether this process acts; `None`: it has not been able to find out.
    pub fn leads(&self) -> Option<bool> {
        self.rounds.load(Ordering::Relaxed).then(|| self.leads.load(Ordering::Relaxed))
    }

    /// These are this cluster's machines.
    pub fn set_machines(&self, at: Timestamp, nodes: BTreeSet<NodeId>) {
        *self.machines.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, nodes));
    }

    /// Whether a machine is this cluster's, which by `shown_by` would be shown; `None`: that is not known yet.
    pub fn is_ours(&self, node: &NodeId, shown_by: Timestamp) -> Option<bool> {
        let machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, nodes) = machines.as_ref()?;
        if nodes.contains(node) { Some(true) } else { (*at >= shown_by).then_some(false) }
    }

    /// How the pools stand now.
    pub fn set_pools(&self, outlooks: &[Outlook]) {
        let pools = outlooks.iter().map(|outlook| (outlook.pool.clone(), outlook.clone())).collect();
        *self.pools.lock().unwrap_or_else(PoisonError::into_inner) = pools;
    }

    /// How the pools stood when they were planned for last.
    pub fn pools(&self) -> BTreeMap<String, Outlook> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
