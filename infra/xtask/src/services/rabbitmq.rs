//! A RabbitMQ node of our own beside any that the machine runs: own name, ports, directories, cookie and port mapper.

use super::{Availability, Running, free_port};
use crate::install;
use crate::process::{self, Background};
use crate::workspace;
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const START_LIMIT: Duration = Duration::from_secs(90);

/// Sees to it that RabbitMQ is installed.
pub fn prepare() -> Result<Availability> {
    if programs().is_some() { Ok(Availability::Ready) } else { install::packages(&["rabbitmq-server"]) }
}

/// Starts the machine's own RabbitMQ.
pub fn start() -> Result<Running> {
    let node = private(&[])?;
    Ok(Running {
        variables: vec![
            ("SPRINGTIDE_TEST_AMQP_URL", node.url()),
            ("SPRINGTIDE_TEST_RABBITMQCTL", node.ctl.display().to_string()),
            ("SPRINGTIDE_TEST_RABBITMQ_SERVER", node.server.display().to_string()),
        ],
        keep: Box::new(node),
    })
}

/// A node of the machine's own RabbitMQ, with settings of its application `rabbit` (in Erlang's words).
pub fn private(settings: &[(&str, &str)]) -> Result<Node> {
    let programs = programs().context("rabbitmq-server is not installed, or not where it is looked for")?;
    Node::start("RabbitMQ", &Host { programs }, settings)
}

/// Where RabbitMQ's programs are. Debian's wrappers in /usr/sbin change the user; these do not.
fn programs() -> Option<PathBuf> {
    let debian = PathBuf::from("/usr/lib/rabbitmq/bin");
    if debian.join("rabbitmq-server").is_file() {
        return Some(debian);
    }
    Some(workspace::find_on_path("rabbitmq-server")?.parent()?.to_path_buf())
}

/// How a program of one installation is run, and where it sees the node's directory.
pub trait Installation {
    /// The words that run one of its programs.
    fn words(&self, program: &str, dir: &Path) -> Vec<String>;
    /// The path under which its programs see the node's directory.
    fn seen(&self, dir: &Path) -> PathBuf;
}

struct Host {
    programs: PathBuf,
}

impl Installation for Host {
    fn words(&self, program: &str, _dir: &Path) -> Vec<String> {
        vec![self.programs.join(program).display().to_string()]
    }

    fn seen(&self, dir: &Path) -> PathBuf {
        dir.to_path_buf()
    }
}

/// A node that is there until it is dropped, and runs unless it was stopped or killed. The order of the fields is the
/// order in which its parts end.
pub struct Node {
    running: Option<Background>,
    _port_mapper: Background,
    name: String,
    port: u16,
    /// Runs `rabbitmqctl` against this node.
    pub ctl: PathBuf,
    /// Runs this node again, with its data, when it was ended.
    pub server: PathBuf,
    dir: TempDir,
}

impl Node {
    /// Starts a node and waits until it speaks AMQP.
    pub fn start(name: &str, installation: &dyn Installation, settings: &[(&str, &str)]) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("springtide-rabbitmq-").tempdir()?;
        let (port, mapper_port) = (free_port()?, free_port()?);
        let environment = environment(&installation.seen(dir.path()), port, mapper_port, free_port()?);
        fs::write(dir.path().join("rabbitmq.conf"), configuration(port))?;
        fs::write(dir.path().join("advanced.config"), advanced(settings))?;
        fs::write(dir.path().join("enabled_plugins"), "[].\n")?;
        fs::write(dir.path().join("env.conf"), "")?;
        let write_script = |program: &str| -> Result<PathBuf> {
            let path = dir.path().join(program);
            fs::write(&path, script(&environment, &installation.words(program, dir.path())))?;
            fs::set_permissions(&path, Permissions::from_mode(0o755))?;
            Ok(path)
        };
        let (ctl, server) = (write_script("rabbitmqctl")?, write_script("rabbitmq-server")?);

        // Erlang would start one by itself, and leave it behind.
        let mut epmd = Command::new("epmd");
        epmd.args(["-port", &mapper_port.to_string(), "-address", "127.0.0.1"]).stdout(Stdio::null());
        let port_mapper = Background::start("epmd", &mut epmd, Signal::SIGKILL)?;

