//! Posting jobs that are fine: defaults, splitting, idempotency, large inputs, waiting for the end.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, Request};
use serde_json::{Value, json};
use springtide_control_plane::service::start_loops;
use springtide_core::JobId;
use springtide_core::wire::{InputRef, Output, TaskInput};
use springtide_process::stop::Stop;
use tokio::time::Instant;

use crate::api::{Api, heartbeat, json_request};
use crate::models::{pictures, tensors};

fn keyed(key: &str, body: &Value) -> Request<axum::body::Body> {
    let mut request = json_request(Method::POST, "/v1/jobs", body.to_string());
    request.headers_mut().insert("idempotency-key", key.parse().unwrap());
    request
}

#[tokio::test]
async fn a_job_is_answered_as_it_is_then_found() {
    let api = Api::new().await;
    let job = json!({
        "model": "echo", "input": {"output": 7}, "priority": "high", "timeout_s": 12.5, "max_retries": 1,
        "labels": {"team": "blue"}, "deadline": "2030-01-01T00:00:00Z", "exclusive": "disk-1",
    });
    let reply = api.post("/v1/jobs", &job).await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    let view = reply.json();
    assert_eq!(reply.header("location"), view["links"]["this"].as_str());
    assert_eq!((&view["status"], &view["model"]), (&json!("queued"), &json!("echo@1")));
    assert_eq!((&view["tasks"]["total"], &view["tasks"]["waiting"]), (&json!(1), &json!(1)));
    assert_eq!(view["deadline"], "2030-01-01T00:00:00.000000Z");
    assert_eq!(api.get(view["links"]["this"].as_str().unwrap()).await.json(), view);
    let row = api.app.store.job(view["id"].as_str().unwrap().parse().unwrap()).await.unwrap();
    assert_eq!((row.spec.timeout, row.spec.max_retries), (Duration::from_millis(12_500), 1));
    assert_eq!(row.spec.exclusive.as_deref(), Some("disk-1"));
    assert_eq!(row.spec.rank, row.created_at - api.app.config.head_start().high);
}

#[tokio::test]
async fn pictures_are_split_and_keep_their_seeds() {
    let api = Api::new().await;
    api.push(pictures("1")).await;
    let input = json!({"prompt": "a red circle", "images": 20, "images_per_task": 6, "seed": 100});
    let job = api.submit(&json!({"model": "pictures", "input": input})).await;
    let row = api.app.store.job(job).await.unwrap();
    assert_eq!((row.spec.tasks, row.spec.outputs_per_task), (4, 6));
    let last = row.spec.input.of_task(3).unwrap();
    let TaskInput::Inline(last) = last else { panic!("{last:?}") };
    assert_eq!((&last["seed"], &last["images"]), (&json!(118), &json!(2)));

    let inputs = json!([{"prompt": "a"}, {"prompt": "b", "images": 8, "seed": 5}]);
    let job = api.submit(&json!({"model": "pictures@1", "inputs": inputs})).await;
    let row = api.app.store.job(job).await.unwrap();
    assert_eq!((row.spec.tasks, row.spec.outputs_per_task), (2, 8));
}

