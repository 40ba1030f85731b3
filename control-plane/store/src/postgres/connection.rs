//! A connection to PostgreSQL, on loan from the pool for one transaction.

use async_trait::async_trait;
use bytes::BytesMut;
use deadpool_postgres::Object;
use futures::TryStreamExt;
use futures::future::try_join_all;
use tokio_postgres::Statement;

use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::errors;
use crate::connection::{Access, Connection, Dialect, Row, Value};
use crate::{Error, Result};

/// So many statements are sent before the first answer is waited for.
const PIPELINE: usize = 256;

/// See the module.
pub(super) struct PostgresConnection {
    client: Option<Object>,
    in_transaction: bool,
    met_another: bool,
}

impl PostgresConnection {
    pub(super) const fn new(client: Object) -> Self {
        Self { client: Some(client), in_transaction: false, met_another: false }
    }

    /// Whether a statement failed because of another transaction, so that all may be tried again.
    pub(super) const fn met_another(&self) -> bool {
        self.met_another
    }

    fn client(&self) -> &Object {
        self.client.as_ref().expect("the client is there until the connection is dropped")
    }

    fn failed(&mut self, error: &tokio_postgres::Error) -> Error {
        self.met_another |= errors::met_another(error);
        errors::error_of(error)
    }

    async fn prepare(&mut self, sql: &str) -> Result<Statement> {
        let prepared = self.client().prepare_cached(sql).await;
        prepared.map_err(|error| self.failed(&error))
    }

    async fn simple(&mut self, sql: &str) -> Result<()> {
        let done = self.client().batch_execute(sql).await;
        done.map_err(|error| self.failed(&error))
    }
}

/// A transaction whose caller has left is not handed to the next: the connection is closed, and so undoes it.
impl Drop for PostgresConnection {
    fn drop(&mut self) {
        if self.in_transaction {
            drop(self.client.take().map(Object::take));
        }
    }
}

#[async_trait]
impl Connection for PostgresConnection {
    async fn begin(&mut self, access: Access) -> Result<()> {
        self.in_transaction = true;
        match access {
            Access::Read => self.simple("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await,
            Access::Write => self.simple("BEGIN ISOLATION LEVEL READ COMMITTED").await,
        }
    }

    async fn commit(&mut self) -> Result<()> {
        self.simple("COMMIT").await?;
        self.in_transaction = false;
        Ok(())
    }

    async fn rollback(&mut self) {
        self.in_transaction = self.simple("ROLLBACK").await.is_err();
    }

    async fn control(&mut self, sql: &'static str) -> Result<()> {
        self.simple(sql).await
    }

    async fn script(&mut self, sql: &str) -> Result<()> {
        self.simple(sql).await
    }

    async fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>> {
        let statement = self.prepare(sql).await?;
        let found = rows(self.client(), &statement, values).await;
        found.map_err(|error| self.failed(&error))
    }

    async fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64> {
        let statement = self.prepare(sql).await?;
        let changed = self.client().execute_raw(&statement, values).await;
        changed.map_err(|error| self.failed(&error))
    }

    async fn query_each(&mut self, sql: &str, sets: &[Vec<Value>]) -> Result<Vec<Vec<Row>>> {
        let statement = self.prepare(sql).await?;
        let mut all = Vec::with_capacity(sets.len());
        for part in sets.chunks(PIPELINE) {
            let client = self.client();
            let found = try_join_all(part.iter().map(|values| rows(client, &statement, values))).await;
            all.extend(found.map_err(|error| self.failed(&error))?);
        }
        Ok(all)
    }

    async fn execute_each(&mut self, sql: &str, sets: &[Vec<Value>]) -> Result<()> {
        let statement = self.prepare(sql).await?;
        for part in sets.chunks(PIPELINE) {
            let client = self.client();
            let done = try_join_all(part.iter().map(|values| client.execute_raw(&statement, values))).await;
            done.map_err(|error| self.failed(&error))?;
        }
        Ok(())
    }

    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }
}

async fn rows(
    client: &Object,
    statement: &Statement,
    values: &[Value],
) -> Result<Vec<Row>, tokio_postgres::Error> {
    let found = client.query_raw(statement, values).await?;
    found.try_filter_map(async |row| Ok(Some(row_of(&row)?))).try_collect().await
}

/// Only the types of our tables, and those of the few expressions in our statements, occur.
fn row_of(row: &tokio_postgres::Row) -> Result<Row, tokio_postgres::Error> {
    let mut values = Vec::with_capacity(row.len());
    for (at, column) in row.columns().iter().enumerate() {
        values.push(match *column.type_() {
            Type::INT8 => row.try_get::<_, Option<i64>>(at)?.into(),
            Type::FLOAT8 => row.try_get::<_, Option<f64>>(at)?.into(),
            _ => row.try_get::<_, Option<String>>(at)?.into(),
        });
    }
    Ok(Row::new(values))
}

impl ToSql for Value {
    fn to_sql(
        &self,
        of: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(number) if *of == Type::FLOAT8 => (*number as f64).to_sql(of, out),
            Self::Int(number) => number.to_sql(of, out),
            Self::Real(number) => number.to_sql(of, out),
            // PostgreSQL's text holds everything but this; a worker's last words may well have it.
            Self::Text(text) if text.contains('\0') => text.replace('\0', "\u{FFFD}").to_sql(of, out),
            Self::Text(text) => text.as_ref().to_sql(of, out),
        }
    }

    fn accepts(of: &Type) -> bool {
        [Type::INT8, Type::FLOAT8, Type::TEXT].contains(of)
    }

    to_sql_checked!();
}
