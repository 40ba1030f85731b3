//! Launches: written as intents, asked for, and closed when all that came of them was seen.

use futures::StreamExt;
use springtide_core::api::ClusterView;
use springtide_planner::{Action, Observation};

use super::{Executor, RoundError, Scene, passable};
use crate::launches::{OpenLaunch, Outcome, Step, answered};
use crate::provider::{Error, LaunchId, Launched, Order, Result};
use crate::trouble::Part;

/// A failure is shown for so long after it was seen last.
const SHOWN_FOR: std::time::Duration = std::time::Duration::from_mins(5);

impl Executor {
    /// The launches that are open. One that can't be read is another version's: it is left alone, and told of.
    pub(super) fn read_launches(&self, view: &ClusterView) -> Vec<OpenLaunch> {
        let mut unreadable = Vec::new();
        let mut launches = Vec::new();
        for shown in view.launches.iter().filter(|launch| !launch.closed) {
            match OpenLaunch::read(shown) {
                Ok(launch) => launches.push(launch),
                Err(error) => unreadable.push(format!("the launch {} can't be read: {error}", shown.id)),
            }
        }
        match unreadable.first() {
            Some(message) => self.shared.troubles.set(Part::Intents, message, self.now()),
            None => self.shared.troubles.clear(Part::Intents),
        }
        launches
    }

    /// Writes the intent to launch. Nothing is asked for before it is durable.
    pub(super) async fn intend(&mut self, action: &Action, scene: &mut Scene) -> Result<(), RoundError> {
        let Action::Launch { pool, offer, count, slots, price_per_hour, .. } = action else { return Ok(()) };
        let lane = scene.policy.pools.iter().find(|one| one.name == *pool).and_then(|one| one.lane.clone());
        let Some(lane) = lane else { return Ok(()) };
        let order = Order {
            pool: pool.clone(),
            lane,
            offer: offer.clone(),
            count: *count,
            slots: *slots,
            price_per_hour: *price_per_hour,
        };
        let request = match self.calls.wait("prepare", self.calls.provider.prepare(&order)).await {
            Ok(request) => request,
            Err(error) => {
                self.unlaunchable(pool, &order, &error);
                return Ok(());
            }
        };
        let id = LaunchId::new(scene.now, rand::RngExt::random(&mut self.random));
        let launch = OpenLaunch::new(id, request, scene.now)?;
        let put = launch.put(&launch.outcome, false, scene.token)?;
        if passable(self.plane.put_launch(launch.id.as_str(), &put).await.map(drop))? {
            scene.launches.push(launch);
        }
        Ok(())
    }

    /// Asks the provider for all that was written and not answered, as far as the pace allows.
    pub(super) async fn ask(&mut self, scene: &mut Scene) -> Result<(), RoundError> {
        let provider = self.calls.provider.name();
        let mut due = Vec::new();
        for launch in &scene.launches {
            if launch.request.provider != provider {
                let message = format!(
                    "the launch {} is for the provider `{}`, and `autoscaler.provider` is `{provider}` by now",
                    launch.id, launch.request.provider
                );
                self.shared.troubles.set(Part::Intents, message, scene.now);
            } else if launch.step(self.fleet.as_ref(), self.config.launch_settle, scene.now) == Step::Ask
                && self.leadership.is_sure()
                && self.paces.launch.take()
            {
                due.push(launch.clone());
            }
        }
        let calls = self.calls.clone();
        let ask = async |launch: OpenLaunch| {
            let answer = calls.wait("launch", calls.provider.launch(&launch.id, &launch.request)).await;
            (launch, answer)
        };
        let at_once = self.config.calls_at_once.max(1) as usize;
        let mut answers = futures::stream::iter(due).map(ask).buffer_unordered(at_once);
        while let Some((launch, answer)) = answers.next().await {
            self.take_answer(&launch, answer, scene.token).await?;
        }
        self.show_failures(scene);
        Ok(())
    }

