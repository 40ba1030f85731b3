//! What holds for tasks.

use std::num::NonZeroU16;
use std::time::Duration;

use springtide_broker::{Broker, ConsumeOptions, Consumer, Delivery, Error, Publication, names};
use springtide_core::LaneName;
use springtide_core::wire::TaskMessage;

use crate::bench::{Bench, lane, task, until, within};

const MINUTE: Duration = Duration::from_mins(1);

pub fn publication(index: u32, priority: u8) -> Publication {
    Publication { lane: lane("cpu"), message: task(index), priority, expiration: MINUTE }
}

pub async fn publish(broker: &Broker, publications: &[Publication]) {
    for fate in within("confirms", broker.tasks.publish(publications)).await {
        fate.unwrap();
    }
}

pub async fn consume(broker: &Broker, prefetch: u16, priority: i32) -> Consumer<TaskMessage> {
    let options = ConsumeOptions { prefetch: NonZeroU16::new(prefetch).unwrap(), priority };
    within("a consumer", broker.tasks.consume(&lane("cpu"), options)).await.unwrap()
}

pub async fn next(consumer: &mut Consumer<TaskMessage>) -> Delivery<TaskMessage> {
    within("a delivery", consumer.next()).await.expect("the consumer goes on")
}

/// Until so many messages wait in the queue. What waits there has not been handed out.
pub async fn until_waiting(broker: &Broker, lane: &LaneName, messages: u64) {
    until(&format!("{messages} waiting messages"), async || {
        broker.tasks.depth(lane).await.unwrap().messages == messages
    })
    .await;
}

pub async fn what_is_published_comes_once_and_is_acked(bench: &Bench) {
    let broker = bench.broker();
    let sent: Vec<_> = (0..3).map(|index| publication(index, 3)).collect();
    publish(&broker, &sent).await;
    let mut consumer = consume(&broker, 10, 0).await;
    for publication in &sent {
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.message, publication.message);
        assert!(!delivery.redelivered && !delivery.is_stale());
        delivery.ack().unwrap();
    }
    within("the cancellation", consumer.cancel()).await.unwrap();
    assert!(within("the end", consumer.next()).await.is_none());
    drop(consumer);
    until("no consumer and no message", async || {
        let depth = broker.tasks.depth(&lane("cpu")).await.unwrap();
        depth.messages == 0 && depth.consumers == 0
    })
    .await;
}

pub async fn the_higher_priority_comes_first(bench: &Bench) {
    let broker = bench.broker();
    let sent: Vec<_> =
        [1, 3, 5, 1, 5, 4].iter().zip(0..).map(|(priority, index)| publication(index, *priority)).collect();
    publish(&broker, &sent).await;
    let mut consumer = consume(&broker, 1, 0).await;
    let mut order = Vec::new();
    for _ in &sent {
        let delivery = next(&mut consumer).await;
        order.push(delivery.message.task.index);
        delivery.ack().unwrap();
    }
    assert_eq!(order, [2, 4, 5, 1, 0, 3]);
}

pub async fn no_more_than_the_prefetch_is_unacked(bench: &Bench) {
    let broker = bench.broker();
    publish(&broker, &(0..8).map(|index| publication(index, 3)).collect::<Vec<_>>()).await;
    let mut consumer = consume(&broker, 3, 0).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(next(&mut consumer).await);
    }
    until_waiting(&broker, &lane("cpu"), 5).await;
    // A hole in the middle, then all.
    held.remove(1).ack().unwrap();
    held.push(next(&mut consumer).await);
    until_waiting(&broker, &lane("cpu"), 4).await;
    assert_eq!(held.iter().map(|delivery| delivery.message.task.index).collect::<Vec<_>>(), [0, 2, 3]);
    held.pop().unwrap().ack_through().unwrap();
    for index in [4, 5, 6] {
        assert_eq!(next(&mut consumer).await.message.task.index, index);
    }
    until_waiting(&broker, &lane("cpu"), 1).await;
}

pub async fn the_best_consumer_is_filled_first(bench: &Bench) {
    let broker = bench.broker();
    let mut worst = consume(&broker, 1, -50).await;
    let mut best = consume(&broker, 1, 0).await;
    let mut middle = consume(&broker, 2, -10).await;
    let mut held = Vec::new();
    for index in 0..4 {
        publish(&broker, &[publication(index, 3)]).await;
        let consumer = match index {
            0 => &mut best,
            1 | 2 => &mut middle,
            _ => &mut worst,
        };
        let delivery = next(consumer).await;
        assert_eq!(delivery.message.task.index, index);
        held.push(delivery);
    }
}

pub async fn an_expired_task_never_comes(bench: &Bench) {
    let broker = bench.broker();
    let short = Publication { expiration: Duration::from_millis(50), ..publication(0, 3) };
    publish(&broker, &[short, publication(1, 3)]).await;
    until_waiting(&broker, &lane("cpu"), 1).await;
    let mut consumer = consume(&broker, 5, 0).await;
    assert_eq!(next(&mut consumer).await.message.task.index, 1);
}

