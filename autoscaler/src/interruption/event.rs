//! Events of `EventBridge`, as AWS documents them ("Amazon EC2 events", "AWS Health events", "Auto Scaling events").

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use springtide_core::{NodeId, Timestamp};

/// From a spot interruption warning to the interruption (AWS, "Spot Instance interruption notices").
const SPOT_NOTICE: Duration = Duration::from_mins(2);
/// A message that is longer is none of `EventBridge`'s (its limit is 256 KiB).
const LONGEST: usize = 512 * 1024;
/// Most instances of one event.
const MOST: usize = 1000;

/// Something happens to machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub kind: Kind,
    /// The machines.
    pub nodes: Vec<NodeId>,
    /// When it was said.
    pub said_at: Timestamp,
    /// When it happens; `None`: the provider names no time.
    pub at: Option<Timestamp>,
    /// For people.
    pub what: String,
}

/// What happens to a machine; a label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The spot market takes it back.
    Spot,
    /// It is likely to be taken back.
    Rebalance,
    /// It stops or ends now.
    Ending,
    /// It has stopped or ended.
    Ended,
    /// Maintenance.
    Scheduled,
    /// An Auto Scaling group ends it.
    Lifecycle,
}

impl Kind {
    /// Its name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spot => "spot",
            Self::Rebalance => "rebalance",
            Self::Ending => "ending",
            Self::Ended => "ended",
            Self::Scheduled => "scheduled",
            Self::Lifecycle => "lifecycle",
        }
    }
}

/// Why a message is no event that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It can't be read.
    Malformed,
    /// It is about something else.
    Other,
}

impl Unread {
    /// Its name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Other => "other",
        }
    }
}

#[derive(Deserialize)]
struct Envelope {
    source: String,
    #[serde(rename = "detail-type")]
    detail_type: String,
    time: Timestamp,
    detail: Value,
}

/// Reads a message.
pub fn read(body: &str) -> Result<Event, Unread> {
    if body.len() > LONGEST {
        return Err(Unread::Malformed);
    }
    let envelope: Envelope = serde_json::from_str(body).map_err(|_| Unread::Malformed)?;
    let event = match (envelope.source.as_str(), envelope.detail_type.as_str()) {
        ("aws.ec2", "EC2 Spot Instance Interruption Warning") => {
            let what = text(&envelope.detail, "instance-action").unwrap_or("terminate");
            let at = Some(envelope.time + SPOT_NOTICE);
            of_one(&envelope, "instance-id", Kind::Spot, at, format!("spot interruption ({what})"))?
        }
        ("aws.ec2", "EC2 Instance Rebalance Recommendation") => {
            of_one(&envelope, "instance-id", Kind::Rebalance, None, "rebalance recommendation".to_owned())?
        }
        ("aws.ec2", "EC2 Instance State-change Notification") => state_change(&envelope)?,
        ("aws.health", "AWS Health Event") => scheduled_change(&envelope)?,
        ("aws.autoscaling", "EC2 Instance-terminate Lifecycle Action") => {
            of_one(&envelope, "EC2InstanceId", Kind::Lifecycle, None, "lifecycle hook".to_owned())?
        }
        _ => return Err(Unread::Other),
    };
    if event.nodes.is_empty() { Err(Unread::Other) } else { Ok(event) }
}

fn text<'a>(detail: &'a Value, key: &str) -> Option<&'a str> {
    detail.get(key).and_then(Value::as_str)
}

fn of_one(
    envelope: &Envelope,
    key: &str,
    kind: Kind,
    at: Option<Timestamp>,
    what: String,
) -> Result<Event, Unread> {
    let node = text(&envelope.detail, key).and_then(|id| id.parse().ok()).ok_or(Unread::Malformed)?;
    Ok(Event { kind, nodes: vec![node], said_at: envelope.time, at, what })
}

fn state_change(envelope: &Envelope) -> Result<Event, Unread> {
    let state = text(&envelope.detail, "state").ok_or(Unread::Malformed)?;
    let kind = match state {
        "stopping" | "shutting-down" => Kind::Ending,
        "stopped" | "terminated" => Kind::Ended,
        _ => return Err(Unread::Other),
    };
    of_one(envelope, "instance-id", kind, Some(envelope.time), format!("the instance is {state}"))
}

