//! The guard of exclusive keys: locks with an owner, a lease and a fencing token.
//!
//! Which task has which key is the job store's to know. The guard only sees to it that nobody else takes the key
//! meanwhile: with [`StoreLocks`] nobody outside Springtide can; with [`RedisLocks`] any program that keeps to the
//! protocol described there shares the keys. What a guard of either kind has to do is held by one suite
//! (`tests/locks.rs`).

mod redis;
mod store;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use springtide_process::clock::SharedClock;
use springtide_store::Store;
use springtide_store::port::Claim;

pub use self::redis::RedisLocks;
pub use store::StoreLocks;

/// The guard can't be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{guard} can't be asked for exclusive keys: {problem}")]
pub struct LocksError {
    /// Which guard.
    pub guard: &'static str,
    /// Its words.
    pub problem: String,
}

/// Shorthand for results of a guard.
pub type Result<T, E = LocksError> = std::result::Result<T, E>;

/// The port. Each call answers for each claim, in order.
#[async_trait]
pub trait Locks: Send + Sync {
    /// Takes keys for their owners: those that nobody has, whose lease is over, or that the owner has already. The token
    /// is a new one each time and larger than all before it and than the claim's `token`. `None`: another has the key.
    async fn take(&self, claims: &[Claim], lease: Duration) -> Result<Vec<Option<u64>>>;
    /// Keeps keys for longer; also one whose lease ran out, as long as nobody has taken it. `false`: it is lost.
    async fn renew(&self, claims: &[Claim], lease: Duration) -> Result<Vec<bool>>;
    /// Gives keys back; those that the owner has no more are left alone.
    async fn let_go(&self, claims: &[Claim]) -> Result<()>;
    /// Its name, for people.
    fn name(&self) -> &'static str;
}

/// The guard that `locks.url` names.
pub fn open(
    url: &str,
    timeout: Duration,
    store: &Arc<dyn Store>,
    clock: &SharedClock,
) -> Result<Arc<dyn Locks>> {
    match url {
        "store:" => Ok(Arc::new(StoreLocks::new(Arc::clone(store), Arc::clone(clock)))),
        url if url.starts_with("redis://") || url.starts_with("rediss://") => {
            Ok(Arc::new(RedisLocks::new(url, timeout)?))
        }
        _ => Err(LocksError {
            guard: "locks.url",
            problem: "it has to be store: or redis://[USER:PASSWORD@]HOST:PORT/".to_owned(),
        }),
    }
}
