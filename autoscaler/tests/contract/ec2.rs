//! EC2: as moto plays it, and as [`FakeEc2`] does, which honours client tokens.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_ec2::types::RequestLaunchTemplateData;
use springtide_autoscaler::config::{Ec2, Ec2Pool};
use springtide_autoscaler::provider::ec2::Ec2Provider;
use springtide_autoscaler::provider::{LaunchId, Order, Provider, aws};
use springtide_process::config::Secret;

use crate::fake_ec2::{FakeEc2, TEMPLATE, VERSION};
use crate::suite::{Subject, Tokens};

fn config_of(endpoint: String, create_fleet: bool) -> Ec2 {
    Ec2 {
        region: "us-east-1".to_owned(),
        endpoint,
        access_key_id: Secret::new("test"),
        secret_access_key: Secret::new("test"),
        create_fleet,
        interruption_queue_url: String::new(),
        patience: Duration::from_mins(10),
        pools: Vec::new(),
    }
}

/// `None`, and a line that says so, without moto.
fn config(create_fleet: bool) -> Option<Ec2> {
    let Ok(endpoint) = std::env::var("SPRINGTIDE_TEST_AWS_URL") else {
        eprintln!("skipped: SPRINGTIDE_TEST_AWS_URL is not set; `cargo xtask test` starts moto and sets it");
        return None;
    };
    Some(config_of(endpoint, create_fleet))
}

/// With a launch template for the pools of the contract.
async fn open(mut config: Ec2, cluster: &str) -> Ec2Provider {
    let client = aws_sdk_ec2::Client::new(&aws::settings(&config).await);
    let images = client.describe_images().send().await.unwrap();
    let image = images.images().iter().find_map(|image| image.image_id()).unwrap();
    let data = RequestLaunchTemplateData::builder().image_id(image).build();
    let made =
        client.create_launch_template().launch_template_name(cluster).launch_template_data(data).send().await;
    let template = made.unwrap().launch_template().unwrap().launch_template_id().unwrap().to_owned();
    config.pools = vec![pool("pool", &template), pool("other", &template)];
    Ec2Provider::open(&config, cluster).await
}

fn pool(name: &str, template: &str) -> Ec2Pool {
    Ec2Pool {
        name: name.to_owned(),
        launch_template: template.to_owned(),
        launch_template_version: "$Latest".to_owned(),
        subnets: BTreeMap::new(),
    }
}

async fn holds(cluster: &str, create_fleet: bool, offer: &str) {
    let Some(config) = config(create_fleet) else { return };
    let provider = open(config, cluster).await;
    Subject { provider, offer: offer.parse().unwrap(), tokens: Tokens::Ignored }.holds().await;
}

#[tokio::test]
async fn a_fleet_on_demand() {
    holds("contract-fleet", true, "t3.small/us-east-1a/on_demand").await;
}

#[tokio::test]
async fn a_fleet_on_the_spot_market() {
    holds("contract-spot", true, "t3.small/us-east-1a/spot").await;
}

fn order(pool: &str) -> Order {
    Order {
        pool: pool.to_owned(),
        lane: "cpu".parse().unwrap(),
        offer: "t3.small/us-east-1a/spot".parse().unwrap(),
        count: 1,
        slots: 1,
        price_per_hour: 0.1,
    }
}

#[tokio::test]
async fn what_can_not_be_launched_is_said_before_anything_is_rented() {
    let Some(config) = config(true) else { return };
    let provider = open(config.clone(), "contract-bad").await;
    let request = provider.prepare(&order("pool")).await.unwrap();
    assert_eq!(request.detail["version"], "1", "a number, whatever the configuration names");
    let error = provider.prepare(&order("nobody's")).await.unwrap_err();
    assert!(error.to_string().contains("autoscaler.ec2.pools"), "{error}");
    let missing = pool("pool", "lt-0123456789abcdef0");
    let provider = Ec2Provider::open(&Ec2 { pools: vec![missing], ..config }, "contract-bad").await;
    let error = provider.prepare(&order("pool")).await.unwrap_err();
    assert!(!error.is_retryable() && error.to_string().contains("InvalidLaunchTemplateId"), "{error}");
}

