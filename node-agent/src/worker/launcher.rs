//! Workers as child processes: which program is which worker.

use std::ffi::OsString;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use springtide_core::lane::Device;
use springtide_worker_confinement::{Confinement, Sockets};
use springtide_worker_protocol::WorkerKind;

use crate::config::Config;

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
    /// Arguments, before those that the agent adds.
    pub args: Vec<OsString>,
}

/// Starts workers as child processes.
#[derive(Clone, Debug)]
pub struct ProcessLauncher {
    echo: WorkerCommand,
    torch: WorkerCommand,
    rule: WorkerRule,
}

/// What workers are given, and what is taken from them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerRule {
    /// Threads of one operation on a CPU; libtorch's own choice if absent.
    pub threads: Option<NonZeroU16>,
    /// Most files open at once.
    pub files: Option<u64>,
    /// Most address space of a worker on a CPU, in bytes. CUDA maps huge ranges that it never uses.
    pub memory_bytes: Option<u64>,
    /// Whether they can make sockets.
    pub network: Network,
}

/// Whether a worker can make sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// It can.
    #[default]
    Open,
    /// It can't; but for those of the machine itself, where CUDA's driver may need them.
    Closed,
}

impl WorkerRule {
    /// As configured.
    pub fn of(config: &Config) -> Self {
        let limit = |value: u64| (value > 0).then_some(value);
        Self {
            threads: NonZeroU16::new(config.worker_threads),
            files: limit(config.worker_files),
            memory_bytes: limit(config.worker_memory_bytes),
            network: if config.worker_seccomp { Network::Closed } else { Network::Open },
        }
    }

    fn confinement(&self, spec: &WorkerSpec) -> Confinement {
        let on_cpu = spec.device_kind() == Device::Cpu;
        Confinement {
            max_files: self.files,
            max_memory_bytes: self.memory_bytes.filter(|_| on_cpu),
            sockets: match self.network {
                Network::Open => Sockets::Any,
                Network::Closed if on_cpu => Sockets::None,
                Network::Closed => Sockets::Local,
            },
        }
    }

    fn arguments(&self, spec: &WorkerSpec) -> Vec<OsString> {
        let mut arguments = Vec::new();
        if spec.kind == WorkerKind::Torch {
            arguments.extend(["--device".into(), OsString::from(&spec.device)]);
            let threads = self.threads.map(|threads| ["--threads".into(), threads.to_string().into()]);
            arguments.extend(threads.into_iter().flatten());
        }
        arguments.extend(self.confinement(spec).arguments());
        arguments
    }
}

impl ProcessLauncher {
    /// The echo worker is this program itself, with the subcommand `echo-worker`. The torch worker is where the
    /// configuration says, or if that is empty beside this program, or else on `PATH`.
    pub fn new(config: &Config) -> std::io::Result<Self> {
        let own = std::env::current_exe()?;
        let beside = own.parent().map(|dir| dir.join(TORCH_WORKER)).filter(|path| path.is_file());
        let torch = match config.worker.as_str() {
            "" => beside.unwrap_or_else(|| PathBuf::from(TORCH_WORKER)),
            path => PathBuf::from(path),
        };
        let echo = WorkerCommand { program: own, args: vec![ECHO_SUBCOMMAND.into()] };
        let torch = WorkerCommand { program: torch, args: Vec::new() };
        Ok(Self { echo, torch, rule: WorkerRule::of(config) })
    }

    /// Other programs, for tests.
    pub const fn with_commands(echo: WorkerCommand, torch: WorkerCommand, rule: WorkerRule) -> Self {
        Self { echo, torch, rule }
    }
}

impl WorkerLauncher for ProcessLauncher {
    fn launch(&self, spec: &WorkerSpec) -> Result<Worker, LaunchError> {
        let command = match spec.kind {
            WorkerKind::Echo => &self.echo,
            WorkerKind::Torch => &self.torch,
        };
        process::spawn(spec, command, &self.rule.arguments(spec)).map_err(|source| LaunchError {
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
