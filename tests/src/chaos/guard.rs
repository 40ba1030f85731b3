//! Sees to it that nothing of a run is left, also when the tool itself is killed: a second process that waits for the
//! end of a pipe of which the first has the other end.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::process::Process;
use crate::processes::{self, Other};

use super::disk;

/// In the environment of all processes of a run; its value is the run's directory.
pub const VARIABLE: &str = "SPRINGTIDE_CHAOS";
/// The hidden command that makes this program a guard.
pub const COMMAND: &str = "guard";
/// How long killed processes may take to be gone.
const GONE_LIMIT: Duration = Duration::from_secs(10);

/// The guard's process, and the pipe.
#[derive(Debug)]
pub struct Guard {
    child: Child,
    directory: PathBuf,
}

impl Guard {
    /// Guards a run in this directory.
    pub fn start(directory: &Path) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(COMMAND).arg(directory).stdin(Stdio::piped()).stdout(Stdio::null());
        // Ctrl-C at the terminal does not reach it.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().context("the guard can't be started")?;
        Ok(Self { child, directory: directory.to_owned() })
    }

    /// Ends it, once it has found nothing more to end.
    pub fn finish(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        self.child.wait()?;
        let left = of(&self.directory);
        ensure!(left.is_empty(), "still there: {left:?}");
        Ok(())
    }
}

/// Marks a process as one of the run's.
pub fn mark(command: &mut Command, directory: &Path) {
    command.env(VARIABLE, directory);
}

/// Starts a marked process apart.
pub fn start(name: &str, command: &mut Command, directory: &Path, logs: &Path) -> Result<Process> {
    mark(command, directory);
    Process::start_apart(name, command, logs)
}

/// The processes of a run.
fn of(directory: &Path) -> Vec<Other> {
    processes::with_variable(VARIABLE, &directory.display().to_string())
}

/// What the guard does: waits for the end of its input, then ends all that is left and removes the directory.
pub fn watch(directory: &Path) -> Result<()> {
    std::io::stdin().read_to_end(&mut Vec::new())?;
    let until = Instant::now() + GONE_LIMIT;
    loop {
        let left = of(directory);
        // What starts something while it is ended is met again in the next round.
        for process in &left {
            processes::signal(process.id, Signal::SIGKILL);
        }
        if left.is_empty() || Instant::now() > until {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    for mounted in mounts_under(directory) {
        disk::unmount(&mounted);
    }
    let _ = std::fs::remove_dir_all(directory);
    Ok(())
}

fn mounts_under(directory: &Path) -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let paths = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    paths.filter(|path| path.starts_with(directory)).collect()
}
