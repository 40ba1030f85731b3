//! What every provider has to do.

use std::time::Duration;

use springtide_autoscaler::provider::{LaunchId, Life, Machine, Order, Provider, Request};
use springtide_core::{NodeId, Timestamp};
use springtide_planner::OfferKey;
use tokio::time::{Instant, sleep};

/// Nothing that a provider does takes longer here.
const LIMIT: Duration = Duration::from_secs(60);

/// Whether the provider can be asked twice under one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokens {
    Honoured,
    /// As moto does. EC2 itself does honour them.
    #[cfg(feature = "ec2")]
    Ignored,
}

/// A provider under test.
pub struct Subject<P> {
    pub provider: P,
    pub offer: OfferKey,
    pub tokens: Tokens,
}

fn launch_id(number: u128) -> LaunchId {
    LaunchId::new(Timestamp::from_micros(1_800_000_000_000_000), number)
}

impl<P: Provider> Subject<P> {
    async fn request(&self, pool: &str, count: u32) -> Request {
        let order = Order {
            pool: pool.to_owned(),
            lane: "cpu".parse().unwrap(),
            offer: self.offer.clone(),
            count,
            slots: 1,
            price_per_hour: 0.5,
        };
        let request = self.provider.prepare(&order).await.unwrap();
        assert_eq!(request.order, order);
        assert_eq!(request.provider, self.provider.name());
        // It is written down and read again before it is sent.
        let written = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&written).unwrap(), request);
        request
    }

    async fn of(&self, id: &LaunchId) -> Vec<Machine> {
        let machines = self.provider.machines().await.unwrap();
        machines.into_iter().filter(|machine| machine.launch == *id).collect()
    }

    /// Waits until the machines of a launch are as they should be.
    async fn until(&self, id: &LaunchId, what: &str, fine: impl Fn(&[Machine]) -> bool) -> Vec<Machine> {
        let began = Instant::now();
        loop {
            let machines = self.of(id).await;
            if fine(&machines) {
                return machines;
            }
            assert!(began.elapsed() < LIMIT, "waited {LIMIT:?} until {what}: {machines:?}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// The whole contract.
    pub async fn holds(&self) {
        let id = launch_id(1);
        let request = self.request("pool", 2).await;
        let launched = self.provider.launch(&id, &request).await.unwrap();
        assert!(launched.shortfall.is_none(), "{:?}", launched.shortfall);
        let mut nodes = launched.nodes.clone();
        nodes.sort();
        nodes.dedup();
        assert_eq!(nodes.len(), 2, "as many as were asked for, each with an id of its own");

        let shown = self.until(&id, "both are shown", |machines| machines.len() == 2).await;
        for machine in &shown {
            assert!(nodes.contains(&machine.node), "{machine:?}");
            assert_eq!((machine.pool.as_str(), &machine.offer), ("pool", &self.offer));
            assert_eq!(machine.life, Life::Running);
        }

        if self.tokens == Tokens::Honoured {
            let mut again = self.provider.launch(&id, &request).await.unwrap().nodes;
            again.sort();
            assert_eq!(again, nodes, "asked again, it is the same launch");
            assert_eq!(self.of(&id).await.len(), 2);
            let other = self.request("pool", 3).await;
            let error = self.provider.launch(&id, &other).await.unwrap_err();
            assert!(
                !error.is_retryable() && !error.is_capacity(),
                "another request under the same id: {error}"
            );
        }

        let second = launch_id(2);
        self.provider.launch(&second, &self.request("other", 1).await).await.unwrap();
        self.until(&second, "it is shown", |machines| machines.len() == 1).await;

        self.provider.terminate(&nodes).await.unwrap();
        let none_runs = |machines: &[Machine]| machines.iter().all(|machine| machine.life != Life::Running);
        self.until(&id, "both end", none_runs).await;
        // Again, and with one that never was.
        let unknown: NodeId = self.unknown_node();
        self.provider.terminate(&[nodes[0].clone(), unknown]).await.unwrap();
        assert_eq!(self.of(&second).await[0].life, Life::Running, "others are left alone");
        let rest: Vec<_> = self.of(&second).await.into_iter().map(|machine| machine.node).collect();
        self.provider.terminate(&rest).await.unwrap();
        self.until(&second, "it ends", none_runs).await;
        self.provider.terminate(&[]).await.unwrap();
    }

    fn unknown_node(&self) -> NodeId {
        match self.provider.name() {
            "ec2" => "i-0123456789abcdef0".parse().unwrap(),
            _ => launch_id(99).node("none", 0),
        }
    }
}
