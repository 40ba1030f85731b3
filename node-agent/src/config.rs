//! The section `[node]` of the configuration, and what an agent needs of the others.

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use springtide_core::lane::{Lane, Lanes};
use springtide_process::config::{Error, Layers, Problem, duration, size};

use crate::strategy::Strategy;

/// `[node]`: what an agent is and how it behaves. Defaults and their reasons stand in `configs/default.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The node's id; empty: the host's name and a number that is kept in the data directory.
    pub id: String,
    /// The pool that an autoscaler started it for; empty: none.
    pub pool: String,
    /// `auto`, or the name of a lane.
    pub lane: String,
    /// `auto`, or any of `cpu`, `cuda:0`, `cuda:1`, …
    pub devices: Vec<String>,
    /// Slots: the most tasks held at once.
    pub max_concurrent_tasks: NonZeroU16,
    /// How the broker shares tasks between the nodes of a lane.
    pub load_balancing_strategy: Strategy,
    /// Share of a device's memory that others may use before no new task is taken.
    pub gpu_memory_threshold: f64,
    /// Share of the host's CPU that others may use before no new task is taken.
    pub cpu_usage_threshold: f64,
    /// How far below a threshold the share has to fall before tasks are taken again.
    pub threshold_hysteresis: f64,
    /// How often the node says how it is.
    #[serde(with = "duration")]
    pub heartbeat_interval: Duration,
    /// Most events in one message.
    pub report_batch: usize,
    /// How long a task that has to run alone waits for its neighbours.
    #[serde(with = "duration")]
    pub solo_wait: Duration,
    /// How long a stop waits for what runs.
    #[serde(with = "duration")]
    pub drain_timeout: Duration,
    /// Different tasks that fail in a row before the node pauses itself.
    pub failures_before_pause: usize,
    /// The first such pause; doubles while nothing succeeds.
    #[serde(with = "duration")]
    pub pause_min: Duration,
    /// Where that doubling ends.
    #[serde(with = "duration")]
    pub pause_max: Duration,
    /// Directory of cached models; empty: inside the data directory.
    pub cache_dir: String,
    /// Size of that cache.
    #[serde(with = "size")]
    pub cache_bytes: u64,
    /// One model from the object store.
    #[serde(with = "duration")]
    pub fetch_timeout: Duration,
    /// One output to the object store, retries included.
    #[serde(with = "duration")]
    pub upload_timeout: Duration,
    /// Between two checkpoints of a run; zero: none by time.
    #[serde(with = "duration")]
    pub checkpoint_interval: Duration,
    /// Steps between two checkpoints of a run; zero: none by steps.
    pub checkpoint_every_steps: u32,
    /// One checkpoint to or from the object store.
    #[serde(with = "duration")]
    pub checkpoint_timeout: Duration,
    /// Path of `springtide-torch-worker`; empty: beside this binary, else on `PATH`.
    pub worker: String,
    /// Threads of one operation of a worker on a CPU; zero: as many as there are cores.
    pub worker_threads: u16,
    /// Most files that a worker has open; zero: no limit of its own.
    pub worker_files: u64,
    /// Most address space of a worker on a CPU; zero: no limit.
    #[serde(with = "size")]
    pub worker_memory_bytes: u64,
    /// Whether workers are kept from making sockets.
    pub worker_seccomp: bool,
    /// Until a new worker says that it is ready.
    #[serde(with = "duration")]
    pub worker_start_timeout: Duration,
    /// Models that a worker keeps on its device.
    pub max_loaded_models: usize,
    /// One model into a worker.
    #[serde(with = "duration")]
    pub load_timeout: Duration,
    /// How long a cancelled run may take to stop before its worker is killed.
    #[serde(with = "duration")]
    pub cancel_grace: Duration,
}

/// All configuration that an agent uses.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `[node]`.
    pub node: Config,
    /// `control_plane.lanes`.
    pub lanes: Lanes,
    /// `broker.ack_timeout`.
    pub ack_timeout: Duration,
    /// `data_dir`.
    pub data_dir: PathBuf,
}

impl Settings {
    /// Reads and checks them.
    pub fn from_layers(layers: &Layers) -> Result<Self, Error> {
        let lanes: Vec<Lane> = layers.section("control_plane.lanes")?;
        let lanes = Lanes::new(lanes).map_err(|e| wrong(layers, "control_plane.lanes", e.to_string()))?;
        let ack_timeout =
            layers.section::<springtide_process::config::sections::Broker>("broker")?.ack_timeout;
        let node: Config = layers.section("node")?;
        node.check(layers)?;
        Ok(Self { node, lanes, ack_timeout, data_dir: layers.data_dir() })
    }

    /// Where models are cached.
    pub fn cache_dir(&self) -> PathBuf {
        if self.node.cache_dir.is_empty() {
            self.data_dir.join("models")
        } else {
            PathBuf::from(&self.node.cache_dir)
        }
    }

    /// Slots, as a count.
    pub fn slots(&self) -> usize {
        usize::from(self.node.max_concurrent_tasks.get())
    }
}

impl Config {
    fn check(&self, layers: &Layers) -> Result<(), Error> {
        for (key, share) in [
            ("node.gpu_memory_threshold", self.gpu_memory_threshold),
            ("node.cpu_usage_threshold", self.cpu_usage_threshold),
        ] {
            if !(share > 0.0 && share <= 1.0) {
                return Err(wrong(
                    layers,
                    key,
                    format!("{share} is no share; use more than 0 and at most 1"),
                ));
            }
        }
        if !(0.0..1.0).contains(&self.threshold_hysteresis) {
            return Err(wrong(
                layers,
                "node.threshold_hysteresis",
                "use 0 or more, and less than 1".to_owned(),
            ));
        }
        if self.heartbeat_interval.is_zero() {
            return Err(wrong(layers, "node.heartbeat_interval", "must be more than 0".to_owned()));
        }
        for (key, count) in [
            ("node.report_batch", self.report_batch),
            ("node.max_loaded_models", self.max_loaded_models),
            ("node.failures_before_pause", self.failures_before_pause),
        ] {
            if count == 0 {
                return Err(wrong(layers, key, "must be at least 1".to_owned()));
            }
        }
        Ok(())
    }
}

fn wrong(layers: &Layers, key: &str, message: String) -> Error {
    Error::Invalid(vec![Problem::WrongValue { key: key.to_owned(), origin: layers.origin_of(key), message }])
}

#[cfg(test)]
mod tests {
    use super::*;
    use springtide_process::config::{Origin, Override, Sources};

    fn with(overrides: &[&str]) -> Result<Settings, Error> {
        let overrides = overrides.iter().map(|text| Override::parse(text).unwrap()).collect();
        Settings::from_layers(&Layers::load(&Sources { overrides, ..Sources::default() }).unwrap())
    }

    #[test]
    fn the_defaults_are_read() {
        let settings = with(&[]).unwrap();
        assert_eq!(settings.slots(), 2);
        assert_eq!(settings.node.heartbeat_interval, Duration::from_secs(5));
        assert_eq!(settings.ack_timeout, Duration::from_secs(1800));
        assert_eq!(settings.cache_dir(), PathBuf::from("springtide-data/models"));
        assert!(matches!(Layers::defaults().origin_of("node.lane"), Origin::Default));
    }

    #[test]
    fn a_value_that_cannot_work_is_named() {
        for bad in ["node.gpu_memory_threshold=1.5", "node.heartbeat_interval=0s", "node.report_batch=0"] {
            let error = with(&[bad]).unwrap_err().to_string();
            assert!(error.contains(bad.split('=').next().unwrap()), "{error}");
        }
    }
}