        let mut node =
            Self { running: None, _port_mapper: port_mapper, name: name.to_owned(), port, ctl, server, dir };
        node.resume()?;
        Ok(node)
    }

    /// Starts it again after [`stop`](Self::stop) or [`kill`](Self::kill), and waits until it speaks AMQP.
    pub fn resume(&mut self) -> Result<()> {
        let output_path = self.dir.path().join("output");
        let output = fs::File::create(&output_path)?;
        let mut command = Command::new(&self.server);
        command.current_dir(self.dir.path()).stdout(output.try_clone()?).stderr(output);
        // Nothing of it is kept: no reason to wait for a graceful end.
        let mut server = Background::start(&self.name, &mut command, Signal::SIGKILL)?;
        let port = self.port;
        server.wait_until(START_LIMIT, || speaks_amqp(port)).with_context(|| {
            format!("its output: {}", fs::read_to_string(&output_path).unwrap_or_default().trim())
        })?;
        self.running = Some(server);
        Ok(())
    }

    /// Ends it as its operator would; what is persistent is kept.
    pub fn stop(&mut self) -> Result<()> {
        process::output(Command::new(&self.ctl).arg("stop"))?;
        self.running = None;
        Ok(())
    }

    /// Ends it in the middle of whatever it does (SIGKILL).
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        let files = fs::read_dir(self.dir.path().join("log")).into_iter().flatten().flatten();
        files.filter_map(|file| fs::read_to_string(file.path()).ok()).collect()
    }
}

fn environment(dir: &Path, port: u16, mapper_port: u16, dist_port: u16) -> Vec<(&'static str, String)> {
    let file = |name: &str| dir.join(name).display().to_string();
    vec![
        ("HOME", file("")),
        ("LC_ALL", "C.UTF-8".to_owned()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        ("ERL_EPMD_PORT", mapper_port.to_string()),
        ("RABBITMQ_NODENAME", format!("springtide-{port}@localhost")),
        ("RABBITMQ_NODE_PORT", port.to_string()),
        ("RABBITMQ_DIST_PORT", dist_port.to_string()),
        ("RABBITMQ_MNESIA_BASE", file("mnesia")),
        ("RABBITMQ_LOG_BASE", file("log")),
        ("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf")),
        ("RABBITMQ_ADVANCED_CONFIG_FILE", file("advanced.config")),
        ("RABBITMQ_CONF_ENV_FILE", file("env.conf")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", file("enabled_plugins")),
        ("RABBITMQ_GENERATED_CONFIG_DIR", file("generated")),
        ("RABBITMQ_PID_FILE", file("pid")),
    ]
}

fn configuration(port: u16) -> String {
    format!(
        "listeners.tcp.local = 127.0.0.1:{port}\ndisk_free_limit.absolute = 64MB\nlog.file.level = info\n"
    )
}

/// Settings that `rabbitmq.conf` has no key for in every version, as an Erlang term.
fn advanced(settings: &[(&str, &str)]) -> String {
    let settings: Vec<String> = settings.iter().map(|(key, value)| format!("{{{key}, {value}}}")).collect();
    format!("[{{rabbit, [{}]}}].\n", settings.join(", "))
}

/// A shell script that runs a program in the node's environment, so that tests can call it by its path alone.
fn script(environment: &[(&str, String)], words: &[String]) -> String {
    let mut text = "#!/bin/sh\n".to_owned();
    for (name, value) in environment {
        writeln!(text, "export {name}='{value}'").expect("a String takes all that is written");
    }
    let quoted: Vec<String> = words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
    writeln!(text, "exec {} \"$@\"", quoted.join(" ")).expect("a String takes all that is written");
    text
}

/// The listener is there before the node takes connections, so one is opened: the server answers the protocol header
/// with a method frame (type 1, AMQP 0-9-1 §2.2.4) once it is ready.
fn speaks_amqp(port: u16) -> bool {
    let attempt = || -> std::io::Result<u8> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"AMQP\x00\x00\x09\x01")?;
        let mut first = [0];
        stream.read_exact(&mut first)?;
        Ok(first[0])
    };
    attempt().is_ok_and(|first| first == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_become_an_erlang_term() {
        assert_eq!(advanced(&[]), "[{rabbit, []}].\n");
        let settings = [("consumer_timeout", "5000"), ("channel_tick_interval", "1000")];
        assert_eq!(
            advanced(&settings),
            "[{rabbit, [{consumer_timeout, 5000}, {channel_tick_interval, 1000}]}].\n"
        );
    }

    #[test]
    fn the_script_quotes_its_words() {
        let text =
            script(&[("A", "x y".to_owned())], &["sh".to_owned(), "-c".to_owned(), "echo 'it'".to_owned()]);
        assert_eq!(text, "#!/bin/sh\nexport A='x y'\nexec 'sh' '-c' 'echo '\\''it'\\''' \"$@\"\n");
    }
}
