//! A connection to SQLite. All of its futures are ready when they are first polled.

use std::collections::HashMap;
use std::path::Path;

use async_trait::async_trait;
use rusqlite::config::DbConfig;
use rusqlite::ffi::{self, ErrorCode};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{OpenFlags, ToSql};

use super::SqliteOptions;
use crate::connection::{Access, Connection, Dialect, Row, Value};
use crate::{Error, Result};

/// Statements that are kept prepared; there are fewer than that.
const STATEMENTS: usize = 256;
/// The log is copied into the database file when it has so many pages (of 4 KiB): seldom enough not to be felt.
const CHECKPOINT_PAGES: u32 = 4000;

/// A connection to SQLite.
pub(crate) struct SqliteConnection {
    inner: rusqlite::Connection,
    /// Statements as SQLite reads them.
    translated: HashMap<String, String>,
}

/// Whether a connection may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Writer,
    Reader,
}

impl SqliteConnection {
    /// Opens a file; makes it if it is to be written.
    pub(super) fn open(path: &Path, mode: Mode, options: &SqliteOptions) -> Result<Self> {
        let flags = match mode {
            Mode::Writer => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
            Mode::Reader => OpenFlags::SQLITE_OPEN_READ_WRITE,
        } | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = rusqlite::Connection::open_with_flags(path, flags)
            .and_then(Self::with)
            .map_err(|error| cannot_open(path, &error))?;
        connection.set_up(mode, options).map_err(|error| cannot_open(path, &error))?;
        Ok(connection)
    }

    /// A database that is gone with its connection.
    pub(super) fn in_memory() -> Result<Self> {
        rusqlite::Connection::open_in_memory().and_then(Self::with).map_err(|error| error_of(&error))
    }

    fn with(inner: rusqlite::Connection) -> rusqlite::Result<Self> {
        inner.set_prepared_statement_cache_capacity(STATEMENTS);
        // A plan holds for all values: else a statement is prepared again whenever a value that its plan looked at changes.
        inner.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        Ok(Self { inner, translated: HashMap::new() })
    }

    fn set_up(&self, mode: Mode, options: &SqliteOptions) -> rusqlite::Result<()> {
        self.inner.busy_timeout(options.timeout)?;
        if mode == Mode::Reader {
            return self.inner.pragma_update(None, "query_only", true);
        }
        // A write-ahead log, synced at each commit: what was answered is on the disk.
        self.inner.pragma_update(None, "journal_mode", "wal")?;
        self.inner.pragma_update(None, "synchronous", "full")?;
        self.inner.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        self.inner.pragma_update(None, "cache_size", -64 * 1024)?;
        if let Some(pages) = options.max_pages {
            self.inner.pragma_update(None, "max_page_count", pages)?;
        }
        Ok(())
    }

    /// Whether SQLite itself undid the transaction, as it does on a full disk.
    fn lost_transaction(&self) -> bool {
        self.inner.is_autocommit()
    }

    fn run<T>(
        &mut self,
        sql: &str,
        run: impl FnOnce(&mut rusqlite::CachedStatement<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        if !self.translated.contains_key(sql) {
            self.translated.insert(sql.to_owned(), translate(sql));
        }
        let mut statement =
            self.inner.prepare_cached(&self.translated[sql]).map_err(|error| error_of(&error))?;
        run(&mut statement).map_err(|error| error_of(&error))
    }
}

#[async_trait]
impl Connection for SqliteConnection {
    async fn begin(&mut self, access: Access) -> Result<()> {
        let sql = match access {
            Access::Read => "BEGIN",
            Access::Write => "BEGIN IMMEDIATE",
        };
        self.control(sql).await
    }

    async fn commit(&mut self) -> Result<()> {
        let committed = self.control("COMMIT").await;
        if committed.is_err() {
            self.rollback().await;
        }
        committed
    }

    async fn rollback(&mut self) {
        if self.lost_transaction() {
            return;
        }
        if let Err(error) = self.control("ROLLBACK").await {
            tracing::error!(%error, "a transaction can't be rolled back");
        }
    }

    async fn control(&mut self, sql: &'static str) -> Result<()> {
        self.run(sql, |statement| statement.execute([])).map(drop)
    }

