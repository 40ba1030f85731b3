//! Redis as the guard, so that programs outside Springtide can share the keys.
//!
//! The protocol, for a key `studio-7`:
//!
//! | key in Redis | type | what |
//! | --- | --- | --- |
//! | `springtide:lock:studio-7` | string with a time to live | whoever set it has the key; the value is the owner's own secret |
//! | `springtide:fence:studio-7` | number, without a time to live | counted up by each taker, in the same script; its value then is the taker's fencing token |
//!
//! Taking: `SET springtide:lock:studio-7 OWNER NX PX MILLISECONDS`, then `INCR springtide:fence:studio-7`. Keeping:
//! `PEXPIRE`, letting go: `DEL`, each in a script that compares the owner first. What writes somewhere under the key
//! sends its token along, and refuses one that is smaller than another it has seen. Springtide's own owners begin with
//! `springtide:`. A Redis that is trusted with locks has to be durable (`appendonly yes`): one that forgets a lock lets two
//! run. The store remembers the tokens, so that Springtide's own never go back even then.
//!
//! This is a lock on one server (the pattern that Redis documents for `SET … NX`), not Redlock; the token makes what
//! remains of its doubts harmless (Kleppmann, "How to do distributed locking", 2016).

use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, StreamExt, TryStreamExt};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, FromRedisValue, RedisError, Script};
use springtide_store::port::Claim;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::{Locks, LocksError, Result};

const NAME: &str = "Redis";
/// Questions on their way at once; they share one connection.
const AT_ONCE: usize = 64;

/// Keys: lock, fence. Arguments: owner, lease in milliseconds, the token that has to be exceeded.
const TAKE: &str = r"
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
    if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
if tonumber(redis.call('GET', KEYS[2]) or '0') < tonumber(ARGV[3]) then
    redis.call('SET', KEYS[2], ARGV[3])
end
return redis.call('INCR', KEYS[2])
";
/// Keys: lock, fence. Arguments: owner, lease in milliseconds, token. A lock that ran out is taken up again if the
/// counter shows that nobody has had it since.
const RENEW: &str = r"
local owner = redis.call('GET', KEYS[1])
if owner == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
if owner or redis.call('GET', KEYS[2]) ~= ARGV[3] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
";
/// Keys: lock, fence. Arguments: owner.
const LET_GO: &str = r"
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
";

struct Scripts {
    take: Script,
    renew: Script,
    let_go: Script,
}

fn scripts() -> &'static Scripts {
    static SCRIPTS: OnceLock<Scripts> = OnceLock::new();
    SCRIPTS.get_or_init(|| Scripts {
        take: Script::new(TAKE),
        renew: Script::new(RENEW),
        let_go: Script::new(LET_GO),
    })
}

/// See the module.
pub struct RedisLocks {
    client: Client,
    timeout: Duration,
    connection: OnceCell<ConnectionManager>,
}

impl std::fmt::Debug for RedisLocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisLocks").finish_non_exhaustive()
    }
}

impl RedisLocks {
    /// Connects when it is first asked, and again whenever it has to. `timeout`: of one call.
    pub fn new(url: &str, timeout: Duration) -> Result<Self> {
        let client = Client::open(url).map_err(|error| failed(&error))?;
        Ok(Self { client, timeout, connection: OnceCell::new() })
    }

    async fn connection(&self) -> Result<ConnectionManager> {
        let connect = || async {
            let config = ConnectionManagerConfig::new()
                .set_number_of_retries(1)
                .set_max_delay(self.timeout)
                .set_connection_timeout(Some(self.timeout))
                .set_response_timeout(Some(self.timeout));
            ConnectionManager::new_lazy_with_config(self.client.clone(), config)
        };
        self.connection.get_or_try_init(connect).await.cloned().map_err(|error| failed(&error))
    }

    /// Runs a script for each claim; the answers in order.
    async fn each<T: FromRedisValue + Send>(
        &self,
        script: &Script,
        claims: &[Claim],
        arguments: impl Fn(&Claim) -> Vec<String> + Send + Sync,
    ) -> Result<Vec<T>> {
        let connection = self.connection().await?;
        let runs: Vec<_> = claims
            .iter()
            .map(|claim| {
                let mut invocation = script.key(format!("springtide:lock:{}", claim.key));
                invocation.key(format!("springtide:fence:{}", claim.key)).arg(&claim.owner);
                for argument in arguments(claim) {
                    invocation.arg(argument);
                }
                let mut connection = connection.clone();
                async move { invocation.invoke_async(&mut connection).await }
            })
            .collect();
        let answers = stream::iter(runs).buffered(AT_ONCE).try_collect();
        let too_late = |_| {
            let problem = format!("no answer within {:.1} s (locks.timeout)", self.timeout.as_secs_f64());
            LocksError { guard: NAME, problem }
        };
        let answers = timeout(self.timeout, answers).await.map_err(too_late)?;
        answers.map_err(|error| failed(&error))
    }
}

#[async_trait]
impl Locks for RedisLocks {
    async fn take(&self, claims: &[Claim], lease: Duration) -> Result<Vec<Option<u64>>> {
        self.each(&scripts().take, claims, |claim| vec![millis(lease), claim.token.to_string()]).await
    }

    async fn renew(&self, claims: &[Claim], lease: Duration) -> Result<Vec<bool>> {
        self.each(&scripts().renew, claims, |claim| vec![millis(lease), claim.token.to_string()]).await
    }

    async fn let_go(&self, claims: &[Claim]) -> Result<()> {
        let freed: Vec<i64> = self.each(&scripts().let_go, claims, |_| Vec::new()).await?;
        tracing::trace!(asked = claims.len(), freed = freed.iter().sum::<i64>(), "keys given back");
        Ok(())
    }

    fn name(&self) -> &'static str {
        NAME
    }
}

fn millis(lease: Duration) -> String {
    lease.as_millis().max(1).to_string()
}

fn failed(error: &RedisError) -> LocksError {
    LocksError { guard: NAME, problem: error.to_string() }
}
