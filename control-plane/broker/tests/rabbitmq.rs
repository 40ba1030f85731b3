//! What only RabbitMQ has: arguments that operators see, properties, and the ways in which it says no.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where it stopped")]

mod bench;

use std::num::NonZeroU16;
use std::time::Duration;

use bench::{Bench, desired, heartbeat, lane, marker, marker_id, node, task, until, within};
use lapin::ExchangeKind;
use lapin::options::{
    ExchangeDeclareOptions, ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use springtide_broker::{Broker, ConsumeOptions, Error, Link, Publication, names};

const MINUTE: Duration = Duration::from_mins(1);
const TWO: ConsumeOptions = ConsumeOptions { prefetch: NonZeroU16::new(2).unwrap(), priority: -7 };

macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod rabbitmq_3 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(bench) = crate::bench::Bench::rabbitmq_3().await {
                    crate::$name(&bench).await;
                }
            })*
        }
        mod rabbitmq_4 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(bench) = crate::bench::Bench::rabbitmq_4().await {
                    crate::$name(&bench).await;
                }
            })*
        }
    };
}

on_both! {
    queues_have_the_arguments_of_the_design,
    messages_carry_what_operators_look_for,
    a_deleted_queue_is_declared_again,
    what_every_process_needs_is_declared_again,
    a_lane_with_other_arguments_is_refused_in_words,
    another_bound_of_the_dead_queue_is_kept,
    a_server_that_hangs_is_left_and_found_again,
    a_wiped_server_is_furnished_again,
    a_memory_alarm_blocks_publishers_only,
    a_consumer_ends_behind_an_unreadable_message,
}

fn publication(index: u32) -> Publication {
    Publication { lane: lane("cpu"), message: task(index), priority: 3, expiration: MINUTE }
}

async fn publish(broker: &Broker, index: u32) -> Result<(), Error> {
    within("a confirm", broker.tasks.publish(&[publication(index)])).await.pop().unwrap()
}

async fn queues_have_the_arguments_of_the_design(bench: &Bench) {
    let broker = bench.broker();
    broker.tasks.declare(&lane("cpu")).await.unwrap();
    let _tasks = broker.tasks.consume(&lane("cpu"), TWO).await.unwrap();
    let _heartbeats = broker.events.subscribe_heartbeats().await.unwrap();
    let _orders = broker.events.subscribe_desired(&node("n1")).await.unwrap();

    // RabbitMQ 4 writes the type of the queue, which nobody asked for, among the arguments.
    let queues = bench.rabbitmqctl(&["list_queues", "name", "durable", "arguments"]);
    let queues =
        queues.replace(",{\"x-queue-type\",\"classic\"}", "").replace("{\"x-queue-type\",\"classic\"},", "");
    let line =
        |name: &str| queues.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{queues}"));
    assert_eq!(line("springtide.lane.cpu"), "springtide.lane.cpu\ttrue\t[{\"x-max-priority\",5}]");
    assert!(line("springtide.events").ends_with("[{\"x-single-active-consumer\",true}]"), "{queues}");
    assert!(line("springtide.dead").ends_with("[{\"x-max-length\",10000}]"), "{queues}");
    assert_eq!(queues.lines().filter(|line| line.starts_with("amq.gen-")).count(), 2, "{queues}");

    let bindings = bench.rabbitmqctl(&["list_bindings", "source_name", "routing_key"]);
    assert!(bindings.lines().any(|line| line == "springtide.nodes\tn1"), "{bindings}");
    assert!(bindings.lines().any(|line| line == "springtide.heartbeats\t"), "{bindings}");

    let consumers =
        bench.rabbitmqctl(&["list_consumers", "queue_name", "ack_required", "prefetch_count", "arguments"]);
    assert!(consumers.contains("springtide.lane.cpu\ttrue\t2\t[{\"x-priority\",-7}]"), "{consumers}");
}

