//! The backlog as it is read: one snapshot of all counters, with the age of what waits longest.

use async_trait::async_trait;
use springtide_core::{LaneName, ModelId, Timestamp};
use std::collections::BTreeMap;

use super::ledger::job::class_of;
use super::{Transaction, Tx};
use crate::Result;
use crate::connection::values;
use crate::port::BacklogRow;

pub(super) const OLDEST: &str = "SELECT accepted_at FROM jobs WHERE class = $1 AND model = $2 AND unreleased > 0 ORDER BY accepted_at LIMIT 1";

/// [`crate::Store::backlog`].
pub(crate) struct Overview;

#[async_trait]
impl Transaction for Overview {
    type Output = Vec<BacklogRow>;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Vec<BacklogRow>> {
        let retried = oldest_with_rows(tx).await?;
        let mut rows = Vec::new();
        for (key, counters) in tx.backlog().await? {
            let class = class_of(&key);
            let waiting = counters.waiting.sum();
            let mut oldest = None;
            if waiting.count > 0 {
                let fresh = tx.query_one(OLDEST, &values![class.clone(), &key.model]).await?;
                let fresh: Option<Timestamp> = fresh.map(|mut row| row.take()).transpose()?;
                oldest = fresh.into_iter().chain(retried.get(&(class, key.model.clone())).copied()).min();
            }
            rows.push(BacklogRow {
                lane: key.lane,
                device: key.device,
                priority: key.priority,
                model: key.model,
                waiting,
                released: counters.released.sum(),
                running: counters.running.sum(),
                oldest_waiting: oldest,
            });
        }
        Ok(rows)
    }
}

/// Of tasks that were released before and wait again; there are few of them.
async fn oldest_with_rows(tx: &mut Tx<'_>) -> Result<BTreeMap<(String, ModelId), Timestamp>> {
    let rows = tx
        .query(
            "SELECT j.class, j.model, MIN(j.accepted_at) FROM tasks t JOIN jobs j ON j.id = t.job \
             WHERE t.state = 'waiting' AND t.state IN ('waiting', 'released', 'running') GROUP BY j.class, j.model",
            &[],
        )
        .await?;
    rows.into_iter().map(|mut row| Ok(((row.take()?, row.take()?), row.take()?))).collect()
}

/// [`crate::Store::model_in_use`].
pub(crate) struct ModelInUse(pub(crate) ModelId);

#[async_trait]
impl Transaction for ModelInUse {
    type Output = bool;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<bool> {
        let sql = "SELECT lane FROM backlog WHERE model = $1 AND (waiting > 0 OR released > 0 OR running > 0) LIMIT 1";
        let found: Option<LaneName> =
            tx.query_one(sql, &values![&self.0]).await?.map(|mut row| row.take()).transpose()?;
        Ok(found.is_some())
    }
}
