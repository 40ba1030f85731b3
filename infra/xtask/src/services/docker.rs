//! A Docker daemon of our own: own data, socket and containerd, no bridge, no rules in the machine's firewall (containers
//! use the network of the host, or none). It runs in namespaces for processes and mounts, so that its containers and
//! their mounts end with it, however it ends. Needs root.

use super::{Availability, Running};
use crate::process::{self, Background};
use crate::{install, workspace};
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const START_LIMIT: Duration = Duration::from_secs(60);
/// Namespaces that end with their first process, the daemon.
const APART: [&str; 5] = ["--mount", "--pid", "--fork", "--mount-proc", "--kill-child"];

/// Sees to it that Docker is installed, and that it could work here.
pub fn prepare() -> Result<Availability> {
    if !workspace::is_root() {
        return Ok(Availability::Missing("dockerd needs root".to_owned()));
    }
    if process::output(Command::new("unshare").args(APART).arg("true")).is_err() {
        return Ok(Availability::Missing("this container may not make namespaces".to_owned()));
    }
    let is_there = |program| workspace::find_on_path(program).is_some();
    if is_there("dockerd") && is_there("docker") {
        return Ok(Availability::Ready);
    }
    install::packages(&["docker.io"])
}

/// Starts a daemon.
pub fn start() -> Result<Running> {
    let dir = tempfile::Builder::new().prefix("springtide-docker-").tempdir()?;
    let host = format!("unix://{}", dir.path().join("socket").display());
    let mut server = Background::start("Docker", &mut daemon(dir.path(), &host)?, Signal::SIGKILL)?;
    let ready = || process::output(&mut client(&host, &["version"])).is_ok();
    server.wait_until(START_LIMIT, ready).with_context(|| {
        format!("its output: {}", fs::read_to_string(dir.path().join("output")).unwrap_or_default().trim())
    })?;
    Ok(Running {
        variables: vec![("SPRINGTIDE_TEST_DOCKER_HOST", host.clone())],
        keep: Box::new(Daemon { host, _server: server, _dir: dir }),
    })
}

fn daemon(dir: &Path, host: &str) -> Result<Command> {
    let output = fs::File::create(dir.join("output"))?;
    let mut command = Command::new("unshare");
    command.args(APART).args(["dockerd", "--host", host, "--group", "root"]);
    command.arg("--data-root").arg(dir.join("data")).arg("--exec-root").arg(dir.join("exec"));
    command.arg("--pidfile").arg(dir.join("pid"));
    command.args(["--bridge", "none", "--iptables=false", "--ip6tables=false"]);
    // Where the machine's own containerd runs it is used; what is in it then is apart from others'.
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    command.arg(format!("--containerd-namespace={name}"));
    command.arg(format!("--containerd-plugins-namespace={name}-plugins"));
    command.stdout(output.try_clone()?).stderr(output);
    Ok(command)
}

/// A command of Docker's client for a daemon.
pub fn client(host: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.args(["--host", host]).args(arguments);
    command
}

/// The order of the fields is the order in which they end.
struct Daemon {
    host: String,
    _server: Background,
    _dir: TempDir,
}

impl Drop for Daemon {
    /// Containers would end with the daemon, but leave their control groups behind.
    fn drop(&mut self) {
        let all = process::output(&mut client(&self.host, &["ps", "--all", "--quiet"])).unwrap_or_default();
        for container in all.split_whitespace() {
            let _ = process::output(&mut client(&self.host, &["rm", "--force", container]));
        }
    }
}
