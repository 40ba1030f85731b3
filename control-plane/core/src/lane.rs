//! Lanes, and which of them a task fits.

use serde::{Deserialize, Serialize};

use crate::id::LaneName;

/// The kind of device that runs tasks.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// The host's processor.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

impl Device {
    /// Its name in the API, in metrics and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

/// The device that a task asks for.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum DeviceRequest {
    /// Only the host's processor.
    Cpu,
    /// Only an NVIDIA GPU.
    Cuda,
    /// Wherever there is room.
    #[default]
    Any,
}

impl DeviceRequest {
    /// Its name in the API, in metrics and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Any => "any",
        }
    }

    /// The request of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Cpu, Self::Cuda, Self::Any].into_iter().find(|request| request.as_str() == name)
    }

    /// Whether a device of this kind will do.
    pub fn accepts(self, device: Device) -> bool {
        match self {
            Self::Any => true,
            Self::Cpu => device == Device::Cpu,
            Self::Cuda => device == Device::Cuda,
        }
    }
}

/// What a task needs of the machine that runs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// The kind of device.
    #[serde(default)]
    pub device: DeviceRequest,
    /// GPU memory, in bytes; 0: does not matter.
    #[serde(default)]
    pub gpu_memory_bytes: u64,
}

/// A class of machine and the queue that serves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lane {
    /// Its name; its queue is `springtide.lane.<name>`.
    pub name: LaneName,
    /// The kind of device that its machines have.
    pub device: Device,
    /// The GPU memory of each of its devices, in bytes; 0 for `cpu`.
    #[serde(default)]
    pub gpu_memory_bytes: u64,
}

impl Lane {
    /// Whether a task with these needs can run here. The declared GPU memory binds only where there is a GPU.
    pub fn fits(&self, need: Resources) -> bool {
        need.device.accepts(self.device)
            && (self.device == Device::Cpu || self.gpu_memory_bytes >= need.gpu_memory_bytes)
    }
}

/// All lanes of an installation, smallest first: CPU lanes before GPU lanes, less memory before more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lanes(Vec<Lane>);

/// The configured lanes can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidLanes {
    /// There is none.
    #[error(
        "`control_plane.lanes` is empty: at least one lane is needed, for example {{ name = \"cpu\", device = \"cpu\" }}"
    )]
    Empty,
    /// Two have the same name.
    #[error("`control_plane.lanes` names `{0}` twice: each lane needs a name of its own")]
    Twice(LaneName),
}

impl<'a> IntoIterator for &'a Lanes {
    type Item = &'a Lane;
    type IntoIter = std::slice::Iter<'a, Lane>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Lanes {
    /// Sorts and checks the configured lanes.
    pub fn new(mut lanes: Vec<Lane>) -> Result<Self, InvalidLanes> {
        if lanes.is_empty() {
            return Err(InvalidLanes::Empty);
        }
        lanes.sort_by(|a, b| {
            (a.device, a.gpu_memory_bytes, &a.name).cmp(&(b.device, b.gpu_memory_bytes, &b.name))
        });
        for (at, lane) in lanes.iter().enumerate() {
            if lanes[..at].iter().any(|other| other.name == lane.name) {
                return Err(InvalidLanes::Twice(lane.name.clone()));
            }
        }
        Ok(Self(lanes))
    }

    /// All of them, smallest first.
    pub fn iter(&self) -> std::slice::Iter<'_, Lane> {
        self.0.iter()
    }

    /// The lane of this name.
    pub fn get(&self, name: &LaneName) -> Option<&Lane> {
        self.0.iter().find(|lane| &lane.name == name)
    }

    /// The lanes that fit, smallest first.
    pub fn fitting(&self, need: Resources) -> impl Iterator<Item = &Lane> {
        self.0.iter().filter(move |lane| lane.fits(need))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(name: &str, device: Device, gib: u64) -> Lane {
        Lane { name: name.parse().unwrap(), device, gpu_memory_bytes: gib << 30 }
    }

    #[test]
    fn the_smallest_lane_that_fits_comes_first() {
        let lanes = Lanes::new(vec![
            lane("gpu-80g", Device::Cuda, 80),
            lane("cpu", Device::Cpu, 0),
            lane("gpu-24g", Device::Cuda, 24),
        ])
        .unwrap();
        let fit = |device, gib: u64| {
            let need = Resources { device, gpu_memory_bytes: gib << 30 };
            lanes.fitting(need).map(|lane| lane.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(fit(DeviceRequest::Cuda, 10), ["gpu-24g", "gpu-80g"]);
        assert_eq!(fit(DeviceRequest::Cuda, 40), ["gpu-80g"]);
        assert_eq!(fit(DeviceRequest::Any, 40), ["cpu", "gpu-80g"]);
        assert_eq!(fit(DeviceRequest::Cuda, 100), [""; 0]);
    }
}
