//! Images FROM scratch: a binary with its libraries starts in a container that holds nothing else, and works there.

use std::time::Duration;

use anyhow::ensure;
use springtide_client::{Client, Options, SubmitOptions, Url};
use springtide_core::api::SubmitJob;
use springtide_core::job::JobStatus;
use springtide_tests::docker::Docker;
use springtide_tests::servers::free_port;
use springtide_tests::wait;

const LIMIT: Duration = Duration::from_mins(1);

#[tokio::test]
async fn the_users_binary_runs_jobs_in_an_image_of_its_own() {
    let Some(docker) = Docker::find() else { return };
    docker.image(&["springtide"], "springtide-image-test:up").unwrap();
    let listen = format!("127.0.0.1:{}", free_port().unwrap());
    let arguments = ["up", "--listen", &listen, "--data-dir", "/tmp/data"];
    let container = docker.run(&["--memory", "1g"], "springtide-image-test:up", &arguments).unwrap();

    let server: Url = format!("http://{listen}").parse().unwrap();
    let client = Client::new(Options::new(server, 1)).unwrap();
    let healthy = async || {
        ensure!(container.is_running(), "the container ended:\n{}", container.logs());
        Ok(client.health().await.is_ok())
    };
    wait::until("/healthz", LIMIT, healthy).await.unwrap();
    let job = SubmitJob { model: "echo".into(), input: Some(serde_json::json!({})), ..SubmitJob::default() };
    let job = client.submit(&job, &SubmitOptions::default()).await.unwrap();
    assert_eq!(wait::for_end(&client, job.id, LIMIT).await.unwrap().status, JobStatus::Succeeded);
}
