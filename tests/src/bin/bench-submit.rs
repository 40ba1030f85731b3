//! `cargo xtask bench submit`: durable submissions per second, and their latency and memory with a million tasks
//! waiting.

#![allow(clippy::disallowed_methods, reason = "it watches real processes in real time")]

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;
use futures::StreamExt;
use serde_json::json;
use springtide_core::api::SubmitJob;
use springtide_tests::bench::ours::noop;
use springtide_tests::measure::{fdatasync, quantile};
use springtide_tests::{Cluster, ClusterOptions};

/// Durable submissions: rate, latency, memory.
#[derive(Parser)]
struct Arguments {
    /// Clients at once.
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Submissions measured.
    #[arg(long, default_value_t = 20_000)]
    count: usize,
    /// Tasks that wait in the second part; 0 leaves it out.
    #[arg(long, default_value_t = 1_000_000)]
    waiting: usize,
}

fn start() -> Result<Cluster> {
    Cluster::start(ClusterOptions {
        broker: "memory:".to_owned(),
        store: "sqlite:".to_owned(),
        settings: vec![("SPRINGTIDE__TELEMETRY__LOG".into(), "warn,springtide_control_plane=info".into())],
    })
}

/// Posts without the typed client's comforts: this is the load, not what is measured.
struct Poster {
    http: reqwest::Client,
    url: String,
}

impl Poster {
    fn new(cluster: &Cluster) -> Result<Self> {
        let url = cluster.client.server().join("/v1/jobs")?.to_string();
        Ok(Self { http: reqwest::Client::new(), url })
    }

    async fn post(&self, body: &str) -> Result<Duration> {
        let start = Instant::now();
        let request =
            self.http.post(&self.url).header("content-type", "application/json").body(body.to_owned());
        let response = request.send().await?.error_for_status()?;
        response.bytes().await?;
        Ok(start.elapsed())
    }

    /// Posts a body often, by so many clients at once; the latencies, and submissions per second.
    async fn many(&self, body: &str, count: usize, clients: usize) -> Result<(Vec<Duration>, f64)> {
        let start = Instant::now();
        let posts = futures::stream::iter(0..count).map(|_| self.post(body)).buffer_unordered(clients);
        let times: Vec<_> = posts.collect().await;
        let rate = count as f64 / start.elapsed().as_secs_f64();
        Ok((times.into_iter().collect::<Result<_>>()?, rate))
    }
}

fn single() -> Result<String> {
    let job = SubmitJob { model: "echo".into(), input: Some(json!({})), ..SubmitJob::default() };
    Ok(serde_json::to_string(&job)?)
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let cluster = start()?;
    let sync = fdatasync(cluster.dir())?;
    let poster = Poster::new(&cluster)?;
    poster.many(&single()?, 200, 8).await?;
    let (mut empty, _) = poster.many(&single()?, 500, 1).await?;
    let (mut times, rate) = poster.many(&single()?, arguments.count, arguments.clients).await?;
    println!(
        "{} clients: {rate:.0} durable POST/s, p50 {:.1?}, p99 {:.1?} (one fdatasync: {sync:.1?})",
        arguments.clients,
        quantile(&mut times, 0.5),
        quantile(&mut times, 0.99),
    );
    println!(
        "one client, empty: p50 {:.2?}, p99 {:.2?}",
        quantile(&mut empty, 0.5),
        quantile(&mut empty, 0.99)
    );
    drop(cluster);
    if arguments.waiting == 0 {
        return Ok(());
    }
    for jobs in [10, (arguments.waiting / 10).max(1)] {
        let cluster = start()?;
        let poster = Poster::new(&cluster)?;
        let (mut before, _) = poster.many(&single()?, 500, 1).await?;
        let body = serde_json::to_string(&noop(arguments.waiting / jobs))?;
        let (_, rate) = poster.many(&body, jobs, 16).await?;
        let (mut after, _) = poster.many(&single()?, 500, 1).await?;
        let (before, after) = (quantile(&mut before, 0.5), quantile(&mut after, 0.5));
        println!(
            "{} tasks waiting in {jobs} jobs ({rate:.0} jobs/s): POST p50 {after:.2?} = {:.2} × empty ({before:.2?}); {} MiB resident",
            arguments.waiting,
            after.as_secs_f64() / before.as_secs_f64(),
            cluster.control_planes[0].process.resident_bytes()? >> 20,
        );
    }
    Ok(())
}
