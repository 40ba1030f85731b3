//! Jobs: post, look, cancel, retry.

use std::time::Duration;

use reqwest::header::HeaderName;
use springtide_core::JobId;
use springtide_core::api::{JobView, OutputView, Page, SubmitJob, TaskView};
use springtide_core::job::JobStatus;

use crate::http::Call;
use crate::{Client, Error};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What goes with a job that is posted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubmitOptions {
    /// The same key with the same body gives the same job. None: a new key, so that repeating the request after a
    /// broken connection is harmless.
    pub idempotency_key: Option<String>,
    /// How long the reply may wait for the job to end.
    pub wait: Duration,
}

/// Which jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Of this status.
    pub status: Option<JobStatus>,
    /// With this label.
    pub label: Option<(String, String)>,
}

impl Client {
    /// Posts a job.
    pub async fn submit(&self, job: &SubmitJob, options: &SubmitOptions) -> Result<JobView, Error> {
        let key = options.idempotency_key.clone().unwrap_or_else(|| self.http.random.key());
        let wait_s = Some(options.wait.as_secs_f64()).filter(|wait| *wait > 0.0);
        let mut call = Call::post(&["v1", "jobs"]).query("wait_s", wait_s).json(job)?.harmless();
        call.headers.push((IDEMPOTENCY_KEY, key));
        call.waits = options.wait;
        self.http.json(&call).await
    }

    /// One job.
    pub async fn job(&self, job: JobId) -> Result<JobView, Error> {
        self.http.json(&Call::get(&["v1", "jobs", &job.to_string()])).await
    }

    /// A page of jobs, newest first.
    pub async fn jobs(
        &self,
        filter: &JobFilter,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<JobView>, Error> {
        let label = filter.label.as_ref().map(|(key, value)| format!("{key}={value}"));
        let call = Call::get(&["v1", "jobs"])
            .query("status", filter.status.map(JobStatus::as_str))
            .query("label", label)
            .query("cursor", cursor)
            .query("limit", Some(limit));
        self.http.json(&call).await
    }

    /// A page of a job's outputs.
    pub async fn outputs(&self, job: JobId, cursor: Option<&str>) -> Result<Page<OutputView>, Error> {
        let call = Call::get(&["v1", "jobs", &job.to_string(), "outputs"]).query("cursor", cursor);
        self.http.json(&call).await
    }

    /// A page of a job's tasks.
    pub async fn tasks(&self, job: JobId, cursor: Option<&str>) -> Result<Page<TaskView>, Error> {
        let call = Call::get(&["v1", "jobs", &job.to_string(), "tasks"]).query("cursor", cursor);
        self.http.json(&call).await
    }

    /// Cancels a job; harmless when it has ended.
    pub async fn cancel(&self, job: JobId) -> Result<JobView, Error> {
        self.http.json(&Call::post(&["v1", "jobs", &job.to_string(), "cancel"]).harmless()).await
    }

    /// A new job of the failed tasks of this one.
    pub async fn retry(&self, job: JobId) -> Result<JobView, Error> {
        let mut call = Call::post(&["v1", "jobs", &job.to_string(), "retry"]).harmless();
        call.headers.push((IDEMPOTENCY_KEY, self.http.random.key()));
        self.http.json(&call).await
    }
}
