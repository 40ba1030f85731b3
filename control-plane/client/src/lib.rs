//! Typed HTTP client of the control plane: one method for each endpoint.
//!
//! ```text
//! Client ── jobs · outputs · events · models · nodes · cluster · launches      what to ask
//!    │
//!  http ──► backoff      one request with its time limit; repeated only where repeating is harmless
//! ```
//!
//! It knows the types of `springtide_core::api` and nothing else of ours: no store, no broker, no configuration.
//! Nothing is read from the environment; whoever makes a [`Client`] passes [`Options`].

mod backoff;
mod cluster;
mod error;
pub mod events;
mod http;
mod jobs;
mod launches;
mod models;
mod nodes;
mod outputs;
pub mod package;
mod sse;

use std::sync::Arc;
use std::time::Duration;

pub use backoff::RetryPolicy;
pub use error::Error;
pub use events::{JobEvents, News};
pub use jobs::{JobFilter, SubmitOptions};
pub use models::Upload;
pub use outputs::Downloaded;
pub use package::Package;
pub use url::Url;

/// How to reach a control plane.
#[derive(Clone)]
pub struct Options {
    /// Its address.
    pub server: Url,
    /// The bearer token, where one is needed.
    pub token: Option<String>,
    /// What jitter and idempotency keys follow from; different in each process.
    pub seed: u64,
    /// How long making a connection may take.
    pub connect_timeout: Duration,
    /// How long one request may take, beyond what it asks the server to wait.
    pub request_timeout: Duration,
    /// How long a stream may be silent: events (the server speaks more often than that), downloads, uploads.
    pub idle_timeout: Duration,
    /// How often, and with what pauses, requests that may be repeated are repeated.
    pub retry: RetryPolicy,
    /// For how long a broken event stream is connected anew before that is an error.
    pub reconnect_for: Duration,
}

impl Options {
    /// The usual limits.
    pub fn new(server: Url, seed: u64) -> Self {
        Self {
            server,
            token: None,
            seed,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(35),
            idle_timeout: Duration::from_secs(60),
            retry: RetryPolicy::default(),
            reconnect_for: Duration::from_secs(120),
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("server", &self.server.as_str()).finish_non_exhaustive()
    }
}

/// A control plane, from outside. Clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: Arc<http::Http>,
}

impl Client {
    /// A client; nothing is sent yet.
    pub fn new(options: Options) -> Result<Self, Error> {
        Ok(Self { http: Arc::new(http::Http::new(options)?) })
    }

    /// The address that it talks to.
    pub fn server(&self) -> &Url {
        &self.http.options.server
    }
}
