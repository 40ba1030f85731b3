//! Nodes, leases, launches, readiness, metrics.

use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::{Value, json};
use springtide_core::Timestamp;
use springtide_core::{Incarnation, NodeId};
use springtide_store::port::{Fence, LeaseRequest, NodeSighting};

use crate::api::{Api, Reply, json_request};

/// The store knows these nodes.
async fn with_nodes(names: &[&str], empty: bool) -> Api {
    let api = Api::new().await;
    let duration = std::time::Duration::from_secs(60);
    let request = LeaseRequest { name: "leader".into(), holder: "test".into(), duration, now: api.app.now() };
    let lease = api.app.store.lease(&request).await.unwrap();
    let fence = Fence { name: "leader".into(), token: lease.token };
    let seen: Vec<_> = names.iter().map(|name| sighting(name, empty)).collect();
    api.app.store.sight_nodes(&fence, &seen, api.app.now()).await.unwrap();
    api
}

fn sighting(name: &str, empty: bool) -> NodeSighting {
    NodeSighting {
        id: name.parse::<NodeId>().unwrap(),
        incarnation: Incarnation::new(Timestamp::from_micros(1), 1),
        lane: "cpu".parse().unwrap(),
        pool: Some("pool".to_owned()),
        slots: 2,
        empty,
        leaving: false,
    }
}

async fn put_launch(api: &Api, id: &str, body: &Value) -> Reply {
    api.send(json_request(Method::PUT, &format!("/v1/launches/{id}"), body.to_string())).await
}