async fn messages_carry_what_operators_look_for(bench: &Bench) {
    let broker = bench.broker();
    publish(&broker, 4).await.unwrap();
    let delivery = bench.take_raw_delivery(&names::lane_queue(&lane("cpu"))).await;
    let properties = &delivery.properties;
    assert_eq!(properties.delivery_mode(), &Some(2));
    assert_eq!(*properties.priority(), Some(3));
    assert_eq!(properties.expiration().as_ref().unwrap().as_str(), "60000");
    assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/json");
    assert_eq!(properties.kind().as_ref().unwrap().as_str(), "task");
    assert_eq!(header(&delivery, "task"), task(4).task.to_string());
    assert_eq!(header(&delivery, "job"), task(4).task.job.to_string());
    assert_eq!(header(&delivery, "attempt"), "1");
    assert_eq!(delivery.data, serde_json::to_vec(&task(4)).unwrap());

    let mut consumer = broker.tasks.consume(&lane("cpu"), TWO).await.unwrap();
    bench.put_raw(&names::lane_queue(&lane("cpu")), b"nonsense").await;
    let delivery = bench.take_raw_delivery(names::DEAD).await;
    assert_eq!(delivery.data, b"nonsense");
    assert_eq!(header(&delivery, "origin"), "springtide.lane.cpu");
    assert_eq!(header(&delivery, "error"), "expected ident at line 1 column 2");
    assert_eq!(header(&delivery, "sha256").len(), 64);
    consumer.cancel().await.unwrap();
}

fn header(delivery: &lapin::message::Delivery, name: &str) -> String {
    let headers = delivery.properties.headers().as_ref().unwrap();
    match headers.inner().get(name) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        Some(AMQPValue::LongLongInt(number)) => number.to_string(),
        other => panic!("{name}: {other:?}"),
    }
}

async fn a_deleted_queue_is_declared_again(bench: &Bench) {
    let broker = bench.broker();
    publish(&broker, 1).await.unwrap();
    let mut consumer = broker.tasks.consume(&lane("cpu"), TWO).await.unwrap();
    let held = within("a delivery", consumer.next()).await.unwrap();
    let raw = bench.raw().await;
    let channel = raw.create_channel().await.unwrap();
    for number in 2..5 {
        let queue = names::lane_queue(&lane("cpu"));
        channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
        // Nobody takes it until the queue is declared again, by the consumer or by the publisher itself.
        until("a queue", async || match publish(&broker, number).await {
            Ok(()) => true,
            Err(error) => {
                assert!(matches!(error, Error::Unroutable { .. }), "{error}");
                assert!(error.to_string().contains("lane cpu"), "{error}");
                false
            }
        })
        .await;
        let delivery = within("a delivery", consumer.next()).await.unwrap();
        assert_eq!(delivery.message.task.index, number);
        delivery.ack().unwrap();
    }
    // The broker cancelled the consumer that it came through.
    assert!(held.is_stale());
}

