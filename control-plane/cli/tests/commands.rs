//! The binary against a server of a few lines: what it prints, what it saves, how it exits.
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in test functions, not in what they call")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use axum::extract::Path as PathArgument;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::process::Command;

const JOB: &str = "job_01J9ZQ2Y9V5K8T0X3M4N6P7R8S";
/// Nothing here takes longer than this; a test that does is stuck.
const LIMIT: Duration = Duration::from_secs(30);

fn job(status: &str) -> Value {
    let failure = json!({"class": "invalid", "message": "no such thing", "task": format!("{JOB}/0")});
    json!({
        "id": JOB, "status": status, "model": "shapes@1", "priority": "normal", "labels": {"team": "a"},
        "created_at": "2026-01-31T12:00:00.000000Z", "started_at": null, "finished_at": null,
        "progress": 0.5, "eta_s": null,
        "tasks": {"total": 2, "waiting": 0, "released": 0, "running": 1, "succeeded": 1, "failed": 0, "cancelled": 0},
        "timings": {"wait_s": null, "load_s": 0.0, "run_s": 0.0},
        "error": if status == "failed" { failure } else { Value::Null }, "outputs": [],
        "links": {"this": "", "events": "", "outputs": "", "tasks": "", "cancel": ""}, "version": 1
    })
}

