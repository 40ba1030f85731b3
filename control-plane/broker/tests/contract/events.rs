//! What holds for events, heartbeats and desired states.

use std::num::NonZeroU16;
use std::time::Duration;

use springtide_broker::{Broker, Consumer, Delivery, Error, names};
use springtide_core::wire::EventMessage;

use crate::bench::{Bench, desired, heartbeat, marker, marker_id, node, until, within};

const EXPIRES: Duration = Duration::from_secs(30);

pub async fn publish(broker: &Broker, ids: impl IntoIterator<Item = u64>) {
    let messages: Vec<_> = ids.into_iter().map(marker).collect();
    for fate in within("confirms", broker.events.publish_events(&messages)).await {
        fate.unwrap();
    }
}

pub async fn consume(broker: &Broker, prefetch: u16) -> Consumer<EventMessage> {
    let prefetch = NonZeroU16::new(prefetch).unwrap();
    within("a consumer", broker.events.consume_events(prefetch)).await.unwrap()
}

pub async fn next(consumer: &mut Consumer<EventMessage>) -> Delivery<EventMessage> {
    within("an event", consumer.next()).await.expect("the consumer goes on")
}

pub async fn come_in_order_and_are_acked_together(bench: &Bench) {
    let broker = bench.broker();
    publish(&broker, 0..30).await;
    publish(&broker, 30..50).await;
    let mut consumer = consume(&broker, 100).await;
    let mut last = None;
    for id in 0..40 {
        let delivery = next(&mut consumer).await;
        assert_eq!(marker_id(&delivery.message), id);
        last = Some(delivery);
    }
    last.unwrap().ack_through().unwrap();
    drop(consumer);
    let mut consumer = consume(&broker, 100).await;
    for id in 40..50 {
        let delivery = next(&mut consumer).await;
        assert_eq!((marker_id(&delivery.message), delivery.redelivered), (id, true));
        delivery.ack().unwrap();
    }
}

pub async fn one_consumer_gets_them_and_the_next_takes_over(bench: &Bench) {
    let (leader, other) = (bench.broker(), bench.broker());
    let mut first = consume(&leader, 10).await;
    let mut second = consume(&other, 10).await;
    publish(&leader, 0..4).await;
    for id in 0..4 {
        let delivery = next(&mut first).await;
        assert_eq!(marker_id(&delivery.message), id);
        if id < 2 {
            delivery.ack().unwrap();
        }
    }
    drop(first);
    publish(&leader, 4..6).await;
    for id in 2..6 {
        let delivery = next(&mut second).await;
        assert_eq!(marker_id(&delivery.message), id);
        // The later ones may have been on their way to the first consumer as well.
        assert!(delivery.redelivered || id >= 4);
        delivery.ack().unwrap();
    }
}

pub async fn an_unreadable_one_is_kept_before_what_follows_is_handed_on(bench: &Bench) {
    let broker = bench.broker();
    // Declares the queue where it is not there yet.
    drop(consume(&broker, 1).await);
    publish(&broker, 0..2).await;
    let unreadable: [&[u8]; 2] = [b"[]", b"{\"type\":\"marker\",\"v\":9,\"id\":1,\"token\":1}"];
    bench.put_raw_many(names::EVENTS, &unreadable.repeat(100)).await;
    publish(&broker, 2..3).await;
    let mut consumer = consume(&broker, 300).await;
    for id in 0..3 {
        assert_eq!(marker_id(&next(&mut consumer).await.message), id);
    }
    assert_eq!(broker.counters.unreadable(), 200);
    assert_eq!(bench.take_raw(names::DEAD).await, b"[]");
}

pub async fn a_heartbeat_reaches_every_subscriber(bench: &Bench) {
    let (one, two) = (bench.broker(), bench.broker());
    within("a heartbeat to nobody", one.events.publish_heartbeat(&heartbeat("n1", 1), EXPIRES))
        .await
        .unwrap();
    let mut first = one.events.subscribe_heartbeats().await.unwrap();
    let mut second = two.events.subscribe_heartbeats().await.unwrap();
    for sequence in 2..1_000 {
        let sent = heartbeat("n1", sequence);
        one.events.publish_heartbeat(&sent, EXPIRES).await.unwrap();
        assert_eq!(within("a heartbeat", first.next()).await.unwrap(), sent);
        assert_eq!(within("a heartbeat", second.next()).await.unwrap(), sent);
    }
}

pub async fn a_desired_state_reaches_its_node_only(bench: &Bench) {
    let broker = bench.broker();
    let error =
        within("a refusal", broker.events.send_desired(&desired("n1", 1), EXPIRES)).await.unwrap_err();
    assert!(matches!(error, Error::Unroutable { .. }), "{error}");
    assert!(error.to_string().contains("n1"), "{error}");
    let mut first = broker.events.subscribe_desired(&node("n1")).await.unwrap();
    let mut second = broker.events.subscribe_desired(&node("n2")).await.unwrap();
    for (name, number) in [("n1", 1), ("n2", 2), ("n1", 3), ("n2", 4)] {
        broker.events.send_desired(&desired(name, number), EXPIRES).await.unwrap();
    }
    for number in [1, 3] {
        assert_eq!(within("a desired state", first.next()).await.unwrap(), desired("n1", number));
    }
    for number in [2, 4] {
        assert_eq!(within("a desired state", second.next()).await.unwrap(), desired("n2", number));
    }
    drop(first);
    until("nobody to listen", async || broker.events.send_desired(&desired("n1", 5), EXPIRES).await.is_err())
        .await;
    assert!(broker.counters.unroutable() >= 2);
}

pub async fn two_incarnations_of_a_node_both_hear(bench: &Bench) {
    let (old, new) = (bench.broker(), bench.broker());
    let mut first = old.events.subscribe_desired(&node("n1")).await.unwrap();
    let mut second = new.events.subscribe_desired(&node("n1")).await.unwrap();
    let sent = desired("n1", 2);
    new.events.send_desired(&sent, EXPIRES).await.unwrap();
    assert_eq!(within("a desired state", first.next()).await.unwrap(), sent);
    assert_eq!(within("a desired state", second.next()).await.unwrap(), sent);
}
