//! Who may have a key, by what was heard of the nodes.

use std::time::Duration;

use springtide_core::wire::{Heartbeat, HostFigures, NodeCondition, RunReport, V1};
use springtide_core::{Incarnation, JobId, RunId, TaskId, Timestamp};
use springtide_store::port::{Claim, Hold, HoldState};
use tokio::time::{Instant, advance};

use super::judge::{Limits, Memory};
use crate::registry::Seen;

const LEASE: Duration = Duration::from_secs(90);
const IN_QUEUE: Duration = Duration::from_secs(130);
const INTERVAL: Duration = Duration::from_secs(5);
const SECOND: Duration = Duration::from_secs(1);

fn task() -> TaskId {
    TaskId { job: JobId::new(Timestamp::default(), 1), index: 0 }
}

fn incarnation(number: u128) -> Incarnation {
    Incarnation::new(Timestamp::default(), number)
}

/// A hold whose task has left flight; it ran on node n1, incarnation 5.
fn hold(state: HoldState) -> Hold {
    Hold {
        claim: Claim { key: "studio-7".into(), owner: "us".into(), token: 3 },
        task: task(),
        attempt: 1,
        state,
        in_flight: false,
        node: (state != HoldState::Queued).then(|| ("n1".parse().unwrap(), incarnation(5))),
    }
}

/// A node, heard now.
fn heard(name: &str, of: u128, runs: bool) -> Seen {
    let report = RunReport {
        task: task(),
        attempt: 1,
        run: RunId::new(Timestamp::default(), 1),
        progress: 0.0,
        elapsed_s: 0.0,
    };
    let heartbeat = Heartbeat {
        v: V1,
        node: name.parse().unwrap(),
        incarnation: incarnation(of),
        sequence: 1,
        at: Timestamp::default(),
        pool: None,
        condition: NodeCondition::Active,
        lane: "cpu".parse().unwrap(),
        consuming: Some("cpu".parse().unwrap()),
        slots: 2,
        held: Vec::new(),
        runs: if runs { vec![report] } else { Vec::new() },
        host: HostFigures::default(),
        devices: Vec::new(),
        models: Vec::new(),
        version: String::new(),
    };
    let now = Instant::now();
    Seen { heartbeat, heard_at: Timestamp::default(), silent_since: now, heard: now }
}

/// Looks at the hold, and says whether it is over.
fn look(memory: &mut Memory, hold: &Hold, seen: &[Seen]) -> bool {
    look_deaf_until(memory, hold, seen, Instant::now())
}

