//! Reads request bodies: bounded, in time, JSON only, and every fault with the field that it is in.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use springtide_core::model::pointer_of;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::Shared;
use super::problem::{Kind, Refusal, Result};

/// From this size on a body is read and checked on a thread where that holds nobody up.
const HEAVY_BYTES: usize = 256 * 1024;

/// A body up to this size is taken without asking for room.
const SMALL_BYTES: usize = 64 * 1024;
/// How many of the largest bodies there is room for at once.
const LARGEST_BODIES: u64 = 8;

/// The room for large bodies, in KiB: so many clients with so large bodies would otherwise take all memory.
pub struct Room(Arc<Semaphore>);

impl Room {
    /// For bodies of at most `max_request_bytes` each.
    pub fn new(max_request_bytes: u64) -> Self {
        let kib = (max_request_bytes / 1024 + 1).saturating_mul(LARGEST_BODIES);
        Self(Arc::new(Semaphore::new(usize::try_from(kib).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS))))
    }

    /// Room for a body of this size, waited for as long as a request may take.
    async fn take(&self, bytes: usize, time: Duration) -> Result<Option<OwnedSemaphorePermit>> {
        if bytes <= SMALL_BYTES {
            return Ok(None);
        }
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX);
        let permits = timeout(time, Arc::clone(&self.0).acquire_many_owned(kib)).await;
        permits.ok().and_then(Result::ok).map(Some).ok_or_else(|| {
            Refusal::new(Kind::Busy, "as many large requests are being read as this service takes at once")
        })
    }
}

/// The whole body of a JSON request, unread.
pub struct RawJson {
    /// Its bytes.
    pub body: Bytes,
    /// Held as long as the request takes.
    pub room: Option<OwnedSemaphorePermit>,
}

/// A JSON body. Fields that the type does not know are refused.
pub struct Json<T>(pub T);

/// A JSON body that may be left out.
pub struct OptionalJson<T>(pub T);

impl FromRequest<Shared> for RawJson {
    type Rejection = Refusal;

    async fn from_request(request: Request, api: &Shared) -> Result<Self> {
        check_content_type(request.headers())?;
        let (body, room) = read(request, api).await?;
        Ok(Self { body, room })
    }
}

impl<T: DeserializeOwned> FromRequest<Shared> for Json<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, api: &Shared) -> Result<Self> {
        let RawJson { body, .. } = RawJson::from_request(request, api).await?;
        parse(&body).map(Self)
    }
}

impl<T: DeserializeOwned + Default> FromRequest<Shared> for OptionalJson<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, api: &Shared) -> Result<Self> {
        let content_type = check_content_type(request.headers());
        let (body, _room) = read(request, api).await?;
        if body.is_empty() {
            return Ok(Self(T::default()));
        }
        content_type?;
        parse(&body).map(Self)
    }
}

async fn read(request: Request, api: &Shared) -> Result<(Bytes, Option<OwnedSemaphorePermit>)> {
    let config = &api.app.config;
    let limit = usize::try_from(config.max_request_bytes).unwrap_or(usize::MAX);
    // Of a body that does not say, the most is taken.
    let announced =
        request.body().size_hint().upper().map_or(limit, |most| usize::try_from(most).unwrap_or(limit));
    let room = api.room.take(announced.min(limit), config.request_timeout).await?;
    let body = read_within(request, limit, config.request_timeout).await?;
    Ok((body, room))
}

async fn read_within(request: Request, limit_bytes: usize, time: Duration) -> Result<Bytes> {
    let too_large = || Refusal::new(Kind::TooLarge, format!("the body is larger than {limit_bytes} bytes"));
    if content_length(request.headers()).is_some_and(|length| length > limit_bytes as u64) {
        return Err(too_large());
    }
    let collected = timeout(time, collect(request.into_body(), limit_bytes)).await;
    match collected {
        Ok(Ok(Some(body))) => Ok(body),
        Ok(Ok(None)) => Err(too_large()),
        Ok(Err(error)) => Err(Refusal::new(Kind::Malformed, format!("the body broke off: {error}"))),
        Err(_) => {
            let detail = format!("the body did not come within {} s", time.as_secs_f64());
            Err(Refusal::new(Kind::Timeout, detail))
        }
    }
}

