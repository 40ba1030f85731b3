//! The bytes of outputs.

use axum::body::Body;
use axum::http::Request;
use object_store::{ObjectStoreExt, PutPayload};

use crate::api::Api;

async fn with_objects() -> Api {
    let api = Api::new().await;
    for key in ["outputs/job_1/0/1-run_1/0.png", "models/secret/1/model.pt", "inputs/job_1/0"] {
        api.app.parts.objects.put(&key.into(), PutPayload::from_static(b"bytes")).await.unwrap();
    }
    api
}

#[tokio::test]
async fn an_output_comes_with_its_type_and_size() {
    let api = with_objects().await;
    let path = "/v1/outputs/job_1/0/1-run_1/0.png";
    let reply = api.get(path).await;
    assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"bytes"[..]));
    assert_eq!(reply.header("content-type"), Some("image/png"));
    assert_eq!(reply.header("content-length"), Some("5"));
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    let tag = reply.header("etag").unwrap();
    let request = Request::get(path).header("if-none-match", tag);
    assert_eq!(api.send(request.body(Body::empty()).unwrap()).await.status, 304);
}

#[tokio::test]
async fn nothing_but_outputs_is_given_out() {
    let api = with_objects().await;
    let bad = [
        "../models/secret/1/model.pt",
        "%2e%2e/models/secret/1/model.pt",
        "..%2fmodels/secret/1/model.pt",
        "job_1/../../models/secret/1/model.pt",
        "job_1//0",
        "job_1/0/",
        "%00",
        "job_1%5c..%5cx",
    ];
    for key in bad {
        api.get(&format!("/v1/outputs/{key}")).await.problem(400);
    }
    for key in ["job_1/0/1-run_1/1.png", "models/secret/1/model.pt", "outputs/job_1/0/1-run_1/0.png"] {
        api.get(&format!("/v1/outputs/{key}")).await.problem(404);
    }
}
