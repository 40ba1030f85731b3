//! Running other programs: in the foreground, for their output, or in the background until dropped.

use crate::interrupt;
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(20);
/// What a program that was asked to stop gets before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Runs a program to its end, its output going where ours goes. An error unless it exits with 0.
pub fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    if !status.success() {
        bail!("{} ended with {status}", describe(command));
    }
    Ok(())
}

/// Runs a program to its end and returns how it ended.
pub fn status(command: &mut Command) -> Result<ExitStatus> {
    interrupt::check()?;
    let mut child = command.spawn().with_context(|| format!("cannot start {}", describe(command)))?;
    loop {
        if let Some(status) = child.try_wait()? {
            interrupt::check()?;
            return Ok(status);
        }
        if interrupt::requested() {
            stop(&mut child, Signal::SIGTERM);
            bail!("interrupted");
        }
        sleep(POLL);
    }
}

/// Runs a program quietly and returns what it prints; what it says on stderr is part of the error.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", describe(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} ended with {}: {}", describe(command), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A program and its arguments, as one would type them.
pub fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// A program that runs in a process group of its own (Ctrl-C in the terminal does not reach it) until this is dropped,
/// or until this process is killed.
#[derive(Debug)]
pub struct Background {
    name: String,
    child: Child,
    stop_with: Signal,
    guard: Child,
}

/// Reads until the end of a pipe of which this process has the other end, then kills a process group.
const GUARD: &str = "read -r _; kill -s KILL -- \"-$0\"";

impl Background {
    /// Starts it. `stop_with` is sent first when it is dropped; SIGKILL follows for whatever is left of the group.
    pub fn start(name: &str, command: &mut Command, stop_with: Signal) -> Result<Self> {
        let mut child = command
            .process_group(0)
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", describe(command)))?;
        let guard = guard(child.id()).inspect_err(|_| {
            let _ = child.kill();
        });
        Ok(Self { name: name.to_owned(), child, stop_with, guard: guard.context("cannot start sh")? })
    }

    /// Waits until `ready` says so, the program ends or the limit passes.
    pub fn wait_until(&mut self, limit: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !ready() {
            interrupt::check()?;
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status} while it was starting", self.name);
            }
            if Instant::now() > deadline {
                bail!("{} was not ready after {limit:?}", self.name);
            }
            sleep(POLL * 5);
        }
        Ok(())
    }
}

fn guard(group: u32) -> std::io::Result<Child> {
    let mut command = Command::new("sh");
    command.args(["-c", GUARD, &group.to_string()]).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

impl Drop for Background {
    fn drop(&mut self) {
        stop(&mut self.child, self.stop_with);
        // Its group may outlive it.
        let _ = killpg(pid(&self.child), Signal::SIGKILL);
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}

fn stop(child: &mut Child, signal: Signal) {
    let _ = nix::sys::signal::kill(pid(child), signal);
    let deadline = Instant::now() + STOP_LIMIT;
    while Instant::now() < deadline {
        if let Ok(Some(_)) = child.try_wait() {
            return;
        }
        sleep(POLL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("a process id fits an i32"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_is_an_error_that_names_the_command() {
        let error = run(Command::new("sh").args(["-c", "exit 3"])).unwrap_err().to_string();
        assert!(error.contains("sh -c exit 3") && error.contains('3'), "{error}");
    }

    #[test]
    fn what_a_failed_command_said_is_in_the_error() {
        let error = output(Command::new("sh").args(["-c", "echo no such thing >&2; exit 1"])).unwrap_err();
        assert!(error.to_string().contains("no such thing"), "{error}");
    }

    #[test]
    fn dropping_ends_the_whole_group() {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", pid_file.display());
        let mut shell =
            Background::start("sh", Command::new("sh").args(["-c", &script]), Signal::SIGTERM).unwrap();
        let read =
            || std::fs::read_to_string(&pid_file).ok().and_then(|text| text.trim().parse::<i32>().ok());
        shell.wait_until(Duration::from_secs(5), || read().is_some()).unwrap();
        let grandchild = Pid::from_raw(read().unwrap());
        assert!(nix::sys::signal::kill(grandchild, None).is_ok());
        drop(shell);
        let deadline = Instant::now() + Duration::from_secs(5);
        // A zombie that nobody has reaped yet still has its id; it no longer has a command line.
        let gone =
            || std::fs::read(format!("/proc/{grandchild}/cmdline")).map_or(true, |text| text.is_empty());
        while !gone() {
            assert!(Instant::now() < deadline, "the grandchild still runs");
            sleep(POLL);
        }
    }

    #[test]
    fn a_guard_kills_the_group_once_nobody_holds_its_pipe() {
        let mut child = Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
        let mut guard = guard(child.id()).unwrap();
        assert!(child.try_wait().unwrap().is_none());
        drop(guard.stdin.take());
        assert!(guard.wait().unwrap().success());
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()), Some(9));
    }

    #[test]
    fn a_program_that_ends_while_starting_is_an_error() {
        let mut shell =
            Background::start("sh", Command::new("sh").args(["-c", "exit 7"]), Signal::SIGTERM).unwrap();
        let error = shell.wait_until(Duration::from_secs(5), || false).unwrap_err().to_string();
        assert!(error.contains("while it was starting"), "{error}");
    }
}
