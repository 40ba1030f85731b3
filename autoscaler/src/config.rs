//! The section `autoscaler` of the configuration. What each key means stands in `configs/default.toml`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use springtide_core::LaneName;
use springtide_planner::{InvalidPolicy, Policy, Pool};
use springtide_process::config::{Error, Layers, Secret, duration, size};

/// The section `autoscaler`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // each key is explained in configs/default.toml
pub struct Config {
    pub listen: SocketAddr,
    pub control_plane: String,
    pub token: Secret,
    pub provider: String,
    pub cluster: String,
    #[serde(with = "duration")]
    pub tick: Duration,
    #[serde(with = "duration")]
    pub lease: Duration,
    #[serde(with = "duration")]
    pub describe_interval: Duration,
    #[serde(with = "duration")]
    pub call_timeout: Duration,
    pub calls_per_second: f64,
    pub calls_at_once: u32,
    pub terminate_batch: usize,
    #[serde(with = "duration")]
    pub retry_delay_max: Duration,
    #[serde(with = "duration")]
    pub launch_settle: Duration,
    #[serde(with = "duration")]
    pub orphan_after: Duration,
    #[serde(with = "size")]
    pub decisions_bytes: u64,
    #[serde(with = "duration")]
    pub stop_timeout: Duration,
    #[serde(with = "duration")]
    pub stale_after: Duration,
    pub budget_per_hour: f64,
    pub pools: Vec<Pool>,
    pub alerts: Alerts,
    pub local: Local,
    pub docker: Docker,
    pub ec2: Ec2,
}

/// `[autoscaler.alerts]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // each key is explained in configs/default.toml
pub struct Alerts {
    pub token: Secret,
    #[serde(with = "duration")]
    pub hold: Duration,
    #[serde(with = "duration")]
    pub hold_max: Duration,
    pub cap: usize,
    #[serde(with = "size")]
    pub max_body_bytes: u64,
}

/// `[autoscaler.local]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // each key is explained in configs/default.toml
pub struct Local {
    pub agent: String,
    #[serde(with = "duration")]
    pub stop_timeout: Duration,
}

/// `[autoscaler.docker]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // each key is explained in configs/default.toml
pub struct Docker {
    pub host: String,
    #[serde(with = "duration")]
    pub stop_timeout: Duration,
    pub pools: Vec<DockerPool>,
}

/// How a pool's containers are made; part of what is written down of a launch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)] // each key is explained in configs/default.toml
pub struct DockerPool {
    pub name: String,
    pub image: String,
    pub command: Vec<String>,
    pub network: String,
    pub env: BTreeMap<String, String>,
    pub mounts: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub gpus: i64,
    #[serde(with = "size")]
    pub memory_bytes: u64,
    pub cpus: f64,
}

/// `[autoscaler.ec2]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // each key is explained in configs/default.toml
pub struct Ec2 {
    pub region: String,
    pub endpoint: String,
    pub access_key_id: Secret,
    pub secret_access_key: Secret,
    pub create_fleet: bool,
    pub interruption_queue_url: String,
    #[serde(with = "duration")]
    pub patience: Duration,
    pub pools: Vec<Ec2Pool>,
}

/// How a pool's instances are made.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)] // each key is explained in configs/default.toml
pub struct Ec2Pool {
    pub name: String,
    pub launch_template: String,
    pub launch_template_version: String,
    pub subnets: BTreeMap<String, String>,
}

impl Config {
    /// Reads the section.
    pub fn read(layers: &Layers) -> Result<Self, Error> {
        layers.section("autoscaler")
    }

    /// What the planner is given: the pools that can be used, and what is wrong with the others.
    pub fn policy(&self, lanes: &[LaneName]) -> (Policy, Vec<InvalidPolicy>) {
        let mut problems = self.unmatched();
        let known = |pool: &&Pool| self.made().is_none_or(|(_, names)| names.contains(&pool.name.as_str()));
        let pools: Vec<_> = self.pools.iter().filter(known).cloned().collect();
        let mut policy = Policy {
            stale_after: self.stale_after,
            budget_per_hour: self.budget_per_hour,
            pools: pools.clone(),
        };
        let Err(more) = policy.validate(lanes) else { return (policy, problems) };
        problems.extend(more);
        // One at a time: a pool that is wrong by itself goes, and so does each that only clashes with an earlier one.
        policy.pools.clear();
        for pool in pools {
            policy.pools.push(pool);
            if policy.validate(lanes).is_err() {
                policy.pools.pop();
            }
        }
        if policy.validate(lanes).is_err() {
            // What holds for all pools is wrong.
            policy.pools.clear();
        }
        (policy, problems)
    }

    /// The provider's section, and the pools that it says there how to make machines for. `None`: it makes them for any.
    fn made(&self) -> Option<(&'static str, Vec<&str>)> {
        match self.provider.as_str() {
            "docker" => Some(("docker", self.docker.pools.iter().map(|pool| pool.name.as_str()).collect())),
            "ec2" => Some(("ec2", self.ec2.pools.iter().map(|pool| pool.name.as_str()).collect())),
            _ => None,
        }
    }

    /// Pools without machines, and machines without a pool.
    fn unmatched(&self) -> Vec<InvalidPolicy> {
        let Some((section, made)) = self.made() else { return Vec::new() };
        let without = self.pools.iter().filter(|pool| !made.contains(&pool.name.as_str()));
        let without = without.map(|pool| InvalidPolicy {
            field: format!("pools[{}].name", pool.name),
            problem: format!(
                "has no entry in `autoscaler.{section}.pools`, which says how its machines are made"
            ),
        });
        let pools = || self.pools.iter().map(|pool| pool.name.as_str());
        let strangers = made.iter().filter(|name| !name.is_empty() && !pools().any(|pool| pool == **name));
        let strangers = strangers.map(|name| InvalidPolicy {
            field: format!("{section}.pools[{name}].name"),
            problem: format!("is no pool; `autoscaler.pools` has {}", pools().collect::<Vec<_>>().join(", ")),
        });
        without.chain(strangers).collect()
    }
}
