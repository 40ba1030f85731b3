//! The tables, as numbered steps. A step that was released never changes; the next change is a new step.

use crate::connection::{Access, Connection, Dialect, values};
use crate::{Error, Result};

const STEPS: &[&str] = &[
    include_str!("../migrations/0001_jobs.sql"),
    include_str!("../migrations/0002_cluster.sql"),
    include_str!("../migrations/0003_locks.sql"),
    include_str!("../migrations/0004_arrivals.sql"),
];

/// Brings the tables to the form that this version knows. Several processes may do so at once.
pub(crate) async fn migrate(connection: &mut dyn Connection) -> Result<()> {
    connection.begin(Access::Write).await?;
    let migrated = run_steps(connection).await;
    match migrated {
        Ok(()) => connection.commit().await,
        Err(error) => {
            connection.rollback().await;
            Err(error)
        }
    }
}

async fn run_steps(connection: &mut dyn Connection) -> Result<()> {
    if connection.dialect() == Dialect::Postgres {
        // An arbitrary number that only this uses: two replicas that start together migrate one after the other.
        connection.query("SELECT CAST(pg_advisory_xact_lock(7305786421) AS TEXT)", &[]).await?;
    }
    connection
        .script("CREATE TABLE IF NOT EXISTS schema_version (step BIGINT NOT NULL PRIMARY KEY, applied BIGINT NOT NULL)")
        .await?;
    let mut rows = connection.query("SELECT COALESCE(MAX(step), 0) FROM schema_version", &[]).await?;
    let done: i64 = rows.first_mut().map_or(Ok(0), crate::connection::Row::take)?;
    let done = usize::try_from(done).unwrap_or(0);
    if done > STEPS.len() {
        return Err(Error::Conflict(format!(
            "the store was written by a newer version (step {done}, this one knows {}): use that version",
            STEPS.len()
        )));
    }
    for (at, step) in STEPS.iter().enumerate().skip(done) {
        connection.script(&in_dialect(step, connection.dialect())).await?;
        let number = u32::try_from(at + 1).unwrap_or(u32::MAX);
        connection
            .execute("INSERT INTO schema_version (step, applied) VALUES ($1, 1)", &values![number])
            .await?;
    }
    Ok(())
}

/// PostgreSQL sorts text by the database's locale unless told otherwise; ours sorts by bytes, as Rust and SQLite do.
fn in_dialect(step: &str, dialect: Dialect) -> String {
    match dialect {
        Dialect::Sqlite => step.replace("{clustered}", "WITHOUT ROWID"),
        Dialect::Postgres => step.replace("{clustered}", "").replace(" TEXT", " TEXT COLLATE \"C\""),
    }
}
