//! What a test stands on: a broker of one kind, on which nobody else is.

#![allow(dead_code, reason = "each test program uses a part of it")]

#[path = "bench/proxy.rs"]
mod proxy;

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lapin::options::{BasicGetOptions, BasicPublishOptions};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use springtide_broker::memory::{ClientId, Memory};
use springtide_broker::{Broker, Config, connect};
use springtide_core::id::{Incarnation, JobId, TaskId};
use springtide_core::lane::Resources;
use springtide_core::model::ModelKind;
use springtide_core::wire::{DesiredState, EventMessage, Heartbeat, HostFigures, NodeCondition};
use springtide_core::wire::{TaskInput, TaskMessage, V1};
use springtide_core::{LaneName, ModelId, NodeId, Timestamp};
use std::sync::Mutex;

use proxy::Proxy;

/// Nothing here takes so long unless it is stuck.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Tests of one program share a server, and each has a virtual host of its own.
static NUMBER: AtomicU32 = AtomicU32::new(0);

pub struct Bench {
    side: Side,
    config: Config,
}

enum Side {
    Memory { memory: Memory, clients: Mutex<Vec<ClientId>> },
    Rabbit { direct: String, ctl: String, vhost: String, proxy: Proxy },
}

impl Bench {
    pub fn memory() -> Self {
        let config = Config { publish_timeout: Duration::from_secs(5), ..Config::default() };
        let side = Side::Memory { memory: Memory::new(&config), clients: Mutex::default() };
        Self { side, config }
    }

    pub async fn rabbitmq_3() -> Option<Self> {
        Self::rabbitmq("SPRINGTIDE_TEST_AMQP_URL", "SPRINGTIDE_TEST_RABBITMQCTL").await
    }

    pub async fn rabbitmq_4() -> Option<Self> {
        Self::rabbitmq("SPRINGTIDE_TEST_AMQP4_URL", "SPRINGTIDE_TEST_RABBITMQCTL4").await
    }

