//! What is to be expected, as it is read: all that ever arrived, as counters, and what is due by a moment.

use async_trait::async_trait;

use super::backlog::{device_request_of, priority_of};
use super::{Transaction, Tx};
use crate::Result;
use crate::connection::{Row, values};
use crate::port::{ArrivalsRow, DueRow, Sum};

/// [`crate::Store::arrivals`].
pub(crate) struct Arrivals;

#[async_trait]
impl Transaction for Arrivals {
    type Output = Vec<ArrivalsRow>;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Vec<ArrivalsRow>> {
        // A row for each model that was ever used: some hundreds.
        let sql = "SELECT lane, priority, CAST(SUM(arrived) AS BIGINT), SUM(arrived_seconds) FROM backlog \
            GROUP BY lane, priority ORDER BY lane, priority";
        let row = |mut row: Row| {
            Ok(ArrivalsRow {
                lane: row.take()?,
                priority: priority_of(row.take()?)?,
                tasks: row.take()?,
                seconds: row.take()?,
            })
        };
        tx.query(sql, &[]).await?.into_iter().map(row).collect()
    }
}

/// Above 0 is where all of them are; said so, SQLite looks them up in their index.
pub(super) const DUE_JOBS: &str = "SELECT deadline, lane, device, model, units, \
    total - running - succeeded - failed - cancelled FROM jobs \
    WHERE deadline > 0 AND finished_at IS NULL ORDER BY deadline LIMIT $1";

/// [`crate::Store::due`].
pub(crate) struct Due {
    pub(crate) most: u32,
}

#[async_trait]
impl Transaction for Due {
    type Output = Vec<DueRow>;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Vec<DueRow>> {
        let mut due = Vec::new();
        for mut row in tx.query(DUE_JOBS, &values![self.most]).await? {
            let (by, lane) = (row.take()?, row.take()?);
            let (device, model) = (device_request_of(&row.take::<String>()?)?, row.take()?);
            let (units, count): (f64, u64) = (row.take()?, row.take()?);
            if count == 0 {
                continue;
            }
            due.push(DueRow { by, lane, device, model, load: Sum::of(count, units) });
        }
        Ok(due)
    }
}
