//! The agent's own binary: what it says when it can't start, and how it ends.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where it stopped")]

use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(60);

struct Binary {
    command: Command,
    _dir: tempfile::TempDir,
}

fn agent(settings: &[(&str, &str)]) -> Binary {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_springtide-node-agent"));
    command.env("SPRINGTIDE__DATA_DIR", dir.path()).env("SPRINGTIDE__NODE__DEVICES", "cpu");
    command.envs(settings.iter().copied()).stderr(Stdio::piped()).kill_on_drop(true);
    Binary { command, _dir: dir }
}

async fn ended(child: Child) -> Output {
    let output = timeout(LIMIT, child.wait_with_output()).await;
    output.unwrap_or_else(|_| panic!("waited {LIMIT:?} for the agent's end")).unwrap()
}

async fn refusal(settings: &[(&str, &str)]) -> String {
    let output = ended(agent(settings).command.spawn().unwrap()).await;
    assert!(!output.status.success(), "it started");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn what_keeps_it_from_starting_is_said_with_what_to_do() {
    let said = refusal(&[]).await;
    assert!(said.contains("broker.url") && said.contains("amqp://"), "{said}");
    let said = refusal(&[("SPRINGTIDE__NODE__LANES", "cpu")]).await;
    assert!(said.contains("node.lanes") && said.contains("node.lane"), "{said}");
    let broker = ("SPRINGTIDE__BROKER__URL", "amqp://127.0.0.1:1");
    let said = refusal(&[broker, ("SPRINGTIDE__NODE__LANE", "gpu-9000")]).await;
    assert!(said.contains("gpu-9000") && said.contains("gpu-24g"), "{said}");
    let said = refusal(&[broker, ("SPRINGTIDE__DATA_DIR", "/proc/nowhere")]).await;
    assert!(said.contains("/proc/nowhere"), "{said}");
}

#[tokio::test]
async fn it_starts_without_a_broker_says_what_it_waits_for_and_ends_when_it_is_told() {
    let mut binary = agent(&[("SPRINGTIDE__BROKER__URL", "amqp://127.0.0.1:1")]);
    let mut child = binary.command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let waiting = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("waiting for the broker at amqp://127.0.0.1:1") {
                return;
            }
        }
        panic!("it ended");
    };
    timeout(LIMIT, waiting).await.expect("it says what it waits for");
    let drained = tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    let output = ended(child).await;
    assert!(output.status.success(), "{:?}", output.status);
    drained.await.unwrap();
}

#[tokio::test]
async fn it_ends_with_whoever_started_it() {
    let mut binary = agent(&[("SPRINGTIDE__BROKER__URL", "amqp://127.0.0.1:1")]);
    binary.command.arg("--end-with-stdin").stdin(Stdio::piped()).stderr(Stdio::null());
    let mut child = binary.command.spawn().unwrap();
    let stdin = child.stdin.take().unwrap();
    assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
    drop(stdin);
    assert!(ended(child).await.status.success());
}
