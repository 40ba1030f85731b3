//! The autoscaler with real agents: from nothing to as many nodes as it may start, and back to nothing, for a burst of work.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use springtide_client::{Client, Options};
use springtide_core::NodeId;
use springtide_core::api::{JobView, SubmitJob};
use springtide_core::job::JobStatus;
use springtide_tests::autoscaler::{Autoscaler, explained};
use springtide_tests::docker::Docker;
use springtide_tests::process::Process;
use springtide_tests::servers::{RabbitMq, Version};
use springtide_tests::{Cluster, ClusterOptions, binary, history, wait};
use tokio::time::Instant;

const LIMIT: Duration = Duration::from_mins(4);
const TASKS: usize = 200;
/// Nodes at most, and tasks that each runs at once.
const MAX: usize = 4;
const POOL: &str = r#"{name = "local", lane = "cpu", max = 4, boot_time = "1s", boot_timeout = "60s",
    drain_deadline = "30s", reversal_pause = "2s", target_wait = {high = "2s", normal = "5s", low = "30s"},
    offers = [{instance_type = "agent", slots = 5}]}"#;

/// `springtide up --autoscale`.
struct Up {
    process: Process,
    client: Client,
}

impl Up {
    fn start(dir: &Path, broker: Option<&str>) -> Result<Self> {
        let mut command = Command::new(binary::path("springtide")?);
        command.args(["up", "--autoscale", "--listen", "127.0.0.1:0", "--data-dir"]).arg(dir.join("data"));
        command.args(["--verbose", "--set", "node.heartbeat_interval=1s"]);
        command.args(["--set", &format!("autoscaler.pools=[{POOL}]")]);
        if let Some(broker) = broker {
            command.args(["--broker", broker]);
        }
        let mut process = Process::start_apart("up", &mut command, dir)?;
        let url = process.wait_for_line("its address", LIMIT, |line| {
            line.strip_prefix("Springtide is up at ").map(str::to_owned)
        })?;
        let client = Client::new(Options::new(url.parse().context("its address")?, 1))?;
        Ok(Self { process, client })
    }
}

/// What was seen of the nodes while the work was done.
#[derive(Debug, Default)]
struct Seen {
    most: usize,
    all: BTreeSet<NodeId>,
    first: Option<Duration>,
    busy_and_retiring: Vec<NodeId>,
}

impl Seen {
    async fn look(&mut self, client: &Client, since: Instant) -> Result<usize> {
        let view = client.cluster().await?;
        let nodes: Vec<_> = view.nodes.iter().filter(|node| node.state != "gone").collect();
        if self.first.is_none() && (!view.launches.is_empty() || !nodes.is_empty()) {
            self.first = Some(since.elapsed());
        }
        let retiring = nodes.iter().filter(|node| node.state == "retiring" && !node.runs.is_empty());
        self.busy_and_retiring.extend(retiring.map(|node| node.id.clone()));
        self.all.extend(nodes.iter().map(|node| node.id.clone()));
        self.most = self.most.max(nodes.len());
        Ok(nodes.len())
    }
}

async fn burst(client: &Client) -> Result<JobView> {
    let mut seen = Seen::default();
    let began = Instant::now();
    ensure!(seen.look(client, began).await? == 0, "nothing runs without work");
    let inputs = Some(vec![json!({"sleep_s": 1.0, "output": "done"}); TASKS]);
    let job = SubmitJob { model: "echo".into(), inputs, ..SubmitJob::default() };
    let posted = Instant::now();
    let job = client.submit(&job, &springtide_client::SubmitOptions::default()).await?.id;
    let mut view = client.job(job).await?;
    wait::until("the end of the burst", LIMIT, async || {
        seen.look(client, posted).await?;
        view = client.job(job).await?;
        Ok(view.status.is_terminal())
    })
    .await
    .with_context(|| format!("{view:?}"))?;
    let done = Instant::now();
    wait::until("no nodes", LIMIT, async || Ok(seen.look(client, posted).await? == 0)).await?;
    eprintln!(
        "burst of {TASKS}: launch seen {:?} after the post, done after {:?}, no node {:?} later; {} nodes",
        seen.first.unwrap_or_default(),
        done - posted,
        done.elapsed(),
        seen.all.len()
    );
    ensure!(seen.most == MAX, "as many nodes as there may be, and no more: {seen:?}");
    ensure!(seen.busy_and_retiring.is_empty(), "no busy node is given up: {seen:?}");
    Ok(view)
}

