//! Models: list, show, push.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use reqwest::Method;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use springtide_core::api::{ModelView, Page};
use tokio::sync::watch;

use crate::http::Call;
use crate::{Client, Error, Package};

/// How long the server may take with a model after its last byte has left: it checks it and puts it into the object
/// store.
const SETTLE: Duration = Duration::from_secs(15 * 60);

/// How far an upload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Bytes that have left.
    pub sent_bytes: u64,
    /// All of them.
    pub total_bytes: u64,
}

impl Client {
    /// A page of models, each at its latest version.
    pub async fn models(&self, cursor: Option<&str>) -> Result<Page<ModelView>, Error> {
        self.http.json(&Call::get(&["v1", "models"]).query("cursor", cursor)).await
    }

    /// A model: `NAME` (its latest version) or `NAME@VERSION`.
    pub async fn model(&self, model: &str) -> Result<ModelView, Error> {
        self.http.json(&Call::get(&["v1", "models", model])).await
    }

    /// Pushes a model as a tar archive, `model.toml` first. `progress` is told as the bytes leave.
    pub async fn push_model(
        &self,
        package: &Package,
        progress: impl Fn(Upload) + Send + Sync + 'static,
    ) -> Result<ModelView, Error> {
        let call = Call::post(&["v1", "models"]);
        let total_bytes = package.archive_bytes();
        let (moved, moving) = watch::channel(0);
        let progress = Arc::new(progress);
        let body = package.archive().inspect_ok(move |piece| {
            moved.send_modify(|sent| *sent += piece.len() as u64);
            progress(Upload { sent_bytes: *moved.borrow(), total_bytes });
        });
        let request = self
            .http
            .prepared(&Call { method: Method::POST, ..call })
            .header(CONTENT_TYPE, "application/x-tar")
            .header(CONTENT_LENGTH, total_bytes)
            .body(reqwest::Body::wrap_stream(body));
        let name = "POST /v1/models".to_owned();
        let response = tokio::select! {
            response = request.send() => response.map_err(|e| self.http.network(name.clone(), e))?,
            limit = stalled(moving, total_bytes, self.http.options.idle_timeout) => {
                return Err(self.http.timeout(name, limit));
            }
        };
        if !response.status().is_success() {
            return Err(self.http.refusal(name, response).await);
        }
        let answer = response.bytes().await.map_err(|e| self.http.network(name.clone(), e))?;
        serde_json::from_slice(&answer).map_err(|e| self.http.protocol(name, e.to_string()))
    }
}

/// Returns when no byte has left for `idle`, or the server has had all of them for [`SETTLE`].
async fn stalled(mut moving: watch::Receiver<u64>, total_bytes: u64, idle: Duration) -> Duration {
    loop {
        let all_sent = *moving.borrow_and_update() >= total_bytes;
        let limit = if all_sent { SETTLE } else { idle };
        match tokio::time::timeout(limit, moving.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => {
                // The body is gone: all of it was handed over.
                tokio::time::sleep(SETTLE).await;
                return SETTLE;
            }
            Err(_) => return limit,
        }
    }
}
