//! Every decision as one record: what was seen, what holds, what was planned and why. `explain` reads them and plans again.
//!
//! A line of JSON each, in `decisions.jsonl` of the data directory; when the file has half of its limit it becomes
//! `decisions.1.jsonl`, and the one before that goes.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use springtide_core::Timestamp;
use springtide_planner::{Memory, Outlook, Plan, Policy, Snapshot};
use tokio::io::AsyncWriteExt;

/// How long nothing new may go unrecorded: so that what was learned is not lost with the process.
const AT_LEAST_EVERY: Duration = Duration::from_mins(5);

/// A decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// When.
    pub at: Timestamp,
    /// What was to be done, and why.
    pub plan: Plan,
    /// What was seen.
    pub snapshot: Snapshot,
    /// What the operator wanted.
    pub policy: Policy,
}

impl Decision {
    /// The same decision, made again now.
    pub fn again(&self) -> Plan {
        springtide_planner::plan(&self.snapshot, &self.policy, self.at)
    }
}

/// The record of decisions.
#[derive(Debug)]
pub struct Decisions {
    dir: PathBuf,
    limit_bytes: u64,
    last: Option<(Timestamp, Vec<Standing>)>,
}

/// What makes two decisions without actions differ.
#[derive(Clone, Debug, PartialEq)]
struct Standing {
    pool: String,
    numbers: [u32; 5],
    limits: Vec<springtide_planner::Limit>,
}

fn standing(outlook: &Outlook) -> Standing {
    let Outlook { pool, active, coming, leaving, wanted, target, limits, .. } = outlook;
    Standing {
        pool: pool.clone(),
        numbers: [*active, *coming, *leaving, *wanted, *target],
        limits: limits.clone(),
    }
}

impl Decisions {
    /// In this directory.
    pub fn new(dir: PathBuf, limit_bytes: u64) -> Self {
        Self { dir, limit_bytes, last: None }
    }

    /// Whether a decision says something that the one before did not.
    fn is_news(&self, decision: &Decision) -> bool {
        let Some((at, pools)) = &self.last else { return true };
        !decision.plan.actions.is_empty()
            || decision.at.since(*at) >= AT_LEAST_EVERY
            || *pools != decision.plan.pools.iter().map(standing).collect::<Vec<_>>()
    }

    /// Keeps a decision, if it says something new.
    pub async fn keep(&mut self, decision: &Decision) -> io::Result<()> {
        if !self.is_news(decision) {
            return Ok(());
        }
        let mut line = serde_json::to_vec(decision)?;
        line.push(b'\n');
        tokio::fs::create_dir_all(&self.dir).await?;
        let path = newest(&self.dir);
        let size = tokio::fs::metadata(&path).await.map_or(0, |file| file.len());
        if size > 0 && size + line.len() as u64 > self.limit_bytes / 2 {
            tokio::fs::rename(&path, older(&self.dir)).await?;
        }
        let mut file = tokio::fs::OpenOptions::new().create(true).append(true).open(&path).await?;
        file.write_all(&line).await?;
        file.flush().await?;
        self.last = Some((decision.at, decision.plan.pools.iter().map(standing).collect()));
        Ok(())
    }
}

fn newest(dir: &Path) -> PathBuf {
    dir.join("decisions.jsonl")
}

fn older(dir: &Path) -> PathBuf {
    dir.join("decisions.1.jsonl")
}

/// The decisions that are kept, oldest first. A line that can't be read (cut off by a crash) is passed over.
pub fn read(dir: &Path) -> io::Result<Vec<Decision>> {
    let mut decisions = Vec::new();
    for path in [older(dir), newest(dir)] {
        match std::fs::read_to_string(&path) {
            Ok(text) => decisions.extend(text.lines().filter_map(|line| serde_json::from_str(line).ok())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(decisions)
}

/// What the last decision remembered; the default if there is none.
pub fn last_memory(dir: &Path) -> Memory {
    let text = std::fs::read_to_string(newest(dir)).or_else(|_| std::fs::read_to_string(older(dir)));
    let text = text.unwrap_or_default();
    let last = text.lines().rev().find_map(|line| serde_json::from_str::<Decision>(line).ok());
    last.map(|decision| decision.plan.memory).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(second: i64, wanted: u32) -> Decision {
        let outlook = Outlook {
            pool: "gpu".to_owned(),
            active: 1,
            coming: 0,
            leaving: 0,
            wanted,
            target: wanted,
            limits: Vec::new(),
            reason: "12 s of work".to_owned(),
            price_per_hour: 0.5,
        };
        Decision {
            at: Timestamp::from_micros(second * 1_000_000),
            plan: Plan { pools: vec![outlook], ..Plan::default() },
            snapshot: Snapshot::default(),
            policy: Policy::default(),
        }
    }

    #[tokio::test]
    async fn what_is_new_is_kept_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut decisions = Decisions::new(dir.path().to_owned(), 1 << 20);
        for (second, wanted) in [(1, 1), (2, 1), (3, 2), (400, 2)] {
            decisions.keep(&decision(second, wanted)).await.unwrap();
        }
        let seconds: Vec<_> =
            read(dir.path()).unwrap().iter().map(|kept| kept.at.as_micros() / 1_000_000).collect();
        assert_eq!(seconds, [1, 3, 400]);
        assert_eq!(read(dir.path()).unwrap()[1], decision(3, 2));
    }

    #[tokio::test]
    async fn the_file_is_bounded_and_a_cut_off_line_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let limit = 10_000;
        let mut decisions = Decisions::new(dir.path().to_owned(), limit);
        for second in 0..200 {
            decisions.keep(&decision(second, second as u32)).await.unwrap();
        }
        let size = |path: PathBuf| std::fs::metadata(path).unwrap().len();
        assert!(size(newest(dir.path())) + size(older(dir.path())) <= limit);
        let whole = std::fs::read_to_string(newest(dir.path())).unwrap();
        std::fs::write(newest(dir.path()), &whole[..whole.len() - 20]).unwrap();
        assert_eq!(read(dir.path()).unwrap().last().unwrap().at.as_micros(), 198_000_000);
    }
}
