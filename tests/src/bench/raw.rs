//! The least that a task through RabbitMQ can cost: lapin alone, with the guarantees that ours gives. Publish persistently
//! with a confirm, consume, publish an event with a confirm, ack, consume the event. Events are batched as an agent
//! batches them: whatever has been delivered when the last batch is confirmed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

/// What a task message of ours weighs.
const BODY: [u8; 512] = [b'x'; 512];
/// Confirms awaited together.
const WINDOW: usize = 512;

async fn channel(url: &str) -> Result<(Connection, Channel)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok((connection, channel))
}

async fn declare(channel: &Channel, queue: &str, arguments: FieldTable) -> Result<()> {
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), durable, arguments).await?;
    Ok(())
}

async fn publish(channel: &Channel, queue: &str, bodies: impl Iterator<Item = Vec<u8>>) -> Result<()> {
    let properties = BasicProperties::default().with_delivery_mode(2);
    let mut confirms = Vec::new();
    for body in bodies {
        let options = BasicPublishOptions::default();
        let confirm =
            channel.basic_publish("".into(), queue.into(), options, &body, properties.clone()).await?;
        confirms.push(confirm);
        if confirms.len() == WINDOW {
            futures::future::try_join_all(confirms.drain(..)).await?;
        }
    }
    futures::future::try_join_all(confirms).await?;
    Ok(())
}

/// One agent: takes what is there, reports it in one message, acks it.
async fn agent(url: String, prefetch: u16) -> Result<()> {
    let (_consuming, channel) = self::channel(&url).await?;
    let (_publishing, events) = self::channel(&url).await?;
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let consumer =
        channel.basic_consume("raw.tasks".into(), "".into(), options, FieldTable::default()).await?;
    let mut batches = consumer.ready_chunks(usize::from(prefetch));
    while let Some(batch) = batches.next().await {
        let count = batch.len();
        let mut last = None;
        for delivery in batch {
            last = Some(delivery?);
        }
        let report = BODY.repeat(count).split_off(0);
        let mut numbered = (count as u32).to_le_bytes().to_vec();
        numbered.extend(report);
        publish(&events, "raw.events", std::iter::once(numbered)).await?;
        if let Some(delivery) = last {
            delivery.ack(BasicAckOptions { multiple: true }).await?;
        }
    }
    Ok(())
}

/// Tasks per second through the raw chain with two agents.
pub async fn tasks_per_second(url: &str, tasks: usize, prefetch: u16) -> Result<f64> {
    let (_connection, publisher) = channel(url).await?;
    let mut priorities = FieldTable::default();
    priorities.insert("x-max-priority".into(), AMQPValue::LongInt(5));
    declare(&publisher, "raw.tasks", priorities).await?;
    declare(&publisher, "raw.events", FieldTable::default()).await?;
    let (_leading, leader) = channel(url).await?;
    let options = BasicConsumeOptions::default();
    leader.basic_qos(1000, BasicQosOptions::default()).await?;
    let mut events =
        leader.basic_consume("raw.events".into(), "".into(), options, FieldTable::default()).await?;
    let agents: Vec<_> = (0..2).map(|_| tokio::spawn(agent(url.to_owned(), prefetch))).collect();

    let start = Instant::now();
    let publishing = tokio::spawn(async move {
        publish(&publisher, "raw.tasks", std::iter::repeat_n(BODY.to_vec(), tasks)).await
    });
    let mut seen = 0;
    let limit = Duration::from_mins(3);
    while seen < tasks {
        let next = tokio::time::timeout(limit, events.next()).await.context("no event for three minutes")?;
        let delivery = next.context("the events ended")??;
        let count: [u8; 4] = delivery.data.get(..4).context("a short event")?.try_into()?;
        seen += u32::from_le_bytes(count) as usize;
        delivery.ack(BasicAckOptions::default()).await?;
    }
    let seconds = start.elapsed().as_secs_f64();
    publishing.await??;
    agents.iter().for_each(tokio::task::JoinHandle::abort);
    ensure!(seen == tasks, "{seen} of {tasks} tasks were reported");
    Ok(tasks as f64 / seconds)
}
