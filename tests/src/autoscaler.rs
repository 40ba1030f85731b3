//! The autoscaler of a cluster, as a process of its own.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::binary;
use crate::cluster::{Cluster, SOON, address_in};
use crate::process::Process;

const NAME: &str = "autoscaler";

/// A running autoscaler.
#[derive(Debug)]
pub struct Autoscaler {
    /// Its process.
    pub process: Process,
    /// Where it listens.
    pub address: String,
}

impl Autoscaler {
    /// Starts one beside the first control plane of a cluster, with this configuration (TOML), and waits until it listens.
    pub fn start(cluster: &Cluster, configuration: &str) -> Result<Self> {
        let file = cluster.dir().join("autoscaler.toml");
        std::fs::write(&file, configuration)?;
        let mut command = cluster.command("springtide-autoscaler", NAME)?;
        command.arg("--config").arg(&file);
        command.env("SPRINGTIDE__AUTOSCALER__LISTEN", "127.0.0.1:0");
        command.env("SPRINGTIDE__AUTOSCALER__CONTROL_PLANE", cluster.client.server().as_str());
        let mut process = Process::start_apart(NAME, &mut command, cluster.dir())?;
        let listens = |line: &str| address_in(line, "the autoscaler listens");
        let address = process.wait_for_line("its address", SOON, listens)?;
        Ok(Self { process, address })
    }

    /// The value of a metric with its labels, as it is written: `target_nodes{pool="cpu"}`.
    pub async fn metric(&self, name: &str) -> Result<Option<f64>> {
        let text = reqwest::get(format!("http://{}/metrics", self.address)).await?.text().await?;
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("springtide_autoscaler_{name} ")));
        line.map(|value| value.parse().with_context(|| format!("{name} is {value}"))).transpose()
    }

    /// Stops it in good order.
    pub fn stop(&mut self) -> Result<()> {
        self.process.signal("-INT")?;
        let status = self.process.wait(SOON)?;
        ensure!(status.success(), "{status}: {}", self.process.output());
        Ok(())
    }
}

/// What `explain` says of all actions that were decided, from the records in an autoscaler's data directory. Each has to
/// come out the same when it is planned again.
pub fn explained(data_dir: &Path) -> Result<String> {
    let mut command = Command::new(binary::path("springtide")?);
    command.args(["explain", "--actions", "--last", "1000", "--data-dir"]).arg(data_dir);
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    ensure!(text.contains("planned again: the same") && !text.contains("comes to something else"), "{text}");
    Ok(text)
}

impl Cluster {
    /// What `explain` says of the cluster's autoscaler.
    pub fn explained(&self) -> Result<String> {
        explained(&self.dir().join(NAME))
    }
}
