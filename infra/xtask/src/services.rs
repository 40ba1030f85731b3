//! Private servers for tests and benchmarks: on free ports of the loopback address, with data in temporary directories,
//! gone when they are dropped. What is not installed is installed where this runs as root on a Debian.
//!
//! | variable | what |
//! | --- | --- |
//! | `SPRINGTIDE_TEST_AMQP_URL`, `SPRINGTIDE_TEST_RABBITMQCTL` | the installed RabbitMQ (3.10 on Debian 12); its `rabbitmqctl` |
//! | `SPRINGTIDE_TEST_AMQP4_URL`, `SPRINGTIDE_TEST_RABBITMQCTL4` | RabbitMQ 4; its `rabbitmqctl` |
//! | `SPRINGTIDE_TEST_RABBITMQ_SERVER` | starts the installed RabbitMQ again, with its data, for whoever has ended it |
//! | `SPRINGTIDE_TEST_POSTGRES_URL` | PostgreSQL, as a user who may create databases |
//! | `SPRINGTIDE_TEST_REDIS_URL` | Redis |
//! | `SPRINGTIDE_TEST_DOCKER_HOST` | Docker, without a bridge; [`crate::image`] makes images for it |
//! | `SPRINGTIDE_TEST_AWS_URL`, `SPRINGTIDE_TEST_MOTO_SERVER` | moto's EC2, SQS, S3 and IAM; the program, for a test that needs its own |
//! | `SPRINGTIDE_TEST_PROMETHEUS`, `…_PROMTOOL`, `…_ALERTMANAGER` | these programs; tests start their own |

pub mod docker;
mod moto;
mod postgres;
pub mod prometheus;
pub mod rabbitmq;
mod rabbitmq4;
mod redis;

use anyhow::{Result, bail};
use clap::ValueEnum;
use std::any::Any;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// A server that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Service {
    /// The machine's own RabbitMQ.
    Rabbitmq,
    /// RabbitMQ 4, from the next Debian.
    Rabbitmq4,
    /// The machine's own PostgreSQL.
    Postgres,
    /// The machine's own Redis.
    Redis,
    /// A Docker daemon.
    Docker,
    /// AWS, as moto plays it.
    Moto,
    /// The programs of Prometheus.
    Prometheus,
}

impl Service {
    /// All there are.
    pub const ALL: [Self; 7] = [
        Self::Rabbitmq,
        Self::Rabbitmq4,
        Self::Postgres,
        Self::Redis,
        Self::Docker,
        Self::Moto,
        Self::Prometheus,
    ];

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rabbitmq => "RabbitMQ",
            Self::Rabbitmq4 => "RabbitMQ 4",
            Self::Postgres => "PostgreSQL",
            Self::Redis => "Redis",
            Self::Docker => "Docker",
            Self::Moto => "moto",
            Self::Prometheus => "Prometheus",
        }
    }

    /// Whether it may be missing where this runs as root: in a container that may not make namespaces.
    pub fn needs_privileges(self) -> bool {
        matches!(self, Self::Rabbitmq4 | Self::Docker)
    }

    /// Brings its programs to this machine, if they are not there.
    fn prepare(self) -> Result<Availability> {
        match self {
            Self::Rabbitmq => rabbitmq::prepare(),
            Self::Rabbitmq4 => rabbitmq4::prepare(),
            Self::Postgres => postgres::prepare(),
            Self::Redis => redis::prepare(),
            Self::Docker => docker::prepare(),
            Self::Moto => Ok(moto::prepare()),
            Self::Prometheus => prometheus::prepare(),
        }
    }

    fn start(self) -> Result<Running> {
        match self {
            Self::Rabbitmq => rabbitmq::start(),
            Self::Rabbitmq4 => rabbitmq4::start(),
            Self::Postgres => postgres::start(),
            Self::Redis => redis::start(),
            Self::Docker => docker::start(),
            Self::Moto => moto::start(),
            Self::Prometheus => prometheus::start(),
        }
    }
}

/// Whether a service can be started here.
#[derive(Debug)]
pub enum Availability {
    /// It can.
    Ready,
    /// It cannot, and why.
    Missing(String),
}

/// A server that runs until this is dropped, and how it is reached.
pub struct Running {
    /// Variables that tell tests where it is.
    pub variables: Vec<(&'static str, String)>,
    /// It goes on until this is dropped.
    pub keep: Box<dyn Any + Send>,
}

/// Servers that run until this is dropped.
#[derive(Default)]
pub struct Services {
    running: Vec<Running>,
    /// What was asked for and is not there, with the reason.
    pub missing: Vec<(Service, String)>,
}

impl Services {
    /// Starts what can be started; what is installed but does not start is an error.
    pub fn start(wanted: &[Service]) -> Result<Self> {
        let mut services = Self::default();
        let mut ready = Vec::new();
        // One after the other: two installations would wait for each other's lock.
        for service in wanted {
            match service.prepare()? {
                Availability::Ready => ready.push(*service),
                Availability::Missing(reason) => services.missing.push((*service, reason)),
            }
        }
        let started: Vec<Result<Running>> = std::thread::scope(|scope| {
            let starting: Vec<_> = ready.iter().map(|service| scope.spawn(|| service.start())).collect();
            starting
                .into_iter()
                .map(|thread| thread.join().expect("starting a service does not panic"))
                .collect()
        });
        for running in started {
            services.running.push(running?);
        }
        Ok(services)
    }

    /// The variables that tell tests where the servers are.
    pub fn variables(&self) -> impl Iterator<Item = &(&'static str, String)> {
        self.running.iter().flat_map(|running| &running.variables)
    }
}

/// Where ports are looked for: below those that the kernel gives to connections (from 32768 on Linux). While a server
/// is down, a client that connects again and again to one of those would sooner or later be given the server's port.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// A port of the loopback address that was free a moment ago.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Programs that look at the same time begin at different places.
    let begin = (std::process::id() % u32::from(PORTS.end - PORTS.start)) as u16;
    for _ in PORTS {
        let step = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(7);
        let port = PORTS.start + (begin.wrapping_mul(31).wrapping_add(step)) % (PORTS.end - PORTS.start);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port of the loopback address is free")
}
