//! Messages of each kind, made wrong, at each queue and exchange.

use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::json;
use springtide_broker::{Config, Memory, connect, names};
use springtide_node_agent::worker::InProcessLauncher;
use springtide_tests::mutate::Mutator;
use springtide_tests::servers::{RabbitMq, Version};

use crate::corpus::{Kind, valid};
use crate::house::{House, Plan};

/// Of each kind at each place, in memory: 10,000 at each place. `SPRINGTIDE_TEST_MALFORMED` asks for another number.
const IN_MEMORY: usize = 2500;
/// The same on RabbitMQ, where each one that can't be read goes to the disk.
const ON_RABBITMQ: usize = 250;
/// What is kept on RabbitMQ: fewer than come.
const DEAD_CAP: u32 = 1000;
/// Nothing on RabbitMQ takes so long.
const STUCK: Duration = Duration::from_mins(2);
/// Thrown at a place before it is another one's turn.
const CHUNK: usize = 250;

fn count(default: usize) -> usize {
    std::env::var("SPRINGTIDE_TEST_MALFORMED").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Puts bytes into the broker past all adapters.
enum Thrower {
    Memory(Memory),
    Rabbit(Channel),
}

impl Thrower {
    /// Throws at the place where messages of this kind belong.
    async fn throw(&self, house: &House, place: Kind, bodies: &[Vec<u8>]) {
        let lane = names::lane_queue(house.agent.lane());
        let (exchange, key) = match place {
            Kind::Task => ("", lane.as_str()),
            Kind::Events => ("", names::EVENTS),
            Kind::Heartbeat => (names::HEARTBEATS, ""),
            Kind::Desired => (names::NODES, house.agent.node().as_str()),
        };
        match self {
            Self::Memory(memory) => {
                for body in bodies {
                    if exchange.is_empty() {
                        memory.put_raw(key, body).unwrap();
                    } else {
                        assert_eq!(memory.put_raw_through(exchange, key, body).unwrap(), 1, "one listens");
                    }
                }
                // Whoever listens gets a turn before the next ones come.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Self::Rabbit(channel) => {
                let options = BasicPublishOptions { mandatory: true, immediate: false };
                let mut confirms = Vec::new();
                for body in bodies {
                    let properties = BasicProperties::default();
                    let sent = channel.basic_publish(exchange.into(), key.into(), options, body, properties);
                    confirms.push(sent.await.unwrap());
                }
                for confirm in confirms {
                    let confirm = confirm.await.unwrap();
                    assert!(confirm.is_ack() && confirm.take_message().is_none(), "one listens");
                }
            }
        }
    }
}

/// Throws `count` messages of each kind at each place; how many of them can't be read there.
async fn storm(house: &House, thrower: &Thrower, count: usize, seed: u64) -> u64 {
    let mut mutator = Mutator::seeded(seed);
    let mut kinds = Vec::new();
    for kind in Kind::ALL {
        kinds.push(valid(house, kind).await);
    }
    let mut unreadable = 0;
    for round in 0..count.div_ceil(CHUNK) {
        for place in Kind::ALL {
            for valid in &kinds {
                let size = CHUNK.min(count - round * CHUNK);
                let bodies: Vec<Vec<u8>> = (0..size).map(|_| mutator.message(valid)).collect();
                unreadable += bodies.iter().filter(|body| !place.reads(body)).count() as u64;
                thrower.throw(house, place, &bodies).await;
            }
        }
    }
    unreadable
}

/// The whole: a house with work, a storm, and all as it should be afterwards.
async fn weather(house: &House, thrower: &Thrower, count: usize) -> u64 {
    let long = house.submit(12, &json!({"sleep_s": 5}), 3).await;
    let short = house.submit(200, &json!({"sleep_s": 0.05}), 3).await;
    house
        .until("tasks in flight", |house| {
            let seen = house.app.registry.get(house.agent.node())?;
            (seen.heartbeat.runs.len() >= 8).then_some(())
        })
        .await;
    let unreadable = storm(house, thrower, count, 1).await;
    house
        .until("all that can't be read to be kept", |house| (house.unreadable() >= unreadable).then_some(()))
        .await;
    // Whatever was made of them, they end.
    for job in [short, long] {
        let (_, counts) = house.ended(job).await;
        assert_eq!(counts.succeeded + counts.failed + counts.cancelled, counts.total);
    }
    house.assert_sound().await;
    house.until("the node to hold nothing", |house| (house.agent.held() == 0).then_some(())).await;
    unreadable
}

#[tokio::test(start_paused = true)]
async fn in_memory_each_one_is_counted_and_kept() {
    let memory = Memory::new(&Config { dead_cap: 1_000_000, ..Config::default() });
    let brokers = [memory.connect().0, memory.connect().0];
    let house = House::start(Plan::new(brokers, InProcessLauncher::new(|| ()))).await;
    let thrower = Thrower::Memory(memory.clone());
    let unreadable = weather(&house, &thrower, count(IN_MEMORY)).await;
    assert!(unreadable > 12 * count(IN_MEMORY) as u64, "most are unreadable: {unreadable}");
    assert_eq!(house.unreadable(), unreadable);
    assert_eq!(memory.waiting(names::DEAD) as u64, unreadable);
}

/// What can just be read as a task is given back deeper than an event could be read.
#[tokio::test(start_paused = true)]
async fn what_a_house_says_it_can_read() {
    let memory = Memory::new(&Config::default());
    let brokers = [memory.connect().0, memory.connect().0];
    let house = House::start(Plan::new(brokers, InProcessLauncher::new(|| ()))).await;
    house.submit(1, &json!({"sleep_s": 600}), 0).await;
    house.until("a task in flight", |house| (house.agent.held() == 1).then_some(())).await;
    let task = valid(&house, Kind::Task).await.remove(0);
    let bodies: Vec<Vec<u8>> = (0..200)
        .map(|depth| {
            let mut task = task.clone();
            task["attempt"] = json!(1000 + depth);
            task["input"] =
                json!({"inline": {"output": (0..depth).fold(json!(1), |inner, _| json!([inner]))}});
            task.to_string().into_bytes()
        })
        .collect();
    let unreadable = bodies.iter().filter(|body| !Kind::Task.reads(body)).count() as u64;
    assert!((70..80).contains(&unreadable), "{unreadable}");
    Thrower::Memory(memory.clone()).throw(&house, Kind::Task, &bodies).await;
    house.until("all to be kept", |house| (house.unreadable() >= unreadable).then_some(())).await;
    house.until("the task that was there to be alone", |house| (house.agent.held() == 1).then_some(())).await;
    house.assert_sound().await;
    assert_eq!(house.unreadable(), unreadable, "the house's own messages can be read");
}

async fn on_rabbitmq(version: Version) {
    let Some(server) = RabbitMq::fresh(version).unwrap() else { return };
    let config = Config { url: server.url.clone(), dead_cap: DEAD_CAP, ..Config::default() };
    let brokers = ["control plane", "agent"].map(|name| connect(&config, name, 1).unwrap());
    let mut plan = Plan::new(brokers, InProcessLauncher::new(|| ()));
    // In real time nothing may take long.
    let quick = [
        "node.heartbeat_interval=300ms",
        "node.solo_wait=100ms",
        "node.pause_min=100ms",
        "node.pause_max=200ms",
        "control_plane.compare_interval=200ms",
        "control_plane.retry_delay=100ms",
        "control_plane.retry_delay_max=200ms",
    ];
    plan.settings.extend(quick.map(str::to_owned));
    let house = House::start(plan).await;
    let connection = Connection::connect(&server.url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let thrower = Thrower::Rabbit(channel);
    let many = count(ON_RABBITMQ);
    // What was asked for beyond the usual takes longer.
    let stuck = STUCK * many.div_ceil(ON_RABBITMQ).max(1) as u32;
    let weather = tokio::time::timeout(stuck, weather(&house, &thrower, many)).await;
    let unreadable = weather.unwrap_or_else(|_| {
        let queues =
            server.list("list_queues", &["name", "messages", "messages_unacknowledged", "consumers"]);
        let seen = house.app.registry.get(house.agent.node());
        panic!("stuck for {stuck:?}: {}; {:#?}; {seen:#?}", queues.unwrap(), house.brokers[1]);
    });
    if !house.reconnected() {
        assert_eq!(house.unreadable(), unreadable);
    }
    let queues = server.list("list_queues", &["name", "durable", "messages"]).unwrap();
    let kept = unreadable.min(DEAD_CAP.into());
    let dead = format!("springtide.dead\ttrue\t{kept}");
    assert!(queues.lines().any(|line| line == dead), "durable and bounded, `{dead}`: {queues}");
    let strangers = queues.lines().filter(|line| line.starts_with("springtide.lane."));
    assert_eq!(strangers.count(), 1, "nobody made a queue for a lane that does not exist: {queues}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_rabbitmq_3_the_newest_are_kept() {
    on_rabbitmq(Version::Installed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_rabbitmq_4_the_newest_are_kept() {
    on_rabbitmq(Version::Four).await;
}
