//! The job store as the guard: no further server is needed, and nobody outside shares the keys.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use springtide_process::clock::SharedClock;
use springtide_store::Store;
use springtide_store::port::{Claim, LockRequest, LockWish};

use super::{Locks, LocksError, Result};

/// See the module.
#[derive(Clone)]
pub struct StoreLocks {
    store: Arc<dyn Store>,
    clock: SharedClock,
}

impl StoreLocks {
    /// Over a store. Leases are counted by the clock.
    pub const fn new(store: Arc<dyn Store>, clock: SharedClock) -> Self {
        Self { store, clock }
    }

    async fn ask(&self, wish: LockWish, claims: &[Claim], lease: Duration) -> Result<Vec<Option<u64>>> {
        let now = self.clock.now().into();
        let request = LockRequest { wish, claims: claims.to_vec(), lease, now };
        self.store
            .lock(&request)
            .await
            .map_err(|error| LocksError { guard: self.name(), problem: error.to_string() })
    }
}

#[async_trait]
impl Locks for StoreLocks {
    async fn take(&self, claims: &[Claim], lease: Duration) -> Result<Vec<Option<u64>>> {
        self.ask(LockWish::Take, claims, lease).await
    }

    async fn renew(&self, claims: &[Claim], lease: Duration) -> Result<Vec<bool>> {
        let answers = self.ask(LockWish::Renew, claims, lease).await?;
        Ok(answers.into_iter().map(|token| token.is_some()).collect())
    }

    async fn let_go(&self, claims: &[Claim]) -> Result<()> {
        self.ask(LockWish::LetGo, claims, Duration::ZERO).await.map(drop)
    }

    fn name(&self) -> &'static str {
        "the store"
    }
}
