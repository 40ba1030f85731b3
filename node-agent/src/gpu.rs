//! NVIDIA GPUs, by the driver's own library (NVML). It is loaded if it is there; without it there are no GPUs.

use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::{Device as NvmlDevice, Nvml};
use springtide_core::lane::Device;
use springtide_core::wire::DeviceFigures;

use crate::probe::Gpu;

/// The machine's GPUs. Numbered as CUDA does with `CUDA_DEVICE_ORDER=PCI_BUS_ID`.
#[derive(Debug)]
pub(crate) struct Gpus {
    nvml: Option<Nvml>,
}

impl Gpus {
    pub(crate) fn open() -> Self {
        let nvml = Nvml::init();
        if let Err(error) = &nvml {
            tracing::debug!(%error, "NVML is not there: this node has no GPU figures");
        }
        Self { nvml: nvml.ok() }
    }

    pub(crate) fn sample(&self, workers: &[u32]) -> Vec<Gpu> {
        let Some(nvml) = &self.nvml else { return Vec::new() };
        let count = nvml.device_count().unwrap_or(0);
        (0..count)
            .filter_map(|index| Some(figures(&nvml.device_by_index(index).ok()?, index, workers)))
            .collect()
    }
}

/// What the driver does not tell is zero.
fn figures(device: &NvmlDevice<'_>, index: u32, workers: &[u32]) -> Gpu {
    let memory = device.memory_info().ok();
    let used = memory.as_ref().map_or(0, |memory| memory.used);
    let figures = DeviceFigures {
        id: format!("cuda:{index}"),
        kind: Device::Cuda,
        name: device.name().unwrap_or_default(),
        utilization: device.utilization_rates().map_or(0.0, |rates| f64::from(rates.gpu) / 100.0),
        memory_used_bytes: used,
        memory_total_bytes: memory.map_or(0, |memory| memory.total),
    };
    let processes = device.running_compute_processes().unwrap_or_default();
    let processes: Vec<(u32, Option<u64>)> = processes
        .iter()
        .map(|process| match process.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => (process.pid, Some(bytes)),
            UsedGpuMemory::Unavailable => (process.pid, None),
        })
        .collect();
    Gpu { figures, foreign_memory_bytes: foreign(used, &processes, workers) }
}

/// Memory that others use. In a container the driver gives process ids of the host, or none: then nothing tells our
/// workers from others, and what may be ours counts as ours. Else a node would stop at its own first model.
fn foreign(used: u64, processes: &[(u32, Option<u64>)], workers: &[u32]) -> u64 {
    if workers.is_empty() {
        return used;
    }
    let ours: Vec<_> = processes.iter().filter(|(pid, _)| workers.contains(pid)).collect();
    if ours.is_empty() || ours.iter().any(|(_, bytes)| bytes.is_none()) {
        return 0;
    }
    used.saturating_sub(ours.iter().filter_map(|(_, bytes)| *bytes).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_surely_of_others_counts_as_theirs() {
        assert_eq!(foreign(10, &[(7, Some(6)), (8, Some(4))], &[7]), 4);
        assert_eq!(foreign(10, &[(8, Some(4))], &[]), 10);
        assert_eq!(foreign(10, &[(4711, Some(6))], &[7]), 0, "another pid namespace");
        assert_eq!(foreign(10, &[(7, None)], &[7]), 0);
    }
}
