//! `GET /v1/jobs`: jobs, newest first.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use springtide_core::Priority;
use springtide_core::api::{JobView, Page};
use springtide_core::job::JobStatus;
use springtide_store::port::JobFilter;

use super::view;
use crate::http::Shared;
use crate::http::auth::{Allowed, Read};
use crate::http::params::{Params, bad_cursor, page};
use crate::http::problem::{Kind, Refusal, Result};

/// Which jobs.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// Of this status.
    pub status: Option<JobStatus>,
    /// With this label: `key=value` or `key:value`.
    pub label: Option<String>,
    /// Of this model: `NAME@VERSION`.
    pub model: Option<String>,
    /// Of this priority.
    pub priority: Option<Priority>,
    /// What the last page gave as `next_cursor`.
    pub cursor: Option<String>,
    /// At most this many items; 100 when it is not said.
    pub limit: Option<u32>,
}

/// Jobs, newest first, without their outputs.
#[utoipa::path(
    get,
    path = "/v1/jobs",
    tag = "jobs",
    params(ListParams),
    responses((status = 200, description = "A page of jobs", body = Page<JobView>)),
)]
pub async fn list(
    State(api): State<Shared>,
    _: Allowed<Read>,
    Params(params): Params<ListParams>,
) -> Result<Json<Page<JobView>>> {
    let cursor = page(&api.app.config, params.cursor.clone(), params.limit)?;
    let rows = api.app.store.jobs(&filter(params)?, &cursor).await.map_err(bad_cursor)?;
    let mut items = Vec::with_capacity(rows.items.len());
    for row in rows.items {
        items.push(view::job(&api.app, row).await);
    }
    Ok(Json(Page { items, next_cursor: rows.next }))
}

fn filter(params: ListParams) -> Result<JobFilter> {
    let wrong = |name: &str, message: String| {
        Refusal::new(Kind::Malformed, format!("the query parameter `{name}` {message}"))
    };
    let label = params.label.map(|label| match label.split_once(['=', ':']) {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(wrong("label", "has to be `key=value`".to_owned())),
    });
    let model =
        params.model.map(|model| model.parse().map_err(|error| wrong("model", format!("is wrong: {error}"))));
    Ok(JobFilter {
        status: params.status,
        label: label.transpose()?,
        model: model.transpose()?,
        priority: params.priority,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_keys_and_values() {
        let label = |text: &str| filter(ListParams { label: Some(text.into()), ..ListParams::default() });
        for text in ["a=b:c", "a:b:c"] {
            assert_eq!(label(text).unwrap().label, Some(("a".into(), "b:c".into())));
        }
        assert!(label("nothing").is_err() && label("=x").is_err());
    }
}
