//! Agents as child processes.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use futures::future::BoxFuture;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{AgentOrder, Agents};

/// The name of the agent's program.
const AGENT: &str = "springtide-node-agent";

/// Starts agents as child processes, with this process's environment and a node of their own. They end when this process
/// does, however it ends: their standard input ends with it.
#[derive(Clone, Debug)]
pub struct AgentProcesses {
    /// The program.
    pub program: PathBuf,
    /// Its first arguments.
    pub arguments: Vec<OsString>,
    /// Variables beside those of this process.
    pub environment: Vec<(String, String)>,
    /// How long an agent that was told to end may take before it is killed.
    pub stop_timeout: Duration,
}

impl AgentProcesses {
    /// The agent where the configuration says, or if that is empty beside this program, or else on `PATH`.
    pub fn new(
        agent: &str,
        config: Option<&std::path::Path>,
        stop_timeout: Duration,
    ) -> std::io::Result<Self> {
        let own = std::env::current_exe()?;
        let beside = own.parent().map(|dir| dir.join(AGENT)).filter(|path| path.is_file());
        let program = match agent {
            "" => beside.unwrap_or_else(|| PathBuf::from(AGENT)),
            path => PathBuf::from(path),
        };
        let mut arguments: Vec<OsString> = vec!["--end-with-stdin".into()];
        if let Some(path) = config {
            arguments.extend(["--config".into(), path.as_os_str().to_owned()]);
        }
        Ok(Self { program, arguments, environment: Vec::new(), stop_timeout })
    }
}

impl Agents for AgentProcesses {
    fn start(&self, order: &AgentOrder, stop: CancellationToken) -> std::io::Result<BoxFuture<'static, ()>> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(self.environment.iter().cloned());
        command.env("SPRINGTIDE__NODE__ID", order.node.as_str());
        command.env("SPRINGTIDE__NODE__POOL", &order.pool);
        command.env("SPRINGTIDE__NODE__LANE", order.lane.as_str());
        command.env("SPRINGTIDE__NODE__MAX_CONCURRENT_TASKS", order.slots.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
        let child = command.spawn().map_err(|error| {
            let text = format!(
                "{} can't be started: {error}; say with autoscaler.local.agent where it is",
                self.program.display()
            );
            std::io::Error::new(error.kind(), text)
        })?;
        Ok(Box::pin(live(child, stop, self.stop_timeout)))
    }
}

/// Until the child has ended, by itself or because it was told to.
async fn live(mut child: Child, stop: CancellationToken, limit: Duration) {
    // Waiting for a child closes its standard input, which would end it.
    let _stdin = child.stdin.take();
    tokio::select! {
        status = child.wait() => {
            tracing::warn!(?status, "an agent has ended by itself");
            return;
        }
        () = stop.cancelled() => {}
    }
    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(pid) = pid {
        // It may have ended just now.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    if timeout(limit, child.wait()).await.is_err() {
        tracing::warn!(?limit, "an agent had not ended in time, and is killed");
        let _ = child.kill().await;
    }
}
