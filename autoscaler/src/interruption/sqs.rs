//! AWS SQS.

use async_trait::async_trait;
use aws_sdk_sqs::Client;

use super::{Message, Queue, QueueError};
use crate::config::Ec2;
use crate::provider::aws;

/// How long a call waits for messages; the longest that SQS allows.
const WAIT_S: i32 = 20;
/// The most that SQS gives at once.
const AT_ONCE: i32 = 10;
/// A message that was not deleted comes again after this.
const AGAIN_AFTER_S: i32 = 10;

/// A queue that `EventBridge` fills.
#[derive(Debug)]
pub struct Sqs {
    client: Client,
    url: String,
}

impl Sqs {
    /// The queue of the configuration. Nothing is asked yet.
    pub async fn open(config: &Ec2) -> Self {
        let client = Client::new(&aws::settings(config).await);
        Self { client, url: config.interruption_queue_url.clone() }
    }
}

#[async_trait]
impl Queue for Sqs {
    async fn receive(&self) -> Result<Vec<Message>, QueueError> {
        let call = self.client.receive_message().queue_url(&self.url);
        let call =
            call.wait_time_seconds(WAIT_S).max_number_of_messages(AT_ONCE).visibility_timeout(AGAIN_AFTER_S);
        let answer = call.send().await.map_err(failed)?;
        let message = |message: &aws_sdk_sqs::types::Message| {
            let (body, receipt) = (message.body()?.to_owned(), message.receipt_handle()?.to_owned());
            Some(Message { body, receipt })
        };
        Ok(answer.messages().iter().filter_map(message).collect())
    }

    async fn delete(&self, receipt: &str) -> Result<(), QueueError> {
        let call = self.client.delete_message().queue_url(&self.url).receipt_handle(receipt);
        call.send().await.map(drop).map_err(failed)
    }
}

fn failed<E: std::error::Error>(error: E) -> QueueError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    QueueError(text.chars().take(500).collect())
}
