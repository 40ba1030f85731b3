//! A PostgreSQL cluster of our own. The server refuses to run as root, so root runs it as Debian's `postgres` user.

use super::{Availability, Running, free_port};
use crate::install;
use crate::process::{self, Background};
use crate::workspace;
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use nix::unistd::User;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const START_LIMIT: Duration = Duration::from_secs(60);
/// Who runs the server when this runs as root.
const SERVER_USER: &str = "postgres";
/// The database's own superuser, for the tests.
const USER: &str = "springtide";

/// Sees to it that PostgreSQL is installed.
pub fn prepare() -> Result<Availability> {
    if programs().is_some() { Ok(Availability::Ready) } else { install::packages(&["postgresql"]) }
}

/// Makes a cluster and starts it. It writes to the disk as durably as a real one, so that it can be measured.
pub fn start() -> Result<Running> {
    let programs = programs().context("PostgreSQL is installed, but not where it is looked for")?;
    let dir = tempfile::Builder::new().prefix("springtide-postgres-").tempdir()?;
    if workspace::is_root() {
        let user = User::from_name(SERVER_USER)?.context("there is no user postgres to run the server")?;
        nix::unistd::chown(dir.path(), Some(user.uid), Some(user.gid))?;
    }
    let (port, data) = (free_port()?, dir.path().join("data"));
    let mut initdb = command(&programs.join("initdb"), dir.path());
    initdb.args(["--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", "-U", USER, "-D"]).arg(&data);
    process::output(&mut initdb)?;

    let log = fs::File::create(dir.path().join("output"))?;
    let mut postgres = command(&programs.join("postgres"), dir.path());
    postgres.arg("-D").arg(&data).arg("-k").arg(dir.path()).args([
        "-h",
        "127.0.0.1",
        "-p",
        &port.to_string(),
    ]);
    postgres.args(["-c", "max_connections=200"]).stdout(log.try_clone()?).stderr(log);
    // SIGQUIT ends it at once and still gives its shared memory back.
    let mut server = Background::start("PostgreSQL", &mut postgres, Signal::SIGQUIT)?;
    let url = format!("postgres://{USER}@127.0.0.1:{port}/postgres");
    let ready = || TcpStream::connect(("127.0.0.1", port)).is_ok() && answers(&programs, &url);
    server.wait_until(START_LIMIT, ready).with_context(|| {
        format!("its output: {}", fs::read_to_string(dir.path().join("output")).unwrap_or_default().trim())
    })?;
    Ok(Running {
        variables: vec![("SPRINGTIDE_TEST_POSTGRES_URL", url)],
        keep: Box::new(Cluster { _server: server, _dir: dir }),
    })
}

/// The order of the fields is the order in which they end.
struct Cluster {
    _server: Background,
    _dir: TempDir,
}

/// Where the server's programs are: Debian keeps those of each version apart.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| {
            Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin")))
        })
        .filter(|(_, programs)| programs.join("initdb").is_file())
        .max_by_key(|(version, _)| *version);
    match newest {
        Some((_, programs)) => Some(programs),
        None => Some(workspace::find_on_path("initdb")?.parent()?.to_path_buf()),
    }
}

fn command(program: &Path, dir: &Path) -> Command {
    let mut command = if workspace::is_root() {
        let mut command = Command::new("setpriv");
        let user = [format!("--reuid={SERVER_USER}"), format!("--regid={SERVER_USER}")];
        command.args(user).args(["--init-groups", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    // Not a directory that the server's user may not enter.
    command.current_dir(dir).env("HOME", dir).env_remove("PGDATA");
    command
}

fn answers(programs: &Path, url: &str) -> bool {
    process::output(Command::new(programs.join("pg_isready")).args(["-q", "-d", url])).is_ok()
}
