//! One request: its time limit, its repetitions, its answer or its problem document.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use springtide_core::api::Problem;
use url::Url;

use crate::backoff::Random;
use crate::{Error, Options};

/// The longest pause that a server may ask for with `Retry-After`.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

/// Whether a request may be sent again when it is not known what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Doing it twice is doing it once.
    Harmless,
    /// Only if it did not leave.
    OnlyUnsent,
}

/// A request, before it is sent.
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Decoded parts of the path.
    pub(crate) path: Vec<String>,
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) headers: Vec<(HeaderName, String)>,
    pub(crate) body: Option<Bytes>,
    pub(crate) repeat: Repeat,
    /// How long it asks the server to wait.
    pub(crate) waits: Duration,
}

impl Call {
    pub(crate) fn new(method: Method, path: &[&str]) -> Self {
        let repeat = if method == Method::POST { Repeat::OnlyUnsent } else { Repeat::Harmless };
        let path = path.iter().map(|&part| part.to_owned()).collect();
        Self {
            method,
            path,
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
            repeat,
            waits: Duration::ZERO,
        }
    }

    pub(crate) fn get(path: &[&str]) -> Self {
        Self::new(Method::GET, path)
    }

    pub(crate) fn post(path: &[&str]) -> Self {
        Self::new(Method::POST, path)
    }

    pub(crate) fn query(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    pub(crate) fn json(mut self, body: &impl Serialize) -> Result<Self, Error> {
        let bytes = serde_json::to_vec(body)
            .map_err(|e| Error::Options(format!("the request can't be written: {e}")))?;
        self.body = Some(bytes.into());
        Ok(self)
    }

    pub(crate) fn harmless(mut self) -> Self {
        self.repeat = Repeat::Harmless;
        self
    }

    /// As people see it.
    pub(crate) fn name(&self) -> String {
        format!("{} /{}", self.method, self.path.join("/"))
    }
}

#[derive(Debug)]
pub(crate) struct Http {
    pub(crate) options: Options,
    pub(crate) random: Random,
    client: reqwest::Client,
    authorization: Option<HeaderValue>,
}

impl Http {
    pub(crate) fn new(options: Options) -> Result<Self, Error> {
        let refuse =
            |why: &str| Error::Options(format!("{} is not the address of a server: {why}", options.server));
        if !matches!(options.server.scheme(), "http" | "https") {
            return Err(refuse("it has to begin with http:// or https://"));
        }
        let mut builder = reqwest::Client::builder()
            .connect_timeout(options.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("springtide/", env!("CARGO_PKG_VERSION")));
        // A proxy could not reach this machine's own address.
        if is_loopback(&options.server) {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|e| refuse(&e.to_string()))?;
        let authorization = match &options.token {
            None => None,
            Some(token) => {
                let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                    .map_err(|_| Error::Options("the token has characters that no token has".to_owned()))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Ok(Self { random: Random::from_seed(options.seed), client, authorization, options })
    }

    /// Sends a request and reads the answer's JSON.
    pub(crate) async fn json<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Error> {
        let body = self.bytes(call).await?;
        serde_json::from_slice(&body).map_err(|e| self.protocol(call.name(), e.to_string()))
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn bytes(&self, call: &Call) -> Result<Bytes, Error> {
        let limit = self.options.request_timeout + call.waits;
        let policy = self.options.retry;
        for attempt in 1.. {
            let (error, advice) = match tokio::time::timeout(limit, self.attempt(call)).await {
                Ok(Ok(body)) => return Ok(body),
                Ok(Err(failure)) => failure,
                Err(_) => (self.timeout(call.name(), limit), Advice::Never),
            };
            let pause = match advice {
                Advice::Never => return Err(error),
                _ if attempt >= policy.attempts => return Err(error),
                Advice::Soon => policy.pause(attempt, self.random.unit()),
                Advice::After(pause) => {
                    pause.min(RETRY_AFTER_MAX).max(policy.pause(attempt, self.random.unit()))
                }
            };
            tokio::time::sleep(pause).await;
        }
        unreachable!("the loop ends with its last attempt")
    }

    async fn attempt(&self, call: &Call) -> Result<Bytes, (Error, Advice)> {
        let request = self.prepared(call);
        let response = request.send().await.map_err(|e| self.send_failure(call, e))?;
        if !response.status().is_success() {
            let wait = retry_after(&response);
            let advice = match response.status() {
                StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
                    if call.repeat == Repeat::Harmless =>
                {
                    wait.map_or(Advice::Soon, Advice::After)
                }
                _ => Advice::Never,
            };
            return Err((self.refusal(call.name(), response).await, advice));
        }
        response.bytes().await.map_err(|e| self.send_failure(call, e))
    }

    fn send_failure(&self, call: &Call, error: reqwest::Error) -> (Error, Advice) {
        let sent = !error.is_connect();
        let advice = if sent && call.repeat == Repeat::OnlyUnsent { Advice::Never } else { Advice::Soon };
        (self.network(call.name(), error), advice)
    }

    /// The request with its address, headers and body.
    pub(crate) fn prepared(&self, call: &Call) -> RequestBuilder {
        let mut url = self.options.server.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().extend(&call.path);
        }
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        let mut request = self.request(call.method.clone(), url);
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        match &call.body {
            Some(body) => request.header(CONTENT_TYPE, "application/json").body(body.clone()),
            None => request,
        }
    }

    /// A request to an address of this server.
    pub(crate) fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.client.request(method, url);
        match &self.authorization {
            Some(value) => request.header(AUTHORIZATION, value.clone()),
            None => request,
        }
    }

    /// The address that a link of the server means. Links are paths: the token is never sent elsewhere.
    pub(crate) fn link(&self, link: &str) -> Result<Url, Error> {
        let base = self.options.server.as_str().trim_end_matches('/');
        let url = format!("{base}{link}").parse::<Url>();
        match url {
            Ok(url) if link.starts_with('/') => Ok(url),
            _ => Err(self.protocol(format!("a link to {link}"), "links are paths")),
        }
    }

    /// What an answer that is no success says.
    pub(crate) async fn refusal(&self, request: String, response: Response) -> Error {
        let status = response.status();
        let body = response.bytes().await.unwrap_or_default();
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Error::Problem(Box::new(problem)),
            // A proxy in between, for example.
            Err(_) if status.is_server_error() || status.is_client_error() => {
                Error::Problem(Box::new(Problem {
                    r#type: "about:blank".to_owned(),
                    title: status.to_string(),
                    status: status.as_u16(),
                    detail: format!("{request} was answered with {status}"),
                    pointer: None,
                }))
            }
            Err(_) => self.protocol(request, status.to_string()),
        }
    }

    pub(crate) fn network(&self, request: String, source: reqwest::Error) -> Error {
        if source.is_connect() {
            return Error::Unreachable { server: self.server(), source };
        }
        Error::Broken { server: self.server(), request, source }
    }

    pub(crate) fn timeout(&self, request: String, limit: Duration) -> Error {
        Error::Timeout { server: self.server(), request, limit }
    }

    pub(crate) fn protocol(&self, request: String, message: impl Into<String>) -> Error {
        Error::Protocol { server: self.server(), request, message: message.into() }
    }

    fn server(&self) -> String {
        self.options.server.as_str().trim_end_matches('/').to_owned()
    }
}

/// When a failed request may be sent again.
enum Advice {
    Never,
    Soon,
    After(Duration),
}

fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

fn is_loopback(server: &Url) -> bool {
    match server.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
