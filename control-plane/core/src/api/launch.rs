//! The autoscaler's durable intents and its leadership.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::time::Timestamp;

/// An intent to add nodes to a pool, as it is written. Writing it again with the same `request` is harmless.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutLaunch {
    /// The pool.
    pub pool: String,
    /// The complete request to the provider; never changes under one id.
    #[schema(value_type = Object)]
    pub request: Value,
    /// What became of it so far.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub outcome: Value,
    /// Whether nothing is to come of it any more.
    #[serde(default)]
    pub closed: bool,
    /// The lease that allows it, with its fencing token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
    /// The token of that lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<u64>,
}

/// A launch as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LaunchView {
    /// Its id: the cloud's idempotency token.
    pub id: String,
    /// The pool.
    pub pool: String,
    /// The complete request.
    #[schema(value_type = Object)]
    pub request: Value,
    /// What became of it so far.
    #[schema(value_type = Object)]
    pub outcome: Value,
    /// Whether nothing is to come of it any more.
    pub closed: bool,
    /// When it was first written.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A wish for a lease.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseWish {
    /// Who wants it.
    pub holder: String,
    /// For how long, in seconds; 0 gives it up.
    pub duration_s: f64,
}

/// A lease as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LeaseGrant {
    /// Who has it; the wish is granted if that is the one who asked.
    pub holder: String,
    /// Its fencing token: grows each time that the holder changes.
    pub token: u64,
    /// Until when.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}
