//! The sections that more than one binary reads. `[control_plane]` and `[node]` are read by the crates they are named
//! after, with types of their own.

use super::{Secret, SecretUrl, duration};
use serde::Deserialize;
use std::time::Duration;

/// `[broker]`: where tasks and events go through.
#[derive(Clone, Debug, Deserialize)]
pub struct Broker {
    /// `memory:` or `amqp://…`, `amqps://…`.
    pub url: SecretUrl,
    /// AMQP heartbeat.
    #[serde(with = "duration")]
    pub heartbeat: Duration,
    /// One attempt to connect.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// Longest pause between two attempts.
    #[serde(with = "duration")]
    pub reconnect_delay_max: Duration,
    /// Waiting for a connection and the confirm of one publication.
    #[serde(with = "duration")]
    pub publish_timeout: Duration,
    /// Publications without a confirm at once.
    pub publish_window: u32,
    /// Event batches that the leader holds unacked.
    pub events_prefetch: u16,
    /// The broker's `consumer_timeout`.
    #[serde(with = "duration")]
    pub ack_timeout: Duration,
    /// Messages kept in `springtide.dead`.
    pub dead_cap: u32,
}

/// `[store]`: where jobs and tasks are kept.
#[derive(Clone, Debug, Deserialize)]
pub struct Store {
    /// `sqlite:` (inside the data directory), `sqlite:PATH` or `postgres://…`.
    pub url: SecretUrl,
    /// Connections.
    pub pool_size: usize,
    /// Writes that wait for the writer.
    pub queue_cap: usize,
    /// Writes in one commit.
    pub max_batch: usize,
    /// Waiting for a connection, a lock or a commit.
    #[serde(with = "duration")]
    pub timeout: Duration,
}

/// `[locks]`: who guards exclusive keys.
#[derive(Clone, Debug, Deserialize)]
pub struct Locks {
    /// `store:` or `redis://…`, `rediss://…`.
    pub url: SecretUrl,
    /// One call of Redis.
    #[serde(with = "duration")]
    pub timeout: Duration,
}

/// `[objects]`: where models, inputs, outputs and checkpoints are kept.
#[derive(Clone, Debug, Deserialize)]
pub struct Objects {
    /// `file:` (inside the data directory), `file:///PATH`, `s3://BUCKET/PREFIX` or `memory:`.
    pub url: String,
    /// Of an S3 that is not Amazon's; else empty.
    pub endpoint: String,
    /// Of the bucket; empty: from the environment.
    pub region: String,
    /// Empty: from the environment or the machine's role.
    pub access_key_id: Secret,
    /// Empty: likewise.
    pub secret_access_key: Secret,
    /// Empty: likewise.
    pub session_token: Secret,
    /// A request that moves no byte for so long is given up.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// Of one request.
    pub max_retries: usize,
}

/// `[telemetry]`: what is logged and how.
#[derive(Clone, Debug, Deserialize)]
pub struct Telemetry {
    /// A level, or `target=level` pairs with commas.
    pub log: String,
    /// How a line looks.
    pub format: LogFormat,
    /// Lines that wait to be written.
    pub queue_cap: usize,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object for each event.
    Json,
}
