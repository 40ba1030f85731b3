//! Leases, models, tokens, launches, forecasts, upkeep.

use std::time::Duration;

use serde_json::json;
use springtide_core::ModelId;
use springtide_core::lane::Device;
use springtide_store::Error;
use springtide_store::port::{Fence, ForecastRow, LaunchRow, Lease, LeaseRequest, ModelRow, TokenRow};

use super::world::World;

async fn ask(world: &World, holder: &str, seconds: u64) -> Lease {
    let duration = Duration::from_secs(seconds);
    let request = LeaseRequest { name: "leader".into(), holder: holder.into(), duration, now: world.now() };
    world.store.lease(&request).await.unwrap()
}

pub(crate) async fn a_lease_has_one_holder_and_a_growing_token(world: World) {
    let first = ask(&world, "a", 5).await;
    assert_eq!((first.holder.as_str(), first.token), ("a", 1));
    assert_eq!(ask(&world, "b", 5).await, first, "it is taken");
    let renewed = ask(&world, "a", 5).await;
    assert!(renewed.token == 1 && renewed.expires_at > first.expires_at);
    world.pass(Duration::from_secs(6));
    let taken_over = ask(&world, "b", 5).await;
    assert_eq!((taken_over.holder.as_str(), taken_over.token), ("b", 2));
    assert_eq!(ask(&world, "a", 0).await, taken_over, "only its holder gives it up");
    assert_eq!(ask(&world, "b", 0).await.holder, "");
    let again = ask(&world, "b", 5).await;
    assert_eq!((again.holder.as_str(), again.token), ("b", 3));
}

pub(crate) async fn of_many_that_want_a_lease_one_gets_it(world: World) {
    let now = world.now();
    let wishes = (0..16).map(|at| {
        let store = world.store.clone();
        let duration = Duration::from_secs(5);
        let request = LeaseRequest { name: "leader".into(), holder: format!("replica-{at}"), duration, now };
        tokio::spawn(async move { store.lease(&request).await.unwrap().holder == request.holder })
    });
    let mut winners = 0;
    for wish in wishes.collect::<Vec<_>>() {
        winners += u32::from(wish.await.unwrap());
    }
    assert_eq!(winners, 1);
}

fn model(name: &str, version: &str, manifest: &str, world: &World) -> ModelRow {
    let id = ModelId::new(name, version).unwrap();
    ModelRow { id, manifest: manifest.into(), size_bytes: 7, pushed_at: world.now() }
}

pub(crate) async fn a_version_of_a_model_never_changes(world: World) {
    let first = model("m", "10", "a", &world);
    world.store.put_model(first.clone()).await.unwrap();
    world.store.put_model(model("m", "10", "a", &world)).await.unwrap();
    assert_eq!(world.store.model("m", Some("10")).await.unwrap(), first);
    let changed = world.store.put_model(model("m", "10", "b", &world)).await;
    assert!(matches!(changed, Err(Error::Conflict(_))));
    let second = model("m", "9", "b", &world);
    world.store.put_model(second.clone()).await.unwrap();
    assert_eq!(world.store.model("m", None).await.unwrap(), second, "the one that was pushed last");
    let other = model("n", "1", "c", &world);
    world.store.put_model(other.clone()).await.unwrap();
    assert_eq!(world.store.models(None).await.unwrap(), [second.clone(), other]);
    assert_eq!(world.store.models(Some("m")).await.unwrap(), [second, first]);
    assert!(matches!(world.store.model("m", Some("11")).await, Err(Error::NotFound { kind: "model", .. })));
    assert!(matches!(world.store.model("x", None).await, Err(Error::NotFound { .. })));
}

pub(crate) async fn tokens_come_and_go(world: World) {
    let token = |name: &str| TokenRow {
        name: name.into(),
        sha256: "00".into(),
        scopes: vec!["submit".into(), "read".into()],
        created_at: world.now(),
    };
    let (a, b) = (token("a"), token("b"));
    world.store.put_token(b.clone()).await.unwrap();
    world.store.put_token(a.clone()).await.unwrap();
    assert!(matches!(world.store.put_token(a.clone()).await, Err(Error::Conflict(_))));
    assert_eq!(world.store.tokens().await.unwrap(), [a.clone(), b]);
    world.store.remove_token("b").await.unwrap();
    assert!(matches!(world.store.remove_token("b").await, Err(Error::NotFound { kind: "token", .. })));
    assert_eq!(world.store.tokens().await.unwrap(), [a]);
}

pub(crate) async fn a_launch_keeps_its_request(world: World) {
    let now = world.now();
    let launch = LaunchRow {
        id: "l".into(),
        pool: "p".into(),
        body: json!({ "request": { "nodes": 2 } }),
        open: true,
        created_at: now,
        changed_at: now,
    };
    assert_eq!(world.store.put_launch(None, launch.clone()).await.unwrap(), launch);
    let later = world.now();
    let progress = LaunchRow {
        body: json!({ "request": { "nodes": 2 }, "instances": ["i-1"] }),
        created_at: later,
        changed_at: later,
        ..launch.clone()
    };
    assert_eq!(world.store.put_launch(None, progress).await.unwrap().created_at, now);
    let other = LaunchRow { body: json!({ "request": { "nodes": 3 } }), ..launch.clone() };
    assert!(matches!(world.store.put_launch(None, other).await, Err(Error::Conflict(_))));
    let closed = LaunchRow { open: false, changed_at: world.now(), ..launch.clone() };
    world.store.put_launch(None, closed.clone()).await.unwrap();
    assert!(matches!(world.store.put_launch(None, launch.clone()).await, Err(Error::Conflict(_))));
    assert_eq!(world.store.launches(closed.changed_at).await.unwrap(), [closed]);
    assert!(world.store.launches(world.now()).await.unwrap().is_empty());
    let nobody = Fence { name: "autoscaler".into(), token: 1 };
    let fenced = world.store.put_launch(Some(&nobody), launch).await;
    assert!(matches!(fenced, Err(Error::Fenced { .. })));
}

pub(crate) async fn forecasts_are_overwritten(world: World) {
    let row = |device, mean: f64| ForecastRow {
        model: "echo@1".parse().unwrap(),
        device,
        body: json!({ "mean": mean }),
    };
    world.store.save_forecasts(&[row(Device::Cuda, 1.5), row(Device::Cpu, 3.0)]).await.unwrap();
    world.store.save_forecasts(&[row(Device::Cuda, 0.1)]).await.unwrap();
    assert_eq!(world.store.forecasts().await.unwrap(), [row(Device::Cpu, 3.0), row(Device::Cuda, 0.1)]);
}

pub(crate) async fn writes_go_through(world: World) {
    for _ in 0..3 {
        world.store.check_writable().await.unwrap();
    }
}
