//! What could be released: ranges of jobs and tasks with rows, found by index in each class that waits and has room,
//! merged by rank.

use std::collections::{BTreeMap, BTreeSet};

use springtide_core::lane::Resources;
use springtide_core::{JobId, Priority, TaskId, Timestamp};

use super::room::Rooms;
use crate::Result;
use crate::connection::{Row, values};
use crate::transaction::Tx;
use crate::transaction::backlog::{Counters, Key};
use crate::transaction::ledger::job::class_of;

/// A task, or a job's range of tasks.
pub(super) struct Candidate {
    rank: Timestamp,
    pub(super) job: JobId,
    pub(super) source: Source,
    pub(super) priority: Priority,
    pub(super) resources: Resources,
    pub(super) exclusive_key: Option<String>,
}

/// Where its tasks are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// In a row of its own. Before its job's range: it has waited longer.
    Row { index: u32, suspect: bool },
    /// In the job's range.
    Range { count: u32 },
}

impl Candidate {
    /// How many tasks it stands for.
    pub(super) const fn count(&self) -> u32 {
        match self.source {
            Source::Row { .. } => 1,
            Source::Range { count } => count,
        }
    }

    /// Whether it has to run alone.
    pub(super) const fn is_suspect(&self) -> bool {
        matches!(self.source, Source::Row { suspect: true, .. })
    }

    /// The task whose row it is.
    pub(super) fn row(&self) -> Option<TaskId> {
        match self.source {
            Source::Row { index, .. } => Some(TaskId { job: self.job, index }),
            Source::Range { .. } => None,
        }
    }
}

pub(in crate::transaction) const RANGES: &str = "SELECT id, rank, gpu_memory_bytes, exclusive_key, unreleased FROM jobs \
    WHERE class = $1 AND unreleased > 0 AND exclusive_key IS NULL AND gpu_memory_bytes <= $2 ORDER BY rank, id LIMIT $3";

pub(in crate::transaction) const EXCLUSIVE_RANGES: &str = "SELECT id, rank, gpu_memory_bytes, exclusive_key, unreleased FROM jobs \
    WHERE class = $1 AND unreleased > 0 AND exclusive_key IS NOT NULL AND gpu_memory_bytes <= $2 \
    AND NOT EXISTS (SELECT 1 FROM holds WHERE name = exclusive_key) \
    ORDER BY rank, id LIMIT $3";

pub(in crate::transaction) const ROWS: &str = "SELECT t.job, t.rank, j.gpu_memory_bytes, j.exclusive_key, t.idx FROM tasks t \
    JOIN jobs j ON j.id = t.job WHERE t.class = $1 AND t.suspect = $4 AND j.gpu_memory_bytes <= $2 \
    AND NOT EXISTS (SELECT 1 FROM holds WHERE name = j.exclusive_key) \
    ORDER BY t.rank, t.job, t.idx LIMIT $3";

/// The candidates of all classes, by rank. From each class at least as many as could be released of it.
pub(super) async fn find(
    tx: &mut Tx<'_>,
    backlog: &BTreeMap<Key, Counters>,
    rooms: &Rooms,
    most: u32,
) -> Result<Vec<Candidate>> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for (key, _) in backlog.iter().filter(|(_, counters)| counters.waiting.count() > 0) {
        let class = class_of(key);
        let Some((count, memory)) = rooms.for_class(key) else { continue };
        if !seen.insert(class.clone()) {
            continue;
        }
        let limit = count.min(i64::from(most));
        let read = |row: Row, suspect: Option<bool>| read(row, key, suspect);
        for sql in [RANGES, EXCLUSIVE_RANGES] {
            for row in tx.query(sql, &values![class.clone(), memory, limit]).await? {
                found.push(read(row, None)?);
            }
        }
        for row in tx.query(ROWS, &values![class.clone(), memory, limit, false]).await? {
            found.push(read(row, Some(false))?);
        }
        let suspects = rooms.without_solo() as u64;
        if suspects > 0 {
            for row in tx.query(ROWS, &values![class, memory, suspects, true]).await? {
                found.push(read(row, Some(true))?);
            }
        }
    }
    found.sort_by_key(|candidate| (candidate.rank, candidate.job, candidate.source));
    Ok(found)
}

fn read(mut row: Row, key: &Key, suspect: Option<bool>) -> Result<Candidate> {
    let job = row.take()?;
    let rank = row.take()?;
    let resources = Resources { device: key.device, gpu_memory_bytes: row.take()? };
    let exclusive_key = row.take()?;
    let number: u32 = row.take()?;
    let source = match suspect {
        Some(suspect) => Source::Row { index: number, suspect },
        None => Source::Range { count: number },
    };
    Ok(Candidate { rank, job, source, priority: key.priority, resources, exclusive_key })
}

pub(in crate::transaction) const FIRST_RANKS: [&str; 2] = [
    "SELECT rank FROM jobs WHERE class = $1 AND unreleased > 0 AND exclusive_key IS NULL ORDER BY rank LIMIT 1",
    "SELECT rank FROM tasks WHERE class = $1 AND suspect = 0 ORDER BY rank LIMIT 1",
];

/// The smallest rank of a class that waits and is held up by nothing but room.
pub(in crate::transaction) async fn first_rank(tx: &mut Tx<'_>, class: &str) -> Result<Option<Timestamp>> {
    let mut first = None;
    for sql in FIRST_RANKS {
        if let Some(mut row) = tx.query_one(sql, &values![class.to_owned()]).await? {
            let rank: Timestamp = row.take()?;
            first = Some(first.map_or(rank, |earlier: Timestamp| earlier.min(rank)));
        }
    }
    Ok(first)
}