async fn what_every_process_needs_is_declared_again(bench: &Bench) {
    let broker = bench.broker();
    let mut events = broker.events.consume_events(NonZeroU16::MIN).await.unwrap();
    let mut heartbeats = broker.events.subscribe_heartbeats().await.unwrap();
    let raw = bench.raw().await;
    let channel = raw.create_channel().await.unwrap();
    channel.queue_delete(names::EVENTS.into(), QueueDeleteOptions::default()).await.unwrap();
    channel.queue_delete(names::DEAD.into(), QueueDeleteOptions::default()).await.unwrap();
    until("the queue of events", async || {
        broker.events.publish_events(&[marker(1)]).await.pop().unwrap().is_ok()
    })
    .await;
    let event = within("an event", events.next()).await.unwrap();
    assert_eq!(marker_id(&event.message), 1);
    event.ack().unwrap();
    bench.put_raw(names::EVENTS, b"nonsense").await;
    assert_eq!(bench.take_raw(names::DEAD).await, b"nonsense");
    // With an exchange go its bindings. Publishing to none ends the channel, and whoever subscribes finds it again.
    channel.exchange_delete(names::HEARTBEATS.into(), ExchangeDeleteOptions::default()).await.unwrap();
    until("the exchange", async || {
        broker.events.publish_heartbeat(&heartbeat("n1", 1), MINUTE).await.is_ok()
    })
    .await;
    let mut again = broker.events.subscribe_heartbeats().await.unwrap();
    broker.events.publish_heartbeat(&heartbeat("n1", 2), MINUTE).await.unwrap();
    assert_eq!(within("a heartbeat", again.next()).await.unwrap().sequence, 2);
    bench.drop_connections();
    let mut health = broker.health.clone();
    within("the loss", health.wait_for(|health| !health.is_up())).await.unwrap();
    let saying = async {
        loop {
            let _ = broker.events.publish_heartbeat(&heartbeat("n1", 3), MINUTE).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within("the old subscription to come back", async {
        tokio::select! {
            () = saying => {}
            heard = heartbeats.next() => assert_eq!(heard.unwrap().sequence, 3),
        }
    })
    .await;
}

async fn a_lane_with_other_arguments_is_refused_in_words(bench: &Bench) {
    let raw = bench.raw().await;
    let channel = raw.create_channel().await.unwrap();
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let queue = names::lane_queue(&lane("odd"));
    channel.queue_declare(queue.into(), options, FieldTable::default()).await.unwrap();
    let broker = bench.broker();
    let odd = Publication { lane: lane("odd"), ..publication(1) };
    let fates = within("confirms", broker.tasks.publish(&[publication(1), odd, publication(2)])).await;
    assert_eq!((&fates[0], &fates[2]), (&Ok(()), &Ok(())), "another lane's trouble is its own");
    for error in [
        fates[1].clone().unwrap_err(),
        broker.tasks.declare(&lane("odd")).await.unwrap_err(),
        broker.tasks.consume(&lane("odd"), TWO).await.map(drop).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Refused { .. }), "{error}");
        assert!(error.to_string().contains("springtide.lane.odd"), "{error}");
        assert!(error.to_string().contains("other arguments"), "{error}");
    }
}

async fn another_bound_of_the_dead_queue_is_kept(bench: &Bench) {
    let first = bench.broker();
    first.tasks.declare(&lane("cpu")).await.unwrap();
    let second = bench.broker_with(|config| config.dead_cap = 5);
    publish(&second, 1).await.unwrap();
    let queues = bench.rabbitmqctl(&["list_queues", "name", "arguments"]);
    assert!(queues.contains("springtide.dead\t[{\"x-max-length\",10000}"), "{queues}");
}

async fn a_server_that_hangs_is_left_and_found_again(bench: &Bench) {
    let broker = bench.broker();
    publish(&broker, 1).await.unwrap();
    let threads = threads();
    // What connects now is accepted and never answered.
    bench.freeze();
    let mut health = broker.health.clone();
    within("the loss", health.wait_for(|health| matches!(health.publish, Link::Down { .. }))).await.unwrap();
    within(
        "a handshake given up",
        health.wait_for(|health| health.to_string().contains("handshake took longer")),
    )
    .await
    .unwrap();
    bench.start();
    until("the broker", async || publish(&broker, 2).await.is_ok()).await;
    within("the broker", health.wait_for(springtide_broker::Health::is_up)).await.unwrap();
    // Each connection has a thread; those of given-up attempts are gone.
    until("the threads to go", async || self::threads() <= threads).await;
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter(|entry| {
            let name = entry.as_ref().unwrap().path().join("comm");
            std::fs::read_to_string(name).is_ok_and(|name| name.starts_with("lapin-io"))
        })
        .count()
}

