//! `GET /v1/outputs/{key}`: the bytes of an output.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use object_store::path::Path as ObjectPath;
use object_store::{GetOptions, GetResult};

use super::Shared;
use super::auth::{Allowed, Read};
use super::problem::{Kind, Refusal, Result};

/// Where agents put outputs in the object store. Nothing else is given out here.
const PREFIX: &str = "outputs/";

/// Where the bytes of an output are found.
pub fn url_of(key: &str) -> String {
    format!("/v1/outputs/{}", key.strip_prefix(PREFIX).unwrap_or(key))
}

/// The bytes of an output. They never change under one key.
#[utoipa::path(
    get,
    path = "/v1/outputs/{key}",
    tag = "jobs",
    params(("key" = String, Path, description = "As an output's `url` has it; may hold slashes")),
    responses(
        (status = 200, description = "The bytes", body = String, content_type = "application/octet-stream"),
        (status = 304, description = "`If-None-Match` names them"),
    ),
)]
pub async fn bytes(
    State(api): State<Shared>,
    _: Allowed<Read>,
    Path(key): Path<String>,
    headers: HeaderMap,
) -> Result<Response> {
    let path = object_path(&key)?;
    let if_none_match =
        headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let options = GetOptions { if_none_match, ..GetOptions::default() };
    match api.app.parts.objects.get_opts(&path, options).await {
        Ok(found) => Ok(reply(&key, found)),
        Err(object_store::Error::NotModified { .. }) => Ok(StatusCode::NOT_MODIFIED.into_response()),
        Err(object_store::Error::NotFound { .. }) => {
            Err(Refusal::new(Kind::NotFound, format!("there is no output `{key}`")))
        }
        Err(error) => Err(error.into()),
    }
}

/// The object that a key means: always one below `outputs/`.
fn object_path(key: &str) -> Result<ObjectPath> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    let path = ObjectPath::parse(format!("{PREFIX}{key}")).ok();
    // Parsing refuses `..`, `.` and empty parts; a slash at the end it would cut off.
    path.filter(|path| key.chars().all(plain) && path.as_ref().len() == PREFIX.len() + key.len())
        .ok_or_else(|| Refusal::new(Kind::Malformed, "this is not the key of an output"))
}

fn reply(key: &str, found: GetResult) -> Response {
    let mut response = Response::builder()
        .header(header::CONTENT_TYPE, media_type(key))
        .header(header::CONTENT_LENGTH, found.meta.size)
        .header(header::CACHE_CONTROL, "private, max-age=31536000, immutable")
        .header("x-content-type-options", "nosniff");
    if let Some(tag) = &found.meta.e_tag {
        response = response.header(header::ETAG, tag);
    }
    // Headers of constants, a number and what the object store gave as a header itself.
    response.body(Body::from_stream(found.into_stream())).unwrap_or_else(|error| {
        tracing::error!(%error, key, "an output's headers can't be written");
        Refusal::new(Kind::Internal, "the output can't be sent").into_response()
    })
}

fn media_type(key: &str) -> &'static str {
    match key.rsplit_once('.').map(|(_, extension)| extension) {
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("webp") => "image/webp",
        Some("json") => "application/json",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_outputs_are_given_out() {
        let path = object_path("job_1/0/1-run_2/0.png").unwrap();
        assert_eq!(path.as_ref(), "outputs/job_1/0/1-run_2/0.png");
        let bad = [
            "",
            "..",
            "../models/x",
            "a/../../b",
            "a//b",
            "/a",
            "a/",
            "./a",
            "a\\b",
            "a\0",
            "a b",
            "%2e%2e/x",
            "ä",
        ];
        for key in bad {
            assert!(object_path(key).is_err(), "{key:?}");
        }
    }

    #[test]
    fn a_url_leads_back_to_its_key() {
        let key = "outputs/job_1/0/1-run_2/0.png";
        let url = url_of(key);
        assert_eq!(object_path(url.strip_prefix("/v1/outputs/").unwrap()).unwrap().as_ref(), key);
    }
}