/// The whole body, `None` if it is too large. A body that comes in one piece is not copied.
async fn collect(body: Body, limit_bytes: usize) -> Result<Option<Bytes>, axum::Error> {
    let mut pieces = body.into_data_stream();
    let mut first = Bytes::new();
    let mut all = Vec::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        if first.len() + all.len() + piece.len() > limit_bytes {
            return Ok(None);
        }
        if first.is_empty() && all.is_empty() {
            first = piece;
            continue;
        }
        all.extend_from_slice(&std::mem::take(&mut first));
        all.extend_from_slice(&piece);
    }
    Ok(Some(if all.is_empty() { first } else { all.into() }))
}

/// What the body says of its own size.
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The media type of a body, without its parameters.
pub fn media_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim())
}

fn check_content_type(headers: &HeaderMap) -> Result<()> {
    let is_json = |kind: &str| kind.eq_ignore_ascii_case("application/json") || kind.ends_with("+json");
    match media_type(headers) {
        Some(kind) if is_json(kind) => Ok(()),
        Some(kind) => {
            let detail = format!("the body is said to be `{kind}`; send `Content-Type: application/json`");
            Err(Refusal::new(Kind::MediaType, detail))
        }
        None => Err(Refusal::new(Kind::MediaType, "send the body with `Content-Type: application/json`")),
    }
}

/// Reads JSON into a type. What is no JSON is said to be so by line and column; a field that does not fit, by its name.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    let plain = match serde_json::from_slice::<T>(body) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    // The way that names fields is slower; it is taken only to explain a failure.
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        // Only what follows the document was wrong.
        Ok(_) => Err(fault(&plain)),
        Err(error) => Err(fault(error.inner()).at(&pointer_of(error.path()))),
    }
}

fn fault(error: &serde_json::Error) -> Refusal {
    match error.classify() {
        serde_json::error::Category::Data => Refusal::new(Kind::Invalid, error.to_string()),
        _ => Refusal::new(Kind::Malformed, format!("the body is no JSON: {error}")),
    }
}

/// Does work that takes time in the size of a body, off the async threads where it is large.
pub async fn heavy<T: Send + 'static>(
    body_bytes: usize,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    if body_bytes < HEAVY_BYTES {
        return work();
    }
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        tracing::error!(%error, "checking a body failed");
        Err(Refusal::new(Kind::Internal, "the body could not be checked; the service's log says more"))
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[allow(dead_code)]
        inner: Inner,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[allow(dead_code)]
        number: u32,
    }

    #[test]
    fn each_fault_names_its_place() {
        let cases = [
            (r#"{"inner": {"number": -1}}"#, 422, Some("/inner/number"), "u32"),
            (r#"{"inner": {"numbr": 1}}"#, 422, Some("/inner/numbr"), "numbr"),
            (r#"{"inner": {"number": NaN}}"#, 400, Some("/inner/number"), "line 1 column 22"),
            (r#"{"inner": {"number": 1"#, 400, Some("/inner"), "line 1"),
            (r#"{"inner": {"number": 1}} x"#, 400, None, "trailing"),
            ("", 400, Some(""), "EOF"),
        ];
        for (body, status, pointer, word) in cases {
            let problem = parse::<Outer>(body.as_bytes()).unwrap_err().problem();
            assert_eq!((problem.status, problem.pointer.as_deref()), (status, pointer), "{body}");
            assert!(problem.detail.contains(word), "{body}: {}", problem.detail);
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(parse::<serde_json::Value>(deep.as_bytes()).unwrap_err().kind(), Kind::Malformed);
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit() {
        let request = |body: &'static str| Request::new(Body::from(body));
        let time = Duration::from_secs(1);
        assert_eq!(read_within(request("12345"), 5, time).await.unwrap(), "12345");
        assert_eq!(read_within(request("123456"), 5, time).await.unwrap_err().kind(), Kind::TooLarge);
        let pieces = futures::stream::iter(["12", "34", "5"].map(Ok::<_, std::io::Error>));
        let body = Request::new(Body::from_stream(pieces));
        assert_eq!(read_within(body, 5, time).await.unwrap(), "12345");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let never = futures::stream::pending::<Result<Bytes, std::io::Error>>();
        let request = Request::new(Body::from_stream(never));
        let refusal = read_within(request, 5, Duration::from_secs(30)).await.unwrap_err();
        assert_eq!(refusal.kind(), Kind::Timeout);
    }
}
