//! What goes wrong on the way, and what the user reads then.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use springtide_client::SubmitOptions;
use springtide_core::FailureClass;
use springtide_core::api::SubmitJob;
use springtide_core::job::JobStatus;
use springtide_tests::process::Process;
use springtide_tests::servers::{RabbitMq, Version};
use springtide_tests::{AgentOptions, Cluster, ClusterOptions, Whole, binary, wait};

const MINUTE: Duration = Duration::from_mins(1);

/// A TorchScript model directory whose module is no TorchScript.
fn fake_model(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join("model.pt"), "this is no TorchScript")?;
    let manifest = "name = \"fake\"\nversion = \"1\"\nkind = \"torchscript\"\nentry = \"model.pt\"\n\
        [[inputs]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [-1, 2]\n";
    std::fs::write(dir.join("model.toml"), manifest)?;
    Ok(())
}

async fn run(whole: &Whole, job: &SubmitJob) -> Result<springtide_core::api::JobView> {
    let posted = whole.client.submit(job, &SubmitOptions::default()).await?;
    wait::for_end(&whole.client, posted.id, 2 * MINUTE).await
}

#[tokio::test]
async fn a_file_that_is_no_torchscript_fails_its_task_and_nothing_else() {
    let whole = Whole::start(2).unwrap();
    let model = whole.dir().join("fake");
    fake_model(&model).unwrap();
    whole.push(&model).await.unwrap();
    let input = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.0, 1.0]}]});
    let job = SubmitJob { model: "fake".into(), input: Some(input), ..SubmitJob::default() };
    let done = run(&whole, &job).await.unwrap();
    let error = done.error.as_ref().expect("it failed");
    assert_eq!((done.status, error.class), (JobStatus::Failed, FailureClass::Invalid), "{error:?}");
    assert!(error.message.contains("model.pt"), "names the file: {}", error.message);

    let echo = SubmitJob { model: "echo".into(), input: Some(json!({"output": 7})), ..SubmitJob::default() };
    assert_eq!(run(&whole, &echo).await.unwrap().status, JobStatus::Succeeded, "the service goes on");
}

#[tokio::test]
async fn a_model_with_a_wrong_checksum_is_an_error_and_never_run() {
    let whole = Whole::start(2).unwrap();
    let model = whole.dir().join("fake");
    fake_model(&model).unwrap();
    whole.push(&model).await.unwrap();
    // Somebody changes the object behind the service's back.
    let object = whole.dir().join("data/objects/models/fake/1/model.pt");
    std::fs::write(&object, "changed").unwrap();
    let input = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.0, 1.0]}]});
    let job = SubmitJob { model: "fake".into(), input: Some(input), ..SubmitJob::default() };
    let done = run(&whole, &job).await.unwrap();
    let error = done.error.expect("it failed");
    assert_eq!(error.class, FailureClass::Invalid, "{error:?}");
    assert!(error.message.contains("model.pt"), "names the file: {}", error.message);
}

#[tokio::test]
async fn failures_that_may_pass_are_tried_again_and_kept_in_the_history() {
    let whole = Whole::start(2).unwrap();
    let input = Some(json!({"fail": "transient"}));
    let job = SubmitJob { model: "echo".into(), input, max_retries: Some(1), ..SubmitJob::default() };
    let done = run(&whole, &job).await.unwrap();
    assert_eq!(done.status, JobStatus::Failed);
    let tasks = whole.client.tasks(done.id, None).await.unwrap().items;
    assert_eq!((tasks[0].attempt, tasks[0].charges), (2, 2), "{tasks:?}");
    assert_eq!(tasks[0].attempts.len(), 2, "{tasks:?}");
    let again = whole.client.retry(done.id).await.unwrap();
    assert_eq!(again.tasks.total, 1);
}

#[tokio::test]
async fn a_cancelled_job_stops_and_stays_cancelled() {
    let whole = Whole::start(1).unwrap();
    let input = Some(json!({"sleep_s": 600}));
    let job = SubmitJob { model: "echo".into(), input, ..SubmitJob::default() };
    let posted = whole.client.submit(&job, &SubmitOptions::default()).await.unwrap();
    wait::for_job(&whole.client, posted.id, "its start", MINUTE, |view| view.tasks.running == 1)
        .await
        .unwrap();
    let cancelled = whole.client.cancel(posted.id).await.unwrap();
    assert_eq!(cancelled.status, JobStatus::Cancelled);
    // Its slot is free again: there is only one.
    let next = SubmitJob { model: "echo".into(), input: Some(json!({})), ..SubmitJob::default() };
    assert_eq!(run(&whole, &next).await.unwrap().status, JobStatus::Succeeded);
    assert_eq!(whole.client.job(posted.id).await.unwrap().status, JobStatus::Cancelled);
}

