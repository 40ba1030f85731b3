//! What stands in a path or a query.

use std::str::FromStr;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use springtide_core::LaneName;
use springtide_store::Error as StoreError;
use springtide_store::port::Cursor;

use super::Shared;
use super::problem::{Kind, Refusal, Result};
use crate::config::Config;

/// Items on a page when the request does not say.
const DEFAULT_PAGE: u32 = 100;

/// The one parameter of a path, as an identifier. What is none names nothing: 404.
pub struct Id<T>(pub T);

impl<T: FromStr<Err: std::fmt::Display>> FromRequestParts<Shared> for Id<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self> {
        let path = Path::<String>::from_request_parts(parts, api).await;
        let Path(text) = path.map_err(|error| Refusal::new(Kind::Malformed, error.body_text()))?;
        text.parse().map(Self).map_err(|error: T::Err| Refusal::new(Kind::NotFound, error.to_string()))
    }
}

/// The name of something that has no type of its own here: a lease, a launch.
pub struct Name(pub String);

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The rules of all names.
        match text.parse::<LaneName>() {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => {
                Err("a name has 1 to 100 of a-z A-Z 0-9 . _ -, and starts with a letter or digit".to_owned())
            }
        }
    }
}

/// The parameters of a query. Those that the type does not know are refused.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Shared> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(Self(params)),
            Err(error) => Err(Refusal::new(Kind::Malformed, error.body_text())),
        }
    }
}

/// Which part of a list.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageParams {
    /// What the last page gave as `next_cursor`.
    pub cursor: Option<String>,
    /// At most this many items; 100 when it is not said.
    pub limit: Option<u32>,
}

/// Checks which part of a list is asked for.
pub fn page(config: &Config, cursor: Option<String>, limit: Option<u32>) -> Result<Cursor> {
    let most = config.page_limit.max(1);
    let limit = limit.unwrap_or(DEFAULT_PAGE.min(most));
    if limit == 0 || limit > most {
        let detail = format!("the query parameter `limit` is {limit}; a page has 1 to {most} items");
        return Err(Refusal::new(Kind::Malformed, detail));
    }
    Ok(Cursor { after: cursor.filter(|cursor| !cursor.is_empty()), limit })
}

/// What the store says to a page: the only thing that can contradict it is the cursor.
pub fn bad_cursor(error: StoreError) -> Refusal {
    match error {
        StoreError::Conflict(message) => {
            Refusal::new(Kind::Malformed, format!("the query parameter `cursor` is wrong: {message}"))
        }
        other => other.into(),
    }
}

/// A number of seconds in a request: finite, and within bounds.
pub fn seconds(given: f64, least: f64, most: f64) -> Result<std::time::Duration, String> {
    if (least..=most).contains(&given) {
        Ok(std::time::Duration::from_secs_f64(given))
    } else {
        Err(format!("is {given}; it has to be from {least} to {most} seconds"))
    }
}
