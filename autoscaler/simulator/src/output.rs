//! Files and tables of a simulation.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use springtide_core::Timestamp;

use crate::Error;
use crate::outcome::{Outcome, Summary};

fn written(path: &Path) -> impl Fn(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { path: path.clone(), what: "written", source }
}

/// Writes text to a file.
pub fn text(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(written(path))
}

/// Makes a directory for the files.
pub fn directory(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(written(path))
}

impl Outcome {
    fn time(&self, second: f64) -> Timestamp {
        Timestamp::from_micros(self.epoch + (second * 1e6) as i64)
    }

    /// `jobs.csv`: a row for each task.
    pub fn write_jobs(&self, path: &Path) -> Result<(), Error> {
        let mut out = BufWriter::new(File::create(path).map_err(written(path))?);
        let mut write = || -> std::io::Result<()> {
            writeln!(out, "task,arrival,start,finish,wait_s,run_s,node,evictions")?;
            for (at, (task, job)) in self.tasks.iter().zip(&self.jobs).enumerate() {
                let shown =
                    |time: Option<f64>| time.map(|time| self.time(time).to_string()).unwrap_or_default();
                let wait = job.start.map(|start| format!("{:.3}", start - task.at)).unwrap_or_default();
                let (arrival, start, finish) = (self.time(task.at), shown(job.start), shown(job.finish));
                let node = job.start.map(|_| format!("n{}", job.node)).unwrap_or_default();
                writeln!(
                    out,
                    "{at},{arrival},{start},{finish},{wait},{:.3},{node},{}",
                    task.seconds, job.evictions
                )?;
            }
            out.flush()
        };
        write().map_err(written(path))
    }

    /// `nodes.csv`: a row for each machine.
    pub fn write_nodes(&self, path: &Path) -> Result<(), Error> {
        let mut out = BufWriter::new(File::create(path).map_err(written(path))?);
        let mut write = || -> std::io::Result<()> {
            writeln!(out, "node,pool,offer,slots,launch,ready,end,paid_s,price_per_hour,cost")?;
            for node in &self.nodes {
                let ready = node.ready.map(|ready| self.time(ready).to_string()).unwrap_or_default();
                let paid = node.end - node.launch;
                writeln!(
                    out,
                    "n{},{},{},{},{},{ready},{},{paid:.3},{},{:.6}",
                    node.node,
                    node.pool,
                    node.offer,
                    node.slots,
                    self.time(node.launch),
                    self.time(node.end),
                    node.price_per_hour,
                    paid / 3600.0 * node.price_per_hour,
                )?;
            }
            out.flush()
        };
        write().map_err(written(path))
    }
}

/// The head of a table of summaries.
pub const COLUMNS: [&str; 11] =
    ["POLICY", "COST/WORK", "COST", "WAIT P50", "P95", "P99", "IDLE", "BOOT", "LAUNCHES", "MOST", "LATE"];

impl Summary {
    /// Its row in a table of summaries.
    pub fn cells(&self, policy: &str) -> [String; 11] {
        [
            policy.to_owned(),
            format!("{:.3}", self.cost_per_work),
            format!("{:.2}", self.cost),
            format!("{:.0} s", self.wait_p50_s),
            format!("{:.0} s", self.wait_p95_s),
            format!("{:.0} s", self.wait_p99_s),
            format!("{:.3}", self.idle_per_work),
            format!("{:.3}", self.boot_per_work),
            self.launches.to_string(),
            self.most_nodes.to_string(),
            format!("{:.2} %", self.late * 100.0),
        ]
    }
}
