//! Private servers that `cargo xtask test` has started, and those of a test's own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::process::Process;
use crate::{processes, proxy};
use xtask::services::rabbitmq::{self, Node};

/// A virtual host of its own on a private RabbitMQ, and how to ask that broker about it.
#[derive(Clone, Debug)]
pub struct RabbitMq {
    /// With the virtual host.
    pub url: String,
    vhost: String,
    control: String,
}

/// Which RabbitMQ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The machine's own: 3.10 on Debian 12.
    Installed,
    /// 4.0.
    Four,
}

impl RabbitMq {
    /// A fresh virtual host. `None`, and a line that says so, where the broker is not there.
    pub fn fresh(version: Version) -> Result<Option<Self>> {
        let (url, control) = match version {
            Version::Installed => ("SPRINGTIDE_TEST_AMQP_URL", "SPRINGTIDE_TEST_RABBITMQCTL"),
            Version::Four => ("SPRINGTIDE_TEST_AMQP4_URL", "SPRINGTIDE_TEST_RABBITMQCTL4"),
        };
        let (Ok(base), Ok(control)) = (std::env::var(url), std::env::var(control)) else {
            eprintln!("skipped: {url} is not set; `cargo xtask test` starts the broker and sets it");
            return Ok(None);
        };
        Self::on(&base, control).map(Some)
    }

    fn on(base: &str, control: String) -> Result<Self> {
        // The URL's own virtual host, if it names one, is replaced.
        let authority =
            base.split("://").nth(1).and_then(|rest| rest.split('/').next()).context("no authority")?;
        let vhost = unique_name();
        let server = Self { url: format!("amqp://{authority}/{vhost}"), vhost, control };
        server.make()?;
        Ok(server)
    }

    fn make(&self) -> Result<()> {
        self.control(&["add_vhost", &self.vhost])?;
        let authority = self.url.trim_start_matches("amqp://");
        let user = authority.split(':').next().filter(|_| authority.contains('@')).unwrap_or("guest");
        self.control(&["set_permissions", "-p", &self.vhost, user, ".*", ".*", ".*"])?;
        Ok(())
    }

    /// The virtual host's name.
    pub fn vhost(&self) -> &str {
        &self.vhost
    }

    /// Deletes the virtual host with all that is in it, which ends its connections, and makes it again.
    pub fn wipe(&self) -> Result<()> {
        self.control(&["delete_vhost", &self.vhost])?;
        self.make()
    }

    /// Deletes a queue of the virtual host, which ends its consumers.
    pub fn delete_queue(&self, queue: &str) -> Result<()> {
        self.control(&["delete_queue", "-p", &self.vhost, queue]).map(drop)
    }

    /// Closes all connections to the virtual host.
    pub fn close_connections(&self) -> Result<()> {
        self.control(&["close_all_connections", "--vhost", &self.vhost, "test"]).map(drop)
    }