    async fn script(&mut self, sql: &str) -> Result<()> {
        self.inner.execute_batch(sql).map_err(|error| error_of(&error))
    }

    async fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>> {
        self.run(sql, |statement| rows(statement, values))
    }

    async fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64> {
        self.run(sql, |statement| statement.execute(rusqlite::params_from_iter(values)))
            .map(|changed| changed as u64)
    }

    async fn query_each(&mut self, sql: &str, sets: &[Vec<Value>]) -> Result<Vec<Vec<Row>>> {
        self.run(sql, |statement| sets.iter().map(|values| rows(statement, values)).collect())
    }

    async fn execute_each(&mut self, sql: &str, sets: &[Vec<Value>]) -> Result<()> {
        self.run(sql, |statement| {
            for values in sets {
                statement.execute(rusqlite::params_from_iter(values))?;
            }
            Ok(())
        })
    }

    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }
}

fn rows(statement: &mut rusqlite::CachedStatement<'_>, values: &[Value]) -> rusqlite::Result<Vec<Row>> {
    let columns = statement.column_count();
    let mut found = statement.query(rusqlite::params_from_iter(values))?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        let values = (0..columns).map(|at| row.get_ref(at).map(Value::from));
        rows.push(Row::new(values.collect::<rusqlite::Result<_>>()?));
    }
    Ok(rows)
}

impl From<ValueRef<'_>> for Value {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(number) => Self::Int(number),
            ValueRef::Real(number) => Self::Real(number),
            ValueRef::Text(text) | ValueRef::Blob(text) => {
                Self::from(String::from_utf8_lossy(text).into_owned())
            }
        }
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(number) => ValueRef::Integer(*number),
            Self::Real(number) => ValueRef::Real(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

/// `$1` becomes `?1`, and `FOR UPDATE` goes: there is one writer.
fn translate(sql: &str) -> String {
    sql.trim_end().trim_end_matches("FOR UPDATE").replace('$', "?")
}

fn cannot_open(path: &Path, error: &rusqlite::Error) -> Error {
    let advice =
        "check that its directory exists and can be written, and that the file is a database of ours";
    match error_of(error) {
        Error::Broken(why) => Error::Broken(format!("{} can't be opened: {why}; {advice}", path.display())),
        other => other,
    }
}

pub(super) fn error_of(error: &rusqlite::Error) -> Error {
    let message = error.to_string();
    // The index of the write-ahead log, which grows first, has a code of its own for a disk that is full.
    let no_room_for_index = |error: &ffi::Error| error.extended_code == ffi::SQLITE_IOERR_SHMSIZE;
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Error::Full(message),
        Some(ErrorCode::SystemIoFailure) if error.sqlite_error().is_some_and(no_room_for_index) => {
            Error::Full(message)
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::Unavailable(format!("another process holds the file: {message}"))
        }
        _ => Error::Broken(message),
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    #[test]
    fn other_values_do_not_prepare_a_statement_again() {
        let connection = SqliteConnection::in_memory().unwrap();
        connection.inner.execute_batch("CREATE TABLE a (b); CREATE INDEX a_1 ON a (b) WHERE b > 0").unwrap();
        let mut statement = connection.inner.prepare_cached("SELECT b FROM a WHERE b > ?1").unwrap();
        for value in 0..10 {
            rows(&mut statement, &[Value::Int(value)]).unwrap();
        }
        assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
    }

    #[test]
    fn what_a_full_disk_says_is_full() {
        let failure = |code| rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        for code in [ffi::SQLITE_FULL, ffi::SQLITE_IOERR_SHMSIZE] {
            assert!(matches!(error_of(&failure(code)), Error::Full(_)), "{code}");
        }
        assert!(matches!(error_of(&failure(ffi::SQLITE_IOERR_READ)), Error::Broken(_)));
    }

    #[test]
    fn statements_are_translated() {
        assert_eq!(
            translate("SELECT a FROM b WHERE c = $1 AND d = $12 FOR UPDATE"),
            "SELECT a FROM b WHERE c = ?1 AND d = ?12 "
        );
        assert_eq!(translate("UPDATE a SET b = $1"), "UPDATE a SET b = ?1");
    }
}
