//! Tokens, forecasts, upkeep.

use async_trait::async_trait;
use springtide_core::Timestamp;

use super::ledger::task::device_of;
use super::{Transaction, Tx};
use crate::connection::{json, set, values};
use crate::port::{ForecastRow, TokenRow};
use crate::{Error, Result};

/// [`crate::Store::put_token`].
pub(crate) struct PutToken(pub(crate) TokenRow);

#[async_trait]
impl Transaction for PutToken {
    type Output = ();

    async fn run(&self, tx: &mut Tx<'_>) -> Result<()> {
        let TokenRow { name, sha256, scopes, created_at } = &self.0;
        let added = tx
            .execute(
                "INSERT INTO tokens (name, sha256, scopes, created_at) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (name) DO NOTHING",
                &values![name, sha256, json(scopes), *created_at],
            )
            .await?;
        if added > 0 { Ok(()) } else { Err(Error::Conflict(format!("there is a token `{name}` already"))) }
    }
}

/// [`crate::Store::tokens`].
pub(crate) struct Tokens;

#[async_trait]
impl Transaction for Tokens {
    type Output = Vec<TokenRow>;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Vec<TokenRow>> {
        let rows = tx.query("SELECT name, sha256, scopes, created_at FROM tokens ORDER BY name", &[]).await?;
        rows.into_iter()
            .map(|mut row| {
                Ok(TokenRow {
                    name: row.take()?,
                    sha256: row.take()?,
                    scopes: row.json()?,
                    created_at: row.take()?,
                })
            })
            .collect()
    }
}

/// [`crate::Store::remove_token`].
pub(crate) struct RemoveToken(pub(crate) String);

#[async_trait]
impl Transaction for RemoveToken {
    type Output = ();

    async fn run(&self, tx: &mut Tx<'_>) -> Result<()> {
        let removed = tx.execute("DELETE FROM tokens WHERE name = $1", &values![&self.0]).await?;
        if removed > 0 { Ok(()) } else { Err(Error::NotFound { kind: "token", id: self.0.clone() }) }
    }
}

/// [`crate::Store::forecasts`].
pub(crate) struct Forecasts;

#[async_trait]
impl Transaction for Forecasts {
    type Output = Vec<ForecastRow>;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Vec<ForecastRow>> {
        let rows = tx.query("SELECT model, device, body FROM forecasts ORDER BY model, device", &[]).await?;
        rows.into_iter()
            .map(|mut row| {
                Ok(ForecastRow {
                    model: row.take()?,
                    device: device_of(&row.take::<String>()?)?,
                    body: row.json()?,
                })
            })
            .collect()
    }
}

/// [`crate::Store::save_forecasts`].
pub(crate) struct SaveForecasts(pub(crate) Vec<ForecastRow>);

#[async_trait]
impl Transaction for SaveForecasts {
    type Output = ();

    async fn run(&self, tx: &mut Tx<'_>) -> Result<()> {
        let mut rows: Vec<_> = self.0.iter().collect();
        rows.sort_by(|a, b| (&a.model, a.device).cmp(&(&b.model, b.device)));
        let sets: Vec<_> =
            rows.into_iter().map(|row| set![&row.model, row.device.as_str(), json(&row.body)]).collect();
        tx.execute_each(
            "INSERT INTO forecasts (model, device, body) VALUES ($1, $2, $3) \
             ON CONFLICT (model, device) DO UPDATE SET body = excluded.body",
            &sets,
        )
        .await
    }
}

/// [`crate::Store::check_writable`].
pub(crate) struct Probe;

#[async_trait]
impl Transaction for Probe {
    type Output = ();

    async fn run(&self, tx: &mut Tx<'_>) -> Result<()> {
        tx.execute(
            "INSERT INTO probes (name, written) VALUES ('probe', 1) \
             ON CONFLICT (name) DO UPDATE SET written = probes.written + 1",
            &[],
        )
        .await
        .map(drop)
    }
}

/// A part of [`crate::Store::forget_idempotency`]: so many keys that no other write waits long.
pub(crate) struct ForgetIdempotency {
    pub(crate) before: Timestamp,
}

impl ForgetIdempotency {
    /// Keys of one transaction.
    pub(crate) const PART: u64 = 5000;
}

#[async_trait]
impl Transaction for ForgetIdempotency {
    type Output = u64;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<u64> {
        tx.execute(
            "DELETE FROM idempotency WHERE (owner, name) IN \
             (SELECT owner, name FROM idempotency WHERE created_at < $1 ORDER BY created_at LIMIT $2)",
            &values![self.before, Self::PART],
        )
        .await
    }
}
