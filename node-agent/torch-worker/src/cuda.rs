//! Devices: which one to use, and CUDA, which is loaded only where it is asked for.
//!
//! The binary is linked against libtorch's CPU half alone. `libtorch_cuda.so` registers itself with it when it is
//! loaded; so one binary serves machines with and without a GPU, and a CPU worker does not pay for CUDA's libraries.

#![allow(unsafe_code, reason = "loading a library and calling the CUDA driver are calls to foreign code")]

use std::ffi::{CStr, c_char, c_int};
use std::str::FromStr;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use springtide_worker_protocol::{Device, DeviceKind};

use crate::Failure;

/// `cpu` or `cuda:N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnyDevice {
    /// The processors.
    Cpu,
    /// The GPU of this number.
    Cuda(u32),
}

/// A device's name was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no device; use `cpu` or `cuda:0`, `cuda:1`, …")]
pub struct InvalidDevice(String);

impl FromStr for AnyDevice {
    type Err = InvalidDevice;

    fn from_str(text: &str) -> Result<Self, InvalidDevice> {
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", index)) => index.parse().map(Self::Cuda).map_err(|_| InvalidDevice(text.into())),
            _ => Err(InvalidDevice(text.into())),
        }
    }
}

impl AnyDevice {
    /// Makes it usable: loads CUDA if need be.
    pub fn open(self) -> Result<tch::Device, Failure> {
        let Self::Cuda(index) = self else { return Ok(tch::Device::Cpu) };
        load("libtorch_cuda.so")
            .map_err(|error| Failure::device(format!("this libtorch cannot use CUDA: {error}")))?;
        let count = tch::Cuda::device_count();
        if i64::from(index) >= count {
            return Err(Failure::device(format!(
                "there is no cuda:{index}; this machine has {count} usable GPUs"
            )));
        }
        Ok(tch::Device::Cuda(index as usize))
    }

    /// As the agent is told.
    pub fn describe(self) -> Device {
        match self {
            Self::Cpu => {
                Device { kind: DeviceKind::Cpu, index: 0, name: processor_name(), memory_bytes: None }
            }
            Self::Cuda(index) => {
                let (name, memory_bytes) =
                    driver_facts(index).unwrap_or_else(|| ("CUDA device".into(), None));
                Device { kind: DeviceKind::Cuda, index, name, memory_bytes }
            }
        }
    }
}

/// Loads a library for good, with its symbols visible to those that come later.
fn load(name: &str) -> Result<&'static Library, libloading::Error> {
    // SAFETY: the library's initialisers are libtorch's or the driver's own; they ask nothing of their caller.
    let library = unsafe { Library::open(Some(name), RTLD_NOW | RTLD_GLOBAL) }?;
    Ok(Box::leak(Box::new(library)))
}

fn processor_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(": "))
        .map_or_else(|| std::env::consts::ARCH.into(), |(_, name)| name.into())
}

/// Name and memory of a GPU, from the CUDA driver API (`cuDeviceGetName`, `cuDeviceTotalMem_v2`).
fn driver_facts(index: u32) -> Option<(String, Option<u64>)> {
    type Init = unsafe extern "C" fn(u32) -> c_int;
    type Get = unsafe extern "C" fn(*mut c_int, c_int) -> c_int;
    type Name = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int;
    type Memory = unsafe extern "C" fn(*mut usize, c_int) -> c_int;

    let driver = load("libcuda.so.1").ok()?;
    let (mut device, mut name, mut bytes) = (0, [0; 256], 0_usize);
    // SAFETY: the signatures are those of cuda.h, the pointers are to locals that outlive the calls, and the name's
    // length is given. `name` stays terminated: the driver is told one byte less than there is.
    unsafe {
        let init = driver.get::<Init>(b"cuInit\0").ok()?;
        let get = driver.get::<Get>(b"cuDeviceGet\0").ok()?;
        let get_name = driver.get::<Name>(b"cuDeviceGetName\0").ok()?;
        let get_memory = driver.get::<Memory>(b"cuDeviceTotalMem_v2\0").ok()?;
        if init(0) != 0 || get(&raw mut device, index as c_int) != 0 {
            return None;
        }
        if get_name(name.as_mut_ptr(), 255, device) != 0 {
            return None;
        }
        let known = get_memory(&raw mut bytes, device) == 0;
        let name = CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned();
        Some((name, known.then_some(bytes as u64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_devices() {
        assert_eq!("cpu".parse(), Ok(AnyDevice::Cpu));
        assert_eq!("cuda".parse(), Ok(AnyDevice::Cuda(0)));
        assert_eq!("cuda:3".parse(), Ok(AnyDevice::Cuda(3)));
        for wrong in ["", "gpu", "cuda:", "cuda:-1", "cpu:0"] {
            assert!(wrong.parse::<AnyDevice>().is_err(), "{wrong}");
        }
    }
}
