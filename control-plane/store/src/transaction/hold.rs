//! Which task has which exclusive key.
//!
//! A hold is made with the release of its task, in one commit. It does not end with the task's time in flight: a node
//! that was cut off may still run the task. It ends when the run itself says that it is over, or when the leader knows
//! that nobody can be running it ([`HoldChange::End`]).

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use springtide_core::task::Task;
use springtide_core::wire::{ReturnReason, TaskEvent, TaskEventKind};
use springtide_core::{RunId, TaskId, Timestamp};

use super::ledger::{Ledger, is_in_flight};
use super::{Transaction, Tx};
use crate::connection::{Row, set, text, values};
use crate::port::{Claim, Fence, Hold, HoldChange, HoldState, Holds};
use crate::{Error, Result};

/// The holds that events have changed, by key.
pub(super) type Changed = BTreeMap<String, (TaskId, HoldState)>;

/// What an event says about its task's hold; `run`: the task's run that is known.
pub(super) fn said_by(event: &TaskEvent, task: &Task, run: Option<RunId>) -> Option<HoldState> {
    if event.attempt != task.attempt {
        return None;
    }
    // Unread, and given to someone before: who that was may be running it.
    let doubtful =
        matches!(event.kind, TaskEventKind::Returned { reason: ReturnReason::Redelivered, run: None, .. });
    if doubtful || matches!(event.kind, TaskEventKind::Started { .. }) {
        return Some(HoldState::Taken);
    }
    match (&event.kind, event.kind.run()) {
        (TaskEventKind::Checkpointed { .. }, _) => None,
        // Another run of the same publication is not the one that has the key.
        (_, Some(ended)) => run.is_none_or(|known| known == ended).then_some(HoldState::Over),
        (_, None) => run.is_none().then_some(HoldState::Over),
    }
}

/// Writes what events said.
pub(super) async fn save(tx: &mut Tx<'_>, changed: Changed) -> Result<()> {
    let sets: Vec<_> = changed
        .into_iter()
        .map(|(key, (task, state))| set![key, task.job, task.index, state.as_str()])
        .collect();
    tx.execute_each(
        "UPDATE holds SET state = $4 WHERE name = $1 AND job = $2 AND idx = $3 AND state IN ('queued', 'taken')",
        &sets,
    )
    .await
}

/// Which of these keys nobody has. The rows of the others stay locked, in the order of the keys.
pub(super) async fn free(tx: &mut Tx<'_>, mut keys: BTreeSet<String>) -> Result<BTreeSet<String>> {
    let sets: Vec<_> = keys.iter().map(|key| set![key]).collect();
    let held = tx.query_each("SELECT name FROM holds WHERE name = $1 FOR UPDATE", &sets).await?;
    for mut row in held.into_iter().flatten() {
        keys.remove(&row.take::<String>()?);
    }
    Ok(keys)
}

/// A hold that begins.
pub(super) struct Entered<'c> {
    pub(super) claim: &'c Claim,
    pub(super) task: TaskId,
    pub(super) attempt: u32,
}

/// Enters the holds of tasks that are released, each with the claim on its key; the claims by task.
pub(super) async fn enter(
    tx: &mut Tx<'_>,
    holds: &BTreeMap<String, Entered<'_>>,
) -> Result<BTreeMap<TaskId, Claim>> {
    let row = |entered: &Entered<'_>| {
        let Entered { claim, task, attempt } = entered;
        set![
            &claim.key,
            task.job,
            task.index,
            *attempt,
            &claim.owner,
            claim.token,
            HoldState::Queued.as_str()
        ]
    };
    let rows: Vec<_> = holds.values().map(row).collect();
    tx.execute_each(
        "INSERT INTO holds (name, job, idx, attempt, owner, token, state) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        &rows,
    )
    .await?;
    // Remembered here as well: a guard that lost its memory goes on from it.
    let counters: Vec<_> =
        holds.values().map(|entered| set![&entered.claim.key, entered.claim.token]).collect();
    tx.execute_each(
        "INSERT INTO locks (name, counter) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET counter = excluded.counter \
         WHERE locks.counter < excluded.counter",
        &counters,
    )
    .await?;
    Ok(holds.values().map(|entered| (entered.task, entered.claim.clone())).collect())
}

