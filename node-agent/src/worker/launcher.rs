//! Workers as child processes: which program is which worker.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use springtide_worker_protocol::WorkerKind;

use super::{LaunchError, Worker, WorkerLauncher, WorkerSpec, process};

/// The name of the torch worker's program.
const TORCH_WORKER: &str = "springtide-torch-worker";

/// The hidden subcommand that makes an agent's program an echo worker.
const ECHO_SUBCOMMAND: &str = "echo-worker";

/// A program and its first arguments.
#[derive(Clone, Debug)]
pub struct WorkerCommand {
    /// The program: a path, or a name that is looked up on `PATH`.
    pub program: PathBuf,
    /// Arguments, before those that name the device.
    pub args: Vec<OsString>,
}

/// Starts workers as child processes.
#[derive(Clone, Debug)]
pub struct ProcessLauncher {
    echo: WorkerCommand,
    torch: WorkerCommand,
}

impl ProcessLauncher {
    /// The echo worker is this program itself, with the subcommand `echo-worker`. The torch worker is at `worker`, or if
    /// that is empty beside this program, or else on `PATH`.
    pub fn new(worker: &str) -> std::io::Result<Self> {
        let own = std::env::current_exe()?;
        let beside = own.parent().map(|dir| dir.join(TORCH_WORKER)).filter(|path| path.is_file());
        let torch = match worker {
            "" => beside.unwrap_or_else(|| PathBuf::from(TORCH_WORKER)),
            path => PathBuf::from(path),
        };
        let echo = WorkerCommand { program: own, args: vec![ECHO_SUBCOMMAND.into()] };
        Ok(Self::with_commands(echo, WorkerCommand { program: torch, args: Vec::new() }))
    }

    /// Other programs, for tests.
    pub const fn with_commands(echo: WorkerCommand, torch: WorkerCommand) -> Self {
        Self { echo, torch }
    }
}

impl WorkerLauncher for ProcessLauncher {
    fn launch(&self, spec: &WorkerSpec) -> Result<Worker, LaunchError> {
        let (command, device) = match spec.kind {
            WorkerKind::Echo => (&self.echo, Vec::new()),
            WorkerKind::Torch => {
                (&self.torch, vec![OsString::from("--device"), OsString::from(&spec.device)])
            }
        };
        process::spawn(spec, command, &device).map_err(|source| LaunchError {
            what: format!("the {spec} ({})", command.program.display()),
            remedy: remedy(spec.kind, &command.program),
            source: Some(source),
        })
    }
}

/// What to do about a worker that does not start.
fn remedy(kind: WorkerKind, program: &Path) -> String {
    match kind {
        WorkerKind::Echo => format!("see that {} is still there and may be run", program.display()),
        WorkerKind::Torch => {
            "run `cargo xtask setup`, then `cargo build -p springtide-torch-worker`, or say with \
                              node.worker where it is"
                .to_owned()
        }
    }
}
