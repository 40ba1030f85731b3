//! Launches: an autoscaler's durable intents.

use async_trait::async_trait;
use springtide_core::Timestamp;

use super::{Transaction, Tx};
use crate::connection::{Row, json, values};
use crate::port::{Fence, LaunchRow};
use crate::{Error, Result};

fn read(mut row: Row) -> Result<LaunchRow> {
    Ok(LaunchRow {
        id: row.take()?,
        pool: row.take()?,
        body: row.json()?,
        open: row.take()?,
        created_at: row.take()?,
        changed_at: row.take()?,
    })
}

/// [`crate::Store::put_launch`].
pub(crate) struct Put {
    pub(crate) fence: Option<Fence>,
    pub(crate) launch: LaunchRow,
}

#[async_trait]
impl Transaction for Put {
    type Output = LaunchRow;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<LaunchRow> {
        if let Some(fence) = &self.fence {
            tx.fence(fence).await?;
        }
        let LaunchRow { id, pool, body, open, created_at, changed_at } = &self.launch;
        let added = tx
            .execute(
                "INSERT INTO launches (id, pool, body, is_open, created_at, changed_at) \
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING",
                &values![id, pool, json(body), *open, *created_at, *changed_at],
            )
            .await?;
        if added > 0 {
            return Ok(self.launch.clone());
        }
        let sql =
            "SELECT id, pool, body, is_open, created_at, changed_at FROM launches WHERE id = $1 FOR UPDATE";
        let found = tx.query_one(sql, &values![id]).await?;
        let stored = read(found.ok_or_else(|| Error::NotFound { kind: "launch", id: id.clone() })?)?;
        if stored.pool != *pool || stored.body.get("request") != body.get("request") {
            return Err(Error::Conflict(format!(
                "launch {id} is another request: its id can't be used again"
            )));
        }
        if !stored.open && *open {
            return Err(Error::Conflict(format!("launch {id} is closed")));
        }
        let launch = LaunchRow { created_at: stored.created_at, ..self.launch.clone() };
        tx.execute(
            "UPDATE launches SET body = $2, is_open = $3, changed_at = $4 WHERE id = $1",
            &values![id, json(body), *open, *changed_at],
        )
        .await?;
        Ok(launch)
    }
}

/// [`crate::Store::launches`].
pub(crate) struct List {
    pub(crate) closed_since: Timestamp,
}

#[async_trait]
impl Transaction for List {
    type Output = Vec<LaunchRow>;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Vec<LaunchRow>> {
        let sql = "SELECT id, pool, body, is_open, created_at, changed_at FROM launches \
            WHERE is_open = 1 OR changed_at >= $1 ORDER BY created_at, id";
        tx.query(sql, &values![self.closed_since]).await?.into_iter().map(read).collect()
    }
}
