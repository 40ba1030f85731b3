//! The cluster as a whole, and whether it is well.

use serde_json::Value;
use springtide_core::api::ClusterView;

use crate::http::Call;
use crate::{Client, Error};

impl Client {
    /// One consistent snapshot of work and nodes.
    pub async fn cluster(&self) -> Result<ClusterView, Error> {
        self.http.json(&Call::get(&["v1", "cluster"])).await
    }

    /// Whether the process answers at all.
    pub async fn health(&self) -> Result<(), Error> {
        self.http.bytes(&Call::get(&["healthz"])).await.map(drop)
    }

    /// Whether the store takes writes; the broker's state is in what is returned.
    pub async fn ready(&self) -> Result<Value, Error> {
        self.http.json(&Call::get(&["readyz"])).await
    }

    /// The metrics, in the text format of Prometheus.
    pub async fn metrics(&self) -> Result<String, Error> {
        let body = self.http.bytes(&Call::get(&["metrics"])).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// The description of the API, as an `OpenAPI` document.
    pub async fn openapi(&self) -> Result<Value, Error> {
        self.http.json(&Call::get(&["openapi.json"])).await
    }
}
