//! `cargo xtask bench infer`: TorchScript tasks through agent and worker, against a bare loop of the same calls.

#![allow(clippy::disallowed_methods, reason = "it watches real processes in real time")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::json;
use springtide_client::{Client, Options, Package, SubmitOptions, Url};
use springtide_core::api::SubmitJob;
use springtide_core::job::JobStatus;
use springtide_tests::binary;
use springtide_tests::process::Process;

/// Tasks through agent and worker against a bare loop of the same calls.
#[derive(Parser)]
struct Arguments {
    /// Tasks of each measurement.
    #[arg(long, default_value_t = 300)]
    tasks: usize,
    /// The Python that has torch.
    #[arg(long, default_value = ".venv/bin/python")]
    python: PathBuf,
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

fn make_models(python: &Path, out: &Path) -> Result<()> {
    let script = include_str!("../bench/infer_models.py");
    let status =
        Command::new(python).args(["-c", script]).arg(out).status().context("python can't be started")?;
    ensure!(status.success(), "the models can't be made");
    Ok(())
}

/// Calls per second of a model in a bare loop.
fn bare(model: &Path) -> Result<f64> {
    let output =
        Command::new(binary::path("examples/bare_loop")?).arg(model.join("model.pt")).arg("1,16").output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().parse().context("the bare loop's figure")
}

/// A whole Springtide in one process, with one node of so many slots.
struct Whole {
    client: Client,
    _process: Process,
    _dir: tempfile::TempDir,
}

impl Whole {
    fn start(slots: u32) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut command = Command::new(binary::path("springtide")?);
        command.args(["up", "--listen", "127.0.0.1:0", "--data-dir"]).arg(dir.path().join("data"));
        command
            .env("SPRINGTIDE__NODE__MAX_CONCURRENT_TASKS", slots.to_string())
            .env("SPRINGTIDE__NODE__CPU_USAGE_THRESHOLD", "1.0")
            .env("SPRINGTIDE__CONTROL_PLANE__RELEASE_INTERVAL", "100ms");
        let mut process = Process::start("up", &mut command, dir.path())?;
        let address = process.wait_for_line("its address", Duration::from_mins(1), |line| {
            let start = line.find("http://127.0.0.1:")?;
            Some(line[start..].split_whitespace().next()?.to_owned())
        })?;
        let client = Client::new(Options::new(Url::parse(&address)?, 1))?;
        Ok(Self { client, _process: process, _dir: dir })
    }

    async fn push(&self, model: &Path) -> Result<()> {
        self.client.push_model(&Package::read(model, |_, _| {})?, |_| {}).await?;
        Ok(())
    }

    /// Tasks per second from the first start to the last end, as the store saw them.
    async fn tasks_per_second(&self, model: &str, tasks: usize) -> Result<f64> {
        let input =
            json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 16], "data": vec![0.5; 16]}]});
        let job = |count| SubmitJob {
            model: model.into(),
            inputs: Some(vec![input.clone(); count]),
            ..SubmitJob::default()
        };
        // The model is loaded and the forecast knows it before it counts.
        self.run(&job(20)).await?;
        let seconds = self.run(&job(tasks)).await?;
        Ok(tasks as f64 / seconds)
    }

    async fn run(&self, job: &SubmitJob) -> Result<f64> {
        let posted = self.client.submit(job, &SubmitOptions::default()).await?;
        let mut events = self.client.events(posted.id);
        while let Some(view) = events.next().await {
            let view = view?;
            if !view.status.is_terminal() {
                continue;
            }
            ensure!(view.status == JobStatus::Succeeded, "{view:?}");
            let (start, end) = view.started_at.zip(view.finished_at).context("a job without times")?;
            return Ok(end.since(start).as_secs_f64());
        }
        anyhow::bail!("the events of {} ended early", posted.id)
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let dir = tempfile::tempdir()?;
    let models = dir.path().join("models");
    make_models(&arguments.python, &models)?;
    let two = Whole::start(2)?;
    two.push(&models.join("steady")).await?;
    let mut ratios = Vec::new();
    for _ in 0..arguments.rounds {
        let ours = two.tasks_per_second("steady", arguments.tasks).await?;
        let bare = bare(&models.join("steady"))?;
        println!("steady: bare {bare:.1} calls/s, ours {ours:.1} tasks/s = {:.3} × bare", ours / bare);
        ratios.push(ours / bare);
    }
    println!("steady, 2 slots: median {:.3} × the bare loop", median(ratios));
    drop(two);
    let sixteen = Whole::start(16)?;
    let mut ratios = Vec::new();
    for name in ["small", "single"] {
        sixteen.push(&models.join(name)).await?;
    }
    for _ in 0..arguments.rounds {
        let batched = sixteen.tasks_per_second("small", 4 * arguments.tasks).await?;
        let single = sixteen.tasks_per_second("single", 4 * arguments.tasks).await?;
        println!("small, 16 slots: batched {batched:.0} tasks/s, unbatched {single:.0} tasks/s");
        ratios.push(batched / single);
    }
    println!("small, 16 slots: median {:.2} × unbatched", median(ratios));
    Ok(())
}
