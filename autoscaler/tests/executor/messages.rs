//! What an operator got wrong, or what the cloud refuses: a message that names the key, in `/readyz` and in metrics; the
//! loop goes on, and all is right again once it is.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use springtide_autoscaler::config::{Ec2, Ec2Pool};
use springtide_autoscaler::provider::Provider;
use springtide_autoscaler::provider::ec2::Ec2Provider;
use springtide_autoscaler::{Config, Executor, Round};
use springtide_process::config::{Layers, Secret};
use tower::ServiceExt;

use crate::cutting::Cut;
use crate::fake_ec2::{FakeEc2, TEMPLATE};
use crate::world::World;

/// The longest pause after a first failure.
const PAUSE: Duration = Duration::from_secs(1);

async fn get(router: &Router, path: &str) -> (StatusCode, String) {
    let answer = router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
    let status = answer.status();
    let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// An executor with work to rent for, and what it shows.
struct Told {
    world: World,
    executor: Executor,
    router: Router,
}

impl Told {
    fn new(world: World, provider: Arc<dyn Provider>) -> Self {
        world.plane.lock().waiting = 1;
        let (executor, _, router) = world.executor_at(provider, &Cut::new(None));
        Self { world, executor, router }
    }

    /// A round ends well, and says what is wrong nevertheless.
    async fn says(&mut self, part: &str, texts: &[&str]) {
        let round = self.executor.round().await.unwrap();
        assert!(matches!(round, Round::Led(_)), "the loop goes on: {round:?}");
        let (status, ready) = get(&self.router, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{ready}");
        for text in texts {
            assert!(ready.contains(text), "{text}: {ready}");
        }
        let metric = format!(r#"springtide_autoscaler_trouble{{part="{part}"}} 1"#);
        let (_, metrics) = get(&self.router, "/metrics").await;
        assert!(metrics.contains(&metric), "{metric}: {metrics}");
    }

    /// All is well again, once the pause after a failed call is over.
    async fn gets_ready(&mut self) {
        // Only the pause is skipped: calls on a clock that stands would be taken for lost.
        tokio::time::pause();
        tokio::time::advance(PAUSE).await;
        tokio::time::resume();
        self.executor.round().await.unwrap();
        let (status, ready) = get(&self.router, "/readyz").await;
        assert_eq!(status, StatusCode::OK, "{ready}");
        assert!(ready.contains(r#""troubles":[]"#), "{ready}");
    }
}

/// EC2 at this address, whose pool has this launch template.
async fn ec2(endpoint: String, launch_template: &str) -> Arc<dyn Provider> {
    let pool = Ec2Pool {
        name: "pool".to_owned(),
        launch_template: launch_template.to_owned(),
        launch_template_version: "$Default".to_owned(),
        ..Ec2Pool::default()
    };
    let config = Ec2 {
        region: "us-east-1".to_owned(),
        endpoint,
        access_key_id: Secret::new("test"),
        secret_access_key: Secret::new("test"),
        pools: vec![pool],
        ..Config::read(&Layers::defaults()).unwrap().ec2
    };
    Arc::new(Ec2Provider::open(&config, "test").await)
}

#[tokio::test]
async fn a_pool_of_no_lane_and_one_whose_max_is_below_its_min() {
    let pools = r#"autoscaler.pools=[
        {name = "lost", lane = "tpu", max = 2, offers = [{instance_type = "m"}]},
        {name = "upside-down", lane = "cpu", min = 3, max = 2, offers = [{instance_type = "m"}]}]"#;
    let world = World::new().with(&[pools]);
    let cloud = Arc::new(world.cloud.clone());
    let mut told = Told::new(world, cloud);
    let texts = [
        "`autoscaler.pools[lost].lane` names `tpu`, which is no lane",
        "`autoscaler.pools[upside-down].max` is 2, less than `min` (3)",
    ];
    told.says("policy", &texts).await;
    assert_eq!(told.world.cloud.ever(), 0);
}

#[tokio::test]
async fn a_launch_template_that_is_not_there() {
    let cloud = FakeEc2::default();
    let provider = ec2(cloud.start().await, "lt-missing").await;
    let mut told = Told::new(World::new(), provider);
    let texts = [
        "pool `pool`:",
        "InvalidLaunchTemplateId.NotFound",
        "autoscaler.ec2.pools[pool].launch_template is lt-missing",
    ];
    told.says("launch", &texts).await;
    assert_eq!(cloud.ever(), 0);
}

#[tokio::test]
async fn credentials_that_are_refused() {
    let cloud = FakeEc2::default();
    let provider = ec2(cloud.start().await, TEMPLATE).await;
    let mut told = Told::new(World::new(), provider);
    cloud.fail("AuthFailure");
    told.says("describe", &["AuthFailure", "autoscaler.ec2.access_key_id"]).await;
    assert_eq!(cloud.ever(), 0, "whose machines are not known is left alone");
    told.gets_ready().await;
    assert_eq!(cloud.ever(), 1);
}

#[tokio::test]
async fn an_endpoint_that_is_dead() {
    let provider = ec2("http://127.0.0.1:1".to_owned(), TEMPLATE).await;
    let mut told = Told::new(World::new(), provider);
    told.says("describe", &["does not answer", "autoscaler.ec2.endpoint"]).await;
}
