//! The store is the truth: control planes are killed at random moments and frozen, and what got a 202 ends once.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::StreamExt;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use springtide_client::{Client, SubmitOptions};
use springtide_core::JobId;
use springtide_core::api::SubmitJob;
use springtide_core::job::JobStatus;
use springtide_tests::posting::{Accepted, Posting};
use springtide_tests::servers::{Postgres, RabbitMq, Version};
use springtide_tests::{AgentOptions, Cluster, ClusterOptions, history, wait};

const LIMIT: Duration = Duration::from_mins(2);

fn echo(sleep_s: f64) -> SubmitJob {
    let input = Some(json!({"sleep_s": sleep_s, "output": "done"}));
    SubmitJob { model: "echo".into(), input, ..SubmitJob::default() }
}

fn start(broker: &RabbitMq, store: &str) -> Result<Cluster> {
    let settings = [("node.heartbeat_interval", "1s")];
    let mut cluster = Cluster::start(ClusterOptions::new(&broker.url, store, &settings))?;
    for _ in 0..2 {
        cluster.start_agent(&AgentOptions::slots(4))?;
    }
    Ok(cluster)
}

/// Starts a job that runs through everything, and waits until it does.
async fn begin(client: &Client, sleep_s: f64) -> Result<JobId> {
    let job = client.submit(&echo(sleep_s), &SubmitOptions::default()).await?.id;
    wait::for_job(client, job, "its start", LIMIT, |view| view.tasks.running == 1).await?;
    Ok(job)
}

/// Each job that was accepted is there, is what its idempotency key gives, and ends once.
async fn all_ended(client: &Client, accepted: &[Accepted]) -> Result<()> {
    ensure!(accepted.len() > 30, "{} jobs are no load", accepted.len());
    let check = |accepted: &Accepted| {
        let Accepted { key, job, .. } = accepted.clone();
        async move {
            let options = SubmitOptions { idempotency_key: Some(key), ..SubmitOptions::default() };
            let again = client.submit(&echo(0.0), &options).await?;
            ensure!(again.id == job, "{again:?} is another job than {job}");
            let done = wait::for_end(client, job, LIMIT).await?;
            ensure!(done.status == JobStatus::Succeeded && done.outputs.len() == 1, "{done:?}");
            Ok(())
        }
    };
    let mut checks = futures::stream::iter(accepted).map(check).buffer_unordered(16);
    while let Some(checked) = checks.next().await {
        checked?;
    }
    Ok(())
}

/// A task that was running all the while had one run.
async fn ran_once(client: &Client, job: JobId) -> Result<()> {
    let done = wait::for_end(client, job, LIMIT).await?;
    ensure!(done.status == JobStatus::Succeeded && done.outputs.len() == 1, "{done:?}");
    let tasks = history::tasks(client, job).await?;
    ensure!(history::runs(&tasks[0]) == 1 && tasks[0].charges == 0, "{tasks:#?}");
    Ok(())
}

