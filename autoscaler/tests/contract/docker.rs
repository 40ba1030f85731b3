//! Docker, as a private daemon without a bridge. The containers only sleep: what agents do in them is tried elsewhere.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use springtide_autoscaler::config::{Docker as Config, DockerPool};
use springtide_autoscaler::provider::docker::Docker;
use springtide_autoscaler::provider::{LaunchId, Life, Order, Provider};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;
use xtask::services::docker::client;

use crate::suite::{Subject, Tokens};

/// `None`, and a line that says so, without Docker.
fn host() -> Option<String> {
    let host = std::env::var("SPRINGTIDE_TEST_DOCKER_HOST").ok();
    if host.is_none() {
        eprintln!(
            "skipped: SPRINGTIDE_TEST_DOCKER_HOST is not set; `cargo xtask test` starts Docker and sets it"
        );
    }
    host
}

fn pool(name: &str, image: &str) -> DockerPool {
    DockerPool {
        name: name.to_owned(),
        image: image.to_owned(),
        command: vec!["600".to_owned()],
        network: "none".to_owned(),
        labels: BTreeMap::from([("team".to_owned(), "studio".to_owned())]),
        env: BTreeMap::from([("SPRINGTIDE__BROKER__URL".to_owned(), "amqp://broker".to_owned())]),
        memory_bytes: 64 << 20,
        ..DockerPool::default()
    }
}

fn open(host: &str, pools: Vec<DockerPool>) -> Docker {
    let config = Config { host: host.to_owned(), stop_timeout: Duration::from_secs(1), pools };
    Docker::new(&config, "contract", crate::clock())
}

fn order(pool: &str) -> Order {
    Order {
        pool: pool.to_owned(),
        lane: "cpu".parse().unwrap(),
        offer: "container/-/on_demand".parse().unwrap(),
        count: 1,
        slots: 3,
        price_per_hour: 0.0,
    }
}

#[tokio::test]
async fn containers() {
    let Some(host) = host() else { return };
    let image = "springtide-contract:sleep";
    xtask::image::docker_image_of(&host, &[Path::new("/bin/sleep")], image).unwrap();
    let provider = open(&host, vec![pool("pool", image), pool("other", image)]);

    // What an agent is told.
    let id = LaunchId::from_text("launch-environment");
    let request = provider.prepare(&order("pool")).await.unwrap();
    let nodes = provider.launch(&id, &request).await.unwrap().nodes;
    let format = "{{range .Config.Env}}{{println .}}{{end}}{{.Config.Labels.team}}";
    let shown = client(&host, &["inspect", "--format", format, nodes[0].as_str()]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    for line in [
        format!("SPRINGTIDE__NODE__ID={}", nodes[0]),
        "SPRINGTIDE__NODE__POOL=pool".to_owned(),
        "SPRINGTIDE__NODE__LANE=cpu".to_owned(),
        "SPRINGTIDE__NODE__MAX_CONCURRENT_TASKS=3".to_owned(),
        "SPRINGTIDE__BROKER__URL=amqp://broker".to_owned(),
        "studio".to_owned(),
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    provider.terminate(&nodes).await.unwrap();
    removed(&host, nodes[0].as_str()).await;
    // Asked for again after it has ended and is gone, it is not made a second time.
    assert_eq!(provider.launch(&id, &request).await.unwrap().nodes, nodes);
    let machines = provider.machines().await.unwrap();
    assert!(machines.iter().all(|machine| machine.life != Life::Running), "{machines:?}");

    let offer = "container/-/on_demand".parse().unwrap();
    Subject { provider, offer, tokens: Tokens::Honoured }.holds().await;
    // The daemon says that a removal is under way, and shows the container until it is done.
    let filter = "label=springtide.cluster=contract";
    let left = client(&host, &["ps", "--all", "--quiet", "--no-trunc", "--filter", filter]).output().unwrap();
    for id in String::from_utf8(left.stdout).unwrap().lines() {
        removed(&host, id).await;
    }
}

/// Waits until the daemon has removed a container; its events of the past count as well.
async fn removed(host: &str, id: &str) {
    let of = format!("container={id}");
    let events = client(host, &["events", "--since", "1", "--filter", "event=destroy", "--filter", &of]);
    let mut events = Command::from(events).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(events.stdout.take().unwrap()).lines();
    let line = timeout(Duration::from_mins(1), lines.next_line()).await;
    let line = line.unwrap_or_else(|_| panic!("waited a minute for {id} to be removed")).unwrap();
    assert!(line.is_some_and(|line| line.contains(id)), "the daemon tells of its events");
}

#[tokio::test]
async fn what_can_not_be_launched_is_told_apart() {
    let Some(host) = host() else { return };
    let provider = open(&host, vec![pool("pool", "no-such-image:1")]);
    let error = provider.prepare(&order("nobody's")).await.unwrap_err();
    assert!(error.to_string().contains("autoscaler.docker.pools"), "{error}");
    let request = provider.prepare(&order("pool")).await.unwrap();
    let error = provider.launch(&LaunchId::from_text("launch-1"), &request).await.unwrap_err();
    assert!(!error.is_retryable() && error.to_string().contains("no-such-image"), "{error}");
    let dead = open("unix:///nowhere/docker.sock", vec![pool("pool", "no-such-image:1")]);
    let error = dead.machines().await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("autoscaler.docker.host"), "{error}");
}
