//! `cargo xtask bench infer`: TorchScript tasks through agent and worker, against a bare loop of the same calls.
//!
//! The device is one core, for both: with a thread on each core, the device would be the very cores on which agent and
//! control plane run beside it, and the figure would be theirs.

#![allow(clippy::disallowed_methods, reason = "it watches real processes in real time")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::json;
use springtide_client::SubmitOptions;
use springtide_core::api::SubmitJob;
use springtide_core::job::JobStatus;
use springtide_tests::{Whole, binary, wait};

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

/// The workers' threads.
const ONE_CORE: [(&str, &str); 1] = [("SPRINGTIDE__NODE__WORKER_THREADS", "1")];

fn make_models(python: &Path, out: &Path) -> Result<()> {
    let script = include_str!("../bench/infer_models.py");
    let status =
        Command::new(python).args(["-c", script]).arg(out).status().context("python can't be started")?;
    ensure!(status.success(), "the models can't be made");
    Ok(())
}

/// Calls per second of a model in a bare loop.
fn bare(model: &Path) -> Result<f64> {
    let output = Command::new(binary::path("examples/bare_loop")?)
        .arg(model.join("model.pt"))
        .args(["1,16", "--threads", "1"])
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().parse().context("the bare loop's figure")
}

/// Tasks per second from the first start to the last end, as the store saw them.
async fn tasks_per_second(whole: &Whole, model: &str, tasks: usize) -> Result<f64> {
    let input =
        json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 16], "data": vec![0.5; 16]}]});
    let job = |count| SubmitJob {
        model: model.into(),
        inputs: Some(vec![input.clone(); count]),
        ..SubmitJob::default()
    };
    // The model is loaded and the forecast knows it before it counts.
    run(whole, &job(20)).await?;
    let seconds = run(whole, &job(tasks)).await?;
    Ok(tasks as f64 / seconds)
}

async fn run(whole: &Whole, job: &SubmitJob) -> Result<f64> {
    let posted = whole.client.submit(job, &SubmitOptions::default()).await?;
    let view = wait::for_end(&whole.client, posted.id, Duration::from_mins(5)).await?;
    ensure!(view.status == JobStatus::Succeeded, "{view:?}");
    let (start, end) = view.started_at.zip(view.finished_at).context("a job without times")?;
    Ok(end.since(start).as_secs_f64())
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
    let two = Whole::start_with(2, &ONE_CORE)?;
    two.push(&models.join("steady")).await?;
    let mut ratios = Vec::new();
    for _ in 0..arguments.rounds {
        let ours = tasks_per_second(&two, "steady", arguments.tasks).await?;
        let bare = bare(&models.join("steady"))?;
        println!("steady: bare {bare:.1} calls/s, ours {ours:.1} tasks/s = {:.3} × bare", ours / bare);
        ratios.push(ours / bare);
    }
    println!("steady, 2 slots: median {:.3} × the bare loop", median(ratios));
    drop(two);
    let sixteen = Whole::start_with(16, &ONE_CORE)?;
    let mut ratios = Vec::new();
    for name in ["small", "single"] {
        sixteen.push(&models.join(name)).await?;
    }
    for _ in 0..arguments.rounds {
        let batched = tasks_per_second(&sixteen, "small", 4 * arguments.tasks).await?;
        let single = tasks_per_second(&sixteen, "single", 4 * arguments.tasks).await?;
        println!("small, 16 slots: batched {batched:.0} tasks/s, unbatched {single:.0} tasks/s");
        ratios.push(batched / single);
    }
    println!("small, 16 slots: median {:.2} × unbatched", median(ratios));
    Ok(())
}
