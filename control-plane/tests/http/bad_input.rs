//! Whatever is wrong with a job, its reply names the field, and nothing of it is kept.

use axum::body::{Body, Bytes};
use axum::http::{Method, Request};
use serde_json::{Value, json};

use crate::api::{Api, json_request};
use crate::models::{pictures, tensors};

/// Posts a body as it is.
async fn post(api: &Api, body: impl Into<Body>) -> crate::api::Reply {
    api.send(json_request(Method::POST, "/v1/jobs", body)).await
}

#[tokio::test]
async fn each_field_that_is_wrong_is_named() {
    let api = Api::with(|config| config.lanes.retain(|lane| lane.name.as_str() != "gpu-80g")).await;
    let with = |field: &str, value: Value| {
        let mut job = json!({"model": "echo", "input": {}});
        job[field] = value;
        job
    };
    let many_labels: serde_json::Map<_, _> = (0..33).map(|at| (format!("k{at}"), json!(""))).collect();
    let cases = [
        (with("model", json!("nothing")), "/model"),
        (with("model", json!("../etc")), "/model"),
        (with("model", json!("echo@2")), "/model"),
        (with("model", json!(7)), "/model"),
        (json!({"input": {}}), ""),
        (json!([]), ""),
        (with("modle", json!("x")), "/modle"),
        (with("input", Value::Null), "/input"),
        (with("inputs", json!([{}])), "/inputs"),
        (json!({"model": "echo", "inputs": []}), "/inputs"),
        (json!({"model": "echo", "inputs": {}}), "/inputs"),
        (json!({"model": "echo", "inputs": [{}, {}, {"sleep_s": -1}]}), "/inputs/2/sleep_s"),
        (with("input", json!({"sleep": 1})), "/input/sleep"),
        (with("input", json!({"fail": "badly"})), "/input/fail"),
        (with("priority", json!("urgent")), "/priority"),
        (with("timeout_s", json!(0)), "/timeout_s"),
        (with("timeout_s", json!(-1)), "/timeout_s"),
        (with("timeout_s", json!(1e300)), "/timeout_s"),
        (with("max_retries", json!(-1)), "/max_retries"),
        (with("max_retries", json!(1_000_000)), "/max_retries"),
        (with("deadline", json!("tomorrow")), "/deadline"),
        (with("resources", json!({"device": "tpu"})), "/resources/device"),
        (with("resources", json!({"gpu_memory_bytes": -1})), "/resources/gpu_memory_bytes"),
        (with("resources", json!({"device": "cuda", "gpu_memory_bytes": 1_u64 << 40})), "/resources"),
        (with("labels", Value::Object(many_labels)), "/labels"),
        (with("labels", json!({"a=b": "x"})), "/labels/a=b"),
        (with("labels", json!({"a/b": "x\n"})), "/labels/a~1b"),
        (with("labels", json!({"a": 7})), "/labels/a"),
        (with("exclusive", json!("")), "/exclusive"),
        (with("exclusive", json!("x".repeat(201))), "/exclusive"),
    ];
    for (job, pointer) in cases {
        let reply = api.post("/v1/jobs", &job).await;
        let problem = reply.problem(422);
        assert_eq!(problem.pointer.as_deref(), Some(pointer), "{job}: {problem:?}");
    }
    api.assert_empty().await;
}

