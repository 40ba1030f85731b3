//! How far a job is: a bar on a terminal, plain lines when it is not one.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use springtide_core::api::JobView;
use springtide_core::job::JobStatus;

use crate::when;

/// Parts that a bar is divided into.
const PARTS: u64 = 1000;

/// Shows a job.
pub enum Progress {
    /// On a terminal.
    Bar(ProgressBar),
    /// Elsewhere.
    Lines(Lines),
}

impl Progress {
    /// For this job, as stderr is.
    pub fn new(job: &JobView) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines(Lines::default());
        }
        let template = "{spinner} {prefix} [{bar:30}] {percent:>3}% {msg}";
        let style = ProgressStyle::with_template(template)
            .expect("a template that a test reads")
            .progress_chars("=> ");
        let bar = ProgressBar::new(PARTS).with_style(style).with_prefix(job.id.to_string());
        bar.enable_steady_tick(Duration::from_millis(200));
        Self::Bar(bar)
    }

    /// The job stands so now.
    pub fn show(&mut self, job: &JobView) {
        match self {
            Self::Bar(bar) => {
                bar.set_position((job.progress * PARTS as f64) as u64);
                bar.set_message(details(job));
            }
            Self::Lines(lines) => {
                if let Some(line) = lines.next(job) {
                    eprintln!("{line}");
                }
            }
        }
    }

    /// Says something beside; nothing when there is nothing to say.
    pub fn say(&self, text: &str) {
        match self {
            _ if text.is_empty() => {}
            Self::Bar(bar) => bar.println(text),
            Self::Lines(_) => eprintln!("{text}"),
        }
    }

    /// Makes room for other output.
    pub fn clear(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// Says a line where something worth one has happened.
#[derive(Debug, Default)]
pub struct Lines {
    said: Option<(JobStatus, u64)>,
}

impl Lines {
    /// The line for this state: when the status is new, or another tenth is done.
    pub fn next(&mut self, job: &JobView) -> Option<String> {
        let state = (job.status, (job.progress * 10.0 + 1e-9) as u64);
        if self.said == Some(state) {
            return None;
        }
        self.said = Some(state);
        Some(format!("{} {:>3.0} %, {}", job.id, job.progress * 100.0, details(job)))
    }
}

fn details(job: &JobView) -> String {
    let tasks = &job.tasks;
    let ended = tasks.succeeded + tasks.failed + tasks.cancelled;
    let parts = [
        Some(job.status.as_str().to_owned()),
        (tasks.total > 1).then(|| format!("{ended} of {} tasks", tasks.total)),
        (tasks.failed > 0).then(|| format!("{} failed", tasks.failed)),
        job.eta_s.and_then(when::seconds).map(|eta| format!("about {eta} left")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job(status: &str, progress: f64, failed: u32) -> JobView {
        serde_json::from_value(json!({
            "id": "job_01J9ZQ2Y9V5K8T0X3M4N6P7R8S", "status": status, "model": "echo@1", "priority": "normal",
            "labels": {}, "created_at": "2026-01-31T12:00:00.000000Z", "started_at": null, "finished_at": null,
            "progress": progress, "eta_s": 12.4,
            "tasks": {"total": 4, "waiting": 0, "released": 0, "running": 1, "succeeded": 1, "failed": failed,
                "cancelled": 0},
            "timings": {"wait_s": null, "load_s": 0.0, "run_s": 0.0}, "error": null, "outputs": [],
            "links": {"this": "", "events": "", "outputs": "", "tasks": "", "cancel": ""}, "version": 1
        }))
        .unwrap()
    }

    #[test]
    fn a_line_for_each_status_and_tenth() {
        let mut lines = Lines::default();
        let id = "job_01J9ZQ2Y9V5K8T0X3M4N6P7R8S";
        let first = lines.next(&job("queued", 0.0, 0)).unwrap();
        assert_eq!(first, format!("{id}   0 %, queued, 1 of 4 tasks, about 12 s left"));
        assert_eq!(lines.next(&job("queued", 0.05, 0)), None);
        assert!(lines.next(&job("running", 0.05, 0)).is_some());
        assert!(lines.next(&job("running", 0.1, 0)).is_some());
        let failed = lines.next(&job("running", 0.3, 2)).unwrap();
        assert!(failed.contains("running, 3 of 4 tasks, 2 failed"), "{failed}");
    }

    #[test]
    fn a_bar_can_be_made() {
        let bar = ProgressBar::hidden();
        let mut progress = Progress::Bar(bar.clone());
        progress.show(&job("running", 0.25, 0));
        assert_eq!(bar.position(), 250);
    }
}
