//! Tries, once and in the background, whether the libtorch worker starts.

use springtide_node_agent::Settings;
use springtide_node_agent::worker::{ProcessLauncher, WorkerEvent, WorkerLauncher, WorkerSpec};
use springtide_worker_protocol::WorkerKind;

/// What brings a worker here.
const REMEDY: &str = "run `cargo xtask setup`, then `cargo build -p springtide-torch-worker`, or say with --worker where it is";

/// Says on stderr when there is none, and what to do. The node goes on without it.
pub async fn check(settings: Settings) {
    if let Some(why) = problem(&settings).await {
        eprintln!("\nno libtorch worker: {why}.\nUntil then only the model `echo` runs here.");
    }
}

async fn problem(settings: &Settings) -> Option<String> {
    // On the CPU: it is the library that is tried, not a device.
    let spec = WorkerSpec { kind: WorkerKind::Torch, device: "cpu".to_owned() };
    let launcher = ProcessLauncher::new(&settings.node).ok()?;
    let mut worker = match launcher.launch(&spec) {
        Ok(worker) => worker,
        Err(error) => {
            let source = error.source.as_ref().map(|source| format!(" ({source})")).unwrap_or_default();
            return Some(format!("{}{source}; {REMEDY}", error.what));
        }
    };
    let first = tokio::time::timeout(settings.node.worker_start_timeout, worker.next()).await;
    match first {
        // It speaks.
        Ok(Some(WorkerEvent::Frame(_))) => None,
        Ok(Some(WorkerEvent::Exited(exit))) => {
            Some(format!("it does not start ({}); {REMEDY}", exit.describe()))
        }
        Ok(None) => Some(format!("it does not start; {REMEDY}")),
        Err(_) => Some(format!(
            "it was not ready after {} s (node.worker_start_timeout)",
            settings.node.worker_start_timeout.as_secs_f64()
        )),
    }
}
