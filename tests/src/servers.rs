//! Private servers that `cargo xtask test` has started.

use std::process::Command;

use anyhow::{Context, Result, bail};

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
        let vhost = format!("test-{}", ulid::Ulid::from_parts(u64::from(std::process::id()), rand::random()));
        // The URL's own virtual host, if it names one, is replaced.
        let authority =
            base.split("://").nth(1).and_then(|rest| rest.split('/').next()).context("no authority")?;
        let server = Self { url: format!("amqp://{authority}/{vhost}"), vhost, control };
        server.control(&["add_vhost", &server.vhost])?;
        let user = authority.split(':').next().filter(|_| authority.contains('@')).unwrap_or("guest");
        server.control(&["set_permissions", "-p", &server.vhost, user, ".*", ".*", ".*"])?;
        Ok(Some(server))
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
