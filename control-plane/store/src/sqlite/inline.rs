//! SQLite in memory, on one connection: each call is done when it returns, in the order of the calls.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::at_once;
use super::connection::SqliteConnection;
use crate::Result;
use crate::connection::{Access, Connection};
use crate::engine::{Engine, read};
use crate::group::{Savepoints, command, run};
use crate::migrations::migrate;
use crate::port::Commit;
use crate::transaction::Transaction;

/// A database in memory.
pub(crate) struct Inline {
    connection: Mutex<SqliteConnection>,
}

impl Inline {
    /// An empty one.
    pub(crate) fn open() -> Result<Self> {
        let mut connection = SqliteConnection::in_memory()?;
        at_once(migrate(&mut connection))?;
        Ok(Self { connection: Mutex::new(connection) })
    }
}

#[async_trait]
impl Engine for Inline {
    async fn write<T: Transaction>(&self, transaction: T) -> Result<T::Output> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let (command, mut outcome) = command(transaction);
        let mut batch = [command];
        let committed = at_once(run(&mut *connection, &mut batch, Savepoints::Each));
        let [command] = batch;
        command.answer(committed);
        outcome.try_recv().expect("a command that was answered has its answer")
    }

    async fn read<T: Transaction>(&self, transaction: T) -> Result<T::Output> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let connection: &mut dyn Connection = &mut *connection;
        at_once(async {
            connection.begin(Access::Read).await?;
            read(connection, &transaction).await
        })
    }

    /// Time does not count here: it would make runs of the simulation differ.
    fn take_commits(&self) -> Vec<Commit> {
        Vec::new()
    }
}
