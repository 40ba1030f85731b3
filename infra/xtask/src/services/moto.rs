//! AWS without AWS: moto's server for EC2, SQS, S3 and IAM, which believes any credentials. It does not honour client
//! tokens.

use super::{Availability, Running, free_port};
use crate::checks;
use crate::process::Background;
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const START_LIMIT: Duration = Duration::from_secs(60);
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Sees to it that moto is installed.
pub fn prepare() -> Availability {
    match checks::venv() {
        Ok(_) => Availability::Ready,
        Err(error) => Availability::Missing(format!("{error:#}")),
    }
}

/// Starts a server.
pub fn start() -> Result<Running> {
    let program = checks::venv()?.program("moto_server");
    let dir = tempfile::Builder::new().prefix("springtide-moto-").tempdir()?;
    let port = free_port()?;
    let output = fs::File::create(dir.path().join("output"))?;
    let mut moto = Command::new(&program);
    moto.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
    moto.current_dir(dir.path()).stdout(output.try_clone()?).stderr(output);
    let mut server = Background::start("moto", &mut moto, Signal::SIGKILL)?;
    server.wait_until(START_LIMIT, || answers(port).unwrap_or(false)).with_context(|| {
        format!("its output: {}", fs::read_to_string(dir.path().join("output")).unwrap_or_default().trim())
    })?;
    Ok(Running {
        variables: vec![
            ("SPRINGTIDE_TEST_AWS_URL", format!("http://127.0.0.1:{port}")),
            ("SPRINGTIDE_TEST_MOTO_SERVER", program.display().to_string()),
        ],
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
    stream.write_all(b"GET /moto-api/data.json HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.lines().next().is_some_and(|line| line.contains(" 200 ")))
}
