//! `GET /v1/jobs/{id}/events`: a job as it changes, as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use prometheus::IntGauge;
use springtide_core::JobId;
use springtide_core::api::JobView;
use springtide_store::Error;
use springtide_store::port::JobRow;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, sleep_until};

use super::view;
use crate::app::App;
use crate::http::Shared;
use crate::http::auth::{Allowed, Read};
use crate::http::follow::{Follower, Turn};
use crate::http::params::Id;
use crate::http::problem::{Kind, Refusal, Result};
use crate::http::serve::Stopping;

/// The least time between two events that tell progress only.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// The least time between two looks at the job: what happens in between is told at once.
const PAUSE: Duration = Duration::from_millis(50);
/// A comment is sent after so long a silence, so that nobody in between takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// After the store could not be read.
const RETRY: Duration = Duration::from_secs(1);

/// A job as it changes, until it has ended. Each event `job` carries the whole job; its id is the job's version. Events
/// without an id tell progress in between. Outputs stand in the last event; before, they are at `links.outputs`.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/events",
    tag = "jobs",
    params(
        ("id" = String, Path, description = "The job"),
        ("Last-Event-ID" = Option<u64>, Header, description = "The version that is known: what is newer is told"),
    ),
    responses((status = 200, description = "Events named `job`", body = JobView, content_type = "text/event-stream")),
)]
pub async fn events(
    State(api): State<Shared>,
    _: Allowed<Read>,
    Id(id): Id<JobId>,
    stopping: Stopping,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let Ok(place) = Arc::clone(&api.streams).try_acquire_owned() else {
        return Err(Refusal::new(Kind::Busy, "as many event streams are open as this service takes"));
    };
    let follower = Follower::new(&api.app, &api.followed, id);
    let row = api.app.store.job(id).await?;
    let known = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let news = known != Some(row.version) || row.status.is_terminal();
    let events = Events {
        app: Arc::clone(&api.app),
        follower,
        stopping,
        told: row.version,
        pending: news.then(|| row.clone()),
        latest: row,
        progress: 0.0,
        next_progress: Instant::now() + PROGRESS_EVERY,
        ended: false,
        _place: Place::new(place, &api.app.metrics.streams),
    };
    let stream = futures::stream::unfold(events, |mut events| async move {
        let event = events.next().await?;
        Some((Ok(event), events))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

struct Events {
    app: Arc<App>,
    follower: Follower,
    stopping: Stopping,
    /// The version that was told last.
    told: u64,
    /// To be told at once.
    pending: Option<JobRow>,
    /// The job as it was read last.
    latest: JobRow,
    /// The progress that was told last.
    progress: f64,
    next_progress: Instant,
    ended: bool,
    _place: Place,
}

/// What may have happened while a stream waited.
enum Waited {
    Changed,
    Progressed,
    Stopped,
}

impl Events {
    /// The next event; `None` when the job has ended and that was told, or the server stops.
    async fn next(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        if let Some(row) = self.pending.take() {
            return self.tell(row).await;
        }
        loop {
            match self.wait().await {
                Waited::Stopped => return None,
                Waited::Progressed => {
                    if let Some(event) = self.tell_progress().await {
                        return Some(event);
                    }
                }
                Waited::Changed => match self.look().await {
                    Ok(Some(row)) => return self.tell(row).await,
                    Ok(None) => {}
                    Err(error) => {
                        tracing::debug!(%error, "an event stream ends: its job can't be read any more");
                        return None;
                    }
                },
            }
        }
    }

    async fn wait(&mut self) -> Waited {
        loop {
            tokio::select! {
                () = self.stopping.requested() => return Waited::Stopped,
                () = sleep_until(self.next_progress) => return Waited::Progressed,
                turn = self.follower.turn() => match turn {
                    Turn::Changed => return Waited::Changed,
                    Turn::LookDue => self.follower.look().await,
                },
            }
        }
    }

    /// The job, if it is newer than what was told.
    async fn look(&mut self) -> Result<Option<JobRow>, Error> {
        sleep(PAUSE).await;
        loop {
            match self.app.store.job(self.latest.id).await {
                Ok(row) => {
                    self.latest = row;
                    let newer = self.latest.version != self.told;
                    return Ok(newer.then(|| self.latest.clone()));
                }
                Err(error) if error.is_transient() => {
                    tokio::select! {
                        () = self.stopping.requested() => return Err(error),
                        () = sleep(RETRY) => {}
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn tell(&mut self, row: JobRow) -> Option<Event> {
        self.told = row.version;
        self.ended = row.status.is_terminal();
        let view = if self.ended {
            view::job_with_outputs(&self.app, row).await.ok()?
        } else {
            view::job(&self.app, row).await
        };
        self.progress = view.progress;
        self.event(&view).map(|event| event.id(view.version.to_string()))
    }

    /// Progress alone, if there is any.
    async fn tell_progress(&mut self) -> Option<Event> {
        self.next_progress = Instant::now() + PROGRESS_EVERY;
        if self.latest.counts.running == 0 {
            return None;
        }
        let running = self.app.registry.progress_of_job(self.latest.id);
        let progress = self.latest.counts.progress(running);
        if progress <= self.progress {
            return None;
        }
        let view = view::job(&self.app, self.latest.clone()).await;
        self.progress = view.progress;
        self.event(&view)
    }

    fn event(&mut self, view: &JobView) -> Option<Event> {
        self.next_progress = Instant::now() + PROGRESS_EVERY;
        let event = Event::default().event("job").json_data(view);
        event.inspect_err(|error| tracing::error!(%error, "a job can't be written")).ok()
    }
}

/// A place among the streams that may be open, given back when the stream ends.
struct Place {
    gauge: IntGauge,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    fn new(permit: OwnedSemaphorePermit, gauge: &IntGauge) -> Self {
        gauge.inc();
        Self { gauge: gauge.clone(), _permit: permit }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}
