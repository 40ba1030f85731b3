//! Models, tokens, leases, launches, forecasts as rows.

use std::time::Duration;

use serde_json::Value;
use springtide_core::lane::Device;
use springtide_core::{ModelId, Timestamp};

/// A version of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRow {
    /// Which.
    pub id: ModelId,
    /// Its `model.toml`.
    pub manifest: String,
    /// Size of all its files.
    pub size_bytes: u64,
    /// When it was pushed.
    pub pushed_at: Timestamp,
}

/// A bearer token, as a hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// Its name: the owner of what it posts.
    pub name: String,
    /// SHA-256 of the token, hexadecimal. Tokens are random and long: no salt or slow hash is needed.
    pub sha256: String,
    /// `submit`, `read`, `operate`.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Proof of leadership: shown with each write, compared in the same transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The lease.
    pub name: String,
    /// Its token.
    pub token: u64,
}

/// A wish for a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRequest {
    /// The lease.
    pub name: String,
    /// Who wants it.
    pub holder: String,
    /// For how long, from `now`. Zero gives it up.
    pub duration: Duration,
    /// The time.
    pub now: Timestamp,
}

/// A lease as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who has it; empty: it was given up.
    pub holder: String,
    /// Grows each time that the holder changes.
    pub token: u64,
    /// Until when.
    pub expires_at: Timestamp,
}

/// An autoscaler's durable intent to add nodes to a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct LaunchRow {
    /// The cloud's idempotency token.
    pub id: String,
    /// The pool.
    pub pool: String,
    /// The complete request, and what became of it.
    pub body: Value,
    /// Whether anything is still to come of it.
    pub open: bool,
    /// When it was first written.
    pub created_at: Timestamp,
    /// When it was last written.
    pub changed_at: Timestamp,
}

/// What was learned of a model's runtimes on a kind of device.
#[derive(Clone, Debug, PartialEq)]
pub struct ForecastRow {
    /// The model.
    pub model: ModelId,
    /// The kind of device.
    pub device: Device,
    /// In the form of the forecast's crate.
    pub body: Value,
}

/// A commit, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// How long it took, from its begin until it was durable.
    pub took: Duration,
    /// How many commands shared it.
    pub commands: u32,
}
