//! Keeps the keys of exclusive tasks: takes them from their guard for the releaser, renews them while their tasks are in
//! flight or may still be running somewhere, and gives them back.
//!
//! Who may run is agreed without common clocks. A node counts its lease from a heartbeat that it has said itself, and
//! that the leader has answered ([`KeyLease`]); the leader counts from when it heard the node's last heartbeat, which is
//! later. So a node that is cut off has stopped its exclusive runs before their keys are free.

mod judge;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use springtide_core::NodeId;
use springtide_core::task::Loss;
use springtide_core::wire::KeyLease;
use springtide_store::port::{
    Claim, Error, Fence, Hold, HoldChange, HoldState, Holds, ReconcileAction, Result, StopRun, WantedKey,
};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use super::comparison::correct;
use super::pace::Pace;
use crate::app::App;
use crate::locks::LocksError;
use crate::registry::Seen;
use judge::{Limits, Memory};

/// How often in a lease the keys are looked after.
const LOOKS: u32 = 6;
/// The longest pause between two looks.
const PAUSE: Duration = Duration::from_secs(5);
/// The least: keys that are free by then are given back together.
const GAP: Duration = Duration::from_millis(5);

/// What the rest of the control plane needs to know of the keys.
#[derive(Debug)]
pub struct Keys {
    nudged: Notify,
    trouble: watch::Sender<Option<String>>,
}

impl Default for Keys {
    fn default() -> Self {
        Self { nudged: Notify::new(), trouble: watch::Sender::new(None) }
    }
}

impl Keys {
    /// A key can be given back now.
    pub fn nudge(&self) {
        self.nudged.notify_one();
    }

    /// Why exclusive tasks wait, if it is for their guard.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    /// Whether the guard could be asked.
    fn note(&self, trouble: Option<&LocksError>) {
        let trouble = trouble.map(ToString::to_string);
        self.trouble.send_if_modified(|present| {
            if let Some(trouble) = trouble.as_ref().filter(|_| present.is_none()) {
                tracing::warn!(trouble, "exclusive tasks wait");
            }
            let changed = *present != trouble;
            *present = trouble;
            changed
        });
    }
}

/// Takes keys that tasks wait for. Those that can't be had are not asked for again until the next look: others get their
/// room meanwhile.
pub(super) async fn claim(app: &App, fence: &Fence, wanted: Vec<WantedKey>) -> Result<Vec<Claim>> {
    let owner = || format!("springtide:{:032x}", app.random.id_bits());
    let ask = |wanted: WantedKey| Claim { key: wanted.key, owner: owner(), token: wanted.last_token };
    let mut claims: Vec<_> = wanted.into_iter().map(ask).collect();
    let answers = app.parts.locks.take(&claims, app.config.exclusive_lease()).await;
    let tokens = match answers {
        Ok(tokens) => {
            app.keys.note(None);
            tokens
        }
        Err(error) => {
            app.keys.note(Some(&error));
            vec![None; claims.len()]
        }
    };
    let mut foreign = Vec::new();
    let mut tokens = tokens.into_iter();
    claims.retain_mut(|claim| {
        if let Some(token) = tokens.next().flatten() {
            claim.token = token;
            return true;
        }
        foreign.push(HoldChange::Foreign { key: std::mem::take(&mut claim.key) });
        false
    });
    if !foreign.is_empty() {
        tracing::debug!(keys = foreign.len(), "exclusive keys that can't be had now");
        app.store.change_holds(fence, &foreign).await?;
    }
    Ok(claims)
}

/// Gives keys back that were taken for nothing.
pub(super) async fn give_back(app: &App, claims: Vec<Claim>) {
    if claims.is_empty() {
        return;
    }
    if let Err(error) = app.parts.locks.let_go(&claims).await {
        tracing::debug!(%error, "keys that nobody needs are free when their lease is over");
    }
}

/// Looks after the keys until the term ends.
pub async fn run(app: Arc<App>, fence: Fence) {
    let mut memory = Memory::default();
    let every = (app.config.exclusive_lease() / LOOKS).min(PAUSE);
    let mut pace = Pace::new(GAP);
    loop {
        pace.rest().await;
        pace.begin();
        let looked = async {
            let holds = app.store.holds().await?;
            look(&app, &fence, holds, &mut memory).await
        };
        match looked.await {
            Ok(()) => {}
            Err(error @ Error::Fenced { .. }) => tracing::debug!(%error, "keys are left to the new leader"),
            Err(error) => tracing::warn!(%error, "keys are not looked after"),
        }
        let _ = timeout(every, app.keys.nudged.notified()).await;
    }
}

async fn look(app: &App, fence: &Fence, holds: Holds, memory: &mut Memory) -> Result<()> {
    // Before the keys are renewed: what a node is promised for a heartbeat is covered by a renewal after it.
    let seen = app.registry.all();
    let now = Instant::now();
    memory.keep(&holds.held, &seen, now);
    retry(app, fence, &holds).await?;
    let (over, held): (Vec<_>, Vec<_>) =
        holds.held.into_iter().partition(|hold| hold.state == HoldState::Over);
    forget(app, fence, &over).await?;
    let kept = renew(app, &held, memory).await;
    let lost: Vec<&Hold> = held
        .iter()
        .filter(|hold| memory.is_lost(hold, Instant::now(), app.config.exclusive_lease()))
        .collect();
    give_up(app, fence, &lost).await?;
    let limits = Limits {
        lease: app.config.exclusive_lease(),
        in_queue: app.config.release_ttl + app.config.confirm_timeout,
        interval: app.config.heartbeat_interval,
        deaf_until: now + app.config.exclusive_lease().saturating_sub(app.registry.hears_for()),
    };
    let ended: Vec<_> =
        held.iter().filter(|hold| memory.is_over(hold, &seen, now, &limits)).map(end).collect();
    if !ended.is_empty() {
        app.store.change_holds(fence, &ended).await?;
        app.keys.nudge();
    }
    promise(app, &kept, &seen).await
}

