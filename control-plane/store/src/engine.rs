//! What runs transactions: SQLite in a file, SQLite in memory, PostgreSQL.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;

use crate::Result;
use crate::connection::Connection;
use crate::port::Commit;
use crate::transaction::{Transaction, Tx};

/// Runs transactions.
#[async_trait]
pub(crate) trait Engine: Send + Sync + 'static {
    /// Runs and commits it; returns when it is durable.
    async fn write<T: Transaction>(&self, transaction: T) -> Result<T::Output>;
    /// The same, sharing a commit with others that come at the same time.
    async fn write_in_group<T: Transaction>(&self, transaction: T) -> Result<T::Output> {
        self.write(transaction).await
    }
    /// Runs it on one snapshot.
    async fn read<T: Transaction>(&self, transaction: T) -> Result<T::Output>;
    /// The commits since the last call.
    fn take_commits(&self) -> Vec<Commit>;
}

/// Runs a transaction that only reads, after its begin, and ends it.
pub(crate) async fn read<T: Transaction>(
    connection: &mut dyn Connection,
    transaction: &T,
) -> Result<T::Output> {
    let outcome = transaction.run(&mut Tx::new(connection)).await;
    connection.rollback().await;
    outcome
}

/// The latest commits, for metrics. Bounded: where nobody takes them, the newest are not kept.
#[derive(Debug, Default)]
pub(crate) struct CommitLog(Mutex<Vec<Commit>>);

impl CommitLog {
    const CAP: usize = 4096;

    /// The beginning of a commit.
    #[expect(
        clippy::disallowed_methods,
        reason = "the writer's thread runs outside tokio, and measures itself only"
    )]
    pub(crate) fn start() -> Instant {
        Instant::now()
    }

    /// Notes a commit that began then.
    pub(crate) fn note(&self, begun: Instant, commands: usize) {
        let commit = Commit { took: begun.elapsed(), commands: u32::try_from(commands).unwrap_or(u32::MAX) };
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() < Self::CAP {
            log.push(commit);
        }
    }

    /// Takes them.
    pub(crate) fn take(&self) -> Vec<Commit> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
