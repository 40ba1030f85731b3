//! What holds when connections break.

use std::collections::BTreeSet;
use std::time::Duration;

use springtide_broker::{Broker, Error};

use super::events;
use super::tasks::{consume, next, publication, publish, until_waiting};
use crate::bench::{Bench, desired, heartbeat, lane, marker, marker_id, node, until, within};

const EXPIRES: Duration = Duration::from_secs(30);

async fn until_up(broker: &Broker) {
    let mut health = broker.health.clone();
    within("the broker", health.wait_for(springtide_broker::Health::is_up)).await.unwrap();
}

pub async fn the_prefetch_holds_after_a_lost_connection(bench: &Bench) {
    let broker = bench.broker();
    publish(&broker, &(0..7).map(|index| publication(index, 3)).collect::<Vec<_>>()).await;
    let mut consumer = consume(&broker, 2, 0).await;
    let mut held = vec![next(&mut consumer).await, next(&mut consumer).await];
    until_waiting(&broker, &lane("cpu"), 5).await;
    for _ in 0..3 {
        bench.drop_connections();
        until("stale deliveries", async || held.iter().all(springtide_broker::Delivery::is_stale)).await;
        let stale = std::mem::take(&mut held);
        for delivery in stale {
            assert_eq!(delivery.ack(), Err(Error::Stale));
        }
        for index in 0..2 {
            let delivery = next(&mut consumer).await;
            assert_eq!((delivery.message.task.index, delivery.redelivered), (index, true));
            held.push(delivery);
        }
        until_waiting(&broker, &lane("cpu"), 5).await;
    }
    for delivery in held {
        delivery.ack().unwrap();
    }
    until_waiting(&broker, &lane("cpu"), 3).await;
}

pub async fn nothing_confirmed_is_lost_when_connections_are(bench: &Bench) {
    let (sender, receiver) = (bench.broker(), bench.broker());
    let mut consumer = events::consume(&receiver, 50).await;
    let sending = async {
        for call in 0..40_u64 {
            let mut left: Vec<_> = (call * 10..call * 10 + 10).map(marker).collect();
            if call % 8 == 4 {
                bench.drop_connections();
            }
            while !left.is_empty() {
                let fates = sender.events.publish_events(&left).await;
                let mut fates = fates.into_iter();
                left.retain(|_| match fates.next().unwrap() {
                    Ok(()) => false,
                    Err(error) => {
                        assert!(error.may_have_arrived() && error.is_retryable(), "{error}");
                        true
                    }
                });
            }
        }
    };
    let receiving = async {
        let mut seen = BTreeSet::new();
        while seen.len() < 400 {
            let delivery = events::next(&mut consumer).await;
            seen.insert(marker_id(&delivery.message));
            let _ = delivery.ack();
        }
    };
    within("all events", async { tokio::join!(sending, receiving) }).await;
}

pub async fn subscriptions_come_back(bench: &Bench) {
    let broker = bench.broker();
    let mut heartbeats = broker.events.subscribe_heartbeats().await.unwrap();
    let mut orders = broker.events.subscribe_desired(&node("n1")).await.unwrap();
    bench.drop_connections();
    let mut down = broker.health.clone();
    within("the loss", down.wait_for(|health| !health.is_up())).await.unwrap();
    let saying = async {
        // Level-triggered: said again until it is heard.
        loop {
            let _ = broker.events.publish_heartbeat(&heartbeat("n1", 1), EXPIRES).await;
            let _ = broker.events.send_desired(&desired("n1", 1), EXPIRES).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let hearing = async {
        assert_eq!(heartbeats.next().await.unwrap(), heartbeat("n1", 1));
        assert_eq!(orders.next().await.unwrap(), desired("n1", 1));
    };
    within("subscriptions", async {
        tokio::select! {
            () = saying => {}
            () = hearing => {}
        }
    })
    .await;
    assert!(broker.counters.connections() >= 2);
    assert!(broker.counters.subscriptions() >= 4);
}

pub async fn without_a_broker_calls_end_in_time_and_say_what_for(bench: &Bench) {
    let broker = bench.broker_with(|config| config.publish_timeout = Duration::from_secs(1));
    until_up(&broker).await;
    let mut consumer = consume(&broker, 2, 0).await;
    bench.stop();
    let mut health = broker.health.clone();
    let down = within("the loss", health.wait_for(|health| !health.is_up())).await.unwrap().clone();
    assert!(down.to_string().starts_with("waiting for the broker at "), "{down}");
    let errors = [
        broker.tasks.publish(&[publication(1, 3)]).await.pop().unwrap().unwrap_err(),
        broker.events.publish_events(&[marker(1)]).await.pop().unwrap().unwrap_err(),
        broker.events.send_desired(&desired("n1", 1), EXPIRES).await.unwrap_err(),
        broker.tasks.depth(&lane("cpu")).await.unwrap_err(),
        broker.tasks.declare(&lane("cpu")).await.unwrap_err(),
        broker.events.subscribe_heartbeats().await.map(drop).unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, Error::Timeout { .. } | Error::Lost { .. }), "{error}");
        assert!(error.to_string().contains("broker"), "{error}");
    }
    // The broker ends a consumer whose connection is gone, so there is nothing to wait for.
    within("the cancellation", consumer.cancel()).await.unwrap();
    assert!(within("the end", consumer.next()).await.is_none());
}

pub async fn a_broker_that_comes_late_is_waited_for(bench: &Bench) {
    let broker = bench.broker();
    bench.stop();
    let waiting = async {
        let sent = [publication(1, 3)];
        let (published, consumer) = tokio::join!(broker.tasks.publish(&sent), consume(&broker, 1, 0));
        (published, consumer)
    };
    let starting = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        bench.start();
    };
    let ((published, mut consumer), ()) =
        within("the broker", async { tokio::join!(waiting, starting) }).await;
    // The one call may have found the connection that was just being cut.
    if published[0].is_err() {
        publish(&broker, &[publication(1, 3)]).await;
    }
    assert_eq!(next(&mut consumer).await.message.task.index, 1);
}

pub async fn closing_writes_the_last_acks(bench: &Bench) {
    let broker = bench.broker();
    publish(&broker, &(0..50).map(|index| publication(index, 3)).collect::<Vec<_>>()).await;
    let mut consumer = consume(&broker, 50, 0).await;
    let mut held = Vec::new();
    for _ in 0..50 {
        held.push(next(&mut consumer).await);
    }
    for delivery in held {
        delivery.ack().unwrap();
    }
    broker.close(Duration::from_secs(5)).await.unwrap();
    let other = bench.broker();
    until_waiting(&other, &lane("cpu"), 0).await;
}