/// The largest token that was seen of each key.
pub(super) async fn last_tokens(tx: &mut Tx<'_>, keys: &BTreeSet<String>) -> Result<BTreeMap<String, u64>> {
    let sets: Vec<_> = keys.iter().map(|key| set![key]).collect();
    let rows = tx.query_each("SELECT name, counter FROM locks WHERE name = $1", &sets).await?;
    rows.into_iter().flatten().map(|mut row| Ok((row.take()?, row.take()?))).collect()
}

/// The state of a hold of another program.
const FOREIGN: &str = "foreign";

/// [`crate::Store::holds`].
pub(crate) struct AllHolds;

const HOLDS: &str = "SELECT h.state, h.name, h.owner, h.token, h.job, h.idx, h.attempt, t.attempt, t.state, \
    t.node, t.incarnation FROM holds h LEFT JOIN tasks t ON t.job = h.job AND t.idx = h.idx ORDER BY h.name";

#[async_trait]
impl Transaction for AllHolds {
    type Output = Holds;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Holds> {
        let mut holds = Holds::default();
        for mut row in tx.query(HOLDS, &[]).await? {
            let state: String = row.take()?;
            match HoldState::from_name(&state) {
                Some(state) => holds.held.push(read(row, state)?),
                None if state == FOREIGN => holds.foreign.push(row.take()?),
                None => return Err(Error::Broken(format!("`{state}` is no state of a hold"))),
            }
        }
        Ok(holds)
    }
}

fn read(mut row: Row, state: HoldState) -> Result<Hold> {
    let claim = Claim { key: row.take()?, owner: row.take()?, token: row.take()? };
    let task = TaskId { job: row.take()?, index: row.take()? };
    let attempt: u32 = row.take()?;
    let current = row.take::<Option<u32>>()? == Some(attempt);
    let flies = matches!(row.take::<Option<String>>()?.as_deref(), Some("released" | "running"));
    let node = row.take::<Option<_>>()?.zip(row.take::<Option<_>>()?);
    Ok(Hold { claim, task, attempt, state, in_flight: current && flies, node: node.filter(|_| current) })
}

/// [`crate::Store::change_holds`].
pub(crate) struct ChangeHolds {
    pub(crate) fence: Fence,
    pub(crate) changes: Vec<HoldChange>,
}

#[async_trait]
impl Transaction for ChangeHolds {
    type Output = ();

    async fn run(&self, tx: &mut Tx<'_>) -> Result<()> {
        tx.fence(&self.fence).await?;
        // The order of the rows' locks: jobs first, then holds by key.
        let mut ledger = Ledger::new(Timestamp::default());
        let tasks: BTreeSet<_> = self.changes.iter().filter_map(target).collect();
        let jobs: BTreeSet<_> = tasks.iter().map(|task| task.job).collect();
        ledger.load_jobs(tx, jobs).await?;
        ledger.load_tasks(tx, tasks).await?;
        let mut changes: Vec<_> = self.changes.iter().collect();
        changes.sort_by_key(|change| key_of(change));
        for change in changes {
            match change {
                HoldChange::End { key, token, task } => {
                    if ledger.task(*task).is_some_and(|task| is_in_flight(&task.state)) {
                        continue;
                    }
                    let sql = "UPDATE holds SET state = 'over' WHERE name = $1 AND token = $2 AND state <> 'foreign'";
                    tx.execute(sql, &values![key, *token]).await?;
                }
                HoldChange::Forget { key, token } => {
                    let sql = "DELETE FROM holds WHERE name = $1 AND token = $2 AND state = 'over'";
                    tx.execute(sql, &values![key, *token]).await?;
                }
                HoldChange::Foreign { key } => {
                    let sql = "INSERT INTO holds (name, job, idx, attempt, owner, token, state) \
                        VALUES ($1, '', 0, 0, '', 0, 'foreign') ON CONFLICT (name) DO NOTHING";
                    tx.execute(sql, &[text(key)]).await?;
                }
                HoldChange::Retry { key } => {
                    let sql = "DELETE FROM holds WHERE name = $1 AND state = 'foreign'";
                    tx.execute(sql, &[text(key)]).await?;
                }
            }
        }
        Ok(())
    }
}

const fn target(change: &HoldChange) -> Option<TaskId> {
    match change {
        HoldChange::End { task, .. } => Some(*task),
        _ => None,
    }
}

fn key_of(change: &HoldChange) -> &str {
    match change {
        HoldChange::End { key, .. }
        | HoldChange::Forget { key, .. }
        | HoldChange::Foreign { key }
        | HoldChange::Retry { key } => key,
    }
}
