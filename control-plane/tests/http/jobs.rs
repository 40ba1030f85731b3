//! Looking at jobs, their tasks and outputs; cancelling and retrying.

use axum::body::Body;
use axum::http::Request;
use serde_json::json;
use springtide_core::JobId;
use springtide_core::lane::Device;
use springtide_core::wire::{Output, TaskEventKind, Timings};
use springtide_core::{FailureClass, TaskError};
use springtide_store::port::{JobInput, SourceRange};

use crate::api::{Api, Reply, event, run};

async fn post_empty(api: &Api, path: &str) -> Reply {
    api.send(Request::post(path).body(Body::empty()).unwrap()).await
}

/// A job of `count` tasks, all released.
async fn released(api: &Api, count: usize) -> JobId {
    let job = api.submit(&json!({"model": "echo", "inputs": vec![json!({}); count]})).await;
    api.release().await;
    job
}

fn picture(job: JobId, task: u32, position: u32) -> Output {
    Output::Object {
        key: format!("outputs/{job}/{task}/1-{}/{position}.png", run()),
        media_type: "image/png".to_owned(),
        size_bytes: 3,
        sha256: "00".repeat(32),
        seed: Some(u64::from(100 + task)),
    }
}

#[tokio::test]
async fn a_job_shows_what_became_of_it() {
    let api = Api::new().await;
    let job = released(&api, 3).await;
    api.succeed(job, 0, vec![picture(job, 0, 0)]).await;
    api.fail(job, 1).await;
    let view = api.get(&format!("/v1/jobs/{job}")).await.json();
    assert_eq!(view["status"], "running");
    assert_eq!((&view["tasks"]["succeeded"], &view["tasks"]["failed"]), (&json!(1), &json!(1)));
    assert!((view["progress"].as_f64().unwrap() - 2.0 / 3.0).abs() < 1e-9);
    assert_eq!(view["error"]["class"], "invalid");
    assert_eq!(view["error"]["task"], json!(format!("{job}/1")));
    assert_eq!(view["timings"]["run_s"], json!(1.5));
    let output = &view["outputs"][0];
    assert_eq!(output["url"], json!(format!("/v1/outputs/{job}/0/1-{}/0.png", run())));
    assert_eq!((&output["index"], &output["seed"]), (&json!(0), &json!(100)));
}

#[tokio::test]
async fn outputs_have_their_position_in_the_job() {
    let api = Api::new().await;
    api.push(crate::models::pictures("1")).await;
    let input = json!({"prompt": "x", "images": 7, "images_per_task": 3});
    let job = api.submit(&json!({"model": "pictures", "input": input})).await;
    api.release().await;
    for (task, count) in [(2, 1), (0, 3)] {
        let outputs = (0..count).map(|position| picture(job, task, position)).collect();
        api.succeed(job, task, outputs).await;
    }
    let indices = |page: &serde_json::Value| -> Vec<u64> {
        page["items"].as_array().unwrap().iter().map(|output| output["index"].as_u64().unwrap()).collect()
    };
    let all = api.get(&format!("/v1/jobs/{job}/outputs")).await.json();
    assert_eq!(indices(&all), [0, 1, 2, 6]);
    let first = api.get(&format!("/v1/jobs/{job}/outputs?limit=1")).await.json();
    assert_eq!(indices(&first), [0, 1, 2]);
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = api.get(&format!("/v1/jobs/{job}/outputs?cursor={cursor}")).await.json();
    assert_eq!(indices(&rest), [6]);
    api.get(&format!("/v1/jobs/{job}/outputs?cursor=nonsense")).await.problem(400);
}