/// Every task ran, once.
async fn all_done_once(client: &Client, view: &JobView) -> Result<()> {
    ensure!(view.status == JobStatus::Succeeded, "{view:?}");
    let tasks = history::tasks(client, view.id).await?;
    ensure!(tasks.len() == TASKS);
    for task in &tasks {
        ensure!(history::runs(task) == 1, "{task:?} ran more than once");
    }
    Ok(())
}

/// There is a reason for each of these.
fn explains_itself(text: &str) -> Result<()> {
    for part in ["local: launch ", "local: drain ", "local: retire "] {
        ensure!(text.contains(part), "{part:?} is not explained:\n{text}");
    }
    Ok(())
}

async fn from_nothing_to_nothing(broker: Option<&str>) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut up = Up::start(dir.path(), broker)?;
    let view = burst(&up.client).await?;
    all_done_once(&up.client, &view).await?;
    explains_itself(&explained(&dir.path().join("data"))?)?;
    up.process.signal("-INT")?;
    let status = up.process.wait(LIMIT)?;
    ensure!(status.success(), "{status}: {}", up.process.output());
    Ok(())
}

#[tokio::test]
async fn a_burst_with_nodes_inside_the_process() {
    from_nothing_to_nothing(None).await.unwrap();
}

#[tokio::test]
async fn a_burst_with_nodes_as_processes() {
    let Some(broker) = RabbitMq::fresh(Version::Installed).unwrap() else { return };
    from_nothing_to_nothing(Some(&broker.url)).await.unwrap();
}

#[tokio::test]
async fn a_burst_with_containers() {
    containers().await.unwrap();
}

async fn containers() -> Result<()> {
    const IMAGE: &str = "springtide-autoscaler-test:agent";
    let (Some(broker), Some(docker)) = (RabbitMq::fresh(Version::Installed)?, Docker::find()) else {
        return Ok(());
    };
    docker.image(&["springtide-node-agent"], IMAGE)?;
    let settings = [("node.heartbeat_interval", "1s")];
    let cluster = Cluster::start(ClusterOptions::new(&broker.url, "sqlite:", &settings))?;
    let (host, name) = (&docker.host, broker.vhost());
    let mut autoscaler = Autoscaler::start(
        &cluster,
        &format!(
            r#"autoscaler.provider = "docker"
            autoscaler.cluster = "{name}"
            autoscaler.pools = [{}]
            autoscaler.docker.host = "{host}"
            autoscaler.docker.pools = [{{name = "local", image = "{IMAGE}", network = "host", env = {{
                SPRINGTIDE__BROKER__URL = "{}", SPRINGTIDE__DATA_DIR = "/tmp/data",
                SPRINGTIDE__NODE__HEARTBEAT_INTERVAL = "1s", SPRINGTIDE__NODE__CPU_USAGE_THRESHOLD = "1.0"}}}}]"#,
            POOL.replace('\n', " "),
            cluster.broker(),
        ),
    )?;
    let view = burst(&cluster.client).await?;
    all_done_once(&cluster.client, &view).await?;
    explains_itself(&cluster.explained()?)?;
    let label = format!("label=springtide.cluster={name}");
    let no_container =
        async || Ok(docker.client(&["ps", "--all", "--quiet", "--filter", &label])?.is_empty());
    wait::until("the end of all containers", LIMIT, no_container).await?;
    autoscaler.stop()
}