#[tokio::test]
async fn an_endpoint_that_is_dead_is_worth_another_try() {
    let Some(config) = config(true) else { return };
    let dead = Ec2 { endpoint: "http://127.0.0.1:1".to_owned(), ..config };
    let provider = Ec2Provider::open(&dead, "contract-dead").await;
    let error = provider.machines().await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

/// EC2 that honours tokens, and a provider that calls it.
async fn fake(create_fleet: bool) -> (FakeEc2, Ec2Provider) {
    let ec2 = FakeEc2::default();
    let mut config = config_of(ec2.start().await, create_fleet);
    config.pools = vec![pool("pool", TEMPLATE), pool("other", TEMPLATE)];
    let provider = Ec2Provider::open(&config, "contract").await;
    (ec2, provider)
}

#[tokio::test]
async fn client_tokens_make_both_calls_idempotent() {
    for (create_fleet, market) in [(true, "on_demand"), (true, "spot"), (false, "on_demand"), (false, "spot")]
    {
        let (ec2, provider) = fake(create_fleet).await;
        let offer = format!("t3.small/us-east-1a/{market}").parse().unwrap();
        Subject { provider, offer, tokens: Tokens::Honoured }.holds().await;
        assert_eq!(ec2.ever(), 3, "create_fleet: {create_fleet}, {market}");
        let is_spot = market == "spot";
        assert!(
            ec2.kinds().iter().all(|kind| *kind == ("t3.small".to_owned(), is_spot)),
            "{:?}",
            ec2.kinds()
        );
        let launch = if create_fleet { "CreateFleet" } else { "RunInstances" };
        let other = if create_fleet { "RunInstances" } else { "CreateFleet" };
        assert!(ec2.calls().iter().any(|call| call == launch), "{:?}", ec2.calls());
        assert!(ec2.calls().iter().all(|call| call != other), "{:?}", ec2.calls());
    }
}

#[tokio::test]
async fn what_comes_is_kept_and_what_does_not_is_said() {
    for create_fleet in [true, false] {
        let (ec2, provider) = fake(create_fleet).await;
        let request = provider.prepare(&Order { count: 3, ..order("pool") }).await.unwrap();
        assert_eq!(request.detail["version"], VERSION, "a number, whatever the configuration names");
        ec2.limit(2);
        let id = LaunchId::from_text("launch-1");
        let launched = provider.launch(&id, &request).await.unwrap();
        assert_eq!(launched.nodes.len(), 2, "create_fleet: {create_fleet}");
        assert!(launched.shortfall.unwrap().is_capacity());
        let again = provider.launch(&id, &request).await.unwrap();
        assert_eq!(again.nodes, launched.nodes);
        let error = provider.launch(&LaunchId::from_text("launch-2"), &request).await.unwrap_err();
        assert!(error.is_capacity() && error.to_string().contains("t3.small"), "{error}");
        assert_eq!(ec2.ever(), 2);
    }
}

#[tokio::test]
async fn where_fleets_are_not_to_be_had_instances_are_run() {
    let (ec2, provider) = fake(true).await;
    ec2.lacks("CreateFleet");
    let request = provider.prepare(&order("pool")).await.unwrap();
    let error = provider.launch(&LaunchId::from_text("launch-1"), &request).await.unwrap_err();
    assert!(!error.is_retryable() && error.to_string().contains("InvalidAction"), "{error}");
    // A request is never changed: the next one is for the other call.
    let request = provider.prepare(&order("pool")).await.unwrap();
    let launched = provider.launch(&LaunchId::from_text("launch-2"), &request).await.unwrap();
    assert_eq!((launched.nodes.len(), ec2.ever()), (1, 1));
}

#[tokio::test]
async fn refusals_are_told_apart_and_say_what_to_look_at() {
    let (ec2, provider) = fake(true).await;
    ec2.fail("AuthFailure");
    let error = provider.machines().await.unwrap_err();
    assert!(!error.is_retryable(), "{error}");
    assert!(
        error.to_string().contains("credentials") && error.to_string().contains("AuthFailure"),
        "{error}"
    );
    ec2.fail("RequestLimitExceeded");
    let error = provider.machines().await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("too often"), "{error}");
}
