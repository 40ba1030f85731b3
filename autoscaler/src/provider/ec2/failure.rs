//! What EC2's error codes mean (EC2 API Reference, "Error codes").

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use springtide_planner::OfferKey;

use super::Error;

/// By the start of the code.
const THROTTLED: &[&str] = &["RequestLimitExceeded", "Throttl", "RequestThrottled", "EC2ThrottledException"];
const CAPACITY: &[&str] = &[
    "Insufficient",
    "InstanceLimitExceeded",
    "VcpuLimitExceeded",
    "MaxSpotInstanceCountExceeded",
    "SpotMaxPriceTooLow",
    "UnfulfillableCapacity",
    "Unsupported",
];
const REFUSED: &[&str] = &[
    "UnauthorizedOperation",
    "AuthFailure",
    "AccessDenied",
    "ExpiredToken",
    "InvalidClientTokenId",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "IncompleteSignature",
    "RequestExpired",
    "OptInRequired",
    "Blocked",
    "PendingVerification",
    "UnrecognizedClient",
];
const ITS_OWN: &[&str] = &["Internal", "ServiceUnavailable", "Unavailable", "Server."];

/// A failure of the SDK.
pub(super) fn of<E>(call: &'static str, offer: Option<&OfferKey>, error: &SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    match (error, error.code()) {
        (SdkError::ServiceError(_), Some(code)) => {
            let message = error.message().unwrap_or_default();
            if status.is_some_and(|status| status >= 500) && !starts(code, CAPACITY) {
                return Error::Unavailable { call, message: format!("{code}: {message}") };
            }
            named(call, offer, code, message)
        }
        _ => unanswered(call, &causes(error)),
    }
}

/// No answer came: nobody is there, or the SDK has nothing to sign with.
fn unanswered(call: &'static str, causes: &str) -> Error {
    if causes.contains("credentials") {
        return Error::Refused { call, message: causes.to_owned() };
    }
    Error::Unavailable { call, message: format!("{causes} (autoscaler.ec2.endpoint, autoscaler.ec2.region)") }
}

/// A failure by its code.
pub(super) fn named(call: &'static str, offer: Option<&OfferKey>, code: &str, message: &str) -> Error {
    let message = format!("{code}: {message}");
    match offer {
        Some(offer) if starts(code, CAPACITY) => Error::NoCapacity { offer: offer.clone(), message },
        _ if starts(code, THROTTLED) => Error::Throttled { call, message },
        _ if starts(code, REFUSED) => Error::Refused { call, message },
        _ if code.is_empty() || starts(code, ITS_OWN) => Error::Unavailable { call, message },
        _ => Error::Invalid { call, message },
    }
}

fn starts(code: &str, with: &[&str]) -> bool {
    with.iter().any(|start| code.starts_with(start))
}

/// The whole chain of causes: the SDK's own words say only that something failed.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text.chars().take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_told_apart() {
        let offer = "g5.xlarge/us-east-1a/spot".parse().unwrap();
        for (code, kind) in [
            ("InsufficientInstanceCapacity", "no_capacity"),
            ("MaxSpotInstanceCountExceeded", "no_capacity"),
            ("RequestLimitExceeded", "throttled"),
            ("UnauthorizedOperation", "refused"),
            ("InvalidLaunchTemplateId.NotFound", "invalid"),
            ("IdempotentParameterMismatch", "invalid"),
            ("InternalError", "unavailable"),
            ("", "unavailable"),
        ] {
            assert_eq!(named("RunInstances", Some(&offer), code, "").kind(), kind, "{code}");
        }
    }
}
