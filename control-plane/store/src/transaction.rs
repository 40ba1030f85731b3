//! The transactions of the store, written once for both databases.
//!
//! Rows are locked in one order everywhere, so that transactions of several control planes can't deadlock:
//! lease → idempotency keys → jobs (by id) → holds (by key) → locks (by key) → backlog (by key). A job's row guards its
//! tasks: whoever changes a task holds it.

pub(crate) mod admin;
pub(crate) mod apply;
pub(crate) mod arrivals;
mod backlog;
pub(crate) mod cancel;
mod fence;
pub(crate) mod hold;
mod inputs;
pub(crate) mod jobs;
pub(crate) mod launch;
pub(crate) mod lease;
mod ledger;
pub(crate) mod lock;
mod messages;
pub(crate) mod model;
pub(crate) mod node;
pub(crate) mod overview;
#[cfg(test)]
mod plans;
pub(crate) mod reconcile;
pub(crate) mod release;
pub(crate) mod submit;
pub(crate) mod tasks;

use async_trait::async_trait;

use crate::Result;
use crate::connection::{Connection, Row, Value};
use backlog::Backlog;

/// One transaction. It may be run again after a rollback, so it changes nothing but the database.
#[async_trait]
pub(crate) trait Transaction: Send + Sync + 'static {
    /// What it tells its caller.
    type Output: Send + 'static;
    /// Runs it, between begin and commit.
    async fn run(&self, tx: &mut Tx<'_>) -> Result<Self::Output>;
    /// Its place among those that share a commit.
    fn key(&self) -> Option<(&str, &str)> {
        None
    }
}

/// A database transaction that one or more [`Transaction`]s share, and the counters that they change.
pub(crate) struct Tx<'c> {
    connection: &'c mut dyn Connection,
    backlog: Backlog,
}

impl<'c> Tx<'c> {
    /// On a connection whose transaction has begun.
    pub(crate) fn new(connection: &'c mut dyn Connection) -> Self {
        Self { connection, backlog: Backlog::default() }
    }

    /// What was run since the last call counts.
    pub(crate) fn keep(&mut self) {
        self.backlog.keep();
    }

    /// What was run since the last [`Self::keep`] is undone.
    pub(crate) fn forget(&mut self) {
        self.backlog.forget();
    }

    /// Writes the counters that changed: last, so that their rows, which all have in common, are locked shortly.
    pub(crate) async fn save_backlog(&mut self) -> Result<()> {
        let (sql, changes) = self.backlog.changes();
        if changes.is_empty() {
            return Ok(());
        }
        self.connection.execute_each(sql, &changes).await
    }

    pub(crate) async fn control(&mut self, sql: &'static str) -> Result<()> {
        self.connection.control(sql).await
    }

    async fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>> {
        self.connection.query(sql, values).await
    }

    async fn query_one(&mut self, sql: &str, values: &[Value]) -> Result<Option<Row>> {
        Ok(self.connection.query(sql, values).await?.into_iter().next())
    }

    async fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64> {
        self.connection.execute(sql, values).await
    }

    async fn query_each(&mut self, sql: &str, sets: &[Vec<Value>]) -> Result<Vec<Vec<Row>>> {
        if sets.is_empty() {
            return Ok(Vec::new());
        }
        self.connection.query_each(sql, sets).await
    }

    async fn execute_each(&mut self, sql: &str, sets: &[Vec<Value>]) -> Result<()> {
        if sets.is_empty() {
            return Ok(());
        }
        self.connection.execute_each(sql, sets).await
    }
}
