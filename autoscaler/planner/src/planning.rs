//! From a snapshot to a plan.

use springtide_core::Timestamp;

use crate::plan::Plan;
use crate::policy::Policy;
use crate::snapshot::Snapshot;

/// What is to be done now. Pure: the same arguments give the same plan.
pub fn plan(snapshot: &Snapshot, policy: &Policy, now: Timestamp) -> Plan {
    let _ = (policy, now);
    Plan { memory: snapshot.memory.clone(), ..Plan::default() }
}
