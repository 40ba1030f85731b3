//! The host's figures, and how much of its CPU is used by others.

use springtide_core::wire::HostFigures;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// Reads `/proc`.
#[derive(Debug)]
pub(crate) struct Host {
    system: System,
    own: Pid,
}

impl Host {
    pub(crate) fn new() -> std::io::Result<Self> {
        let system = System::new().map_err(|e| std::io::Error::other(e.to_string()))?;
        Ok(Self { system, own: Pid::from_u32(std::process::id()) })
    }

    /// Figures since the last sample, and the share of the CPU that neither this process nor its workers used.
    pub(crate) fn sample(&mut self, workers: &[u32]) -> (HostFigures, f64) {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        let mut ours = vec![self.own];
        ours.extend(workers.iter().copied().map(Pid::from_u32));
        let kind = ProcessRefreshKind::nothing().with_cpu();
        self.system.refresh_processes_specifics(ProcessesToUpdate::Some(&ours), true, kind);
        let cores = self.system.cpus().len().max(1);
        let all = f64::from(self.system.global_cpu_usage()) / 100.0;
        // sysinfo gives a process's use in percent of one core.
        let used = |pid| self.system.process(pid).map_or(0.0, |process| f64::from(process.cpu_usage()));
        let own = ours.iter().copied().map(used).sum::<f64>() / 100.0 / cores as f64;
        let figures = HostFigures {
            cpu: all.clamp(0.0, 1.0),
            cores: u32::try_from(cores).unwrap_or(u32::MAX),
            memory_used_bytes: self.system.used_memory(),
            memory_total_bytes: self.system.total_memory(),
        };
        (figures, (all - own).clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_those_of_a_machine() {
        let mut host = Host::new().unwrap();
        let (figures, foreign) = host.sample(&[]);
        assert!(figures.cores >= 1);
        assert!(figures.memory_total_bytes >= figures.memory_used_bytes && figures.memory_used_bytes > 0);
        assert!((0.0..=1.0).contains(&figures.cpu) && (0.0..=1.0).contains(&foreign));
    }
}
