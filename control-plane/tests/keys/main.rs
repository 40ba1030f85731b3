//! What the leader does with exclusive keys: over a store and a broker in memory, on a clock that jumps, with a guard that
//! tests can break and nodes that say what tests want.
#![allow(clippy::unwrap_used)] // a test that can't go on says where it stopped

mod house;
mod node;

use house::{House, LEASE};
use tokio::time::{Instant, advance, sleep};

#[tokio::test(start_paused = true)]
async fn a_key_of_another_program_holds_up_nobody_else() {
    let house = House::build().await;
    house.guard.foreign("theirs");
    let node = house.node("n1", 4).await;
    let theirs = house.submit(Some("theirs")).await;
    let ours = house.submit(Some("ours")).await;
    let plain = house.submit(None).await;
    node.runs(ours).await;
    node.runs(plain).await;
    sleep(LEASE * 3).await;
    assert!(!node.has(theirs));
    assert_eq!(house.app.keys.trouble(), None, "that is no trouble of ours");
    house.guard.give_back("theirs");
    node.runs(theirs).await;
}

#[tokio::test(start_paused = true)]
async fn a_guard_that_is_down_holds_up_exclusive_tasks_and_says_so() {
    let house = House::build().await;
    let node = house.node("n1", 4).await;
    house.guard.down(true);
    let waits = house.submit(Some("a")).await;
    let plain = house.submit(None).await;
    node.runs(plain).await;
    house.until("the trouble to be told", |house| house.app.keys.trouble().is_some()).await;
    assert!(!node.has(waits));
    house.guard.down(false);
    node.runs(waits).await;
    assert_eq!(house.app.keys.trouble(), None);
}

#[tokio::test(start_paused = true)]
async fn what_has_a_key_goes_on_and_the_next_follows_when_it_ends() {
    let house = House::build().await;
    let node = house.node("n1", 4).await;
    let first = house.submit(Some("a")).await;
    let second = house.submit(Some("a")).await;
    node.runs(first).await;
    sleep(LEASE * 10).await;
    assert!(node.has(first) && !node.has(second));
    assert!(node.is_vouched_for(first), "the node was told all the while that the key is kept");
    node.succeed(first).await;
    node.runs(second).await;
    assert!(node.token(second) > node.token(first));
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_key_was_lost_is_stopped() {
    let house = House::build().await;
    let node = house.node("n1", 4).await;
    let (lost, kept) = (house.submit(Some("lost")).await, house.submit(Some("kept")).await);
    node.runs(lost).await;
    node.runs(kept).await;
    house.guard.foreign("lost");
    house.until("the stop of the run", |_| !node.has(lost)).await;
    assert!(node.has(kept));
    let task = house.task(lost).await;
    assert_eq!((task.state, task.charges), ("waiting", 0));
    house.guard.give_back("lost");
    node.runs(lost).await;
    assert_eq!(house.task(lost).await.attempt, 2);
}

#[tokio::test(start_paused = true)]
async fn a_guard_that_stays_away_ends_exclusive_runs_within_a_lease() {
    let house = House::build().await;
    let node = house.node("n1", 4).await;
    let (exclusive, plain) = (house.submit(Some("a")).await, house.submit(None).await);
    node.runs(exclusive).await;
    node.runs(plain).await;
    house.guard.down(true);
    let began = Instant::now();
    house.until("the stop of the run", |_| !node.has(exclusive)).await;
    assert!(LEASE / 2 < began.elapsed() && began.elapsed() < LEASE, "{:?}", began.elapsed());
    assert!(node.has(plain));
    house.guard.down(false);
    node.runs(exclusive).await;
}

#[tokio::test(start_paused = true)]
async fn the_key_of_a_silent_node_is_free_after_its_lease() {
    let house = House::build().await;
    let silent = house.node("n1", 1).await;
    let first = house.submit(Some("a")).await;
    silent.runs(first).await;
    let second = house.submit(Some("a")).await;
    let other = house.node("n2", 4).await;
    silent.stand_still();
    let since = Instant::now();
    house.until_task(first, "evicted", |task| task.evictions == 1).await;
    assert!(since.elapsed() < LEASE, "the node is lost before its lease is over");
    house.until("one of the two to run", |_| other.has(first) || other.has(second)).await;
    // The last heartbeat was at most one interval before.
    assert!(
        since.elapsed() > LEASE.saturating_sub(house.app.config.heartbeat_interval),
        "{:?}",
        since.elapsed()
    );
    assert!(!(other.has(first) && other.has(second)));
    // What the node says when it is back changes nothing, and what it runs is stopped.
    silent.go_on();
    house.until("the stop of the run that lost its key", |_| !silent.has(first)).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_task_keeps_its_key_until_it_has_stopped() {
    let house = House::build().await;
    let node = house.node("n1", 4).await;
    let first = house.submit(Some("a")).await;
    node.runs(first).await;
    let second = house.submit(Some("a")).await;
    node.obeys(false);
    house.cancel(first).await;
    sleep(LEASE * 3).await;
    assert!(node.has(first) && !node.has(second), "it has not stopped yet");
    node.obeys(true);
    node.runs(second).await;
    assert!(!node.has(first));
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_goes_on_with_the_keys_of_the_last() {
    let house = House::build().await;
    let node = house.node("n1", 4).await;
    let first = house.submit(Some("a")).await;
    node.runs(first).await;
    let second = house.submit(Some("a")).await;
    let house = house.next_leader().await;
    advance(LEASE).await;
    sleep(LEASE).await;
    assert!(node.has(first) && !node.has(second));
    assert_eq!(house.task(first).await.attempt, 1);
    node.succeed(first).await;
    node.runs(second).await;
}
