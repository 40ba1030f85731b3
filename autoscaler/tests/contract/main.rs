//! Every provider keeps the same contract.
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in test functions, not in what they call")]

mod docker;
#[cfg(feature = "ec2")]
mod ec2;
#[cfg(feature = "ec2")]
#[path = "../fake/ec2.rs"]
mod fake_ec2;
mod suite;

use std::sync::Arc;

use futures::future::BoxFuture;
use springtide_autoscaler::provider::local::{AgentOrder, Agents, Local};
use springtide_autoscaler::provider::simulated::Simulated;
use springtide_planner::OfferKey;
use springtide_process::clock::{SharedClock, SystemClock};
use suite::{Subject, Tokens};
use tokio_util::sync::CancellationToken;

fn clock() -> SharedClock {
    Arc::new(SystemClock)
}

fn offer(text: &str) -> OfferKey {
    text.parse().unwrap()
}

#[tokio::test]
async fn simulated() {
    let provider = Simulated::new(clock());
    Subject { provider, offer: offer("m/-/on_demand"), tokens: Tokens::Honoured }.holds().await;
}

/// Agents that do nothing until they are told to end.
#[derive(Debug)]
struct Idle;

impl Agents for Idle {
    fn start(&self, _: &AgentOrder, stop: CancellationToken) -> std::io::Result<BoxFuture<'static, ()>> {
        Ok(Box::pin(async move { stop.cancelled().await }))
    }
}

#[tokio::test]
async fn local() {
    let provider = Local::new(Arc::new(Idle), clock());
    Subject { provider, offer: offer("agent/-/on_demand"), tokens: Tokens::Honoured }.holds().await;
}

/// Of a machine that has no room for more than two.
#[derive(Debug)]
struct Small(std::sync::atomic::AtomicU32);

impl Agents for Small {
    fn start(&self, _: &AgentOrder, stop: CancellationToken) -> std::io::Result<BoxFuture<'static, ()>> {
        if self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= 2 {
            return Err(std::io::Error::other("no more processes"));
        }
        Ok(Box::pin(async move { stop.cancelled().await }))
    }
}

#[tokio::test]
async fn local_that_has_room_for_some_says_why_the_others_did_not_come() {
    use springtide_autoscaler::provider::{LaunchId, Order, Provider};
    let provider = Local::new(Arc::new(Small(0.into())), clock());
    let order = Order {
        pool: "pool".to_owned(),
        lane: "cpu".parse().unwrap(),
        offer: offer("agent/-/on_demand"),
        count: 3,
        slots: 1,
        price_per_hour: 0.0,
    };
    let request = provider.prepare(&order).await.unwrap();
    let launched = provider.launch(&LaunchId::from_text("launch-1"), &request).await.unwrap();
    assert_eq!(launched.nodes.len(), 2);
    assert!(launched.shortfall.unwrap().to_string().contains("no more processes"));
    let error = provider.launch(&LaunchId::from_text("launch-2"), &request).await.unwrap_err();
    assert!(error.to_string().contains("no more processes"), "{error}");
    provider.end(std::time::Duration::from_secs(10)).await.unwrap();
}
