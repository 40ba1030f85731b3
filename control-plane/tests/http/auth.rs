//! Tokens and scopes.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::Value;

use crate::api::{Api, Reply};

/// All that the API has: method and path, with something in the place of each parameter.
async fn endpoints(api: &Api) -> Vec<(Method, String)> {
    let document = api.get("/openapi.json").await.json();
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path
            .replace("{id}", "job_01ARZ3NDEKTSV4RRFFQ69G5FAV")
            .replace("{name}", "x")
            .replace("{key}", "x");
        let methods =
            item.as_object().unwrap().keys().filter_map(|method| method.to_uppercase().parse().ok());
        found.extend(methods.map(|method| (method, path.clone())));
    }
    assert!(found.len() > 20, "{found:?}");
    found
}

async fn send(api: &Api, method: &Method, path: &str, token: Option<&str>) -> Reply {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    api.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn only_what_tells_nothing_goes_without_a_token() {
    let api = Api::new().await.with_token("secret", &["read"]).await;
    let mut open = Vec::new();
    for (method, path) in endpoints(&api).await {
        for token in [None, Some("wrong"), Some("")] {
            let reply = send(&api, &method, &path, token).await;
            if reply.status == 401 {
                reply.problem(401);
                assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"springtide\""));
            } else {
                open.push(path.clone());
            }
        }
    }
    open.dedup();
    assert_eq!(open, ["/healthz", "/readyz"]);
}

#[tokio::test]
async fn a_scope_allows_its_own_and_no_more() {
    let api = Api::new().await.with_token("s", &["submit"]).await;
    let api = api.with_token("r", &["read"]).await.with_token("o", &["operate"]).await;
    let mut lines = Vec::new();
    for (method, path) in endpoints(&api).await {
        let mut scopes = String::new();
        for token in ["s", "r", "o"] {
            let reply = send(&api, &method, &path, Some(token)).await;
            assert_ne!(reply.status, 401);
            if reply.status == 403 {
                reply.problem(403);
            } else {
                scopes.push_str(token);
            }
        }
        lines.push(format!("{method} {path} {scopes}"));
    }
    for line in &lines {
        let scopes = line.rsplit(' ').next().unwrap();
        let expected = match line {
            line if line.contains("/healthz") || line.contains("/readyz") => "sro",
            line if line.starts_with("GET") => "r",
            line if line.contains("/v1/jobs") => "s",
            _ => "o",
        };
        assert_eq!(scopes, expected, "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_come_and_go_while_it_runs() {
    let api = Api::new().await;
    assert_eq!(api.get("/v1/jobs").await.status, 200);
    let api = api.with_token("secret", &["read"]).await;
    api.get("/v1/jobs").await.problem(401);
    assert_eq!(send(&api, &Method::GET, "/v1/jobs", Some("secret")).await.status, 200);
    api.app.store.remove_token("owner-of-secret").await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    // The last one is gone, and the service listens on loopback only: all is open again.
    assert_eq!(api.get("/v1/jobs").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn on_a_public_address_no_token_means_nobody() {
    let api = Api::with(|config| config.listen = "0.0.0.0:7860".parse().unwrap()).await;
    api.get("/v1/jobs").await.problem(401);
}

#[tokio::test]
async fn other_sites_do_not_reach_this_machine_by_its_name() {
    let api = Api::new().await;
    let request = |host: &str| Request::get("/v1/jobs").header("host", host).body(Body::empty()).unwrap();
    assert_eq!(api.send(request("localhost:7860")).await.status, 200);
    api.send(request("rebound.example:7860")).await.problem(403);
    // With a token it does not matter: other sites have none.
    let api = api.with_token("secret", &["read"]).await;
    let mut named = request("springtide.example");
    named.headers_mut().insert("authorization", "bearer secret".parse().unwrap());
    let reply = api.send(named).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json()["items"], Value::Array(Vec::new()));
}