fn end(hold: &Hold) -> HoldChange {
    HoldChange::End { key: hold.claim.key.clone(), token: hold.claim.token, task: hold.task }
}

/// Other programs may have given keys back.
async fn retry(app: &App, fence: &Fence, holds: &Holds) -> Result<()> {
    if holds.foreign.is_empty() {
        return Ok(());
    }
    let changes: Vec<_> = holds.foreign.iter().map(|key| HoldChange::Retry { key: key.clone() }).collect();
    app.store.change_holds(fence, &changes).await?;
    app.publisher.nudge();
    Ok(())
}

/// Gives back the keys of runs that are over, and then forgets the holds: a crash between finds them again.
async fn forget(app: &App, fence: &Fence, over: &[Hold]) -> Result<()> {
    if over.is_empty() {
        return Ok(());
    }
    let claims: Vec<_> = over.iter().map(|hold| hold.claim.clone()).collect();
    if let Err(error) = app.parts.locks.let_go(&claims).await {
        app.keys.note(Some(&error));
        return Ok(());
    }
    let forget = |claim: Claim| HoldChange::Forget { key: claim.key, token: claim.token };
    let changes: Vec<_> = claims.into_iter().map(forget).collect();
    app.store.change_holds(fence, &changes).await?;
    app.publisher.nudge();
    Ok(())
}

/// Renews keys; those that are kept.
async fn renew<'h>(app: &App, held: &'h [Hold], memory: &mut Memory) -> Vec<&'h Hold> {
    if held.is_empty() {
        return Vec::new();
    }
    let asked = Instant::now();
    let claims: Vec<_> = held.iter().map(|hold| hold.claim.clone()).collect();
    match app.parts.locks.renew(&claims, app.config.exclusive_lease()).await {
        Ok(answers) => {
            app.keys.note(None);
            let mut kept = Vec::new();
            for (hold, renewed) in held.iter().zip(answers) {
                memory.renewed(hold, renewed.then_some(asked));
                kept.extend(renewed.then_some(hold));
            }
            kept
        }
        Err(error) => {
            app.keys.note(Some(&error));
            Vec::new()
        }
    }
}

/// Stops the runs of tasks whose keys are lost, or can't be kept: another program may have them.
async fn give_up(app: &App, fence: &Fence, lost: &[&Hold]) -> Result<()> {
    if lost.is_empty() {
        return Ok(());
    }
    let evict = |hold: &&&Hold| ReconcileAction::Evict {
        task: hold.task,
        attempt: hold.attempt,
        loss: Loss::Explained,
        message: format!("its exclusive key `{}` was lost to another program", hold.claim.key),
    };
    let evictions: Vec<_> = lost.iter().filter(|hold| hold.in_flight).map(|hold| evict(&hold)).collect();
    correct(app, fence, &evictions).await?;
    let ended: Vec<_> = lost.iter().map(|hold| end(hold)).collect();
    app.store.change_holds(fence, &ended).await?;
    app.keys.nudge();
    // The comparison would find these runs as well, a little later.
    let tasks: HashSet<_> = lost.iter().map(|hold| hold.task).collect();
    let mut runs = Vec::new();
    for Seen { heartbeat, .. } in app.registry.all() {
        let unwanted = heartbeat.runs.iter().filter(|run| tasks.contains(&run.task)).map(|run| run.run);
        let stop = |run| StopRun { node: heartbeat.node.clone(), incarnation: heartbeat.incarnation, run };
        runs.extend(unwanted.map(stop));
    }
    app.stopping.stop(runs, app.now());
    Ok(())
}

/// Tells nodes that the keys of what they have are kept.
async fn promise(app: &App, kept: &[&Hold], seen: &[Seen]) -> Result<()> {
    let kept: HashSet<_> =
        kept.iter().filter(|hold| hold.in_flight).map(|hold| (hold.task, hold.attempt)).collect();
    if kept.is_empty() {
        return Ok(());
    }
    let mut leases: BTreeMap<&NodeId, Vec<KeyLease>> = BTreeMap::new();
    for Seen { heartbeat, .. } in seen {
        let runs = heartbeat.runs.iter().map(|run| (run.task, run.attempt));
        let has = heartbeat.held.iter().copied().chain(runs).filter(|has| kept.contains(has));
        let lease = |(task, attempt)| KeyLease { task, attempt, heartbeat: heartbeat.sequence };
        leases.entry(&heartbeat.node).or_default().extend(has.map(lease));
    }
    leases.retain(|_, leases| !leases.is_empty());
    if leases.is_empty() {
        return Ok(());
    }
    for row in app.store.nodes(app.now()).await? {
        if let Some(leases) = leases.remove(&row.id) {
            app.tell_node_of_keys(&row, leases).await;
        }
    }
    Ok(())
}
