//! EC2, as moto plays it. It does not honour client tokens: what rests on them is tried with the simulated provider.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_ec2::types::RequestLaunchTemplateData;
use springtide_autoscaler::config::{Ec2, Ec2Pool};
use springtide_autoscaler::provider::ec2::Ec2Provider;
use springtide_autoscaler::provider::{Order, Provider, aws};
use springtide_process::config::Secret;

use crate::suite::{Subject, Tokens};

/// `None`, and a line that says so, without moto.
fn config(create_fleet: bool) -> Option<Ec2> {
    let Ok(endpoint) = std::env::var("SPRINGTIDE_TEST_AWS_URL") else {
        eprintln!("skipped: SPRINGTIDE_TEST_AWS_URL is not set; `cargo xtask test` starts moto and sets it");
        return None;
    };
    Some(Ec2 {
        region: "us-east-1".to_owned(),
        endpoint,
        access_key_id: Secret::new("test"),
        secret_access_key: Secret::new("test"),
        create_fleet,
        interruption_queue_url: String::new(),
        patience: Duration::from_mins(10),
        pools: Vec::new(),
    })
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
    let pool = |name: &str| Ec2Pool {
        name: name.to_owned(),
        launch_template: template.clone(),
        launch_template_version: "$Latest".to_owned(),
        subnets: BTreeMap::new(),
    };
    config.pools = vec![pool("pool"), pool("other")];
    Ec2Provider::open(&config, cluster).await
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
    let missing = Ec2Pool {
        name: "pool".to_owned(),
        launch_template: "lt-0123456789abcdef0".to_owned(),
        launch_template_version: "1".to_owned(),
        subnets: BTreeMap::new(),
    };
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
