//! A job's events: each is the job as it stands; a broken stream is connected anew where it broke.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use reqwest::header::{ACCEPT, HeaderName};
use springtide_core::JobId;
use springtide_core::api::JobView;
use tokio::time::Instant;

use crate::http::Call;
use crate::sse::{Event, Parser};
use crate::{Client, Error};

/// What is heard of a job.
#[derive(Debug)]
pub enum News {
    /// It stands so now.
    Job(Box<JobView>),
    /// Nothing can be heard for now, and this is why; it is tried again and again for
    /// [`reconnect_for`](crate::Options::reconnect_for). Said once for each outage.
    Silence(Error),
}

/// Follows one job until it has ended.
pub struct JobEvents {
    client: Client,
    job: JobId,
    last_id: Option<String>,
    stream: Option<Connection>,
    waiting: VecDeque<Event>,
    failures: u32,
    paused_until: Option<Instant>,
    failing_since: Option<Instant>,
    ended: bool,
}

/// Why the stream could not go on, and whether another try may help.
struct Failure {
    error: Error,
    again: bool,
}

impl Failure {
    fn again(error: Error) -> Self {
        Self { error, again: true }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { again: error.is_unreachable() || error.status() == Some(429), error }
    }
}

struct Connection {
    chunks: BoxStream<'static, reqwest::Result<Bytes>>,
    parser: Parser,
}

impl Client {
    /// Follows a job from how it stands now until it has ended.
    pub fn events(&self, job: JobId) -> JobEvents {
        JobEvents {
            client: self.clone(),
            job,
            last_id: None,
            stream: None,
            waiting: VecDeque::new(),
            failures: 0,
            paused_until: None,
            failing_since: None,
            ended: false,
        }
    }
}

impl JobEvents {
    /// The job, after it changed; `None` once it has ended and that was told. An error ends it as well: the server
    /// refused, or could not be reached for too long. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<News, Error>> {
        if self.ended {
            return None;
        }
        loop {
            if let Some(event) = self.waiting.pop_front() {
                let Some(result) = self.read(event) else { continue };
                self.ended = result.as_ref().map_or(true, |job| job.status.is_terminal());
                return Some(result.map(|job| News::Job(Box::new(job))));
            }
            if let Some(until) = self.paused_until {
                tokio::time::sleep_until(until).await;
                self.paused_until = None;
            }
            match self.advance().await.map_err(|failure| self.after_failure(failure)) {
                Ok(()) | Err(None) => {}
                Err(Some(said)) => {
                    self.ended = said.is_err();
                    return Some(said);
                }
            }
        }
    }

    /// The job that an event carries. Other events may come to exist; they are passed over.
    fn read(&mut self, event: Event) -> Option<Result<JobView, Error>> {
        // Events that tell progress only have no id: the server goes on after the last one that had.
        if let Some(id) = event.id.filter(|id| !id.is_empty()) {
            self.last_id = Some(id);
        }
        if !matches!(event.name.as_str(), "" | "job" | "message") {
            return None;
        }
        let read = serde_json::from_str(&event.data);
        Some(read.map_err(|e| self.client.http.protocol(self.name(), format!("an event is no job: {e}"))))
    }

    /// Connects, or reads the next piece. A stream that ends in good order before its job did (the server stops, or
    /// ends long streams) is left; the next call connects anew, after a pause.
    async fn advance(&mut self) -> Result<(), Failure> {
        let http = &self.client.http;
        let Some(connection) = &mut self.stream else {
            let connection = self.connect().await?;
            self.stream = Some(connection);
            return Ok(());
        };
        let idle = http.options.idle_timeout;
        let name = format!("GET /v1/jobs/{}/events", self.job);
        match tokio::time::timeout(idle, connection.chunks.next()).await {
            Ok(Some(Ok(piece))) => {
                let events =
                    connection.parser.push(&piece).map_err(|e| http.protocol(name, e.to_string()))?;
                self.waiting.extend(events);
                self.failures = 0;
                self.failing_since = None;
                Ok(())
            }
            Ok(Some(Err(error))) => Err(http.network(name, error).into()),
            Ok(None) => Err(Failure::again(http.protocol(name, "the stream ended before the job did"))),
            Err(_) => Err(http.timeout(name, idle).into()),
        }
    }

    async fn connect(&self) -> Result<Connection, Error> {
        let http = &self.client.http;
        let mut call = Call::get(&["v1", "jobs", &self.job.to_string(), "events"]);
        call.headers.push((ACCEPT, "text/event-stream".to_owned()));
        if let Some(id) = &self.last_id {
            call.headers.push((HeaderName::from_static("last-event-id"), id.clone()));
        }
        let limit = http.options.request_timeout;
        let sent = tokio::time::timeout(limit, http.prepared(&call).send()).await;
        let response = sent.map_err(|_| http.timeout(call.name(), limit))?;
        let response = response.map_err(|e| http.network(call.name(), e))?;
        if !response.status().is_success() {
            return Err(http.refusal(call.name(), response).await);
        }
        Ok(Connection { chunks: response.bytes_stream().boxed(), parser: Parser::default() })
    }

    /// Sets the pause before the next try. What there is to be said: an error when there should be no other try; silence
    /// when the connection could not be made anew at once.
    fn after_failure(&mut self, failure: Failure) -> Option<Result<News, Error>> {
        let http = &self.client.http;
        let asked = self.stream.take().and_then(|connection| connection.parser.retry());
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        if !failure.again || since.elapsed() >= http.options.reconnect_for {
            return Some(Err(failure.error));
        }
        self.failures += 1;
        let pause = http.options.retry.pause(self.failures, http.random.unit());
        let asked = asked.unwrap_or_default().min(http.options.retry.longest_pause);
        self.paused_until = Some(Instant::now() + pause.max(asked));
        (self.failures == 2).then_some(Ok(News::Silence(failure.error)))
    }

    fn name(&self) -> String {
        format!("GET /v1/jobs/{}/events", self.job)
    }
}
