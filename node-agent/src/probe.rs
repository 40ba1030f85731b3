//! What is measured of the machine.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use springtide_core::wire::{DeviceFigures, HostFigures};

use crate::gpu::Gpus;
use crate::host::Host;

/// The machine at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// The host.
    pub host: HostFigures,
    /// Share of the host's CPU that is used by others than this process and its workers, 0 to 1.
    pub foreign_cpu: f64,
    /// Its GPUs, in the driver's order.
    pub gpus: Vec<Gpu>,
}

/// One GPU at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Gpu {
    /// What heartbeats say of it.
    pub figures: DeviceFigures,
    /// Memory used by others than this process's workers.
    pub foreign_memory_bytes: u64,
}

/// Measures the machine: [`SystemProbe`] the real one, [`FixedProbe`] one that is made up.
pub trait Probe: Send {
    /// A new measurement. `workers` are the process ids of the agent's workers.
    fn sample(&mut self, workers: &[u32]) -> Figures;
}

/// The real machine, by `/proc` and, where the driver's library is there, NVML. Measured on a thread of its own, since
/// a driver may take its time: a sample is what was measured last, and asks for the next.
#[derive(Debug)]
pub struct SystemProbe {
    latest: Arc<Mutex<Figures>>,
    asked: SyncSender<Vec<u32>>,
}

impl SystemProbe {
    /// Looks for GPUs and measures once.
    pub fn new() -> std::io::Result<Self> {
        let (mut host, gpus) = (Host::new()?, Gpus::open());
        let mut measure = move |workers: &[u32]| {
            let (host, foreign_cpu) = host.sample(workers);
            Figures { host, foreign_cpu, gpus: gpus.sample(workers) }
        };
        let latest = Arc::new(Mutex::new(measure(&[])));
        let (asked, asks) = sync_channel::<Vec<u32>>(1);
        let measured = Arc::clone(&latest);
        // Ends with the probe, whose end of the channel it waits at.
        std::thread::Builder::new().name("probe".to_owned()).spawn(move || {
            while let Ok(workers) = asks.recv() {
                let figures = measure(&workers);
                *measured.lock().unwrap_or_else(PoisonError::into_inner) = figures;
            }
        })?;
        Ok(Self { latest, asked })
    }
}

impl Probe for SystemProbe {
    fn sample(&mut self, workers: &[u32]) -> Figures {
        // A full channel: it still measures.
        let _ = self.asked.try_send(workers.to_vec());
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A machine whose figures are set from outside. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct FixedProbe(Arc<Mutex<Figures>>);

impl FixedProbe {
    /// A machine with these figures.
    pub fn new(figures: Figures) -> Self {
        Self(Arc::new(Mutex::new(figures)))
    }

    /// Changes them.
    pub fn set(&self, figures: Figures) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = figures;
    }
}

impl Probe for FixedProbe {
    fn sample(&mut self, _workers: &[u32]) -> Figures {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
