//! A Redis of our own. It keeps what it was told across a restart, as one that locks are trusted to has to.

use super::{Availability, Running, free_port};
use crate::install;
use crate::process::Background;
use crate::workspace;
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const START_LIMIT: Duration = Duration::from_secs(30);
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Sees to it that Redis is installed.
pub fn prepare() -> Result<Availability> {
    if workspace::find_on_path("redis-server").is_some() {
        return Ok(Availability::Ready);
    }
    install::packages(&["redis-server"])
}

/// Starts a server.
pub fn start() -> Result<Running> {
    let dir = tempfile::Builder::new().prefix("springtide-redis-").tempdir()?;
    let port = free_port()?;
    let log = fs::File::create(dir.path().join("output"))?;
    let mut redis = Command::new("redis-server");
    // No file of the system's configuration is read: all that is not said here is Redis' own default.
    redis.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--daemonize", "no", "--save", ""]);
    redis.args(["--appendonly", "yes", "--appendfsync", "everysec", "--dir"]).arg(dir.path());
    redis.current_dir(dir.path()).stdout(log.try_clone()?).stderr(log);
    let mut server = Background::start("Redis", &mut redis, Signal::SIGTERM)?;
    server.wait_until(START_LIMIT, || answers(port).unwrap_or(false)).with_context(|| {
        format!("its output: {}", fs::read_to_string(dir.path().join("output")).unwrap_or_default().trim())
    })?;
    Ok(Running {
        variables: vec![("SPRINGTIDE_TEST_REDIS_URL", format!("redis://127.0.0.1:{port}/"))],
        keep: Box::new(Server { _server: server, _dir: dir }),
    })
}

/// The order of the fields is the order in which they end.
struct Server {
    _server: Background,
    _dir: TempDir,
}

fn answers(port: u16) -> Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    Ok(&answer == b"+PONG\r\n")
}
