//! Queues and exchanges, declared the same way on RabbitMQ 3.10 to 4.x: durable, no quorum, no policy needed.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ExchangeKind, Queue};
use springtide_core::{LaneName, NodeId};

use crate::error::Error;
use crate::names;

/// What every process declares on every connection: a wiped broker is furnished by whoever comes first.
pub(super) async fn declare_base(connection: &Connection, dead_cap: u32) -> Result<(), Error> {
    let channel = open(connection).await?;
    let single = table("x-single-active-consumer", AMQPValue::Boolean(true));
    declare(&channel, names::EVENTS, single).await?;
    for (exchange, kind) in [(names::HEARTBEATS, ExchangeKind::Fanout), (names::NODES, ExchangeKind::Direct)]
    {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        channel
            .exchange_declare(exchange.into(), kind, options, FieldTable::default())
            .await
            .map_err(|e| refused(&format!("the exchange {exchange}"), &e))?;
    }
    let bound = table("x-max-length", AMQPValue::LongLongInt(dead_cap.into()));
    match declare(&channel, names::DEAD, bound).await {
        Ok(_) => close(&channel).await,
        // It is there with another bound, from another configuration. No reason to stop working.
        Err(Error::Refused { reason, .. }) => {
            tracing::warn!(queue = names::DEAD, reason, "keeping the queue as it is");
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Declares a lane's queue on a channel of its own, since a refusal closes the channel.
pub(super) async fn declare_lane(connection: &Connection, lane: &LaneName) -> Result<Queue, Error> {
    let channel = open(connection).await?;
    let arguments = table("x-max-priority", AMQPValue::LongInt(names::MAX_PRIORITY.into()));
    let queue = declare(&channel, &names::lane_queue(lane), arguments).await?;
    close(&channel).await;
    Ok(queue)
}

/// A queue that goes when its connection goes, under a name that the broker makes up: a fixed name would stay locked
/// behind a connection that is half open.
pub(super) async fn declare_own(
    channel: &Channel,
    exchange: &str,
    node: Option<&NodeId>,
) -> Result<String, Error> {
    let what = format!("a queue at {exchange}");
    let options =
        QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let queue = channel
        .queue_declare("".into(), options, FieldTable::default())
        .await
        .map_err(|e| refused(&what, &e))?;
    let key = node.map_or("", NodeId::as_str);
    channel
        .queue_bind(
            queue.name().clone(),
            exchange.into(),
            key.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .map_err(|e| refused(&what, &e))?;
    Ok(queue.name().as_str().to_owned())
}

pub(super) async fn open(connection: &Connection) -> Result<Channel, Error> {
    connection.create_channel().await.map_err(|e| refused("a channel", &e))
}

async fn declare(channel: &Channel, name: &str, arguments: FieldTable) -> Result<Queue, Error> {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel
        .queue_declare(name.into(), options, arguments)
        .await
        .map_err(|e| refused(&format!("the queue {name}"), &e))
}

/// A channel that did its work. Should closing fail, dropping it closes it.
async fn close(channel: &Channel) {
    let _ = channel.close(200, "done".into()).await;
}

fn table(key: &str, value: AMQPValue) -> FieldTable {
    let mut table = FieldTable::default();
    table.insert(key.into(), value);
    table
}

/// The broker's no, or the loss of the connection, in our words.
pub(super) fn refused(what: &str, error: &lapin::Error) -> Error {
    if !error.is_amqp_soft_error() {
        return Error::Lost { what: "the broker answered", reason: error.to_string() };
    }
    let reason = error.to_string();
    let hint = if reason.contains("PRECONDITION_FAILED") || reason.contains("inequivalent") {
        "; it exists with other arguments: delete it, or use another virtual host"
    } else {
        ""
    };
    Error::Refused { what: what.to_owned(), reason: format!("{reason}{hint}") }
}