fn scheduled_change(envelope: &Envelope) -> Result<Event, Unread> {
    let detail = &envelope.detail;
    let is_ours = text(detail, "service") == Some("EC2")
        && text(detail, "eventTypeCategory") == Some("scheduledChange");
    if !is_ours {
        return Err(Unread::Other);
    }
    let entities = detail.get("affectedEntities").and_then(Value::as_array).ok_or(Unread::Malformed)?;
    let instance = |entity: &Value| text(entity, "entityValue")?.parse::<NodeId>().ok();
    let nodes = entities.iter().take(MOST).filter_map(instance).collect();
    let code = text(detail, "eventTypeCode").unwrap_or("scheduled change");
    let what: String = code.chars().take(100).collect();
    let at = text(detail, "startTime").and_then(time);
    Ok(Event { kind: Kind::Scheduled, nodes, said_at: envelope.time, at, what })
}

/// AWS Health writes `Sat, 05 Jun 2027 15:10:09 GMT`.
fn time(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Timestamp::from_micros(time.as_microsecond()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(source: &str, detail_type: &str, detail: &Value) -> String {
        json!({
            "version": "0", "id": "12345678-1234-1234-1234-123456789012", "account": "123456789012",
            "region": "us-east-2", "time": "2027-06-05T12:00:00Z", "resources": [],
            "source": source, "detail-type": detail_type, "detail": detail,
        })
        .to_string()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn each_kind_is_read_with_its_time() {
        let id = "i-1234567890abcdef0";
        let cases = [
            (
                "aws.ec2",
                "EC2 Spot Instance Interruption Warning",
                json!({"instance-id": id, "instance-action": "terminate"}),
                (Kind::Spot, Some(at("2027-06-05T12:02:00Z"))),
            ),
            (
                "aws.ec2",
                "EC2 Instance Rebalance Recommendation",
                json!({"instance-id": id}),
                (Kind::Rebalance, None),
            ),
            (
                "aws.ec2",
                "EC2 Instance State-change Notification",
                json!({"instance-id": id, "state": "shutting-down"}),
                (Kind::Ending, Some(at("2027-06-05T12:00:00Z"))),
            ),
            (
                "aws.ec2",
                "EC2 Instance State-change Notification",
                json!({"instance-id": id, "state": "terminated"}),
                (Kind::Ended, Some(at("2027-06-05T12:00:00Z"))),
            ),
            (
                "aws.health",
                "AWS Health Event",
                json!({
                    "service": "EC2", "eventTypeCategory": "scheduledChange",
                    "eventTypeCode": "AWS_EC2_PERSISTENT_INSTANCE_RETIREMENT_SCHEDULED",
                    "startTime": "Sat, 05 Jun 2027 15:10:09 GMT", "affectedEntities": [{"entityValue": id}],
                }),
                (Kind::Scheduled, Some(at("2027-06-05T15:10:09Z"))),
            ),
            (
                "aws.autoscaling",
                "EC2 Instance-terminate Lifecycle Action",
                json!({"EC2InstanceId": id, "LifecycleHookName": "hook"}),
                (Kind::Lifecycle, None),
            ),
        ];
        for (source, detail_type, detail, expected) in cases {
            let event = read(&message(source, detail_type, &detail)).unwrap();
            assert_eq!((event.kind, event.at), expected, "{detail_type}");
            assert_eq!(event.nodes, [id.parse().unwrap()], "{detail_type}");
        }
    }

    #[test]
    fn foreign_and_malformed_messages_are_told_apart() {
        let spot = "EC2 Spot Instance Interruption Warning";
        assert_eq!(read("{"), Err(Unread::Malformed));
        assert_eq!(read("null"), Err(Unread::Malformed));
        assert_eq!(read(&message("aws.ec2", spot, &json!({"instance-id": "../x"}))), Err(Unread::Malformed));
        assert_eq!(read(&message("aws.ec2", spot, &json!({}))), Err(Unread::Malformed));
        assert_eq!(read(&message("aws.s3", "Object Created", &json!({}))), Err(Unread::Other));
        let running = json!({"instance-id": "i-1", "state": "running"});
        assert_eq!(
            read(&message("aws.ec2", "EC2 Instance State-change Notification", &running)),
            Err(Unread::Other)
        );
        let issue = json!({"service": "EC2", "eventTypeCategory": "issue", "affectedEntities": []});
        assert_eq!(read(&message("aws.health", "AWS Health Event", &issue)), Err(Unread::Other));
        assert_eq!(read(&"x".repeat(600 * 1024)), Err(Unread::Malformed));
    }
}
