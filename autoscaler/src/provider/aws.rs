//! Region, credentials, endpoint and limits, for EC2 and SQS alike.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ec2::config::Credentials;

use crate::config::Ec2;

const CONNECT: Duration = Duration::from_secs(5);

/// As the configuration, the environment or the machine's role say.
pub async fn settings(config: &Ec2) -> SdkConfig {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        // The loop repeats by itself, at its own pace.
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts);
    if !config.region.is_empty() {
        loader = loader.region(Region::new(config.region.clone()));
    }
    if !config.endpoint.is_empty() {
        loader = loader.endpoint_url(&config.endpoint);
    }
    if !config.access_key_id.is_empty() {
        let (id, secret) = (config.access_key_id.reveal(), config.secret_access_key.reveal());
        loader = loader.credentials_provider(Credentials::new(id, secret, None, None, "springtide"));
    }
    loader.load().await
}
