//! What every guard of exclusive keys has to do, tried on the store and on Redis where `SPRINGTIDE_TEST_REDIS_URL` names
//! a server. Keys have names of their own in each test, since tests share the server.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where it stopped")]

use std::sync::Arc;
use std::time::Duration;

use redis::AsyncTypedCommands;
use springtide_control_plane::locks::{self, Locks, RedisLocks};
use springtide_process::clock::{SharedClock, SystemClock};
use springtide_store::port::Claim;
use tokio::time::{Instant, sleep};

/// Longer than any test.
const LONG: Duration = Duration::from_secs(600);
/// Shorter than a test waits.
const SHORT: Duration = Duration::from_millis(50);
const LIMIT: Duration = Duration::from_secs(30);
const VARIABLE: &str = "SPRINGTIDE_TEST_REDIS_URL";

/// Two guards that share their keys, as two control planes have them.
struct Pair {
    one: Arc<dyn Locks>,
    two: Arc<dyn Locks>,
}

fn redis_url() -> Option<String> {
    let url = std::env::var(VARIABLE).ok();
    if url.is_none() {
        println!("skipped: {VARIABLE} is not set; `cargo xtask test` starts the server and sets it");
    }
    url
}

fn open(url: &str, store: &Arc<dyn springtide_store::Store>) -> Arc<dyn Locks> {
    let clock: SharedClock = Arc::new(SystemClock);
    locks::open(url, LIMIT, store, &clock).unwrap()
}

/// Both guards, or only the store's where there is no Redis.
fn pairs() -> Vec<Pair> {
    let store = springtide_store::in_memory().unwrap();
    let urls = ["store:".to_owned()].into_iter().chain(redis_url());
    urls.map(|url| Pair { one: open(&url, &store), two: open(&url, &store) }).collect()
}

/// A key that no other test has.
fn key(name: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    format!("{name} {}", directory.path().file_name().unwrap().to_string_lossy())
}

fn claim(key: &str, owner: &str, token: u64) -> Claim {
    Claim { key: key.to_owned(), owner: owner.to_owned(), token }
}

async fn take(locks: &Arc<dyn Locks>, claim: Claim, lease: Duration) -> Option<u64> {
    locks.take(&[claim], lease).await.unwrap()[0]
}

