//! What only the in-memory broker has: faults, cuts, restarts. The promises of the ports are in `tests/contract.rs`.

use std::num::NonZeroU16;
use std::time::Duration;

use springtide_core::wire::{EventMessage, V1};

use super::*;

fn marker(id: u64) -> EventMessage {
    EventMessage::Marker { v: V1, id, token: 1 }
}

fn id(message: &EventMessage) -> u64 {
    match message {
        EventMessage::Marker { id, .. } => *id,
        EventMessage::Events { .. } => panic!("only markers are sent here"),
    }
}

const EIGHT: NonZeroU16 = NonZeroU16::new(8).unwrap();

/// Sends 200 markers through a broker with faults and tells what came out, which clock and all.
async fn exchange(seed: u64) -> Vec<(u64, bool, Duration)> {
    let faults = Faults {
        spurious_redelivered: 0.1,
        lost_confirm: 0.1,
        duplicate: 0.1,
        closed_channel: 0.05,
        lost_connection: 0.05,
        max_outage: Duration::from_secs(2),
        max_delay: Duration::from_millis(20),
    };
    let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let memory = Memory::with_faults(&Config::default(), faults, rng);
    let (sender, _) = memory.connect();
    let (receiver, _) = memory.connect();
    let start = Instant::now();
    let mut consumer = receiver.events.consume_events(EIGHT).await.unwrap();
    let sending = async {
        for number in 0..200 {
            while sender.events.publish_events(&[marker(number)]).await[0].is_err() {}
        }
        memory.set_faults(Faults::default());
        while sender.events.publish_events(&[marker(u64::MAX)]).await[0].is_err() {}
    };
    let receiving = async {
        let mut came = Vec::new();
        while let Some(delivery) = consumer.next().await {
            let number = id(&delivery.message);
            came.push((number, delivery.redelivered, start.elapsed()));
            let _ = delivery.ack();
            if number == u64::MAX {
                break;
            }
        }
        came
    };
    tokio::join!(sending, receiving).1
}

#[tokio::test(start_paused = true)]
async fn with_faults_nothing_that_was_confirmed_is_lost() {
    let seen = exchange(7).await;
    for number in 0..200 {
        assert!(seen.iter().any(|(seen, ..)| *seen == number), "{number} is lost");
    }
    assert!(seen.len() > 201, "no fault has happened");
    assert!(seen.iter().any(|(_, redelivered, _)| *redelivered), "no redelivery has happened");
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_run() {
    assert_eq!(exchange(1).await, exchange(1).await);
    assert_ne!(exchange(1).await, exchange(2).await);
}

#[tokio::test(start_paused = true)]
async fn after_a_kill_everything_comes_again_as_redelivered() {
    for (how, expected) in [
        (Restart::Graceful, vec![(1, true), (2, false)]),
        (Restart::Killed, vec![(1, true), (2, true)]),
        (Restart::Wiped, vec![]),
    ] {
        let memory = Memory::new(&Config::default());
        let (broker, _) = memory.connect();
        let mut consumer = broker.events.consume_events(NonZeroU16::MIN).await.unwrap();
        for result in broker.events.publish_events(&[marker(1), marker(2)]).await {
            result.unwrap();
        }
        let held = consumer.next().await.unwrap();
        memory.restart(how, Duration::from_mins(1));
        assert!(held.is_stale());
        assert_eq!(held.ack(), Err(Error::Stale));
        let mut seen = Vec::new();
        while seen.len() < expected.len() {
            let delivery = consumer.next().await.unwrap();
            seen.push((id(&delivery.message), delivery.redelivered));
            delivery.ack().unwrap();
        }
        assert_eq!(seen, expected);
        assert_eq!(memory.waiting(crate::names::EVENTS), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_client_waits_and_its_work_goes_to_others() {
    let memory = Memory::new(&Config::default());
    let (near, near_id) = memory.connect();
    let (far, _) = memory.connect();
    let mut first = near.events.consume_events(EIGHT).await.unwrap();
    let mut second = far.events.consume_events(EIGHT).await.unwrap();
    far.events.publish_events(&[marker(1)]).await.pop().unwrap().unwrap();
    let held = first.next().await.unwrap();
    memory.cut(near_id, None);
    assert!(held.is_stale());
    let again = second.next().await.unwrap();
    assert!(again.redelivered);
    again.ack().unwrap();
    let error = near.events.publish_events(&[marker(2)]).await.pop().unwrap().unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    memory.restore(near_id);
    near.events.publish_events(&[marker(3)]).await.pop().unwrap().unwrap();
    assert_eq!(id(&second.next().await.unwrap().message), 3, "the active one stays active");
}

#[tokio::test(start_paused = true)]
async fn a_blocked_broker_takes_nothing_and_gives_on() {
    let memory = Memory::new(&Config::default());
    let (broker, _) = memory.connect();
    broker.events.publish_events(&[marker(1)]).await.pop().unwrap().unwrap();
    memory.block("low on disk");
    let mut consumer = broker.events.consume_events(EIGHT).await.unwrap();
    consumer.next().await.unwrap().ack().unwrap();
    let error = broker.events.publish_events(&[marker(2)]).await.pop().unwrap().unwrap_err();
    assert!(error.to_string().contains("low on disk"), "{error}");
    memory.unblock();
    broker.events.publish_events(&[marker(3)]).await.pop().unwrap().unwrap();
}