async fn a_wiped_server_is_furnished_again(bench: &Bench) {
    let broker = bench.broker();
    publish(&broker, 1).await.unwrap();
    let mut tasks = broker.tasks.consume(&lane("cpu"), TWO).await.unwrap();
    let mut events = broker.events.consume_events(NonZeroU16::MIN).await.unwrap();
    let mut heartbeats = broker.events.subscribe_heartbeats().await.unwrap();
    let mut orders = broker.events.subscribe_desired(&node("n1")).await.unwrap();
    within("a delivery", tasks.next()).await.unwrap().ack().unwrap();
    bench.wipe();
    within("all that is said to be heard", async {
        let saying = async {
            loop {
                let _ = broker.tasks.publish(&[publication(2)]).await;
                let _ = broker.events.publish_events(&[marker(2)]).await;
                let _ = broker.events.publish_heartbeat(&heartbeat("n1", 2), MINUTE).await;
                let _ = broker.events.send_desired(&desired("n1", 2), MINUTE).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let hearing = async {
            assert_eq!(tasks.next().await.unwrap().message.task.index, 2);
            assert_eq!(marker_id(&events.next().await.unwrap().message), 2);
            assert_eq!(heartbeats.next().await.unwrap().sequence, 2);
            assert_eq!(orders.next().await.unwrap(), desired("n1", 2));
        };
        tokio::select! {
            () = saying => {}
            () = hearing => {}
        }
    })
    .await;
}

async fn a_memory_alarm_blocks_publishers_only(bench: &Bench) {
    let broker = bench.broker_with(|config| config.publish_timeout = Duration::from_secs(1));
    for index in 0..3 {
        publish(&broker, index).await.unwrap();
    }
    bench.eval("rabbit_alarm:set_alarm({{resource_limit, memory, node()}, []}).");
    let mut consumer = broker.tasks.consume(&lane("cpu"), TWO).await.unwrap();
    let error = publish(&broker, 9).await.unwrap_err();
    for _ in 0..3 {
        within("a delivery", consumer.next()).await.unwrap().ack().unwrap();
    }
    let state = broker.health.borrow().to_string();
    bench.eval("rabbit_alarm:clear_alarm({resource_limit, memory, node()}).");
    assert!(error.to_string().contains("takes no messages now"), "{error}");
    assert!(state.contains("takes no messages now"), "{state}");
    until("the end of the alarm", async || publish(&broker, 4).await.is_ok()).await;
    assert!(broker.health.borrow().is_up());
}

/// An exchange of the wrong kind can't be mended by waiting, and the message has to say what is wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq_with_a_foreign_exchange_is_waited_for_in_words() {
    let Some(bench) = Bench::rabbitmq_3().await else { return };
    let raw = bench.raw().await;
    let channel = raw.create_channel().await.unwrap();
    let options = ExchangeDeclareOptions::default();
    let kind = ExchangeKind::Topic;
    channel.exchange_declare(names::NODES.into(), kind, options, FieldTable::default()).await.unwrap();
    let broker = bench.broker_with(|config| config.publish_timeout = Duration::from_secs(2));
    let error = publish(&broker, 1).await.unwrap_err().to_string();
    assert!(error.contains("springtide.nodes") && error.contains("other arguments"), "{error}");
    channel.exchange_delete(names::NODES.into(), ExchangeDeleteOptions::default()).await.unwrap();
    until("the exchange", async || publish(&broker, 1).await.is_ok()).await;
}

async fn a_consumer_ends_behind_an_unreadable_message(bench: &Bench) {
    let broker = bench.broker();
    broker.tasks.declare(&lane("cpu")).await.unwrap();
    let queue = names::lane_queue(&lane("cpu"));
    for _ in 0..20 {
        let mut consumer = broker.tasks.consume(&lane("cpu"), TWO).await.unwrap();
        // Some of them are on their way when it is cancelled.
        bench.put_raw_many(&queue, &[b"nonsense".as_slice(); 20]).await;
        consumer.cancel().await.unwrap();
        assert!(within("the consumer's end", consumer.next()).await.is_none());
    }
}