    async fn take_answer(
        &mut self,
        launch: &OpenLaunch,
        answer: Result<Launched>,
        token: u64,
    ) -> Result<(), RoundError> {
        let now = self.now();
        let order = &launch.request.order;
        let outcome = match answer {
            Ok(launched) => {
                self.paces.launch.answered();
                self.failures.remove(launch.id.as_str());
                self.describe_soon();
                let count = launched.nodes.len() as u64;
                self.shared.metrics.launched.with_label_values(&[order.pool.as_str()]).inc_by(count);
                if count > 0 {
                    self.failures.remove(&order.pool);
                    self.observe(Observation::Launched { offer: order.offer.clone(), at: now });
                }
                if let Some(shortfall) = &launched.shortfall {
                    self.fell_short(order, shortfall);
                }
                answered(&launched, now)
            }
            // Had an earlier call made machines, the same token would have named them.
            Err(error @ Error::NoCapacity { .. }) => {
                self.paces.launch.answered();
                self.failures.remove(launch.id.as_str());
                self.fell_short(order, &error);
                answered(&Launched { nodes: Vec::new(), shortfall: Some(error) }, now)
            }
            Err(error) if error.is_retryable() => {
                self.paces.launch.failed();
                self.describe_soon();
                self.failures.insert(launch.id.as_str().to_owned(), (now, error.to_string()));
                return Ok(());
            }
            Err(error) => {
                self.unlaunchable(&order.pool.clone(), order, &error);
                Outcome { rejected: Some(error.to_string()), at: Some(now), ..Outcome::default() }
            }
        };
        // Of what brought nothing there is nothing to wait for.
        let closed = outcome.nodes.as_ref().is_some_and(Vec::is_empty);
        let put = launch.put(&outcome, closed, token)?;
        passable(self.plane.put_launch(launch.id.as_str(), &put).await.map(drop)).map(drop)
    }

    /// Closes launches of which all was seen.
    pub(super) async fn settle(&mut self, scene: &mut Scene) -> Result<(), RoundError> {
        let mut open = Vec::new();
        for launch in std::mem::take(&mut scene.launches) {
            match launch.step(self.fleet.as_ref(), self.config.launch_settle, scene.now) {
                Step::Close(outcome) => {
                    let put = launch.put(&outcome, true, scene.token)?;
                    passable(self.plane.put_launch(launch.id.as_str(), &put).await.map(drop))?;
                    self.failures.remove(launch.id.as_str());
                }
                Step::Wait => {
                    self.describe_soon();
                    open.push(launch);
                }
                Step::Ask => open.push(launch),
            }
        }
        scene.launches = open;
        Ok(())
    }

    /// What brought less than was asked for is avoided for a while; the planner says for how long.
    fn fell_short(&mut self, order: &Order, error: &Error) {
        tracing::warn!(pool = order.pool, offer = %order.offer, %error, "fewer machines than were asked for");
        self.shared.metrics.shortfalls.with_label_values(&[order.pool.as_str(), error.kind()]).inc();
        let at = self.now();
        self.observe(Observation::NoCapacity { offer: order.offer.clone(), at });
    }

    /// The provider won't launch that: it is avoided like what can't be had, and told of.
    fn unlaunchable(&mut self, pool: &str, order: &Order, error: &Error) {
        self.paces.launch.failed();
        self.fell_short(order, error);
        self.failures.insert(pool.to_owned(), (self.now(), format!("pool `{pool}`: {error}")));
    }

    fn show_failures(&mut self, scene: &Scene) {
        self.failures.retain(|_, (at, _)| scene.now.since(*at) < SHOWN_FOR);
        match self.failures.values().next() {
            Some((_, message)) => self.shared.troubles.set(Part::Launch, message, scene.now),
            None => self.shared.troubles.clear(Part::Launch),
        }
    }
}