/// Kills the only control plane at random moments under a stream of submissions, and starts it again each time.
async fn killed_at_random(store: &str) -> Result<()> {
    let Some(broker) = RabbitMq::fresh(Version::Installed)? else { return Ok(()) };
    let seed = u64::from(std::process::id());
    eprintln!("the moments follow from the seed {seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut cluster = start(&broker, store)?;
    cluster.wait_for_nodes(2).await?;
    let long = begin(&cluster.client, 10.0).await?;
    let posting = Posting::start(4, Duration::ZERO, vec![cluster.client.clone()], echo(0.0));
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(rng.random_range(100..900))).await;
        cluster.control_planes[0].process.kill()?;
        cluster.restart_control_plane(0)?;
        posting.to(vec![cluster.client.clone()]);
    }
    let accepted = posting.stop().await?;
    all_ended(&cluster.client, &accepted).await?;
    ran_once(&cluster.client, long).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_got_a_202_outlives_kills_of_its_control_plane_on_sqlite() {
    killed_at_random("sqlite:").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_got_a_202_outlives_kills_of_its_control_plane_on_postgresql() {
    let Some(database) = Postgres::fresh().await.unwrap() else { return };
    killed_at_random(&database.url).await.unwrap();
}

/// The leader is killed and the other one goes on; that one is frozen and the first goes on; the frozen one wakes and
/// does no harm.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_replica_leads_when_one_is_killed_or_frozen() {
    let Some(broker) = RabbitMq::fresh(Version::Installed).unwrap() else { return };
    let Some(database) = Postgres::fresh().await.unwrap() else { return };
    let mut cluster = start(&broker, &database.url).unwrap();
    cluster.add_control_plane().unwrap();
    cluster.wait_for_nodes(2).await.unwrap();
    let leader = cluster.wait_for_leader().await.unwrap();
    let other = 1 - leader;
    let survivor = cluster.control_planes[other].client.clone();
    let long = begin(&survivor, 15.0).await.unwrap();
    let clients = cluster.control_planes.iter().map(|replica| replica.client.clone()).collect();
    let posting = Posting::start(2, Duration::from_millis(50), clients, echo(0.0));

    // A stream from the leader goes on at the other one.
    let streamed = begin(&survivor, 3.0).await.unwrap();
    let told = last_event_id(&cluster.control_planes[leader].client, streamed).await.unwrap();
    cluster.control_planes[leader].process.kill().unwrap();
    let rest = events_after(&survivor, streamed, told).await.unwrap();
    assert!(!rest.is_empty() && rest.iter().all(|id| *id > told), "after {told} came {rest:?}");
    // The other one releases and projects.
    let job = survivor.submit(&echo(0.0), &SubmitOptions::default()).await.unwrap();
    assert_eq!(wait::for_end(&survivor, job.id, LIMIT).await.unwrap().status, JobStatus::Succeeded);

    cluster.restart_control_plane(leader).unwrap();
    let restarted = cluster.control_planes[leader].client.clone();
    posting.to(vec![restarted.clone()]);
    cluster.control_planes[other].process.signal("-STOP").unwrap();
    let job = restarted.submit(&echo(0.0), &SubmitOptions::default()).await.unwrap();
    assert_eq!(wait::for_end(&restarted, job.id, LIMIT).await.unwrap().status, JobStatus::Succeeded);
    cluster.control_planes[other].process.signal("-CONT").unwrap();
    // It serves, and knows that it leads no more.
    let job = survivor.submit(&echo(0.0), &SubmitOptions::default()).await.unwrap();
    assert_eq!(wait::for_end(&survivor, job.id, LIMIT).await.unwrap().status, JobStatus::Succeeded);
    assert_eq!(cluster.wait_for_leader().await.unwrap(), leader);

    let accepted = posting.stop().await.unwrap();
    all_ended(&restarted, &accepted).await.unwrap();
    ran_once(&survivor, long).await.unwrap();
}

/// Reads a job's stream up to its first event; the id of that one.
async fn last_event_id(client: &Client, job: JobId) -> Result<u64> {
    let mut ids = stream(client, job, None).await?;
    loop {
        if let Some(id) = ids.next_id().await? {
            return Ok(id);
        }
    }
}

/// Reads a job's stream from after an event to its end; the ids that came.
async fn events_after(client: &Client, job: JobId, last: u64) -> Result<Vec<u64>> {
    let mut ids = stream(client, job, Some(last)).await?;
    let mut all = Vec::new();
    while let Some(id) = ids.next_id().await? {
        all.push(id);
    }
    Ok(all)
}

async fn stream(client: &Client, job: JobId, last: Option<u64>) -> Result<Ids> {
    let url = client.server().join(&format!("/v1/jobs/{job}/events"))?;
    let mut request = reqwest::Client::builder().read_timeout(LIMIT).build()?.get(url);
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    Ok(Ids { response: request.send().await?.error_for_status()?, text: String::new() })
}

/// The ids in a stream of server-sent events.
struct Ids {
    response: reqwest::Response,
    text: String,
}

impl Ids {
    async fn next_id(&mut self) -> Result<Option<u64>> {
        loop {
            while let Some(end) = self.text.find('\n') {
                let line: String = self.text.drain(..=end).collect();
                if let Some(id) = line.strip_prefix("id:") {
                    return Ok(Some(id.trim().parse()?));
                }
            }
            match self.response.chunk().await? {
                Some(chunk) => self.text.push_str(&String::from_utf8_lossy(&chunk)),
                None => return Ok(None),
            }
        }
    }
}