/// Takes a key as soon as its lease is over.
async fn take_at_last(locks: &Arc<dyn Locks>, claim: &Claim) -> u64 {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(token) = take(locks, claim.clone(), LONG).await {
            return token;
        }
        assert!(Instant::now() < deadline, "waited {LIMIT:?} for the end of a lease of {SHORT:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_key_has_one_owner() {
    for Pair { one, two } in pairs() {
        let key = key("one-owner");
        assert_eq!(take(&one, claim(&key, "a", 0), LONG).await, Some(1));
        assert_eq!(take(&two, claim(&key, "b", 0), LONG).await, None);
        assert_eq!(two.renew(&[claim(&key, "b", 1)], LONG).await.unwrap(), [false]);
        two.let_go(&[claim(&key, "b", 1)]).await.unwrap();
        assert_eq!(take(&two, claim(&key, "b", 0), LONG).await, None, "only its owner lets it go");
        // A new leader goes on with what the store has of the owner.
        assert_eq!(two.renew(&[claim(&key, "a", 1)], LONG).await.unwrap(), [true]);
        two.let_go(&[claim(&key, "a", 1)]).await.unwrap();
        assert_eq!(take(&two, claim(&key, "b", 0), LONG).await, Some(2));
        assert_eq!(one.renew(&[claim(&key, "a", 1)], LONG).await.unwrap(), [false]);
    }
}

#[tokio::test]
async fn the_token_grows_with_each_taking_and_past_what_was_seen() {
    for Pair { one, two } in pairs() {
        let key = key("token");
        assert_eq!(take(&one, claim(&key, "a", 0), LONG).await, Some(1));
        assert_eq!(take(&one, claim(&key, "a", 0), LONG).await, Some(2), "also for the same owner");
        one.let_go(&[claim(&key, "a", 2)]).await.unwrap();
        assert_eq!(take(&two, claim(&key, "b", 40), LONG).await, Some(41));
        two.let_go(&[claim(&key, "b", 41)]).await.unwrap();
        assert_eq!(take(&one, claim(&key, "a", 7), LONG).await, Some(42));
    }
}

#[tokio::test]
async fn of_a_dead_owner_the_key_is_free_after_its_lease() {
    for Pair { one, two } in pairs() {
        let key = key("dead");
        assert_eq!(take(&one, claim(&key, "a", 0), SHORT).await, Some(1));
        drop(one);
        assert_eq!(take_at_last(&two, &claim(&key, "b", 0)).await, 2, "the token grows past an expiry");
        assert_eq!(two.renew(&[claim(&key, "a", 1)], LONG).await.unwrap(), [false]);
    }
}

#[tokio::test]
async fn a_renewed_key_outlives_its_first_lease() {
    for Pair { one, two } in pairs() {
        let key = key("renewed");
        assert_eq!(take(&one, claim(&key, "a", 0), SHORT).await, Some(1));
        // Even if the lease ran out before: nobody has taken it.
        assert_eq!(one.renew(&[claim(&key, "a", 1)], LONG).await.unwrap(), [true]);
        sleep(SHORT * 2).await;
        assert_eq!(take(&two, claim(&key, "b", 0), LONG).await, None);
    }
}

#[tokio::test]
async fn what_ran_out_and_was_taken_by_another_since_is_lost() {
    for Pair { one, two } in pairs() {
        let key = key("since");
        assert_eq!(take(&one, claim(&key, "a", 0), SHORT).await, Some(1));
        let token = take_at_last(&two, &claim(&key, "b", 0)).await;
        two.let_go(&[claim(&key, "b", token)]).await.unwrap();
        assert_eq!(one.renew(&[claim(&key, "a", 1)], LONG).await.unwrap(), [false], "though it is free");
    }
}

#[tokio::test]
async fn many_keys_are_answered_in_order() {
    for Pair { one, two } in pairs() {
        let keys: Vec<_> = (0..200).map(|number| key(&format!("many-{:03}", 199 - number))).collect();
        let theirs: Vec<_> = keys.iter().skip(1).step_by(2).map(|key| claim(key, "b", 0)).collect();
        two.take(&theirs, LONG).await.unwrap();
        let ours: Vec<_> = keys.iter().map(|key| claim(key, "a", 0)).collect();
        let taken = one.take(&ours, LONG).await.unwrap();
        let expected: Vec<_> = (0..200).map(|at| (at % 2 == 0).then_some(1)).collect();
        assert_eq!(taken, expected);
        let renewed = one.renew(&ours, LONG).await.unwrap();
        assert_eq!(renewed, expected.iter().map(Option::is_some).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn of_many_that_race_for_a_key_one_gets_it() {
    for Pair { one, two } in pairs() {
        let key = key("race");
        let racers = (0..16).map(|number| {
            let locks = Arc::clone(if number % 2 == 0 { &one } else { &two });
            let claim = claim(&key, &format!("owner {number}"), 0);
            async move { take(&locks, claim, LONG).await }
        });
        let tokens = futures::future::join_all(racers).await;
        assert_eq!(tokens.iter().flatten().collect::<Vec<_>>(), [&1]);
    }
}

/// The protocol as another program would speak it, without any code of ours.
#[tokio::test]
async fn another_program_shares_the_keys_of_redis() {
    let Some(url) = redis_url() else { return };
    let ours: Arc<dyn Locks> = Arc::new(RedisLocks::new(&url, LIMIT).unwrap());
    let client = redis::Client::open(url).unwrap();
    let mut theirs = client.get_multiplexed_async_connection().await.unwrap();
    let key = key("foreign");
    let (lock, fence) = (format!("springtide:lock:{key}"), format!("springtide:fence:{key}"));
    assert!(theirs.set_nx(&lock, "theirs").await.unwrap());
    assert_eq!(theirs.incr(&fence, 1).await.unwrap(), 1);
    assert_eq!(take(&ours, claim(&key, "ours", 0), LONG).await, None);
    ours.let_go(&[claim(&key, "ours", 1)]).await.unwrap();
    assert_eq!(theirs.get(&lock).await.unwrap().as_deref(), Some("theirs"));
    theirs.del(&lock).await.unwrap();
    assert_eq!(take(&ours, claim(&key, "ours", 0), LONG).await, Some(2));
    assert!(!theirs.set_nx(&lock, "theirs").await.unwrap());
    let left: i64 = redis::cmd("PTTL").arg(&lock).query_async(&mut theirs).await.unwrap();
    assert!(0 < left && left <= i64::try_from(LONG.as_millis()).unwrap(), "{left} ms are left of the lease");
    let fence_left: i64 = redis::cmd("PTTL").arg(&fence).query_async(&mut theirs).await.unwrap();
    assert_eq!(fence_left, -1, "the counter stays");
    // Whoever takes it by force, or a Redis that forgot everything: our hold is lost, and the tokens go on.
    theirs.del(&[&lock, &fence][..]).await.unwrap();
    assert_eq!(ours.renew(&[claim(&key, "ours", 2)], LONG).await.unwrap(), [false]);
    assert_eq!(take(&ours, claim(&key, "ours again", 2), LONG).await, Some(3));
    theirs.del(&[&lock, &fence][..]).await.unwrap();
}

#[tokio::test]
async fn a_redis_that_is_not_there_is_an_error_in_time() {
    // A port that nobody listens on: it was free a moment ago, and only this test knows it.
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("redis://{}/", listener.local_addr().unwrap());
    drop(listener);
    let locks = RedisLocks::new(&url, Duration::from_secs(5)).unwrap();
    let error = locks.take(&[claim("a", "ours", 0)], LONG).await.unwrap_err();
    assert!(error.to_string().starts_with("Redis can't be asked for exclusive keys: "), "{error}");
}

#[test]
fn a_guard_that_is_none_is_refused() {
    let store = springtide_store::in_memory().unwrap();
    let clock: SharedClock = Arc::new(SystemClock);
    for url in ["", "memory:", "http://127.0.0.1:6379"] {
        let error = locks::open(url, LIMIT, &store, &clock).err().unwrap();
        assert!(error.to_string().contains("redis://"), "{error}");
    }
}
