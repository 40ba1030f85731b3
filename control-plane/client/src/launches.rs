//! What the autoscaler keeps in the control plane: its intents and its leadership.

use reqwest::Method;
use springtide_core::api::{LaunchView, LeaseGrant, LeaseWish, PutLaunch};

use crate::http::Call;
use crate::{Client, Error};

impl Client {
    /// Writes a launch; harmless to repeat.
    pub async fn put_launch(&self, id: &str, launch: &PutLaunch) -> Result<LaunchView, Error> {
        self.http.json(&Call::new(Method::PUT, &["v1", "launches", id]).json(launch)?).await
    }

    /// Takes, renews or gives up a lease. The reply names who has it.
    pub async fn lease(&self, name: &str, wish: &LeaseWish) -> Result<LeaseGrant, Error> {
        self.http.json(&Call::post(&["v1", "leases", name]).json(wish)?.harmless()).await
    }
}