    /// A virtual host of its own on the server that these variables name, reached through a proxy.
    async fn rabbitmq(url: &str, ctl: &str) -> Option<Self> {
        let (Ok(server), Ok(ctl)) = (std::env::var(url), std::env::var(ctl)) else {
            eprintln!("skipped: {url} and {ctl} are not set; `cargo xtask services` sets them");
            return None;
        };
        let vhost = format!("contract-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        eval(&ctl, &format!("{}.", make_vhost(&vhost)));
        let root = server.rsplit_once('/').unwrap().0;
        let (start, address) = root.rsplit_once('@').unwrap();
        let proxy = Proxy::start(address.to_owned()).await;
        let config = Config {
            url: format!("{start}@{}/{vhost}", proxy.address()),
            heartbeat: Duration::from_secs(2),
            publish_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(3),
            reconnect_delay_max: Duration::from_millis(300),
            ..Config::default()
        };
        let direct = format!("{root}/{vhost}");
        Some(Self { side: Side::Rabbit { direct, ctl, vhost, proxy }, config })
    }

    pub fn broker(&self) -> Broker {
        self.broker_with(|_| ())
    }

    /// A connection of its own, as another process has.
    pub fn broker_with(&self, change: impl FnOnce(&mut Config)) -> Broker {
        let mut config = self.config.clone();
        change(&mut config);
        match &self.side {
            Side::Memory { memory, clients } => {
                let (broker, id) = memory.connect();
                clients.lock().unwrap().push(id);
                broker
            }
            Side::Rabbit { .. } => connect(&config, "test", 1).unwrap(),
        }
    }

    /// Cuts all connections that there are; they may come back at once.
    pub fn drop_connections(&self) {
        match &self.side {
            Side::Memory { memory, clients } => {
                for client in clients.lock().unwrap().iter() {
                    memory.cut(*client, Some(Duration::from_millis(100)));
                }
            }
            Side::Rabbit { proxy, .. } => proxy.drop_connections(),
        }
    }

    /// Cuts all connections and lets none come back.
    pub fn stop(&self) {
        match &self.side {
            Side::Memory { memory, clients } => {
                clients.lock().unwrap().iter().for_each(|client| memory.cut(*client, None));
            }
            Side::Rabbit { proxy, .. } => proxy.refuse(),
        }
    }

    /// Accepts connections and says nothing: a machine that hangs. RabbitMQ only.
    pub fn freeze(&self) {
        self.proxy().freeze();
    }

    /// Ends `stop` and `freeze`.
    pub fn start(&self) {
        match &self.side {
            Side::Memory { memory, clients } => {
                clients.lock().unwrap().iter().for_each(|client| memory.restore(*client));
            }
            Side::Rabbit { proxy, .. } => proxy.pass(),
        }
    }

    /// Puts bytes into a queue that is there.
    pub async fn put_raw(&self, queue: &str, body: &[u8]) {
        self.put_raw_many(queue, &[body]).await;
    }

    /// Puts several bodies into a queue that is there.
    pub async fn put_raw_many(&self, queue: &str, bodies: &[&[u8]]) {
        match &self.side {
            Side::Memory { memory, .. } => {
                for body in bodies {
                    memory.put_raw(queue, body).unwrap();
                }
            }
            Side::Rabbit { .. } => {
                let connection = self.raw().await;
                let channel = connection.create_channel().await.unwrap();
                for body in bodies {
                    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
                    channel.basic_publish("".into(), queue.into(), options, body, properties).await.unwrap();
                }
                channel.close(200, "done".into()).await.unwrap();
            }
        }
    }

    /// The oldest bytes in a queue; waits for them.
    pub async fn take_raw(&self, queue: &str) -> Vec<u8> {
        within("raw bytes", async {
            match &self.side {
                Side::Memory { memory, .. } => loop {
                    if let Some(body) = memory.take_raw(queue) {
                        return body;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                },
                Side::Rabbit { .. } => self.take_raw_delivery(queue).await.data,
            }
        })
        .await
    }

    /// The same with its properties. RabbitMQ only.
    pub async fn take_raw_delivery(&self, queue: &str) -> lapin::message::Delivery {
        let connection = self.raw().await;
        let channel = connection.create_channel().await.unwrap();
        within("a raw delivery", async {
            loop {
                let got = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.unwrap();
                match got {
                    Some(message) => return message.delivery,
                    None => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        })
        .await
    }

    /// A bare connection past the proxy.
    pub async fn raw(&self) -> Connection {
        let Side::Rabbit { direct, .. } = &self.side else { panic!("only RabbitMQ has one") };
        Connection::connect(direct, ConnectionProperties::default()).await.unwrap()
    }

    /// Deletes the virtual host and makes it anew: a server whose disk was replaced. RabbitMQ only.
    pub fn wipe(&self) {
        let Side::Rabbit { ctl, vhost, .. } = &self.side else { panic!("only RabbitMQ has one") };
        eval(ctl, &format!(r#"rabbit_vhost:delete(<<"{vhost}">>, <<"test">>), {}."#, make_vhost(vhost)));
    }

    /// What `rabbitmqctl` says about this test's virtual host.
    pub fn rabbitmqctl(&self, arguments: &[&str]) -> String {
        let Side::Rabbit { ctl, vhost, .. } = &self.side else { panic!("only RabbitMQ has one") };
        run(Command::new(ctl).args(["--quiet", "--vhost", vhost]).args(arguments))
    }

    /// What the node's Erlang says to an expression.
    pub fn eval(&self, expression: &str) -> String {
        let Side::Rabbit { ctl, .. } = &self.side else { panic!("only RabbitMQ has one") };
        eval(ctl, expression)
    }

    fn proxy(&self) -> &Proxy {
        match &self.side {
            Side::Rabbit { proxy, .. } => proxy,
            Side::Memory { .. } => panic!("only RabbitMQ has one"),
        }
    }
}

fn make_vhost(vhost: &str) -> String {
    format!(
        r#"rabbit_vhost:add(<<"{vhost}">>, <<"test">>), rabbit_auth_backend_internal:set_permissions(<<"guest">>, <<"{vhost}">>, <<".*">>, <<".*">>, <<".*">>, <<"test">>)"#
    )
}

fn eval(ctl: &str, expression: &str) -> String {
    run(Command::new(ctl).args(["--quiet", "eval", expression]))
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Waits, but not for ever.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LIMIT, future).await {
        Ok(value) => value,
        Err(late) => panic!("waited {} s for {what}: {late}", LIMIT.as_secs()),
    }
}

/// Asks again until the answer is yes.
pub async fn until<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    within(what, async {
        while !ask().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

pub fn lane(name: &str) -> LaneName {
    name.parse().unwrap()
}

pub fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

/// Task `index` of one job.
pub fn task(index: u32) -> TaskMessage {
    TaskMessage {
        v: V1,
        task: TaskId { job: JobId::new(Timestamp::from_micros(1_700_000_000_000_000), 7), index },
        attempt: 1,
        model: ModelId::new("echo", "1").unwrap(),
        kind: ModelKind::Echo,
        input: TaskInput::Inline(serde_json::json!({ "output": index })),
        timeout: Duration::from_mins(5),
        resources: Resources::default(),
        solo: false,
        checkpoint: None,
        exclusive: None,
        released_at: Timestamp::from_micros(1_700_000_000_000_000),
    }
}

pub fn marker(id: u64) -> EventMessage {
    EventMessage::Marker { v: V1, id, token: 1 }
}

pub fn marker_id(message: &EventMessage) -> u64 {
    match message {
        EventMessage::Marker { id, .. } => *id,
        EventMessage::Events { .. } => panic!("only markers are sent here"),
    }
}

fn incarnation(number: u128) -> Incarnation {
    Incarnation::new(Timestamp::from_micros(1_700_000_000_000_000), number)
}

pub fn heartbeat(name: &str, sequence: u64) -> Heartbeat {
    Heartbeat {
        v: V1,
        node: node(name),
        incarnation: incarnation(1),
        sequence,
        at: Timestamp::from_micros(1_700_000_000_000_000),
        pool: None,
        condition: NodeCondition::Active,
        lane: lane("cpu"),
        consuming: None,
        slots: 2,
        held: vec![],
        runs: vec![],
        host: HostFigures::default(),
        devices: vec![],
        models: vec![],
        version: "0".to_owned(),
    }
}

pub fn desired(name: &str, number: u128) -> DesiredState {
    DesiredState {
        v: V1,
        node: node(name),
        incarnation: incarnation(number),
        lane: lane("cpu"),
        drain: None,
        cancel: vec![],
        preload: vec![],
        leases: vec![],
    }
}
