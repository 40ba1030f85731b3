//! `springtide up`: a whole Springtide in one process.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use springtide_client::{Client, Options, Package, Url};
use tempfile::TempDir;

use crate::binary;
use crate::process::Process;

/// A whole Springtide in one process, with one node.
#[derive(Debug)]
pub struct Whole {
    /// Talks to it.
    pub client: Client,
    /// The process.
    pub process: Process,
    dir: TempDir,
}

impl Whole {
    /// Starts it with a node of so many slots, and waits until it is up.
    pub fn start(slots: u32) -> Result<Self> {
        Self::start_with(slots, &[])
    }

    /// The same, with other `SPRINGTIDE__…` variables.
    pub fn start_with(slots: u32, variables: &[(&str, &str)]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut command = Command::new(binary::path("springtide")?);
        command.args(["up", "--listen", "127.0.0.1:0", "--data-dir"]).arg(dir.path().join("data"));
        command
            .env("SPRINGTIDE__NODE__MAX_CONCURRENT_TASKS", slots.to_string())
            // The machine is busy with other tests; that is no reason to pause.
            .env("SPRINGTIDE__NODE__CPU_USAGE_THRESHOLD", "1.0")
            .envs(variables.iter().copied());
        let mut process = Process::start("up", &mut command, dir.path())?;
        let address = process.wait_for_line("its address", Duration::from_mins(1), |line| {
            let start = line.find("http://127.0.0.1:")?;
            Some(line[start..].split_whitespace().next()?.to_owned())
        })?;
        let client = Client::new(Options::new(Url::parse(&address)?, u64::from(process.id())))?;
        Ok(Self { client, process, dir })
    }

    /// A directory of its own.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Pushes a model directory.
    pub async fn push(&self, model: &Path) -> Result<()> {
        self.client.push_model(&Package::read(model, |_, _| {})?, |_| {}).await?;
        Ok(())
    }
}
