//! Release: waiting tasks go, by rank, into the room that the lanes have.

pub(super) mod candidates;
mod room;

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use springtide_core::{LaneName, TaskId, Timestamp};

use super::hold::{self, Entered};
use super::ledger::Ledger;
use super::messages::{expected, released_tasks};
use super::{Transaction, Tx};
use crate::Result;
use crate::connection::{set, values};
use crate::port::{Claim, Fence, ReleaseRequest, Released, ReleasedTask, WantedKey};
pub(super) use candidates::first_rank;
use candidates::{Candidate, Source};
use room::Rooms;

/// [`crate::Store::release`].
pub(crate) struct Release {
    pub(crate) fence: Fence,
    pub(crate) request: ReleaseRequest,
}

#[async_trait]
impl Transaction for Release {
    type Output = Released;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Released> {
        tx.fence(&self.fence).await?;
        let mut ledger = Ledger::new(self.request.now);
        wake(tx, &mut ledger, &self.request).await?;
        let backlog = tx.backlog().await?;
        let mut rooms = Rooms::new(&self.request.lanes, &backlog, solo_lanes(tx).await?);
        let found = candidates::find(tx, &backlog, &rooms, self.request.most).await?;
        let claims = self.request.claims.iter().map(|claim| (claim.key.as_str(), claim)).collect();
        let Chosen { choices, wanted } = choose(&mut rooms, found, self.request.most, &claims);
        let last_tokens = hold::last_tokens(tx, &wanted).await?;
        let last_token = |key: &String| last_tokens.get(key).copied().unwrap_or(0);
        let wanted = wanted.iter().map(|key| WantedKey { key: key.clone(), last_token: last_token(key) });
        let wanted = wanted.collect();
        if choices.is_empty() {
            return Ok(Released { tasks: Vec::new(), wanted });
        }
        let tasks = release(tx, ledger, choices, &claims, self.request.now).await?;
        Ok(Released { tasks, wanted })
    }
}

pub(super) const DUE: &str = "SELECT job, idx FROM tasks WHERE not_before <= $1 ORDER BY not_before LIMIT $2";
pub(super) const SOLO: &str = "SELECT lane FROM tasks WHERE solo = 1";

/// Puts tasks whose delay is over into the order of release.
async fn wake(tx: &mut Tx<'_>, ledger: &mut Ledger, request: &ReleaseRequest) -> Result<()> {
    let due = tx.query(DUE, &values![request.now, request.most]).await?;
    let mut tasks = BTreeSet::new();
    for mut row in due {
        tasks.insert(TaskId { job: row.take()?, index: row.take()? });
    }
    let jobs: BTreeSet<_> = tasks.iter().map(|task| task.job).collect();
    ledger.load_jobs(tx, jobs).await?;
    let place = |task: &TaskId| {
        let job = ledger.job(task.job)?;
        Some(set![task.job, task.index, job.class(), job.rank])
    };
    let sets: Vec<_> = tasks.iter().filter_map(place).collect();
    tx.execute_each(
        "UPDATE tasks SET not_before = NULL, class = $3, rank = $4 \
         WHERE job = $1 AND idx = $2 AND not_before IS NOT NULL",
        &sets,
    )
    .await
}

/// Lanes in which a task is to run, or runs, alone.
async fn solo_lanes(tx: &mut Tx<'_>) -> Result<BTreeSet<LaneName>> {
    let rows = tx.query(SOLO, &[]).await?;
    rows.into_iter().map(|mut row| row.take()).collect()
}

/// A task, or a number of them from a job's range, and where they go.
struct Choice {
    candidate: Candidate,
    lanes: Vec<LaneName>,
}

/// What is to be released, and keys that would let more go, into room that is kept for it.
struct Chosen {
    choices: Vec<Choice>,
    wanted: BTreeSet<String>,
}

/// The caller's claims, by key.
type Claims<'c> = BTreeMap<&'c str, &'c Claim>;