#[tokio::test]
async fn jobs_are_accepted_while_the_broker_is_not_there_and_run_when_it_is() {
    let Some(broker) = RabbitMq::fresh(Version::Installed).unwrap() else { return };
    // Nobody listens on the port of a listener that is gone.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = Proxy::new(gone.port(), &broker.url);
    let cluster = Cluster::start(ClusterOptions {
        broker: proxy.url.clone(),
        store: "sqlite:".to_owned(),
        settings: vec![("SPRINGTIDE__NODE__HEARTBEAT_INTERVAL".into(), "1s".into())],
    });
    let mut cluster = cluster.unwrap();
    cluster.start_agent(&AgentOptions::default()).unwrap();
    let ready = cluster.client.ready().await.unwrap();
    assert_eq!(ready["ready"], true, "it takes jobs without the broker: {ready}");
    assert!(ready["broker"].to_string().contains("waiting for the broker"), "and says so: {ready}");
    let echo = SubmitJob { model: "echo".into(), input: Some(json!({})), ..SubmitJob::default() };
    let job = cluster.submit(&echo).await.unwrap();
    assert_eq!(job.status, JobStatus::Queued);
    proxy.open().await.unwrap();
    let done = cluster.wait_for_end(job.id, 2 * MINUTE).await.unwrap();
    assert_eq!(done.status, JobStatus::Succeeded);
}

/// A way to the broker that is closed at first.
struct Proxy {
    port: u16,
    target: String,
    url: String,
}

impl Proxy {
    fn new(port: u16, broker: &str) -> Self {
        let authority =
            broker.split("://").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default();
        let target = authority.rsplit('@').next().unwrap_or_default().to_owned();
        let url = broker.replace(&target, &format!("127.0.0.1:{port}"));
        Self { port, target, url }
    }

    async fn open(&self) -> Result<()> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", self.port)).await?;
        let target = self.target.clone();
        tokio::spawn(async move {
            while let Ok((mut inward, _)) = listener.accept().await {
                let target = target.clone();
                tokio::spawn(async move {
                    if let Ok(mut outward) = tokio::net::TcpStream::connect(target).await {
                        let _ = tokio::io::copy_bidirectional(&mut inward, &mut outward).await;
                    }
                });
            }
        });
        Ok(())
    }
}

#[tokio::test]
async fn postgresql_serves_as_the_store_of_a_cluster() {
    let Some(broker) = RabbitMq::fresh(Version::Installed).unwrap() else { return };
    let Ok(server) = std::env::var("SPRINGTIDE_TEST_POSTGRES_URL") else {
        eprintln!(
            "skipped: SPRINGTIDE_TEST_POSTGRES_URL is not set; `cargo xtask test` starts the server and sets it"
        );
        return;
    };
    let mut cluster =
        Cluster::start(ClusterOptions { broker: broker.url.clone(), store: server, settings: Vec::new() })
            .expect("the control plane starts");
    cluster.start_agent(&AgentOptions::default()).unwrap();
    cluster.wait_for_nodes(1).await.unwrap();
    let inputs = Some((0..50).map(|number| json!({"output": number})).collect());
    let job = SubmitJob { model: "echo".into(), inputs, ..SubmitJob::default() };
    let job = cluster.submit(&job).await.unwrap();
    let done = cluster.wait_for_end(job.id, 2 * MINUTE).await.unwrap();
    assert_eq!((done.status, done.tasks.succeeded), (JobStatus::Succeeded, 50));
}

/// Starts a binary that should refuse to; what it said.
fn refusal(name: &str, configure: impl FnOnce(&mut Command)) -> Result<String> {
    let dir = tempfile::tempdir()?;
    let mut command = Command::new(binary::path(name)?);
    command.current_dir(dir.path()).env("SPRINGTIDE__DATA_DIR", dir.path());
    configure(&mut command);
    let mut process = Process::start(name, &mut command, dir.path())?;
    let status = process.wait(MINUTE)?;
    ensure!(!status.success(), "{name} did not refuse");
    Ok(process.output())
}

#[test]
fn what_can_not_start_says_why_and_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let port = refusal("springtide-control-plane", |command| {
        command.env("SPRINGTIDE__CONTROL_PLANE__LISTEN", &address);
    });
    let port = port.unwrap();
    assert!(port.contains(&address) && port.contains("listen"), "{port}");

    let public = refusal("springtide-control-plane", |command| {
        command.env("SPRINGTIDE__CONTROL_PLANE__LISTEN", "0.0.0.0:0");
    });
    let public = public.unwrap();
    assert!(public.contains("springtide tokens create"), "{public}");

    let unwritable = refusal("springtide-control-plane", |command| {
        command.env("SPRINGTIDE__DATA_DIR", "/proc/springtide");
    });
    let unwritable = unwritable.unwrap();
    assert!(unwritable.contains("/proc/springtide"), "{unwritable}");

    let unknown = refusal("springtide-node-agent", |command| {
        command.env("SPRINGTIDE__NODE__MAX_CONCURENT_TASKS", "3");
    });
    let unknown = unknown.unwrap();
    assert!(unknown.contains("max_concurrent_tasks"), "names the nearest key: {unknown}");
}
