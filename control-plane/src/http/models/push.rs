//! `POST /v1/models`: takes a model as a tar archive of its directory.
//!
//! The archive is spooled to a file without a name, so that nothing of it stays behind, whatever happens; it is checked
//! as a whole before the first byte goes to the object store.

mod archive;
mod keep;

use std::fs::File;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use futures::StreamExt;
use springtide_core::api::ModelView;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::view;
use crate::http::Shared;
use crate::http::auth::{Allowed, Operate};
use crate::http::body::{content_length, media_type};
use crate::http::problem::{Kind, Refusal, Result, is_full};

const TAR: &str = "application/x-tar";

/// Takes a version of a model: a tar archive of `model.toml` and the files that it lists, each with its checksum. The
/// same version with the same manifest may be pushed again; with another one it is a conflict.
#[utoipa::path(
    post,
    path = "/v1/models",
    tag = "models",
    request_body(content = String, content_type = "application/x-tar"),
    responses(
        (status = 201, description = "The model is there now", body = ModelView),
        (status = 200, description = "It was there before", body = ModelView),
    ),
)]
pub async fn push(
    State(api): State<Shared>,
    _: Allowed<Operate>,
    request: Request,
) -> Result<impl IntoResponse> {
    let app = &api.app;
    let (parts, body) = request.into_parts();
    check_headers(&parts.headers, app.config.max_model_bytes)?;
    let Ok(_place) = api.uploads.try_acquire() else {
        return Err(Refusal::new(
            Kind::Busy,
            "as many models are being uploaded as this service takes at once",
        ));
    };
    let spool = spool(body, app.config.max_model_bytes, app.config.request_timeout).await?;
    let checking =
        tokio::task::spawn_blocking(move || archive::check(&spool).map(|archive| (spool, archive)));
    let (spool, archive) = checking.await.map_err(|error| {
        tracing::error!(%error, "checking a model failed");
        Refusal::new(Kind::Internal, "the model could not be checked; the service's log says more")
    })??;
    let kept = keep::keep(app, spool, archive).await?;
    let status = if kept.new { StatusCode::CREATED } else { StatusCode::OK };
    let location = format!("/v1/models/{}", kept.row.id);
    Ok((status, [(header::LOCATION, location)], Json(view(kept.row)?)))
}

fn check_headers(headers: &HeaderMap, limit_bytes: u64) -> Result<()> {
    match media_type(headers) {
        Some(kind) if kind.eq_ignore_ascii_case(TAR) => {}
        _ => {
            let detail =
                format!("send a tar archive with `Content-Type: {TAR}`; `springtide models push DIR` does");
            return Err(Refusal::new(Kind::MediaType, detail));
        }
    }
    match content_length(headers) {
        Some(length) if length > limit_bytes => Err(too_large(limit_bytes)),
        _ => Ok(()),
    }
}

fn too_large(limit_bytes: u64) -> Refusal {
    let detail = format!("the archive is larger than {limit_bytes} bytes (`control_plane.max_model_bytes`)");
    Refusal::new(Kind::TooLarge, detail)
}

/// Writes a body to a file that has no name and is gone when it is closed.
async fn spool(body: Body, limit_bytes: u64, idle: Duration) -> Result<File> {
    let announced = body.size_hint().lower();
    let file = tokio::task::spawn_blocking(tempfile::tempfile).await.map_err(std::io::Error::other);
    let mut file = tokio::fs::File::from_std(file.and_then(|file| file).map_err(|error| cant_spool(&error))?);
    let mut pieces = body.into_data_stream();
    let mut size = 0_u64;
    loop {
        let next = timeout(idle, pieces.next()).await.map_err(|_| {
            let detail = format!("no byte of the archive came within {} s", idle.as_secs_f64());
            Refusal::new(Kind::Timeout, detail)
        })?;
        let Some(piece) = next else { break };
        let piece = piece.map_err(|error| {
            Refusal::new(Kind::Malformed, format!("the archive broke off after {size} bytes: {error}"))
        })?;
        size += piece.len() as u64;
        if size > limit_bytes {
            return Err(too_large(limit_bytes));
        }
        file.write_all(&piece).await.map_err(|error| cant_spool(&error))?;
    }
    if size < announced {
        return Err(Refusal::new(
            Kind::Malformed,
            format!("the archive broke off after {size} of {announced} bytes"),
        ));
    }
    file.flush().await.map_err(|error| cant_spool(&error))?;
    Ok(file.into_std().await)
}

fn cant_spool(error: &std::io::Error) -> Refusal {
    tracing::error!(%error, directory = %std::env::temp_dir().display(), "an upload can't be written");
    let kind = if is_full(error) { Kind::Full } else { Kind::Internal };
    let detail =
        "the upload can't be written to the service's directory for temporary files (TMPDIR); is it full?";
    Refusal::new(kind, detail)
}
