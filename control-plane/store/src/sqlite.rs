//! SQLite: one writer on a thread of its own, which commits in groups; some readers on theirs, each with a snapshot.
//! In memory, for the simulation, all is done in line, on one connection.

mod connection;
mod inline;
mod reader;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use tokio::sync::oneshot;

use crate::engine::{CommitLog, Engine};
use crate::migrations::migrate;
use crate::port::Commit;
use crate::transaction::Transaction;
use crate::{Error, Result};
use connection::{Mode, SqliteConnection};
pub(crate) use inline::Inline;
use reader::Readers;
use writer::Writer;

/// How a file is used.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// Connections that read.
    pub readers: usize,
    /// Writes that wait; more are refused.
    pub queue_cap: usize,
    /// Writes in one commit.
    pub max_batch: usize,
    /// Waiting for a commit or for another process.
    pub timeout: Duration,
    /// The file does not grow beyond so many pages of 4 KiB; `None`: as far as the disk goes.
    pub max_pages: Option<u32>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            readers: 4,
            queue_cap: 4096,
            max_batch: 512,
            timeout: Duration::from_secs(10),
            max_pages: None,
        }
    }
}

/// A file.
pub(crate) struct File {
    writer: Writer,
    readers: Readers,
    commits: Arc<CommitLog>,
    timeout: Duration,
}

impl File {
    /// Opens the file, makes it where it is not there, and starts its threads.
    pub(crate) fn open(path: &Path, options: &SqliteOptions) -> Result<Self> {
        let mut connection = SqliteConnection::open(path, Mode::Writer, options)?;
        at_once(migrate(&mut connection))?;
        let commits = Arc::new(CommitLog::default());
        let readers = Readers::start(path, options)?;
        let writer = Writer::start(connection, options, Arc::clone(&commits))?;
        Ok(Self { writer, readers, commits, timeout: options.timeout })
    }
}

#[async_trait]
impl Engine for File {
    async fn write<T: Transaction>(&self, transaction: T) -> Result<T::Output> {
        let outcome = self.writer.submit(transaction)?;
        self.wait(outcome, "the writer's commit").await
    }

    async fn read<T: Transaction>(&self, transaction: T) -> Result<T::Output> {
        let outcome = self.readers.submit(transaction)?;
        self.wait(outcome, "a reader").await
    }

    fn take_commits(&self) -> Vec<Commit> {
        self.commits.take()
    }
}

impl File {
    async fn wait<T>(&self, outcome: oneshot::Receiver<Result<T>>, what: &str) -> Result<T> {
        match tokio::time::timeout(self.timeout, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Error::Broken("the store's thread has ended".to_owned())),
            Err(_) => {
                let seconds = self.timeout.as_secs_f64();
                Err(Error::Unavailable(format!(
                    "{what} took longer than {seconds} s; is the disk overloaded?"
                )))
            }
        }
    }
}

/// The outcome of a future that never waits, as those on SQLite's connections are.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("nothing on a connection to SQLite waits")
}

/// A connection to an empty database in memory.
#[cfg(test)]
pub(crate) fn in_memory_connection() -> Result<SqliteConnection> {
    SqliteConnection::in_memory()
}
