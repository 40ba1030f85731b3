//! Opens the store that a URL names.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::postgres::Database;
use crate::sql_store::SqlStore;
use crate::sqlite::{File, Inline, SqliteOptions};
use crate::{Error, Result, Store};

/// The file inside the data directory.
const FILE_NAME: &str = "springtide.db";

/// Section `store` of the configuration.
#[derive(Clone, Debug)]
pub struct Options {
    /// `sqlite:` (inside the data directory), `sqlite:PATH`, `sqlite::memory:` or
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`.
    pub url: String,
    /// Connections: readers of SQLite, all of PostgreSQL.
    pub pool_size: usize,
    /// Writes that wait for the writer; more are refused.
    pub queue_cap: usize,
    /// Writes in one commit.
    pub max_batch: usize,
    /// Waiting for a connection, a lock or a commit.
    pub timeout: Duration,
}

/// Opens a store and brings its tables up to date.
///
/// [`Error::is_transient`] tells a server that is not there yet, for which the caller waits, from a URL or a directory
/// that has to be corrected.
pub async fn open(options: &Options, data_dir: &Path) -> Result<Arc<dyn Store>> {
    let Options { url, .. } = options;
    if let Some(place) = url.strip_prefix("sqlite:") {
        let path = match place {
            ":memory:" => return in_memory(),
            "" => data_dir.join(FILE_NAME),
            path => PathBuf::from(path.strip_prefix("//").unwrap_or(path)),
        };
        let sqlite = SqliteOptions {
            readers: options.pool_size,
            queue_cap: options.queue_cap,
            max_batch: options.max_batch,
            timeout: options.timeout,
            max_pages: None,
        };
        // Opening waits for the disk; it is done once, at start, but not on an async thread.
        let opened = tokio::task::spawn_blocking(move || open_sqlite(&path, &sqlite)).await;
        return opened.map_err(|error| Error::Broken(error.to_string()))?;
    }
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok(Arc::new(SqlStore(Database::open(options).await?)));
    }
    let scheme = url.split(':').next().unwrap_or_default();
    Err(Error::Broken(format!(
        "store.url begins with `{scheme}:`, which is not known: use sqlite:, sqlite:PATH or \
         postgres://USER:PASSWORD@HOST:PORT/DATABASE"
    )))
}

/// A store in a file of SQLite, which is made where it is not there.
pub fn open_sqlite(path: &Path, options: &SqliteOptions) -> Result<Arc<dyn Store>> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        std::fs::create_dir_all(directory).map_err(|error| {
            let directory = directory.display();
            Error::Broken(format!(
                "the store's directory {directory} can't be made ({error}): choose another data_dir"
            ))
        })?;
    }
    Ok(Arc::new(SqlStore(File::open(path, options)?)))
}

/// A store in memory, gone with its last handle. Each call is done when it returns, without a thread or a clock: for the
/// simulation.
pub fn in_memory() -> Result<Arc<dyn Store>> {
    Ok(Arc::new(SqlStore(Inline::open()?)))
}