fn look_deaf_until(memory: &mut Memory, hold: &Hold, seen: &[Seen], deaf_until: Instant) -> bool {
    let now = Instant::now();
    memory.keep(std::slice::from_ref(hold), seen, now);
    let limits = Limits { lease: LEASE, in_queue: IN_QUEUE, interval: INTERVAL, deaf_until };
    memory.is_over(hold, seen, now, &limits)
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_has_the_key_until_its_lease_is_over() {
    let (mut memory, taken) = (Memory::default(), hold(HoldState::Taken));
    let in_flight = Hold { in_flight: true, ..taken.clone() };
    assert!(!look(&mut memory, &in_flight, &[heard("n1", 5, true)]));
    advance(LEASE * 9).await;
    assert!(!look(&mut memory, &in_flight, &[heard("n1", 5, true)]), "what is in flight keeps its key");
    let last = heard("n1", 5, true);
    for _ in 0..3 {
        assert!(!look(&mut memory, &taken, std::slice::from_ref(&last)));
        // Whatever others say: they are not the one who had it.
        advance(LEASE / 3).await;
        look(&mut memory, &taken, &[last.clone(), heard("n2", 1, false)]);
    }
    assert!(look(&mut memory, &taken, &[last, heard("n2", 1, false)]));
}

#[tokio::test(start_paused = true)]
async fn its_node_says_that_it_has_it_no_more() {
    let (mut memory, taken) = (Memory::default(), hold(HoldState::Taken));
    assert!(!look(&mut memory, &taken, &[heard("n1", 5, true)]));
    advance(INTERVAL).await;
    assert!(!look(&mut memory, &taken, &[heard("n1", 5, false)]), "that may have been said before");
    advance(SECOND).await;
    assert!(!look(&mut memory, &taken, &[heard("n1", 5, false), heard("n2", 1, true)]), "another names it");
    assert!(look(&mut memory, &taken, &[heard("n1", 5, false), heard("n2", 1, false)]));
}

#[tokio::test(start_paused = true)]
async fn a_new_start_of_the_agent_and_last_words_free_it_at_once() {
    let taken = hold(HoldState::Taken);
    assert!(look(&mut Memory::default(), &taken, &[heard("n1", 6, false)]));
    assert!(!look(&mut Memory::default(), &taken, &[heard("n1", 4, false)]), "an earlier start says nothing");
    let mut leaving = heard("n1", 5, false);
    leaving.heartbeat.condition = NodeCondition::Leaving;
    assert!(look(&mut Memory::default(), &taken, &[leaving]));
}

#[tokio::test(start_paused = true)]
async fn a_message_in_a_queue_may_be_taken_until_it_expires() {
    let (mut memory, queued) = (Memory::default(), hold(HoldState::Queued));
    assert!(!look(&mut memory, &queued, &[]));
    advance((IN_QUEUE + LEASE).saturating_sub(SECOND)).await;
    assert!(!look(&mut memory, &queued, &[heard("n1", 5, false)]));
    advance(SECOND).await;
    assert!(!look(&mut memory, &queued, &[heard("n1", 5, true)]), "somebody has it");
    // Then its lease counts, from when the leader learned that it was taken.
    let taken = Hold { node: None, ..hold(HoldState::Taken) };
    assert!(!look_deaf_until(&mut memory, &taken, &[], Instant::now() + LEASE));
    advance(LEASE).await;
    assert!(look(&mut memory, &taken, &[]));
}

#[tokio::test(start_paused = true)]
async fn of_an_unknown_holder_all_who_have_a_lease_must_have_spoken() {
    let (mut memory, returned) = (Memory::default(), Hold { node: None, ..hold(HoldState::Taken) });
    let silent = heard("n1", 5, false);
    advance(LEASE / 2).await;
    assert!(!look(&mut memory, &returned, std::slice::from_ref(&silent)));
    advance(INTERVAL * 2).await;
    let others = [silent, heard("n2", 1, false)];
    assert!(!look(&mut memory, &returned, &others), "the one that is silent may be it");
    let later = Instant::now() + LEASE;
    assert!(!look_deaf_until(&mut memory, &returned, &others[1..], later), "there may be others yet");
    advance(LEASE / 2).await;
    let others = [others[0].clone(), heard("n2", 1, false)];
    assert!(look(&mut memory, &returned, &others), "its lease is over by now");
}

#[tokio::test(start_paused = true)]
async fn a_guard_that_is_not_reached_is_given_up_before_the_lease_is_over() {
    let (mut memory, hold) = (Memory::default(), Hold { in_flight: true, ..hold(HoldState::Taken) });
    look(&mut memory, &hold, &[]);
    advance(LEASE / 2).await;
    assert!(!memory.is_lost(&hold, Instant::now(), LEASE));
    memory.renewed(&hold, Some(Instant::now()));
    advance(LEASE * 2 / 3).await;
    assert!(memory.is_lost(&hold, Instant::now(), LEASE));
    memory.renewed(&hold, Some(Instant::now()));
    assert!(!memory.is_lost(&hold, Instant::now(), LEASE));
    memory.renewed(&hold, None);
    assert!(memory.is_lost(&hold, Instant::now(), LEASE), "somebody else has it");
}
