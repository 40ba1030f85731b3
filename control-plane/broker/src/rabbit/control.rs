//! A consumer as its owner holds it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::Lifetime;
use super::channel::RabbitChannel;
use super::consumer::Cancel;
use super::link::Link;
use crate::delivery::Control;
use crate::error::Error;

/// The owner's side of a consumer.
pub(super) struct RabbitControl {
    pub(super) cancels: mpsc::Sender<Cancel>,
    /// After a cancel: keeps the channel open while the consumer lives.
    pub(super) channel: Option<Arc<RabbitChannel>>,
    pub(super) link: Link,
    pub(super) limit: Duration,
    /// Consumers keep the connections alive.
    pub(super) _lifetime: Arc<Lifetime>,
}

#[async_trait]
impl Control for RabbitControl {
    async fn cancel(&mut self) -> Result<(), Error> {
        let (sender, answer) = oneshot::channel();
        if self.cancels.send(sender).await.is_err() {
            return Ok(());
        }
        // The task has its own, shorter limit, and may have to bury something first.
        match timeout(self.limit * 3, answer).await {
            Ok(Ok(result)) => {
                self.channel = result?;
                Ok(())
            }
            Ok(Err(_)) => Ok(()),
            Err(_) => Err(self.link.late("a consumer to end", self.limit * 3)),
        }
    }
}
