//! A message on its way to the broker: where it goes, its bytes, its properties.
//!
//! The headers are for people with `rabbitmqctl` or the management page; nothing here reads them.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString};
use serde::Serialize;
use springtide_core::wire::{DesiredState, EventMessage, Heartbeat};
use springtide_core::{LaneName, NodeId};

use crate::codec::{self, Unreadable};
use crate::error::Error;
use crate::names;
use crate::port::Publication;

const PERSISTENT: u8 = 2;
const TRANSIENT: u8 = 1;

/// Where a message goes.
#[derive(Clone, Debug)]
pub(super) enum Destination {
    Lane(LaneName),
    Events,
    Heartbeats,
    Node(NodeId),
    Dead,
}

impl Destination {
    pub(super) const fn exchange(&self) -> &'static str {
        match self {
            Self::Heartbeats => names::HEARTBEATS,
            Self::Node(_) => names::NODES,
            _ => "",
        }
    }

    pub(super) fn routing_key(&self) -> String {
        match self {
            Self::Lane(lane) => names::lane_queue(lane),
            Self::Events => names::EVENTS.to_owned(),
            Self::Heartbeats => String::new(),
            Self::Node(node) => node.to_string(),
            Self::Dead => names::DEAD.to_owned(),
        }
    }

    /// Whether a message that no queue takes is an error. Nobody has to listen to heartbeats.
    pub(super) const fn is_mandatory(&self) -> bool {
        !matches!(self, Self::Heartbeats)
    }

    /// What is lost when nobody takes it.
    pub(super) fn unroutable(&self) -> Error {
        let what = match self {
            Self::Lane(lane) => format!("tasks of lane {lane}"),
            Self::Events => "task events".to_owned(),
            Self::Heartbeats => "heartbeats".to_owned(),
            Self::Node(node) => format!("desired states of node {node}"),
            Self::Dead => "unreadable messages".to_owned(),
        };
        Error::Unroutable { what }
    }
}

/// A message, ready to go.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    pub(super) destination: Destination,
    pub(super) body: Vec<u8>,
    pub(super) properties: BasicProperties,
}

impl Parcel {
    pub(super) fn task(publication: &Publication) -> Result<Self, Error> {
        let message = &publication.message;
        let mut headers = FieldTable::default();
        headers.insert("job".into(), text(&message.task.job.to_string()));
        headers.insert("task".into(), text(&message.task.to_string()));
        headers.insert("attempt".into(), AMQPValue::LongLongInt(message.attempt.into()));
        let properties = properties("task", PERSISTENT)
            .with_headers(headers)
            .with_priority(publication.priority.min(names::MAX_PRIORITY))
            .with_expiration(milliseconds(publication.expiration).into());
        Self::new(Destination::Lane(publication.lane.clone()), message, properties)
    }

    pub(super) fn events(message: &EventMessage) -> Result<Self, Error> {
        let kind = match message {
            EventMessage::Events { .. } => "events",
            EventMessage::Marker { .. } => "marker",
        };
        Self::new(Destination::Events, message, properties(kind, PERSISTENT))
    }

    pub(super) fn heartbeat(heartbeat: &Heartbeat, expires_after: Duration) -> Result<Self, Error> {
        let properties =
            properties("heartbeat", TRANSIENT).with_expiration(milliseconds(expires_after).into());
        Self::new(Destination::Heartbeats, heartbeat, properties)
    }

    pub(super) fn desired(desired: &DesiredState, expires_after: Duration) -> Result<Self, Error> {
        let properties =
            properties("desired_state", TRANSIENT).with_expiration(milliseconds(expires_after).into());
        Self::new(Destination::Node(desired.node.clone()), desired, properties)
    }

    /// Bytes that could not be read, as they were, with what is known about them.
    pub(super) fn dead(origin: &str, body: Vec<u8>, why: &Unreadable) -> Self {
        let mut headers = FieldTable::default();
        headers.insert("origin".into(), text(origin));
        headers.insert("error".into(), text(&why.reason));
        headers.insert("sha256".into(), text(&codec::sha256(&body)));
        let properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_type("unreadable".into())
            .with_headers(headers);
        Self { destination: Destination::Dead, body, properties }
    }

    fn new<M: Serialize>(
        destination: Destination,
        message: &M,
        properties: BasicProperties,
    ) -> Result<Self, Error> {
        Ok(Self { destination, body: codec::encode(message)?, properties })
    }
}

fn properties(kind: &str, delivery_mode: u8) -> BasicProperties {
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(delivery_mode)
        .with_type(kind.into())
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

/// AMQP writes expirations as text in milliseconds. RabbitMQ takes up to 2^32 - 1 of them, and 0 as "now or never".
fn milliseconds(duration: Duration) -> String {
    duration.as_millis().clamp(1, u128::from(u32::MAX)).to_string()
}
