//! A child process with its output in a file, killed when it is dropped.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::processes;

/// A running process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    apart: bool,
    /// Where in the log this process begins: an earlier one of the same name may have written before.
    from: u64,
}

impl Process {
    /// Starts it; stdout and stderr go to the end of `DIR/NAME.log`.
    pub fn start(name: &str, command: &mut Command, dir: &Path) -> Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        let from = file.metadata()?.len();
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("{name} can't be started"))?;
        Ok(Self { name: name.to_owned(), child, log, from, apart: false })
    }

    /// The same in a process group of its own: Ctrl-C at the terminal does not reach it, and all of the group ends with
    /// this.
    pub fn start_apart(name: &str, command: &mut Command, dir: &Path) -> Result<Self> {
        command.process_group(0);
        let mut process = Self::start(name, command, dir)?;
        process.apart = true;
        Ok(process)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it and those of the same name before it have printed.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it in the middle of whatever it does (SIGKILL), and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits until it prints a line of which `pick` makes something.
    pub fn wait_for_line<T>(
        &mut self,
        what: &str,
        limit: Duration,
        pick: impl Fn(&str) -> Option<T>,
    ) -> Result<T> {
        let until = Instant::now() + limit;
        let mut reader = BufReader::new(File::open(&self.log)?);
        reader.seek(SeekFrom::Start(self.from))?;
        let mut line = String::new();
        loop {
            let start = reader.stream_position()?;
            line.clear();
            if reader.read_line(&mut line)? > 0 && line.ends_with('\n') {
                if let Some(found) = pick(line.trim_end()) {
                    return Ok(found);
                }
                continue;
            }
            reader.seek(SeekFrom::Start(start))?;
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}) while waiting for {what}:\n{}", self.name, self.output());
            }
            if Instant::now() > until {
                bail!("{}: waited {limit:?} for {what}:\n{}", self.name, self.output());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a signal by its name or number: `-TERM`, `-STOP`, `-CONT`.
    pub fn signal(&self, signal: &str) -> Result<()> {
        let sent = Command::new("kill").args([signal, &self.id().to_string()]).status()?;
        if !sent.success() {
            bail!("{} can't be sent {signal}", self.name);
        }
        Ok(())
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > until {
                bail!("{} did not end within {limit:?}:\n{}", self.name, self.output());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The processes that it has started and that still run (Linux).
    pub fn children(&self) -> Result<Vec<u32>> {
        let mut all = Vec::new();
        // Each thread has those that it started.
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.id()))? {
            let text = std::fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
            all.extend(text.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        Ok(all)
    }

    /// Resident memory, in bytes (Linux).
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        if self.apart {
            let _ = processes::signal_group(self.id(), Signal::SIGKILL);
        }
        let _ = self.child.wait();
        if std::thread::panicking() {
            let output = self.output();
            let tail: Vec<_> = output.lines().rev().take(40).collect();
            eprintln!("--- last lines of {}:", self.name);
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}
