//! How the world outside the processes is just now: what the store, the object store and the network do to calls.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::dice::Dice;

/// What goes wrong all the time: probabilities for each call or message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Drizzle {
    /// Of a publication: it is late.
    pub late: f64,
    /// Of a publication: it comes twice, the second time late.
    pub twice: f64,
    /// Of a publication: no confirm comes. It may have arrived, not, or arrive later.
    pub unconfirmed: f64,
    /// Of a heartbeat or a desired state: it is lost.
    pub lost: f64,
    /// The longest that a late message takes.
    pub max_late: Duration,
    /// Of a delivery: it is said to be a redelivery.
    pub spurious_redelivered: f64,
    /// Of a delivery: its channel is closed instead.
    pub closed_channel: f64,
    /// The longest that a call of the store takes, on each side of the commit.
    pub store_delay: Duration,
    /// Of a call of the store: it fails before, or after it has committed.
    pub store_fails: f64,
}

impl Drizzle {
    /// That of a run.
    pub fn draw(dice: &Dice) -> Self {
        let rate = || dice.pick(&[0.0, 0.002, 0.01, 0.03]);
        Self {
            late: rate(),
            twice: rate(),
            unconfirmed: rate(),
            lost: rate(),
            max_late: dice.millis(20, 30_000),
            spurious_redelivered: rate(),
            closed_channel: rate() / 4.0,
            store_delay: Duration::from_millis(dice.pick(&[0, 3, 20])),
            store_fails: rate() / 4.0,
        }
    }

    /// The same, and worse.
    fn storm(self) -> Self {
        Self {
            late: self.late + 0.15,
            twice: self.twice + 0.1,
            unconfirmed: self.unconfirmed + 0.1,
            lost: self.lost + 0.3,
            max_late: self.max_late.max(Duration::from_secs(10)),
            spurious_redelivered: self.spurious_redelivered + 0.05,
            closed_channel: self.closed_channel + 0.03,
            ..self
        }
    }
}

/// Troubles that are on; each counts how often, since they may overlap.
#[derive(Clone, Copy, Debug, Default)]
struct Troubles {
    calm: bool,
    drizzle: Drizzle,
    on: [u32; Trouble::COUNT],
}

/// A trouble that lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The store's disk is full.
    StoreFull,
    /// The store fails now and then.
    StoreFlaky,
    /// The store is slow.
    StoreSlow,
    /// The object store fails.
    ObjectsFail,
    /// Messages go astray.
    Storm,
}

impl Trouble {
    const COUNT: usize = 5;
}

/// The weather, as all ports see it.
#[derive(Debug)]
pub struct Weather(Mutex<Troubles>);

impl Weather {
    /// With nothing but this.
    pub fn new(drizzle: Drizzle) -> Self {
        Self(Mutex::new(Troubles { drizzle, ..Troubles::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, Troubles> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A trouble begins.
    pub fn begin(&self, trouble: Trouble) {
        self.lock().on[trouble as usize] += 1;
    }

    /// A trouble ends.
    pub fn end(&self, trouble: Trouble) {
        let on = &mut self.lock().on[trouble as usize];
        *on = on.saturating_sub(1);
    }

    /// Nothing goes wrong from now on.
    pub fn calm(&self) {
        *self.lock() = Troubles { calm: true, ..Troubles::default() };
    }

    /// Whether a trouble is on.
    pub fn has(&self, trouble: Trouble) -> bool {
        let troubles = self.lock();
        !troubles.calm && troubles.on[trouble as usize] > 0
    }

    /// What goes wrong with each call or message.
    pub fn drizzle(&self) -> Drizzle {
        let drizzle = self.lock().drizzle;
        let mut drizzle = if self.has(Trouble::Storm) { drizzle.storm() } else { drizzle };
        if self.has(Trouble::StoreFlaky) {
            drizzle.store_fails += 0.2;
        }
        if self.has(Trouble::StoreSlow) {
            drizzle.store_delay += Duration::from_secs(2);
        }
        drizzle
    }
}