/// Gives out the room, by rank.
fn choose(rooms: &mut Rooms, candidates: Vec<Candidate>, most: u32, claims: &Claims<'_>) -> Chosen {
    let mut left = most;
    let mut keys = BTreeSet::new();
    let mut chosen = Chosen { choices: Vec::new(), wanted: BTreeSet::new() };
    for candidate in candidates {
        if candidate.exclusive_key.as_ref().is_some_and(|key| keys.contains(key)) {
            continue;
        }
        let wanted = if candidate.exclusive_key.is_some() { 1 } else { candidate.count() };
        let mut lanes = Vec::new();
        while left > 0 && u32::try_from(lanes.len()).unwrap_or(u32::MAX) < wanted {
            let Some(lane) = rooms.take(&candidate) else { break };
            lanes.push(lane);
            left -= 1;
        }
        if !lanes.is_empty() {
            keys.extend(candidate.exclusive_key.clone());
            match &candidate.exclusive_key {
                Some(key) if !claims.contains_key(key.as_str()) => {
                    chosen.wanted.insert(key.clone());
                }
                _ => chosen.choices.push(Choice { candidate, lanes }),
            }
        }
        if left == 0 {
            break;
        }
    }
    chosen
}

/// Locks the jobs of what was chosen, looks again (another replica may have cancelled), and releases it.
async fn release(
    tx: &mut Tx<'_>,
    mut ledger: Ledger,
    chosen: Vec<Choice>,
    claims: &Claims<'_>,
    now: Timestamp,
) -> Result<Vec<ReleasedTask>> {
    let jobs: BTreeSet<_> = chosen.iter().map(|choice| choice.candidate.job).collect();
    ledger.load_jobs(tx, jobs).await?;
    let rows: BTreeSet<_> = chosen.iter().filter_map(|choice| choice.candidate.row()).collect();
    ledger.load_tasks(tx, rows).await?;
    let needed = chosen.iter().filter_map(|choice| choice.candidate.exclusive_key.clone()).collect();
    let free = hold::free(tx, needed).await?;
    let mut released = Vec::new();
    let mut holds: BTreeMap<String, Entered<'_>> = BTreeMap::new();
    for Choice { candidate, lanes } in chosen {
        if candidate.exclusive_key.as_ref().is_some_and(|key| !free.contains(key)) {
            continue;
        }
        for lane in lanes {
            let task = match candidate.source {
                Source::Range { .. } => ledger.draw(candidate.job),
                Source::Row { index, .. } => ledger.task(TaskId { job: candidate.job, index }).cloned(),
            };
            // What no longer waits was cancelled in the meantime.
            let Some(Ok(task)) = task.map(|task| task.release(lane, now)) else { break };
            if let Some(key) = &candidate.exclusive_key {
                let Some(claim) = claims.get(key.as_str()) else { break };
                holds.insert(key.clone(), Entered { claim, task: task.id, attempt: task.attempt });
            }
            released.push(task.id);
            ledger.settle(tx, task)?;
        }
    }
    let keys = hold::enter(tx, &holds).await?;
    let messages = released_tasks(tx, &ledger, &released, &keys).await?;
    ledger.save(tx).await?;
    Ok(messages)
}

/// Releases the first tasks of a job that was just made, in the commit that makes it.
pub(super) async fn release_first(
    tx: &mut Tx<'_>,
    mut ledger: Ledger,
    job: springtide_core::JobId,
    lanes: impl IntoIterator<Item = LaneName>,
    now: Timestamp,
) -> Result<Vec<ReleasedTask>> {
    let mut released = Vec::new();
    for lane in lanes {
        let Some(task) = ledger.draw(job) else { break };
        let task = expected(task.release(lane, now))?;
        released.push(task.id);
        ledger.settle(tx, task)?;
    }
    let messages = released_tasks(tx, &ledger, &released, &BTreeMap::new()).await?;
    ledger.save(tx).await?;
    Ok(messages)
}
