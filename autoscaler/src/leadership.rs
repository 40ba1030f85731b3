//! One autoscaler acts: whoever has the lease. Its token goes with every durable write, so that one which was frozen and
//! wakes up as a follower is refused.

use std::time::Duration;

use springtide_client::Error;
use springtide_core::api::LeaseWish;
use tokio::time::Instant;

use crate::plane::Plane;

/// The lease's name in the control plane.
pub const LEASE: &str = "autoscaler";

/// What this process knows of the lease.
#[derive(Debug)]
pub struct Leadership {
    holder: String,
    duration: Duration,
    held: Option<Held>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    token: u64,
    /// Counted from before it was asked for, so never later than the control plane counts.
    until: Instant,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// This process, with this token.
    Leader(u64),
    /// Another one.
    Follower {
        /// Who.
        leader: String,
    },
}

impl Leadership {
    /// Nobody knows yet. `holder` tells this process from all others.
    pub fn new(holder: String, duration: Duration) -> Self {
        Self { holder, duration, held: None }
    }

    /// Takes the lease, or renews it once a third of it is over.
    pub async fn role(&mut self, plane: &dyn Plane) -> Result<Role, Error> {
        let asked = Instant::now();
        if let Some(held) = self.held.filter(|held| asked + self.duration * 2 / 3 < held.until) {
            return Ok(Role::Leader(held.token));
        }
        let wish = LeaseWish { holder: self.holder.clone(), duration_s: self.duration.as_secs_f64() };
        let grant = plane.lease(LEASE, &wish).await;
        self.held = None;
        let grant = grant?;
        if grant.holder != self.holder {
            return Ok(Role::Follower { leader: grant.holder });
        }
        self.held = Some(Held { token: grant.token, until: asked + self.duration });
        Ok(Role::Leader(grant.token))
    }

    /// Whether the lease surely holds for some time yet; asked before the provider is called.
    pub fn is_sure(&self) -> bool {
        self.held.is_some_and(|held| Instant::now() + self.duration / 6 < held.until)
    }

    /// Somebody else has it.
    pub fn lost(&mut self) {
        self.held = None;
    }

    /// Gives it up, so that another one need not wait.
    pub async fn give_up(&mut self, plane: &dyn Plane) {
        if self.held.take().is_some() {
            let wish = LeaseWish { holder: self.holder.clone(), duration_s: 0.0 };
            if let Err(error) = plane.lease(LEASE, &wish).await {
                tracing::debug!(%error, "the lease was not given up; it ends by itself");
            }
        }
    }
}