#[tokio::test]
async fn an_input_that_could_not_be_read_again_is_refused() {
    let api = Api::new().await;
    let nested = |depth| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let body = |depth| format!(r#"{{"model": "echo", "input": {{"output": {}}}}}"#, nested(depth));
    post(&api, body(64)).await.assert_field(422, "/input");
    let many = format!(r#"{{"model": "echo", "inputs": [{{}}, {{"output": {}}}]}}"#, nested(100));
    post(&api, many).await.assert_field(422, "/inputs/1");
    api.assert_empty().await;
    assert_eq!(post(&api, body(63)).await.status.as_u16(), 202);
    let released = api.release().await;
    let message = serde_json::to_string(&released[0].input).unwrap();
    assert!(serde_json::from_str::<springtide_core::wire::TaskInput>(&message).is_ok());
}

#[tokio::test]
async fn pictures_that_can_not_be_made_are_refused() {
    let api = Api::new().await;
    api.push(pictures("1")).await;
    let with = |field: &str, value: Value| {
        let mut input = json!({"prompt": "a red circle"});
        input[field] = value;
        json!({"model": "pictures", "input": input})
    };
    let cases = [
        (with("prompt", json!("x".repeat(1 << 20))), "/input/prompt"),
        (with("width", json!(-64)), "/input/width"),
        (with("height", json!(63)), "/input/height"),
        (with("steps", json!("many")), "/input/steps"),
        (with("images", json!(1_000_000_000)), "/input/images"),
        (with("images", json!(5_000_000_000_u64)), "/input/images"),
        (with("images_per_task", json!(9)), "/input/images_per_task"),
        (with("guidance_scale", json!(1e9)), "/input/guidance_scale"),
        (
            json!({"model": "pictures", "inputs": [{"prompt": "a"}, {"prompt": "b", "images": 9}]}),
            "/inputs/1/images",
        ),
    ];
    for (job, pointer) in cases {
        let problem = api.post("/v1/jobs", &job).await.problem(422);
        assert_eq!(problem.pointer.as_deref(), Some(pointer), "{problem:?}");
    }
    let nan = r#"{"model": "pictures", "input": {"prompt": "x", "guidance_scale": NaN}}"#;
    post(&api, nan).await.assert_field(400, "/input/guidance_scale");
    assert_eq!(api.get("/v1/jobs").await.json()["items"], json!([]));
}

#[tokio::test]
async fn tensors_that_do_not_fit_are_refused() {
    let api = Api::new().await;
    api.push(tensors("6")).await;
    let audio = |field: &str, value: Value| {
        let mut tensor = json!({"name": "audio", "datatype": "FP32", "shape": [1, 4], "data": [0, 0, 0, 0]});
        tensor[field] = value;
        tensor
    };
    let fine = audio("name", json!("audio"));
    let cases = [
        (audio("shape", json!([1, 5])), "/inputs/0/shape"),
        (audio("shape", json!([-1, 4])), "/inputs/0/shape/0"),
        (audio("datatype", json!("FP64")), "/inputs/0/datatype"),
        (audio("datatype", json!("FLOAT")), "/inputs/0/datatype"),
        (audio("data", json!([0, 0, "NaN", 0])), "/inputs/0/data/2"),
        (audio("data", json!([0])), "/inputs/0/data"),
        (audio("name", json!("sound")), "/inputs/0/name"),
        (audio("dtype", json!("FP32")), "/inputs/0/dtype"),
    ];
    for (tensor, pointer) in cases {
        let one = json!({"model": "vad", "input": {"inputs": [tensor]}});
        let problem = api.post("/v1/jobs", &one).await.problem(422);
        assert_eq!(problem.pointer.unwrap(), format!("/input{pointer}"), "{}", problem.detail);
        let each = json!({"model": "vad", "inputs": [{"inputs": [fine]}, {"inputs": [tensor]}]});
        let problem = api.post("/v1/jobs", &each).await.problem(422);
        assert_eq!(problem.pointer.unwrap(), format!("/inputs/1{pointer}"), "{}", problem.detail);
    }
    assert_eq!(api.get("/v1/jobs").await.json()["items"], json!([]));
}

#[tokio::test]
async fn what_is_no_json_is_said_to_be_so_with_its_place() {
    let api = Api::new().await;
    for body in ["", "{", "{\"model\": \"echo\",}", "nonsense", "{\"model\": \"echo\"} {}", "\u{0}"] {
        let problem = post(&api, body).await.problem(400);
        assert!(problem.detail.contains("line 1 column"), "{body:?}: {problem:?}");
    }
    post(&api, vec![0xff, 0xfe, b'{']).await.problem(400);
    let deep = format!(r#"{{"model": "echo", "input": {}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    post(&api, deep).await.problem(400);
    api.assert_empty().await;
}

#[tokio::test]
async fn bodies_have_a_type_a_size_and_an_end() {
    let api = Api::with(|config| config.max_request_bytes = 1000).await;
    let body = json!({"model": "echo", "input": {}}).to_string();
    for content_type in [None, Some("application/x-www-form-urlencoded"), Some("text/plain")] {
        let mut request = json_request(Method::POST, "/v1/jobs", body.clone());
        match content_type {
            Some(value) => request.headers_mut().insert("content-type", value.parse().unwrap()),
            None => request.headers_mut().remove("content-type"),
        };
        api.send(request).await.problem(415);
    }
    let charset = Request::post("/v1/jobs").header("content-type", "application/json; charset=utf-8");
    assert_eq!(api.send(charset.body(Body::from(body.clone())).unwrap()).await.status, 202);
    let padded = format!("{body}{}", " ".repeat(1000));
    post(&api, padded.clone()).await.problem(413);
    // The same in pieces, of which no one knows the size before.
    let pieces: Vec<_> = padded
        .as_bytes()
        .chunks(100)
        .map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)))
        .collect();
    post(&api, Body::from_stream(futures::stream::iter(pieces))).await.problem(413);
    let broken = [Ok(Bytes::from_static(b"{\"model\"")), Err(std::io::Error::other("gone"))];
    post(&api, Body::from_stream(futures::stream::iter(broken))).await.problem(400);
}

