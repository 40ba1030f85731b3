//! What a transaction needs of a database: statements with `$1` placeholders, values of four types, rows. Implemented
//! for SQLite, where each future is ready at once, and for PostgreSQL.

use std::borrow::Cow;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use springtide_core::{Incarnation, JobId, LaneName, ModelId, NodeId, RunId, Timestamp};

use crate::{Error, Result};

/// A connection in the hands of one transaction at a time.
///
/// Statements are written for both databases: placeholders are `$1`, `$2`, …; a trailing `FOR UPDATE` locks rows in
/// PostgreSQL and is left out for SQLite, which has one writer. Each is prepared once.
#[async_trait]
pub(crate) trait Connection: Send {
    /// Begins a transaction.
    async fn begin(&mut self, access: Access) -> Result<()>;
    /// Makes it durable.
    async fn commit(&mut self) -> Result<()>;
    /// Undoes it. What can't be undone is dropped with the connection.
    async fn rollback(&mut self);
    /// `SAVEPOINT`, `RELEASE`, `ROLLBACK TO` and the like: without parameters or rows.
    async fn control(&mut self, sql: &'static str) -> Result<()>;
    /// Several statements, unprepared: for migrations.
    async fn script(&mut self, sql: &str) -> Result<()>;
    /// The rows of a statement.
    async fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>>;
    /// Runs a statement; the number of rows that it changed.
    async fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64>;
    /// The rows of a statement for each set of values, in order. One round trip for all, where that matters.
    async fn query_each(&mut self, sql: &str, sets: &[Vec<Value>]) -> Result<Vec<Vec<Row>>>;
    /// Runs a statement for each set of values, in order. One round trip for all, where that matters.
    async fn execute_each(&mut self, sql: &str, sets: &[Vec<Value>]) -> Result<()>;
    /// The database behind it.
    fn dialect(&self) -> Dialect;
}

/// What a transaction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reads one snapshot.
    Read,
    /// Reads and writes.
    Write,
}

/// Where migrations and locks differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// SQLite.
    Sqlite,
    /// PostgreSQL.
    Postgres,
}

/// A value in a statement or a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Int(i64),
    Real(f64),
    Text(Cow<'static, str>),
}

/// `values![a, b]`: an array of what `Value` can be made from, for one run of a statement.
macro_rules! values {
    ($($value:expr),* $(,)?) => { [$($crate::connection::Value::from($value)),*] };
}
pub(crate) use values;

/// `set![a, b]`: the same as a `Vec`, for one of many runs of a statement.
macro_rules! set {
    ($($value:expr),* $(,)?) => { vec![$($crate::connection::Value::from($value)),*] };
}
pub(crate) use set;

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}
impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Int(number.into())
    }
}
impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}
impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}
impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Int(flag.into())
    }
}
impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}
impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}
impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::Text(Cow::Owned(text.clone()))
    }
}
impl From<Timestamp> for Value {
    fn from(time: Timestamp) -> Self {
        Self::Int(time.as_micros())
    }
}
impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Values that are kept as text and parsed when they are read.
macro_rules! as_text {
    ($($id:ty),*) => {$(
        impl From<&$id> for Value {
            fn from(id: &$id) -> Self {
                Self::Text(Cow::Owned(id.to_string()))
            }
        }
        impl From<$id> for Value {
            fn from(id: $id) -> Self {
                Self::from(&id)
            }
        }
        impl FromValue for $id {
            fn from_value(value: Value) -> Option<Self> {
                match value {
                    Value::Text(text) => text.parse().ok(),
                    _ => None,
                }
            }
        }
    )*};
}
as_text!(JobId, RunId, Incarnation, NodeId, LaneName, ModelId);

/// Text as a value; for text that is borrowed for a shorter time than the statement.
pub(crate) fn text(text: &str) -> Value {
    Value::Text(Cow::Owned(text.to_owned()))
}

/// JSON as a value.
pub(crate) fn json<T: serde::Serialize + ?Sized>(body: &T) -> Value {
    Value::from(to_json(body))
}

/// JSON as text.
pub(crate) fn to_json<T: serde::Serialize + ?Sized>(body: &T) -> String {
    serde_json::to_string(body).expect("our own types have string keys and can be written as JSON")
}

/// What a value can be read as.
pub(crate) trait FromValue: Sized {
    /// `None`: the value is of another type or form.
    fn from_value(value: Value) -> Option<Self>;
}

impl FromValue for i64 {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Int(number) => Some(number),
            _ => None,
        }
    }
}
impl FromValue for u32 {
    fn from_value(value: Value) -> Option<Self> {
        i64::from_value(value)?.try_into().ok()
    }
}
impl FromValue for u64 {
    fn from_value(value: Value) -> Option<Self> {
        i64::from_value(value)?.try_into().ok()
    }
}
impl FromValue for bool {
    fn from_value(value: Value) -> Option<Self> {
        i64::from_value(value).map(|number| number != 0)
    }
}
impl FromValue for f64 {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Real(number) => Some(number),
            Value::Int(number) => Some(number as Self),
            _ => None,
        }
    }
}
impl FromValue for String {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text.into_owned()),
            _ => None,
        }
    }
}
impl FromValue for Timestamp {
    fn from_value(value: Value) -> Option<Self> {
        i64::from_value(value).map(Self::from_micros)
    }
}
impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            value => T::from_value(value).map(Some),
        }
    }
}

/// A row, read from its first column to its last.
#[derive(Debug)]
pub(crate) struct Row {
    values: std::vec::IntoIter<Value>,
}

impl Row {
    /// From its columns.
    pub(crate) fn new(values: Vec<Value>) -> Self {
        Self { values: values.into_iter() }
    }

    /// The next column.
    pub(crate) fn take<T: FromValue>(&mut self) -> Result<T> {
        let value = self.values.next().ok_or_else(|| Error::Broken("a row is too short".to_owned()))?;
        let shown = || format!("a column that should hold {} can't be read", std::any::type_name::<T>());
        T::from_value(value).ok_or_else(|| Error::Broken(shown()))
    }

    /// The next column, which holds JSON.
    pub(crate) fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        from_json(&self.take::<String>()?)
    }

    /// The next column, which holds JSON or nothing.
    pub(crate) fn optional_json<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        self.take::<Option<String>>()?.map(|text| from_json(&text)).transpose()
    }
}

/// Reads what the store wrote.
pub(crate) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| {
        Error::Broken(format!("a stored {} can't be read: {error}", std::any::type_name::<T>()))
    })
}