/// A control plane where every job ends as `end`.
async fn control_plane(end: &'static str) -> SocketAddr {
    let events = move || async move {
        let event = |status| format!("data: {}\n\n", job(status));
        event("running") + &event(end)
    };
    let outputs = || async {
        let task = format!("{JOB}/0");
        Json(json!({"items": [
            {"index": 0, "task": task, "url": "/v1/outputs/x/0.png", "media_type": "image/png", "size_bytes": 4,
             "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "seed": 7},
            {"index": 1, "task": task, "outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "data": [0.5]}]},
        ]}))
    };
    let submit = |Json(body): Json<Value>| async move {
        if body["model"] == "shapes" {
            return Ok((StatusCode::ACCEPTED, Json(job("queued"))));
        }
        let problem = json!({"type": "urn:springtide:problem:unknown-model", "title": "Unknown model", "status": 404,
            "detail": "there is no model `nothing`", "pointer": "/model"});
        Err((StatusCode::NOT_FOUND, Json(problem)))
    };
    let router = Router::new()
        .route("/v1/jobs", post(submit).get(|| async { Json(json!({"items": [job("running")]})) }))
        .route("/v1/jobs/{id}", get(move || async move { Json(job(end)) }))
        .route("/v1/jobs/{id}/events", get(events))
        .route("/v1/jobs/{id}/outputs", get(outputs))
        .route("/v1/outputs/{*key}", get(|PathArgument(_): PathArgument<String>| async { "test" }));
    serve(router).await
}

async fn serve(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn command(server: SocketAddr, dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_springtide"));
    command.args(args).current_dir(dir).env("SPRINGTIDE_SERVER", format!("http://{server}"));
    command.env_remove("SPRINGTIDE_TOKEN").stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn run(server: SocketAddr, dir: &Path, args: &[&str]) -> (i32, String, String) {
    let output: Output =
        tokio::time::timeout(LIMIT, command(server, dir, args).output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn submit_saves_the_outputs_and_prints_their_paths_last() {
    let server = control_plane("succeeded").await;
    let dir = tempfile::tempdir().unwrap();
    let (code, out, err) =
        run(server, dir.path(), &["submit", "shapes", "--prompt", "x", "--out", "a/b"]).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(out, format!("{JOB} succeeded\na/b/{JOB}-0.png\na/b/{JOB}-1.json\n"));
    assert_eq!(std::fs::read(dir.path().join(format!("a/b/{JOB}-0.png"))).unwrap(), b"test");
    let tensors = std::fs::read_to_string(dir.path().join(format!("a/b/{JOB}-1.json"))).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&tensors).unwrap()[0]["data"], json!([0.5]));
    assert!(
        err.contains("posted: shapes@1, 2 tasks") && err.contains("50 %, running, 1 of 2 tasks"),
        "{err}"
    );
}

#[tokio::test]
async fn json_is_one_document_on_stdout() {
    let server = control_plane("succeeded").await;
    let dir = tempfile::tempdir().unwrap();
    let (code, out, _) = run(server, dir.path(), &["submit", "shapes", "--json"]).await;
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, document["status"].as_str().unwrap()), (0, "succeeded"));
    assert_eq!(document["files"][0]["path"], format!("springtide-outputs/{JOB}-0.png"));
    let (_, out, _) = run(server, dir.path(), &["jobs", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["items"][0]["id"], JOB);
}

#[tokio::test]
async fn the_exit_code_tells_how_the_job_ended() {
    let dir = tempfile::tempdir().unwrap();
    for (end, expected) in [("succeeded", 0), ("failed", 1), ("cancelled", 3)] {
        let server = control_plane(end).await;
        for args in [&["submit", "shapes"][..], &["watch", JOB][..]] {
            let (code, out, err) = run(server, dir.path(), args).await;
            assert_eq!(code, expected, "{args:?} {end}: {err}");
            assert!(out.starts_with(&format!("{JOB} {end}\n")), "{out}");
            assert_eq!(err.contains("/0 failed (invalid): no such thing"), end == "failed", "{err}");
        }
    }
}

#[tokio::test]
async fn a_refusal_names_the_field_and_exits_with_2() {
    let server = control_plane("succeeded").await;
    let dir = tempfile::tempdir().unwrap();
    let (code, out, err) = run(server, dir.path(), &["submit", "nothing"]).await;
    assert_eq!((code, out.as_str()), (2, ""));
    assert_eq!(err, "error: model: there is no model `nothing`\n");
    let (code, _, err) = run(server, dir.path(), &["submit", "shapes", "--input", "{"]).await;
    assert!(code == 2 && err.contains("--input"), "{err}");
    let (code, _, _) = run(server, dir.path(), &["submit"]).await;
    assert_eq!(code, 2);
}

#[tokio::test]
async fn nobody_there_is_4() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    for args in [&["submit", "shapes"][..], &["jobs"], &["nodes"], &["models", "list"]] {
        let (code, _, err) = run(free, dir.path(), args).await;
        assert_eq!(code, 4, "{err}");
        assert!(err.contains("is `springtide up` running there?") && err.contains("refused"), "{err}");
    }
}

#[tokio::test]
async fn no_wait_prints_the_id_alone() {
    let server = control_plane("succeeded").await;
    let dir = tempfile::tempdir().unwrap();
    let (code, out, err) = run(server, dir.path(), &["submit", "shapes", "--no-wait"]).await;
    assert_eq!((code, out, err), (0, format!("{JOB}\n"), String::new()));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn interrupted_the_job_goes_on() {
    let hang = || async {
        let first = Ok::<_, std::convert::Infallible>(format!("data: {}\n\n", job("running")));
        let events = futures::StreamExt::chain(futures::stream::iter([first]), futures::stream::pending());
        axum::body::Body::from_stream(events)
    };
    let router = Router::new()
        .route("/v1/jobs/{id}", get(|| async { Json(job("running")) }))
        .route("/v1/jobs/{id}/events", get(hang));
    let server = serve(router).await;
    let dir = tempfile::tempdir().unwrap();
    let mut command = command(server, dir.path(), &["watch", JOB]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stderr = tokio::io::BufReader::new(child.stderr.take().unwrap());
    let mut lines = tokio::io::AsyncBufReadExt::lines(stderr);
    let mut next = async || tokio::time::timeout(LIMIT, lines.next_line()).await.unwrap().unwrap().unwrap();
    let first = next().await;
    assert!(first.contains("running"), "{first}");
    let id = nix::unistd::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGINT).unwrap();
    let said = next().await;
    assert!(said.starts_with(&format!("{JOB} goes on without you")), "{said}");
    assert_eq!(tokio::time::timeout(LIMIT, child.wait()).await.unwrap().unwrap().code(), Some(130));
}