#[tokio::test]
async fn an_input_that_is_too_large_for_one_job_is_refused() {
    let api = Api::with(|config| config.max_tasks_per_job = 10).await;
    api.push(pictures("1")).await;
    let inputs = vec![json!({}); 11];
    api.post("/v1/jobs", &json!({"model": "echo", "inputs": inputs})).await.assert_field(422, "/inputs");
    let input = json!({"prompt": "x", "images": 81});
    api.post("/v1/jobs", &json!({"model": "pictures", "input": input}))
        .await
        .assert_field(422, "/input/images");
    let input = json!({"prompt": "x", "images": 80});
    assert_eq!(api.post("/v1/jobs", &json!({"model": "pictures", "input": input})).await.status, 202);
}

#[tokio::test]
async fn a_query_that_is_wrong_is_refused_by_name() {
    let api = Api::new().await;
    let cases = [
        ("/v1/jobs?limt=1", "limt"),
        ("/v1/jobs?limit=x", "limit"),
        ("/v1/jobs?limit=0", "limit"),
        ("/v1/jobs?limit=1001", "limit"),
        ("/v1/jobs?status=done", "status"),
        ("/v1/jobs?label=x", "label"),
        ("/v1/jobs?model=x", "model"),
        ("/v1/jobs?cursor=x", "cursor"),
        ("/v1/nodes?all=1", "all"),
        ("/v1/models?limit=-1", "limit"),
    ];
    for (path, word) in cases {
        let problem = api.get(path).await.problem(400);
        assert!(problem.detail.contains(word), "{path}: {problem:?}");
    }
    let job = json!({"model": "echo", "input": {}});
    for wait in ["-1", "NaN", "inf", "x", "1e99"] {
        api.post(&format!("/v1/jobs?wait_s={wait}"), &job).await.problem(400);
    }
    api.assert_empty().await;
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_as_well() {
    let api = Api::new().await;
    for path in [
        "/",
        "/v1",
        "/v1/job",
        "/v1/jobs/",
        "/v1/jobs/x",
        "/v1/jobs/job_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "/v1/models/x",
        "/v2/jobs",
    ] {
        api.get(path).await.problem(404);
    }
    for path in [
        "/v1/jobs/job_01ARZ3NDEKTSV4RRFFQ69G5FAV/cancel",
        "/v1/jobs/../cancel",
        "/v1/nodes/x/drain",
        "/v1/nodes/a%2Fb/undrain",
    ] {
        api.send(Request::post(path).body(Body::empty()).unwrap()).await.problem(404);
    }
    for path in ["/v1/jobs", "/v1/cluster", "/healthz"] {
        let reply = api.send(Request::delete(path).body(Body::empty()).unwrap()).await;
        reply.problem(405);
        assert!(reply.header("allow").is_some_and(|allow| !allow.is_empty()), "{path}");
    }
}