#[tokio::test]
async fn tasks_show_their_history() {
    let api = Api::new().await;
    let job = released(&api, 2).await;
    let mut error = TaskError::new(FailureClass::Transient, "out of memory");
    error.stderr_tail = "CUDA error".to_owned();
    let started = TaskEventKind::Started { run: run(), lane: "cpu".parse().unwrap(), device: Device::Cpu };
    let failed = TaskEventKind::Failed { run: Some(run()), error, timings: Timings::default() };
    api.report(&[event(job, 1, started), event(job, 1, failed)]).await;
    let tasks = api.get(&format!("/v1/jobs/{job}/tasks")).await.json();
    assert_eq!(tasks["items"][0]["state"], "released");
    let task = &tasks["items"][1];
    assert_eq!(
        (&task["state"], &task["charges"], &task["attempt"]),
        (&json!("waiting"), &json!(1), &json!(1))
    );
    assert_eq!(task["attempts"][0]["charged"], json!(true));
    assert_eq!(task["attempts"][0]["node"], "node-1");
    api.fail(job, 0).await;
    let failed = api.get(&format!("/v1/jobs/{job}/tasks?state=failed")).await.json();
    assert_eq!(failed["items"].as_array().unwrap().len(), 1);
    assert_eq!(failed["items"][0]["error"]["message"], "no such colour");
    api.get(&format!("/v1/jobs/{job}/tasks?state=lost")).await.problem(400);
}

#[tokio::test]
async fn lists_are_pages_newest_first() {
    let api = Api::new().await;
    let mut jobs = Vec::new();
    for at in 0..5 {
        let labels = json!({"parity": if at % 2 == 0 { "even" } else { "odd" }});
        jobs.push(api.submit(&json!({"model": "echo", "input": {}, "labels": labels})).await.to_string());
    }
    jobs.sort();
    jobs.reverse();
    let mut found = Vec::new();
    let mut path = "/v1/jobs?limit=2".to_owned();
    loop {
        let page = api.get(&path).await.json();
        found.extend(
            page["items"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()),
        );
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/jobs?limit=2&cursor={cursor}");
    }
    assert_eq!(found, jobs);
    for label in ["parity=odd", "parity:odd", "parity%3Dodd"] {
        let page = api.get(&format!("/v1/jobs?label={label}")).await.json();
        assert_eq!(page["items"].as_array().unwrap().len(), 2, "{label}");
    }
    let done = api.get("/v1/jobs?status=succeeded").await.json();
    assert_eq!(done["items"], json!([]));
}

#[tokio::test]
async fn cancelling_ends_a_job_and_is_harmless_to_repeat() {
    let api = Api::new().await;
    let job = released(&api, 2).await;
    api.succeed(job, 0, vec![]).await;
    for _ in 0..2 {
        let reply = post_empty(&api, &format!("/v1/jobs/{job}/cancel")).await;
        assert_eq!(reply.status, 202);
        let view = reply.json();
        assert_eq!((&view["status"], &view["tasks"]["cancelled"]), (&json!("cancelled"), &json!(1)));
    }
    let done = released(&api, 1).await;
    api.succeed(done, 0, vec![]).await;
    let reply = post_empty(&api, &format!("/v1/jobs/{done}/cancel")).await;
    assert_eq!((reply.status.as_u16(), &reply.json()["status"]), (202, &json!("succeeded")));
}

#[tokio::test]
async fn a_retry_is_a_new_job_of_the_failed_tasks() {
    let api = Api::new().await;
    let job = released(&api, 5).await;
    post_empty(&api, &format!("/v1/jobs/{job}/retry")).await.problem(409);
    for index in [0, 3, 4] {
        api.fail(job, index).await;
    }
    let reply = post_empty(&api, &format!("/v1/jobs/{job}/retry")).await;
    assert_eq!(reply.status, 202);
    let view = reply.json();
    assert_ne!(view["id"], json!(job));
    assert_eq!((&view["status"], &view["tasks"]["total"]), (&json!("queued"), &json!(3)));
    let retried = api.app.store.job(view["id"].as_str().unwrap().parse().unwrap()).await.unwrap();
    let ranges = vec![SourceRange { start: 0, count: 1 }, SourceRange { start: 3, count: 2 }];
    assert_eq!(retried.spec.input, JobInput::Again { source: job, ranges });

    let keyed = || {
        let request = Request::post(format!("/v1/jobs/{job}/retry")).header("idempotency-key", "k");
        api.send(request.body(Body::empty()).unwrap())
    };
    let first = keyed().await.json();
    assert_eq!(keyed().await.json()["id"], first["id"]);
}
