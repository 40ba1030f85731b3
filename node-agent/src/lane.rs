//! Which devices a node uses and which lane it serves, from its configuration and from what the machine has. Pure.

use springtide_core::LaneName;
use springtide_core::lane::{Device, Lane, Lanes};

use crate::config::Config;
use crate::probe::Gpu;

/// What a node is made for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Role {
    pub(crate) lane: LaneName,
    /// `cpu`, `cuda:0`, …; one worker for each.
    pub(crate) devices: Vec<String>,
    /// How much of the smallest device's memory the lane asks for, 0 to 1.
    pub(crate) fit: f64,
}

/// No lane can be served as the configuration asks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoLane {
    /// `node.lane` names none.
    #[error("node.lane is `{name}`, and control_plane.lanes has {}; use one of these, or `auto`", .known.join(", "))]
    Unknown {
        /// As configured.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// `node.devices` names something that is no device.
    #[error("node.devices has `{0}`; use auto, cpu, cuda:0, cuda:1, …")]
    Device(String),
    /// None is made for these devices.
    #[error("no lane of control_plane.lanes is for the devices {}; add one, or set node.devices", .0.join(", "))]
    NoneFits(Vec<String>),
}

impl Role {
    /// Chooses. Under `auto` the GPUs are used if there is a lane for them, else the CPU; the lane is the largest that
    /// the smallest of the devices serves.
    pub(crate) fn choose(config: &Config, lanes: &Lanes, gpus: &[Gpu]) -> Result<Self, NoLane> {
        let named = lanes.iter().find(|lane| lane.name.as_str() == config.lane);
        if named.is_none() && config.lane != "auto" {
            let known = lanes.iter().map(|lane| lane.name.to_string()).collect();
            return Err(NoLane::Unknown { name: config.lane.clone(), known });
        }
        let candidates = if config.devices.iter().any(|device| device == "auto") {
            let all: Vec<String> = gpus.iter().map(|gpu| gpu.figures.id.clone()).collect();
            vec![all, vec!["cpu".to_owned()]]
        } else {
            check_names(&config.devices)?;
            vec![config.devices.clone()]
        };
        for devices in candidates.iter().filter(|devices| !devices.is_empty()) {
            let memory = smallest_memory(devices, gpus);
            let largest = || lanes.iter().rfind(|lane| serves(lane, devices, memory));
            // A lane that is named is believed: the driver may not say how much memory there is.
            let lane = match named {
                Some(lane) => Some(lane).filter(|lane| lane.device == kind(devices) || candidates.len() == 1),
                None => largest(),
            };
            if let Some(lane) = lane {
                let fit = if memory == 0 { 1.0 } else { lane.gpu_memory_bytes as f64 / memory as f64 };
                return Ok(Self { lane: lane.name.clone(), devices: devices.clone(), fit });
            }
        }
        Err(NoLane::NoneFits(candidates.concat()))
    }
}

fn check_names(devices: &[String]) -> Result<(), NoLane> {
    let good = |device: &str| {
        device == "cpu" || device.strip_prefix("cuda:").is_some_and(|index| index.parse::<u16>().is_ok())
    };
    match devices.iter().find(|device| !good(device)) {
        Some(bad) => Err(NoLane::Device(bad.clone())),
        None if devices.is_empty() => Err(NoLane::Device(String::new())),
        None => Ok(()),
    }
}

/// A node with a GPU is a GPU node.
fn kind(devices: &[String]) -> Device {
    if devices.iter().any(|device| device != "cpu") { Device::Cuda } else { Device::Cpu }
}

fn smallest_memory(devices: &[String], gpus: &[Gpu]) -> u64 {
    let memory = |device: &String| {
        gpus.iter().find(|gpu| &gpu.figures.id == device).map(|gpu| gpu.figures.memory_total_bytes)
    };
    devices
        .iter()
        .filter(|device| *device != "cpu")
        .map(|device| memory(device).unwrap_or(0))
        .min()
        .unwrap_or(0)
}

fn serves(lane: &Lane, devices: &[String], memory: u64) -> bool {
    lane.device == kind(devices) && (lane.device == Device::Cpu || lane.gpu_memory_bytes <= memory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use springtide_core::wire::DeviceFigures;
    use springtide_process::config::Layers;

    fn gpu(index: u32, gib: u64) -> Gpu {
        let figures = DeviceFigures {
            id: format!("cuda:{index}"),
            kind: Device::Cuda,
            name: String::new(),
            utilization: 0.0,
            memory_used_bytes: 0,
            memory_total_bytes: gib << 30,
        };
        Gpu { figures, foreign_memory_bytes: 0 }
    }

    fn choose(lane: &str, devices: &[&str], gpus: &[Gpu]) -> Result<(String, Vec<String>), NoLane> {
        let Settings { mut node, lanes, .. } = Settings::from_layers(&Layers::defaults()).unwrap();
        node.lane = lane.to_owned();
        node.devices = devices.iter().map(|&device| device.to_owned()).collect();
        Role::choose(&node, &lanes, gpus).map(|role| (role.lane.to_string(), role.devices))
    }

    #[test]
    fn auto_takes_the_largest_lane_that_the_devices_serve() {
        let auto = |gpus: &[Gpu]| choose("auto", &["auto"], gpus).unwrap();
        assert_eq!(auto(&[]), ("cpu".into(), vec!["cpu".into()]));
        assert_eq!(auto(&[gpu(0, 23)]), ("gpu-24g".into(), vec!["cuda:0".into()]));
        assert_eq!(auto(&[gpu(0, 140)]), ("gpu-80g".into(), vec!["cuda:0".into()]));
        assert_eq!(auto(&[gpu(0, 140), gpu(1, 24)]).0, "gpu-24g", "the smallest device decides");
        assert_eq!(auto(&[gpu(0, 8)]), ("cpu".into(), vec!["cpu".into()]), "no lane for so small a GPU");
    }

    #[test]
    fn what_is_named_is_used() {
        assert_eq!(choose("cpu", &["auto"], &[gpu(0, 24)]).unwrap(), ("cpu".into(), vec!["cpu".into()]));
        assert_eq!(choose("auto", &["cpu"], &[gpu(0, 24)]).unwrap().0, "cpu");
        assert_eq!(choose("gpu-24g", &["cuda:0"], &[]).unwrap().0, "gpu-24g", "even if NVML is not there");
    }

    #[test]
    fn what_cannot_be_is_said() {
        let error = choose("gpu-9000", &["auto"], &[]).unwrap_err().to_string();
        assert!(error.contains("gpu-9000") && error.contains("gpu-24g"), "{error}");
        assert!(choose("auto", &["cuda"], &[]).unwrap_err().to_string().contains("cuda:0"));
        assert!(matches!(choose("auto", &["cuda:3"], &[]), Err(NoLane::NoneFits(_))));
        assert!(matches!(choose("gpu-24g", &["auto"], &[]), Err(NoLane::NoneFits(_))));
    }
}
