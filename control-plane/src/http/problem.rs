//! Refusals: every answer that is no success is a problem document (RFC 9457).

use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use springtide_core::api::Problem;
use springtide_core::model::{InputFault, Pointer};
use springtide_store::Error as StoreError;

/// The media type of problem documents.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The kind of a refusal: its status, its stable name, its title.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request can't be read at all.
    Malformed,
    /// No token, or one that is not known.
    Unauthenticated,
    /// The token does not have the scope, or this is nobody's to do.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// The path takes other methods.
    MethodNotAllowed,
    /// The body did not come in time.
    Timeout,
    /// It contradicts what is stored.
    Conflict,
    /// Whoever asks does not hold the lease any more.
    Fenced,
    /// The body is too large.
    TooLarge,
    /// The body is of another type.
    MediaType,
    /// A field is wrong.
    Invalid,
    /// The idempotency key stands for another body.
    IdempotencyConflict,
    /// It failed, and that is nobody's fault but ours.
    Internal,
    /// More is under way than is taken at once.
    Busy,
    /// What is needed can't be reached for the moment.
    Unavailable,
    /// No room is left.
    Full,
}

impl Kind {
    const fn describe(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Malformed => (StatusCode::BAD_REQUEST, "malformed", "The request can't be read"),
            Self::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthenticated", "A valid token is needed"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "This is not allowed"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is no such thing"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "This method is not taken here")
            }
            Self::Timeout => (StatusCode::REQUEST_TIMEOUT, "timeout", "The request took too long"),
            Self::Conflict => (StatusCode::CONFLICT, "conflict", "This contradicts what is stored"),
            Self::Fenced => (StatusCode::CONFLICT, "fenced", "The lease is held by another"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The request is too large"),
            Self::MediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "This content type is not taken",
            ),
            Self::Invalid => (StatusCode::UNPROCESSABLE_ENTITY, "invalid", "A field is wrong"),
            Self::IdempotencyConflict => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-conflict",
                "The idempotency key was used for another request",
            ),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "The service failed"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy", "Too much is under way"),
            Self::Unavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Something that is needed can't be reached")
            }
            Self::Full => (StatusCode::INSUFFICIENT_STORAGE, "full", "No room is left"),
        }
    }

    /// Its HTTP status.
    pub const fn status(self) -> StatusCode {
        self.describe().0
    }

    /// When another try makes sense, in seconds.
    const fn retry_after(self) -> Option<&'static str> {
        match self {
            Self::Busy => Some("1"),
            Self::Unavailable => Some("2"),
            Self::Full => Some("10"),
            _ => None,
        }
    }
}

/// A request that is not served, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(Box<Content>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    kind: Kind,
    detail: String,
    pointer: Option<String>,
}

/// What handlers return.
pub type Result<T, E = Refusal> = std::result::Result<T, E>;

impl Refusal {
    /// A refusal that no single field is at fault for.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self(Box::new(Content { kind, detail: detail.into(), pointer: None }))
    }

    /// The field at `pointer` is wrong.
    pub fn invalid(pointer: &Pointer, detail: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, detail).at(pointer)
    }

    /// The member `name` of the body is wrong.
    pub fn field(name: &str, detail: impl Into<String>) -> Self {
        Self::invalid(&Pointer::root().join(name), detail)
    }

    /// Names the field at fault.
    #[must_use]
    pub fn at(mut self, pointer: &Pointer) -> Self {
        self.0.pointer = Some(pointer.as_str().to_owned());
        self
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The document.
    pub fn problem(&self) -> Problem {
        let (status, word, title) = self.0.kind.describe();
        Problem {
            r#type: format!("urn:springtide:problem:{word}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: self.0.detail.clone(),
            pointer: self.0.pointer.clone(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let kind = self.0.kind;
        // A document of texts and a number can always be written.
        let body = serde_json::to_vec(&self.problem()).unwrap_or_default();
        let mut response = (kind.status(), [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = kind.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        if kind == Kind::Unauthenticated {
            let challenge = HeaderValue::from_static("Bearer realm=\"springtide\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl From<InputFault> for Refusal {
    fn from(fault: InputFault) -> Self {
        Self::invalid(&fault.pointer, fault.message)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let kind = match &error {
            StoreError::NotFound { .. } => Kind::NotFound,
            StoreError::IdempotencyConflict => Kind::IdempotencyConflict,
            StoreError::Conflict(_) => Kind::Conflict,
            StoreError::Fenced { .. } => Kind::Fenced,
            StoreError::Busy => Kind::Busy,
            StoreError::Full(_) => Kind::Full,
            StoreError::Unavailable(_) => Kind::Unavailable,
            StoreError::Broken(_) => {
                tracing::error!(%error, "a request failed");
                return Self::new(Kind::Internal, "the store failed; the service's log says more");
            }
        };
        Self::new(kind, error.to_string())
    }
}

impl From<object_store::Error> for Refusal {
    fn from(error: object_store::Error) -> Self {
        tracing::error!(%error, "the object store failed");
        if is_full(&error) {
            return Self::new(Kind::Full, "the object store has no room left");
        }
        Self::new(
            Kind::Unavailable,
            "the object store can't be used for the moment; the service's log says more",
        )
    }
}

/// Whether a disk that is full is behind an error.
pub fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut source = Some(error);
    while let Some(error) = source {
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        if matches!(kind, Some(std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)) {
            return true;
        }
        source = error.source();
    }
    false
}

/// No route has this path.
pub async fn no_such_path(uri: Uri) -> Refusal {
    let detail = format!("there is no `{}`; /openapi.json lists what there is", uri.path());
    Refusal::new(Kind::NotFound, detail)
}

/// The path is there, but not for this method.
pub async fn no_such_method(method: axum::http::Method, uri: Uri) -> Refusal {
    let detail = format!("{method} is not taken by `{}`; the header Allow says what is", uri.path());
    Refusal::new(Kind::MethodNotAllowed, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_succeed_later_says_when_to_come_again() {
        for error in [StoreError::Busy, StoreError::Unavailable("x".into()), StoreError::Full("x".into())] {
            let response = Refusal::from(error).into_response();
            assert!(response.status().is_server_error());
            assert!(response.headers().contains_key(header::RETRY_AFTER));
        }
        let broken = Refusal::from(StoreError::Broken("select * from secrets".into())).problem();
        assert_eq!(broken.status, 500);
        assert!(!broken.detail.contains("select"), "the statement is for the log, not for users");
    }

    #[test]
    fn a_full_disk_is_found_behind_other_errors() {
        let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let wrapped = object_store::Error::Generic { store: "x", source: Box::new(source) };
        assert_eq!(Refusal::from(wrapped).kind(), Kind::Full);
    }
}