    /// Runs `rabbitmqctl`; returns what it prints.
    pub fn control(&self, arguments: &[&str]) -> Result<String> {
        let mut words = self.control.split_whitespace();
        let program = words.next().context("an empty command for rabbitmqctl")?;
        let output = Command::new(program).args(words).arg("--quiet").args(arguments).output()?;
        if !output.status.success() {
            bail!("rabbitmqctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a listing of `rabbitmqctl` on the virtual host.
    pub fn list(&self, what: &str, columns: &[&str]) -> Result<String> {
        let mut arguments = vec![what, "-p", &self.vhost];
        arguments.extend(columns);
        self.control(&arguments)
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        let _ = self.control(&["delete_vhost", &self.vhost]);
    }
}

fn unique_name() -> String {
    format!("test-{}", ulid::Ulid::from_parts(u64::from(std::process::id()), rand::random())).to_lowercase()
}

/// A RabbitMQ of a test's own, to stop and kill. It takes some ten seconds to start.
pub struct OwnRabbitMq {
    /// The server.
    pub node: Node,
}

impl OwnRabbitMq {
    /// Starts it, with settings of its application `rabbit`.
    pub fn start(settings: &[(&str, &str)]) -> Result<Self> {
        Ok(Self { node: rabbitmq::private(settings)? })
    }

    /// The same, for a test. `None`, and a line that says so, where tests are to run without brokers.
    pub fn for_test(settings: &[(&str, &str)]) -> Result<Option<Self>> {
        if std::env::var("SPRINGTIDE_TEST_AMQP_URL").is_err() {
            eprintln!("skipped: SPRINGTIDE_TEST_AMQP_URL is not set; `cargo xtask test` sets it");
            return Ok(None);
        }
        Self::start(settings).map(Some)
    }

    /// A fresh virtual host on it.
    pub fn fresh(&self) -> Result<RabbitMq> {
        RabbitMq::on(&self.node.url(), self.node.ctl.display().to_string())
    }
}

/// A database of its own on a private PostgreSQL.
#[derive(Debug)]
pub struct Postgres {
    /// With the database.
    pub url: String,
}

impl Postgres {
    /// A fresh database. `None`, and a line that says so, where the server is not there.
    pub async fn fresh() -> Result<Option<Self>> {
        let Ok(base) = std::env::var("SPRINGTIDE_TEST_POSTGRES_URL") else {
            eprintln!(
                "skipped: SPRINGTIDE_TEST_POSTGRES_URL is not set; `cargo xtask test` starts the server and sets it"
            );
            return Ok(None);
        };
        let name = unique_name();
        let (client, connection) = tokio_postgres::connect(&base, tokio_postgres::NoTls).await?;
        let connection = tokio::spawn(connection);
        client.batch_execute(&format!("CREATE DATABASE \"{name}\"")).await?;
        drop(client);
        connection.await??;
        let (server, _) = base.rsplit_once('/').context("a URL without a database")?;
        Ok(Some(Self { url: format!("{server}/{name}") }))
    }
}

/// A port of the loopback address that was free a moment ago, below those that the kernel gives to connections: a server
/// that was ended finds it free again.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = (std::process::id() % 10_000) as u16;
    for _ in 0..10_000 {
        let port = 21_000 + (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port of the loopback address is free")
}

/// How long RabbitMQ may take to end or to start.
const SERVER_LIMIT: Duration = Duration::from_secs(90);

/// The whole private RabbitMQ, to be ended and started again: for programs that have it to themselves.
#[derive(Debug)]
pub struct WholeRabbitMq {
    /// With its virtual host.
    pub url: String,
    program: PathBuf,
    again: Option<Process>,
}

impl WholeRabbitMq {
    /// `None` where it is not there.
    pub fn find() -> Option<Self> {
        let url = std::env::var("SPRINGTIDE_TEST_AMQP_URL").ok()?;
        let program = std::env::var("SPRINGTIDE_TEST_RABBITMQ_SERVER").ok()?.into();
        Some(Self { url, program, again: None })
    }

    /// Ends it: SIGTERM in order, SIGKILL at once. Returns when its process is gone.
    pub fn end(&mut self, signal: Signal) -> Result<()> {
        let file = self.directory().join("pid");
        let text = std::fs::read_to_string(&file).with_context(|| format!("no {}", file.display()))?;
        let server: u32 = text.trim().parse().context("the pid of RabbitMQ")?;
        processes::signal(server, signal);
        let until = Instant::now() + SERVER_LIMIT;
        // One that has ended and was not waited for has no command line.
        while std::fs::read(format!("/proc/{server}/cmdline")).is_ok_and(|command| !command.is_empty()) {
            if Instant::now() > until {
                bail!("RabbitMQ did not end within {SERVER_LIMIT:?} of {signal}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(self.again.take());
        Ok(())
    }

    /// Starts it again, with the data that it had. Returns when it speaks AMQP.
    pub fn start(&mut self, configure: impl FnOnce(&mut Command)) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.current_dir(self.directory());
        configure(&mut command);
        let again =
            self.again.insert(Process::start_apart("rabbitmq-again", &mut command, self.directory())?);
        let until = Instant::now() + SERVER_LIMIT;
        while !speaks_amqp(proxy::authority(&self.url)) {
            if !again.is_running() || Instant::now() > until {
                bail!("RabbitMQ did not start again:\n{}", again.output());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn directory(&self) -> &Path {
        self.program.parent().unwrap_or(Path::new("."))
    }
}

/// The server answers the protocol header with a method frame (type 1, AMQP 0-9-1 §2.2.4) once it is ready.
fn speaks_amqp(address: &str) -> bool {
    let attempt = || -> std::io::Result<u8> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"AMQP\x00\x00\x09\x01")?;
        let mut first = [0];
        stream.read_exact(&mut first)?;
        Ok(first[0])
    };
    attempt().is_ok_and(|first| first == 1)
}
