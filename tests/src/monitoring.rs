//! Prometheus and Alertmanager of a test's own, on the configuration that ships in `infra/prometheus/`, with other
//! addresses, tokens and times.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::process::Process;
use crate::servers::free_port;
use crate::wait;

const START_LIMIT: Duration = Duration::from_secs(60);

/// What they are to watch and tell.
#[derive(Clone, Debug)]
pub struct Watched<'a> {
    /// What is scraped, with the job's name in the shipped configuration: `("springtide-control-plane", "127.0.0.1:7860")`.
    pub targets: &'a [(&'a str, &'a str)],
    /// Where Alertmanager posts alerts for the autoscaler: the URL, and the bearer token.
    pub webhook: (&'a str, &'a str),
    /// Replacements in the shipped rules, to see in seconds what takes minutes: `(") > 120", ") > 1")`.
    pub rules: &'a [(&'a str, &'a str)],
}

/// Both programs, until this is dropped.
#[derive(Debug)]
pub struct Monitoring {
    /// Prometheus' address.
    pub prometheus: String,
    /// Alertmanager's address.
    pub alertmanager: String,
    _processes: [Process; 2],
    _dir: TempDir,
}

impl Monitoring {
    /// Starts them and waits until they are ready. `None`, and a line that says so, where they are not installed.
    pub async fn start(watched: &Watched<'_>) -> Result<Option<Self>> {
        let program = |name: &str| std::env::var(format!("SPRINGTIDE_TEST_{name}")).ok();
        let (Some(prometheus), Some(alertmanager)) = (program("PROMETHEUS"), program("ALERTMANAGER")) else {
            eprintln!("skipped: SPRINGTIDE_TEST_PROMETHEUS is not set; `cargo xtask test` sets it");
            return Ok(None);
        };
        let dir = tempfile::tempdir()?;
        let addresses = [format!("127.0.0.1:{}", free_port()?), format!("127.0.0.1:{}", free_port()?)];
        configure(dir.path(), watched, &addresses[1])?;
        let mut first = Command::new(prometheus);
        first.arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()));
        first.arg(format!("--storage.tsdb.path={}", dir.path().join("prometheus").display()));
        first.arg(format!("--web.listen-address={}", addresses[0]));
        let mut second = Command::new(alertmanager);
        second.arg(format!("--config.file={}", dir.path().join("alertmanager.yml").display()));
        second.arg(format!("--storage.path={}", dir.path().join("alertmanager").display()));
        // On its own: it looks for no peers.
        second.arg(format!("--web.listen-address={}", addresses[1])).arg("--cluster.listen-address=");
        let mut processes = [
            Process::start_apart("prometheus", &mut first, dir.path())?,
            Process::start_apart("alertmanager", &mut second, dir.path())?,
        ];
        for (process, address) in processes.iter_mut().zip(&addresses) {
            let ready = async || {
                ensure!(process.is_running(), "{} ended:\n{}", process.name(), process.output());
                Ok(get(address, "/-/ready").await.is_ok())
            };
            wait::until("Prometheus and Alertmanager", START_LIMIT, ready).await?;
        }
        let [prometheus, alertmanager] = addresses;
        Ok(Some(Self { prometheus, alertmanager, _processes: processes, _dir: dir }))
    }

    /// The value of an expression's first series now, if there is one.
    pub async fn value(&self, expression: &str) -> Result<Option<f64>> {
        let query: String = url_encoded(expression);
        let text = get(&self.prometheus, &format!("/api/v1/query?query={query}")).await?;
        let answer: serde_json::Value = serde_json::from_str(&text)?;
        let value = &answer["data"]["result"][0]["value"][1];
        value.as_str().map(|text| text.parse().context("a number")).transpose()
    }
}

fn url_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

async fn get(address: &str, path: &str) -> Result<String> {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
    let answer = client.get(format!("http://{address}{path}")).send().await?.error_for_status()?;
    Ok(answer.text().await?)
}

/// A file that ships in `infra/prometheus/`.
pub fn shipped(name: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/prometheus").join(name);
    fs::read_to_string(&path).with_context(|| format!("{} can't be read", path.display()))
}

fn configure(dir: &Path, watched: &Watched<'_>, alertmanager: &str) -> Result<()> {
    let keep = |name: &str, text: &str| -> Result<PathBuf> {
        let path = dir.join(name);
        fs::write(&path, text)?;
        Ok(path)
    };
    let replaced = |name: &str, changes: &[(String, String)]| -> Result<String> {
        let mut text = shipped(name)?;
        for (from, to) in changes {
            ensure!(text.contains(from.as_str()), "{name} no longer says `{from}`");
            text = text.replace(from, to);
        }
        Ok(text)
    };
    let rules: Vec<_> =
        watched.rules.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
    keep("rules.yml", &replaced("rules.yml", &rules)?)?;
    let token = keep("token", "not-asked-for")?;
    let mut changes = vec![
        ("interval: 15s".to_owned(), "interval: 1s".to_owned()),
        ("127.0.0.1:9093".to_owned(), alertmanager.to_owned()),
        ("/etc/prometheus/springtide.token".to_owned(), token.display().to_string()),
    ];
    let shipped_targets =
        [("springtide-control-plane", "127.0.0.1:7860"), ("springtide-autoscaler", "127.0.0.1:7861")];
    for (job, shipped) in shipped_targets {
        let target = watched.targets.iter().find(|(name, _)| *name == job);
        // One that nobody serves stays away: nothing listens there.
        let address = target.map_or("127.0.0.1:1", |(_, address)| address);
        changes.push((format!("\"{shipped}\""), format!("\"{address}\"")));
    }
    keep("prometheus.yml", &replaced("prometheus.yml", &changes)?)?;
    let token = keep("alerts.token", watched.webhook.1)?;
    let changes = [
        ("http://127.0.0.1:7861/v1/alerts".to_owned(), watched.webhook.0.to_owned()),
        ("/etc/prometheus/springtide-alerts.token".to_owned(), token.display().to_string()),
        ("group_interval: 15s".to_owned(), "group_interval: 1s".to_owned()),
    ];
    keep("alertmanager.yml", &replaced("alertmanager.yml", &changes)?)?;
    Ok(())
}