#[tokio::test]
async fn the_same_key_and_body_give_the_same_job() {
    let api = Api::new().await;
    let body = json!({"model": "echo", "input": {}});
    let first = api.send(keyed("k", &body)).await;
    let again = api.send(keyed("k", &body)).await;
    assert_eq!(again.status, 202);
    assert_eq!(first.json(), again.json());
    let other = api.send(keyed("k", &json!({"model": "echo", "input": {"output": 1}}))).await;
    assert_eq!(other.problem(422).r#type, "urn:springtide:problem:idempotency-conflict");
    assert_ne!(api.send(keyed("l", &body)).await.json()["id"], first.json()["id"]);
    assert_eq!(api.get("/v1/jobs").await.json()["items"].as_array().unwrap().len(), 2);
    api.send(keyed("", &body)).await.problem(400);
    api.send(keyed(&"x".repeat(256), &body)).await.problem(400);
}

#[tokio::test]
async fn large_inputs_go_by_reference_and_only_once() {
    let api = Api::new().await;
    let large = "x".repeat(70_000);
    let body = json!({"model": "echo", "inputs": [{"output": 1}, {"output": large}]});
    let reply = api.send(keyed("k", &body)).await;
    let id: JobId = reply.json()["id"].as_str().unwrap().parse().unwrap();
    let key = format!("inputs/{id}/1");
    assert_eq!(api.objects().await, [key.as_str()]);
    let inputs: Vec<_> = api.release().await.into_iter().map(|task| task.input).collect();
    let reference = InputRef { key: key.clone(), size_bytes: 70_013 };
    assert_eq!(inputs, [TaskInput::Inline(json!({"output": 1})), TaskInput::Object(reference)]);
    // Repeated: the object of the job that was not made goes away again.
    assert_eq!(api.send(keyed("k", &body)).await.json()["id"], json!(id));
    let other = json!({"model": "echo", "inputs": [{"output": 2}, {"output": large}]});
    api.send(keyed("k", &other)).await.problem(422);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(api.objects().await, [key.as_str()]);
}

#[tokio::test]
async fn tensors_are_checked_and_measured() {
    let api = Api::new().await;
    api.push(tensors("6")).await;
    let audio =
        json!({"name": "audio", "datatype": "FP32", "shape": [2, 4], "data": [0, 1, 2, 3, 4, 5, 6, 7]});
    let job = api.submit(&json!({"model": "vad", "input": {"inputs": [audio]}})).await;
    let row = api.app.store.job(job).await.unwrap();
    assert_eq!(row.spec.model.to_string(), "vad@6");
    assert!((row.spec.units - 0.008).abs() < 1e-9, "thousands of elements: {}", row.spec.units);
}

#[tokio::test(start_paused = true)]
async fn a_reply_is_held_until_the_job_ends_or_the_time_is_up() {
    let api = Arc::new(Api::new().await);
    let body = json!({"model": "echo", "input": {}});
    let begun = Instant::now();
    let reply = api.post("/v1/jobs?wait_s=5", &body).await;
    assert_eq!(reply.json()["status"], "queued");
    assert_eq!(begun.elapsed().as_secs(), 5);
    // No longer than the service grants, whatever is asked for.
    api.post("/v1/jobs?wait_s=3600", &body).await;
    assert_eq!(begun.elapsed().as_secs(), 5 + api.app.config.max_wait.as_secs());

    let waiting = Arc::clone(&api);
    let posted = tokio::spawn(async move {
        let body = json!({"model": "echo", "input": {"output": 1}, "priority": "high"});
        waiting.post("/v1/jobs?wait_s=50", &body).await
    });
    tokio::time::sleep(Duration::from_secs(3)).await;
    let listed = api.get("/v1/jobs?priority=high").await.json();
    let job = listed["items"][0]["id"].as_str().unwrap().parse().unwrap();
    api.release().await;
    api.succeed(job, 0, vec![Output::Inline(json!([1]))]).await;
    let ended = Instant::now();
    let view = posted.await.unwrap().json();
    assert_eq!((&view["status"], &view["outputs"][0]["outputs"]), (&json!("succeeded"), &json!([1])));
    assert!(ended.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn jobs_of_another_owner_have_their_own_keys() {
    let api = Api::new().await.with_token("a", &["submit"]).await.with_token("b", &["submit"]).await;
    let mut ids = Vec::new();
    for token in ["a", "b", "a"] {
        let mut request = keyed("k", &json!({"model": "echo", "input": {}}));
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        ids.push(api.send(request).await.json()["id"].clone());
    }
    assert_eq!(ids[0], ids[2]);
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_finds_room_is_released_and_published_at_once() {
    let api = Api::new().await;
    let stop = Stop::new();
    start_loops(&api.app, &stop);
    api.app.registry.hear(heartbeat(), api.app.now(), std::time::Duration::from_secs(10));
    let mut leads = api.app.leadership.watch();
    leads.wait_for(Option::is_some).await.unwrap();
    let view = api.post("/v1/jobs", &json!({"model": "echo", "inputs": [{}, {}, {}]})).await.json();
    assert_eq!((&view["tasks"]["released"], &view["tasks"]["waiting"]), (&json!(2), &json!(1)));
    // What is answered without another look is what is stored.
    let row = api.app.store.job(view["id"].as_str().unwrap().parse().unwrap()).await.unwrap();
    assert_eq!(view["version"], json!(row.version));
    assert_eq!(view["tasks"], serde_json::to_value(row.counts).unwrap());
    let lane = "cpu".parse().unwrap();
    let published = async {
        while api.app.parts.broker.tasks.depth(&lane).await.unwrap().messages < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(1), published).await.expect("both are published");
    stop.request();
}
