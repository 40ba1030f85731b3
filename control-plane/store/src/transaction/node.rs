//! Nodes: what was heard of them, and what they are told to become.

use std::collections::BTreeMap;

use async_trait::async_trait;
use springtide_core::node::{NodeEvent, NodeState};
use springtide_core::{NodeId, Timestamp};

use super::{Transaction, Tx};
use crate::connection::{Row, json, set, values};
use crate::port::{Fence, NodeRow, NodeSighting};
use crate::{Error, Result};

const LOAD: &str = "SELECT id, incarnation, detail, lane, pool, slots, first_seen, changed_at FROM nodes \
    WHERE id = $1 FOR UPDATE";

const LIST: &str = "SELECT id, incarnation, detail, lane, pool, slots, first_seen, changed_at FROM nodes \
    WHERE state <> 'gone' OR changed_at >= $1 ORDER BY id";

const SAVE: &str = "INSERT INTO nodes (id, incarnation, state, detail, lane, pool, slots, first_seen, changed_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO UPDATE SET incarnation = excluded.incarnation, \
    state = excluded.state, detail = excluded.detail, lane = excluded.lane, pool = excluded.pool, \
    slots = excluded.slots, changed_at = excluded.changed_at";

fn read(mut row: Row) -> Result<NodeRow> {
    Ok(NodeRow {
        id: row.take()?,
        incarnation: row.take()?,
        state: row.json()?,
        lane: row.take()?,
        pool: row.take()?,
        slots: row.take()?,
        first_seen: row.take()?,
        changed_at: row.take()?,
    })
}

async fn save(tx: &mut Tx<'_>, node: &NodeRow) -> Result<()> {
    let row = set![
        &node.id,
        node.incarnation,
        node.state.as_str(),
        json(&node.state),
        &node.lane,
        node.pool.as_ref(),
        node.slots,
        node.first_seen,
        node.changed_at,
    ];
    tx.execute(SAVE, &row).await.map(drop)
}

/// [`crate::Store::sight_nodes`].
pub(crate) struct Sight {
    pub(crate) fence: Fence,
    pub(crate) seen: Vec<NodeSighting>,
    pub(crate) now: Timestamp,
}

#[async_trait]
impl Transaction for Sight {
    type Output = Vec<NodeRow>;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Vec<NodeRow>> {
        tx.fence(&self.fence).await?;
        let mut nodes: BTreeMap<NodeId, NodeRow> = BTreeMap::new();
        let mut ids: Vec<_> = self.seen.iter().map(|sighting| &sighting.id).collect();
        ids.sort_unstable();
        ids.dedup();
        let sets: Vec<_> = ids.into_iter().map(|id| set![id]).collect();
        for row in tx.query_each(LOAD, &sets).await?.into_iter().flatten() {
            let node = read(row)?;
            nodes.insert(node.id.clone(), node);
        }
        for sighting in &self.seen {
            let known = nodes.remove(&sighting.id);
            let node = self.after(known.clone(), sighting)?;
            if known.as_ref() != Some(&node) {
                save(tx, &node).await?;
            }
            nodes.insert(node.id.clone(), node);
        }
        Ok(nodes.into_values().collect())
    }
}

impl Sight {
    fn after(&self, known: Option<NodeRow>, sighting: &NodeSighting) -> Result<NodeRow> {
        let fresh = || NodeRow {
            id: sighting.id.clone(),
            incarnation: None,
            state: NodeState::Launching,
            lane: sighting.lane.clone(),
            pool: sighting.pool.clone(),
            slots: sighting.slots,
            first_seen: self.now,
            changed_at: self.now,
        };
        let before = known.unwrap_or_else(fresh);
        let of_an_earlier_start = before.incarnation.is_some_and(|current| current > sighting.incarnation);
        if sighting.leaving && of_an_earlier_start {
            // The last words of a start that has a successor already.
            return Ok(before);
        }
        let event = match (sighting.leaving, sighting.empty) {
            (true, _) => NodeEvent::Ended,
            (false, true) => NodeEvent::HeardEmpty,
            (false, false) => NodeEvent::Heard,
        };
        let state = before.state.clone().after(event).map_err(|error| Error::Conflict(error.to_string()))?;
        let mut after = NodeRow {
            state,
            incarnation: Some(sighting.incarnation),
            lane: sighting.lane.clone(),
            pool: sighting.pool.clone(),
            slots: sighting.slots,
            ..before.clone()
        };
        if after != before {
            after.changed_at = self.now;
        }
        Ok(after)
    }
}

/// [`crate::Store::expect_node`].
pub(crate) struct Expect {
    pub(crate) fence: Fence,
    pub(crate) node: NodeRow,
}

#[async_trait]
impl Transaction for Expect {
    type Output = ();

    async fn run(&self, tx: &mut Tx<'_>) -> Result<()> {
        tx.fence(&self.fence).await?;
        if tx.query_one(LOAD, &values![&self.node.id]).await?.is_none() {
            save(tx, &self.node).await?;
        }
        Ok(())
    }
}

/// [`crate::Store::change_node`].
pub(crate) struct Change {
    pub(crate) node: NodeId,
    pub(crate) event: NodeEvent,
    pub(crate) fence: Option<Fence>,
    pub(crate) now: Timestamp,
}

#[async_trait]
impl Transaction for Change {
    type Output = NodeRow;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<NodeRow> {
        match (&self.fence, &self.event) {
            (Some(fence), _) => tx.fence(fence).await?,
            (None, NodeEvent::Retire | NodeEvent::Silent) => {
                return Err(Error::Conflict(
                    "only who holds the lease may say that a node is lost or retires".to_owned(),
                ));
            }
            (None, _) => {}
        }
        let found = tx.query_one(LOAD, &values![&self.node]).await?;
        let before = read(found.ok_or_else(|| Error::NotFound { kind: "node", id: self.node.to_string() })?)?;
        let state = before
            .state
            .clone()
            .after(self.event.clone())
            .map_err(|error| Error::Conflict(error.to_string()))?;
        if state == before.state {
            return Ok(before);
        }
        let after = NodeRow { state, changed_at: self.now, ..before };
        save(tx, &after).await?;
        Ok(after)
    }
}

/// [`crate::Store::nodes`].
pub(crate) struct ListNodes {
    pub(crate) gone_since: Timestamp,
}

#[async_trait]
impl Transaction for ListNodes {
    type Output = Vec<NodeRow>;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Vec<NodeRow>> {
        tx.query(LIST, &values![self.gone_since]).await?.into_iter().map(read).collect()
    }
}
