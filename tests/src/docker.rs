//! The private Docker daemon that `cargo xtask test` has started, and containers of a test's own.

use std::process::Command;

use anyhow::{Context, Result, bail};
use xtask::services::docker;

use crate::binary;

/// A Docker daemon.
#[derive(Clone, Debug)]
pub struct Docker {
    /// Where it listens: `unix:///…`.
    pub host: String,
}

impl Docker {
    /// `None`, and a line that says so, where it is not there.
    pub fn find() -> Option<Self> {
        let host = std::env::var("SPRINGTIDE_TEST_DOCKER_HOST").ok();
        if host.is_none() {
            eprintln!(
                "skipped: SPRINGTIDE_TEST_DOCKER_HOST is not set; `cargo xtask test` starts Docker, as root, and sets it"
            );
        }
        host.map(|host| Self { host })
    }

    /// Makes an image FROM scratch of Springtide's own binaries, by their names; the first is its entry point.
    pub fn image(&self, binaries: &[&str], tag: &str) -> Result<()> {
        let paths = binaries.iter().map(|name| binary::path(name)).collect::<Result<Vec<_>>>()?;
        let paths: Vec<_> = paths.iter().map(std::path::PathBuf::as_path).collect();
        xtask::image::docker_image_of(&self.host, &paths, tag)
    }

    /// Runs Docker's client; returns what it prints.
    pub fn client(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments).output().context("docker can't be started")?;
        if !output.status.success() {
            bail!("docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Starts a container, with the host's network; `arguments` go before the image and after it.
    pub fn run(&self, options: &[&str], image: &str, arguments: &[&str]) -> Result<Container> {
        let mut all = vec!["run", "--detach", "--network", "host"];
        all.extend(options);
        all.push(image);
        all.extend(arguments);
        Ok(Container { id: self.client(&all)?, docker: self.clone() })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        docker::client(&self.host, arguments)
    }
}

/// A container, removed when it is dropped.
#[derive(Debug)]
pub struct Container {
    /// Its id.
    pub id: String,
    docker: Docker,
}

impl Container {
    /// What it has printed.
    pub fn logs(&self) -> String {
        let output = self.docker.command(&["logs", &self.id]).output();
        output.map_or_else(
            |error| error.to_string(),
            |output| {
                [output.stdout, output.stderr]
                    .map(|said| String::from_utf8_lossy(&said).into_owned())
                    .concat()
            },
        )
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.docker
            .client(&["inspect", "--format", "{{.State.Running}}", &self.id])
            .is_ok_and(|is| is == "true")
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the container's output:\n{}", self.logs());
        }
        let _ = self.docker.client(&["rm", "--force", &self.id]);
    }
}
