//! The section `control_plane` of the configuration. What each key means stands in `configs/default.toml`.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use springtide_core::lane::Lane;
use springtide_core::priority::HeadStart;
use springtide_core::task::RetryPolicy;
use springtide_process::config::{Error, Layers, duration, size};

/// The section `control_plane`, and the heartbeat interval of `node`, which the two sides share.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // each key is explained in configs/default.toml
pub struct Config {
    pub listen: SocketAddr,
    #[serde(with = "duration")]
    pub task_timeout: Duration,
    pub max_retries: u32,
    pub max_evictions: u32,
    #[serde(with = "duration")]
    pub retry_delay: Duration,
    #[serde(with = "duration")]
    pub retry_delay_max: Duration,
    pub max_tasks_per_job: u32,
    #[serde(with = "size")]
    pub max_request_bytes: u64,
    #[serde(with = "size")]
    pub max_model_bytes: u64,
    #[serde(with = "size")]
    pub inline_bytes: u64,
    #[serde(with = "duration")]
    pub request_timeout: Duration,
    #[serde(with = "duration")]
    pub max_wait: Duration,
    pub max_streams: usize,
    pub page_limit: u32,
    #[serde(with = "duration")]
    pub idempotency_ttl: Duration,
    #[serde(with = "duration")]
    pub leader_lease: Duration,
    #[serde(with = "duration")]
    pub confirm_timeout: Duration,
    #[serde(with = "duration")]
    pub exclusive_lease: Duration,
    #[serde(with = "duration")]
    pub release_ttl: Duration,
    pub queue_seconds: f64,
    pub queue_cap: u32,
    #[serde(with = "duration")]
    pub release_interval: Duration,
    #[serde(with = "duration")]
    pub compare_interval: Duration,
    #[serde(with = "duration")]
    pub sweep_interval: Duration,
    #[serde(with = "duration")]
    pub stop_timeout: Duration,
    pub head_start: HeadStartSection,
    pub lanes: Vec<Lane>,
    /// `node.heartbeat_interval`.
    #[serde(skip)]
    pub heartbeat_interval: Duration,
}

/// The section `control_plane.head_start`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // each key is explained in configs/default.toml
pub struct HeadStartSection {
    #[serde(with = "duration")]
    pub high: Duration,
    #[serde(with = "duration")]
    pub normal: Duration,
    #[serde(with = "duration")]
    pub low: Duration,
}

impl Config {
    /// Reads the section, and what it shares with `node`.
    pub fn read(layers: &Layers) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Interval(#[serde(with = "duration")] Duration);
        let mut config: Self = layers.section("control_plane")?;
        config.heartbeat_interval = layers.section::<Interval>("node.heartbeat_interval")?.0;
        Ok(config)
    }

    /// A node that was not heard for so long is lost.
    pub fn node_lost_after(&self) -> Duration {
        self.heartbeat_interval * 3
    }

    /// How long an exclusive key is kept for a node that is not heard of.
    pub fn exclusive_lease(&self) -> Duration {
        self.exclusive_lease.max(self.node_lost_after())
    }

    /// How much earlier than accepted a job of each priority ranks.
    pub fn head_start(&self) -> HeadStart {
        let over_low = |of: Duration| of.saturating_sub(self.head_start.low);
        HeadStart { normal: over_low(self.head_start.normal), high: over_low(self.head_start.high) }
    }

    /// How failures are answered.
    pub fn retry_policy(&self) -> RetryPolicy {
        RetryPolicy {
            max_retries: self.max_retries,
            max_evictions: self.max_evictions,
            base_delay: self.retry_delay,
            max_delay: self.retry_delay_max,
        }
    }
}