#[tokio::test]
async fn nodes_are_pages() {
    let api = with_nodes(&["b", "a", "c"], false).await;
    let ids = |page: &Value| -> Vec<String> {
        page["items"].as_array().unwrap().iter().map(|node| node["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&api.get("/v1/nodes").await.json()), ["a", "b", "c"]);
    let first = api.get("/v1/nodes?limit=2").await.json();
    assert_eq!((ids(&first), first["next_cursor"].as_str()), (vec!["a".into(), "b".into()], Some("b")));
    let rest = api.get("/v1/nodes?limit=2&cursor=b").await.json();
    assert_eq!((ids(&rest), rest["next_cursor"].as_str()), (vec!["c".into()], None));
}

#[tokio::test(start_paused = true)]
async fn a_node_is_drained_taken_back_and_retired() {
    let api = with_nodes(&["a"], false).await;
    let drained = api.post("/v1/nodes/a/drain", &json!({"deadline_s": 60, "reason": "spot"})).await.json();
    assert_eq!((&drained["state"], &drained["reason"]), (&json!("draining"), &json!("spot")));
    assert!(drained["drain_until"].as_str().unwrap().ends_with('Z'));
    let empty = Request::post("/v1/nodes/a/undrain").body(Body::empty()).unwrap();
    assert_eq!(api.send(empty).await.json()["state"], "active");
    // Without a body: two minutes.
    let request = Request::post("/v1/nodes/a/drain").body(Body::empty()).unwrap();
    assert_eq!(api.send(request).await.json()["state"], "draining");

    let lease = api.post("/v1/leases/autoscaler", &json!({"holder": "me", "duration_s": 300})).await.json();
    let retire = json!({"lease": "autoscaler", "token": lease["token"]});
    api.post("/v1/nodes/a/retire", &retire).await.problem(409);
    tokio::time::sleep(std::time::Duration::from_secs(130)).await;
    let stale = json!({"lease": "autoscaler", "token": 0});
    assert_eq!(
        api.post("/v1/nodes/a/retire", &stale).await.problem(409).r#type,
        "urn:springtide:problem:fenced"
    );
    assert_eq!(api.post("/v1/nodes/a/retire", &retire).await.json()["state"], "retiring");
    let undrain = Request::post("/v1/nodes/a/undrain").body(Body::empty()).unwrap();
    api.send(undrain).await.problem(409);
}

#[tokio::test]
async fn a_node_that_was_never_heard_is_entered_as_retiring() {
    let api = with_nodes(&["a"], false).await;
    let lease = api.post("/v1/leases/autoscaler", &json!({"holder": "me", "duration_s": 300})).await.json();
    let unknown = json!({"lease": "autoscaler", "token": lease["token"]});
    api.post("/v1/nodes/new/retire", &unknown).await.problem(404);
    let stale = json!({"lease": "autoscaler", "token": 0, "lane": "cpu"});
    api.post("/v1/nodes/new/retire", &stale).await.problem(409);
    let mut retire = unknown;
    retire["lane"] = json!("cpu");
    retire["pool"] = json!("spot");
    let view = api.post("/v1/nodes/new/retire", &retire).await.json();
    assert_eq!((&view["state"], &view["pool"]), (&json!("retiring"), &json!("spot")));
    // A lane that is given does not make a busy node one that was never heard.
    api.post("/v1/nodes/a/retire", &retire).await.problem(409);
}

#[tokio::test]
async fn what_is_wished_of_a_node_is_checked() {
    let api = with_nodes(&["a"], false).await;
    let cases = [
        (json!({"deadline_s": -1}), "/deadline_s"),
        (json!({"deadline_s": 1e300}), "/deadline_s"),
        (json!({"deadline": 1}), "/deadline"),
        (json!({"reason": "x".repeat(501)}), "/reason"),
        (json!({"reason": 7}), "/reason"),
    ];
    for (body, pointer) in cases {
        api.post("/v1/nodes/a/drain", &body).await.assert_field(422, pointer);
    }
    api.post("/v1/nodes/a/undrain", &json!({"x": 1})).await.assert_field(422, "/x");
    api.post("/v1/nodes/a/retire", &json!({"lease": "x"})).await.problem(422);
    api.post("/v1/nodes/b/drain", &json!({})).await.problem(404);
    assert_eq!(api.get("/v1/nodes").await.json()["items"][0]["state"], "active");
}

#[tokio::test(start_paused = true)]
async fn a_lease_has_one_holder_and_a_growing_token() {
    let api = Api::new().await;
    let ask = async |holder: &str, duration_s: f64| {
        api.post("/v1/leases/autoscaler", &json!({"holder": holder, "duration_s": duration_s})).await.json()
    };
    let first = ask("a", 10.0).await;
    assert_eq!(first["holder"], "a");
    assert_eq!(ask("b", 10.0).await["holder"], "a");
    assert_eq!(ask("a", 10.0).await["token"], first["token"]);
    ask("a", 0.0).await;
    let second = ask("b", 10.0).await;
    assert_eq!(second["holder"], "b");
    assert!(second["token"].as_u64() > first["token"].as_u64());
    for wish in [json!({"holder": "", "duration_s": 1}), json!({"holder": "x".repeat(201), "duration_s": 1})]
    {
        api.post("/v1/leases/x", &wish).await.assert_field(422, "/holder");
    }
    let long = json!({"holder": "a", "duration_s": 1e9});
    api.post("/v1/leases/x", &long).await.assert_field(422, "/duration_s");
    let wish = json!({"holder": "a", "duration_s": 1});
    for own in ["leader", "model-push"] {
        api.post(&format!("/v1/leases/{own}"), &wish).await.problem(403);
    }
    api.post("/v1/leases/a%2Fb", &wish).await.problem(404);
}

#[tokio::test]
async fn a_launch_is_written_once_and_its_outcome_later() {
    let api = Api::new().await;
    let body = json!({"pool": "spot", "request": {"count": 2}});
    let written = put_launch(&api, "l-1", &body).await;
    assert_eq!(written.status, 200, "{}", written.text());
    let outcome =
        json!({"pool": "spot", "request": {"count": 2}, "outcome": {"ids": ["i-1"]}, "closed": true});
    let view = put_launch(&api, "l-1", &outcome).await.json();
    assert_eq!((&view["outcome"]["ids"][0], &view["closed"]), (&json!("i-1"), &json!(true)));
    assert_eq!(view["created_at"], written.json()["created_at"]);
    put_launch(&api, "l-1", &json!({"pool": "spot", "request": {"count": 3}})).await.problem(409);
    let half = json!({"pool": "spot", "request": {}, "lease": "autoscaler"});
    put_launch(&api, "l-2", &half).await.assert_field(422, "/token");
    let half = json!({"pool": "spot", "request": {}, "token": 1});
    put_launch(&api, "l-2", &half).await.assert_field(422, "/lease");
    put_launch(&api, "l-2", &json!({"pool": "", "request": {}})).await.assert_field(422, "/pool");
    let fenced = json!({"pool": "spot", "request": {}, "lease": "autoscaler", "token": 1});
    put_launch(&api, "l-2", &fenced).await.problem(409);
    let cluster = api.get("/v1/cluster").await.json();
    assert_eq!(cluster["launches"], json!([]), "closed ones are not shown");
}

#[tokio::test]
async fn readiness_tells_of_store_and_broker() {
    let api = Api::new().await;
    assert_eq!(api.get("/healthz").await.text(), "ok\n");
    let ready = api.get("/readyz").await;
    assert_eq!(ready.status, 200);
    let ready = ready.json();
    assert_eq!(
        (&ready["ready"], &ready["store"]["state"], &ready["broker"]["state"]),
        (&json!(true), &json!("up"), &json!("up"))
    );
}

#[tokio::test]
async fn metrics_and_cluster_show_the_backlog() {
    let api = Api::new().await;
    api.submit(&json!({"model": "echo", "inputs": [{}, {}, {}], "priority": "low"})).await;
    let text = api.get("/metrics").await.text();
    assert!(text.contains(r#"springtide_jobs_accepted_total{priority="low"} 1"#), "{text}");
    assert!(text.contains(r#"springtide_tasks_accepted_total{priority="low"} 3"#), "{text}");
    let waiting = r#"springtide_backlog_tasks{lane="cpu",priority="low",state="waiting"} 3"#;
    assert!(text.contains(waiting), "{text}");
    let cluster = api.get("/v1/cluster").await.json();
    assert_eq!(cluster["work"][0]["waiting"]["tasks"], json!(3));
    let arrived = json!([{"lane": "cpu", "priority": "low", "tasks": 3, "predicted_s": 30.0}]);
    assert_eq!(cluster["arrivals"], arrived);
    assert_eq!(cluster["deadlines"], json!([]));
}

#[tokio::test]
async fn the_cluster_shows_what_is_due_in_few_steps() {
    let api = Api::new().await;
    let after = |seconds| (api.app.now() + std::time::Duration::from_secs(seconds)).to_string();
    let (early, close, late) = (after(600), after(605), after(3600));
    for deadline in [&late, &close, &early] {
        api.submit(&json!({"model": "echo", "inputs": [{}, {}], "deadline": deadline})).await;
    }
    let cluster = api.get("/v1/cluster").await.json();
    let due: Vec<_> = cluster["deadlines"].as_array().unwrap().iter().collect();
    assert_eq!(due.len(), 2, "{due:?}");
    assert_eq!(
        (&due[0]["by"], &due[0]["load"]["tasks"], &due[0]["lane"]),
        (&json!(early), &json!(4), &json!("cpu"))
    );
    assert_eq!((&due[1]["by"], &due[1]["load"]["tasks"]), (&json!(late), &json!(2)));
    assert_eq!(due[0]["load"]["mean_s"], json!(40.0), "nothing is known of it: 10 s each");
}