pub async fn what_was_not_acked_comes_again(bench: &Bench) {
    let broker = bench.broker();
    publish(&broker, &(0..3).map(|index| publication(index, 3)).collect::<Vec<_>>()).await;
    let mut first = consume(&broker, 2, 0).await;
    next(&mut first).await.ack().unwrap();
    let held = next(&mut first).await;
    drop(first);
    let mut second = consume(&broker, 10, 0).await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let delivery = next(&mut second).await;
        seen.push((delivery.message.task.index, delivery.redelivered));
        delivery.ack().unwrap();
    }
    // The second task was on its way to the first consumer, or not yet.
    seen.sort_unstable();
    assert_eq!(seen[0], (1, true));
    assert_eq!(seen[1].0, 2);
    assert!(held.is_stale());
    assert_eq!(held.ack(), Err(Error::Stale));
}

pub async fn deliveries_outlive_a_cancelled_consumer(bench: &Bench) {
    let broker = bench.broker();
    publish(&broker, &[publication(0, 3), publication(1, 3)]).await;
    let mut consumer = consume(&broker, 2, 0).await;
    let (acked, dropped) = (next(&mut consumer).await, next(&mut consumer).await);
    within("the cancellation", consumer.cancel()).await.unwrap();
    drop(consumer);
    let mut other = consume(&broker, 2, 0).await;
    assert!(!acked.is_stale() && !dropped.is_stale());
    acked.ack().unwrap();
    // The last of a cancelled consumer's deliveries closes its channel.
    drop(dropped);
    let delivery = next(&mut other).await;
    assert_eq!((delivery.message.task.index, delivery.redelivered), (1, true));
}

pub async fn a_cancelled_consumer_keeps_what_it_holds(bench: &Bench) {
    let broker = bench.broker();
    publish(&broker, &(0..4).map(|index| publication(index, 3)).collect::<Vec<_>>()).await;
    let mut consumer = consume(&broker, 2, 0).await;
    let first = next(&mut consumer).await;
    until_waiting(&broker, &lane("cpu"), 2).await;
    within("the cancellation", consumer.cancel()).await.unwrap();
    let second = next(&mut consumer).await;
    assert!(within("the end", consumer.next()).await.is_none());
    first.ack().unwrap();
    assert!(!second.is_stale());
    second.ack().unwrap();
    drop(consumer);
    let mut other = consume(&broker, 10, 0).await;
    for index in [2, 3] {
        let delivery = next(&mut other).await;
        assert_eq!((delivery.message.task.index, delivery.redelivered), (index, false));
        delivery.ack().unwrap();
    }
    until_waiting(&broker, &lane("cpu"), 0).await;
}

pub async fn a_large_batch_passes_a_small_window_in_order(bench: &Bench) {
    let broker = bench.broker_with(|config| config.publish_window = 8);
    let sent: Vec<_> = (0..500).map(|index| publication(index, 3)).collect();
    publish(&broker, &sent).await;
    let mut consumer = consume(&broker, 64, 0).await;
    let mut index = 0;
    while index < 500 {
        let batch = within("a batch", consumer.next_batch(32)).await;
        assert!((1..=32).contains(&batch.len()));
        for delivery in batch {
            assert_eq!(delivery.message.task.index, index);
            index += 1;
            delivery.ack().unwrap();
        }
    }
}

pub async fn an_unreadable_task_is_kept_and_consuming_goes_on(bench: &Bench) {
    let broker = bench.broker();
    let queue = names::lane_queue(&lane("cpu"));
    broker.tasks.declare(&lane("cpu")).await.unwrap();
    let other_version = serde_json::to_string(&task(9)).unwrap().replacen("\"v\":1", "\"v\":2", 1);
    let unreadable = [&b"no JSON"[..], b"", b"{\"v\":1}", b"\xff\xfe", other_version.as_bytes()];
    for body in unreadable {
        bench.put_raw(&queue, body).await;
    }
    publish(&broker, &[publication(1, 3)]).await;
    // The good one overtakes by its priority; the others do not block the one slot that there is.
    let mut consumer = consume(&broker, 1, 0).await;
    let good = next(&mut consumer).await;
    assert_eq!(good.message.task.index, 1);
    good.ack().unwrap();
    let mut kept = Vec::new();
    for _ in unreadable {
        kept.push(bench.take_raw(names::DEAD).await);
    }
    assert_eq!(kept, unreadable);
    until("the count", async || broker.counters.unreadable() == 5).await;
    publish(&broker, &[publication(2, 3)]).await;
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.message.task.index, 2);
    delivery.ack().unwrap();
    until_waiting(&broker, &lane("cpu"), 0).await;
}
