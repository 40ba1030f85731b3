//! A consumer's channel, as its deliveries hold it. The last holder closes it; the broker then takes back what was not
//! acked.

use futures::FutureExt as _;
use lapin::options::BasicAckOptions;

use crate::delivery::{Channel, Reach};
use crate::error::Error;

pub(super) struct RabbitChannel(pub(super) lapin::Channel);

impl Channel for RabbitChannel {
    fn ack(&self, tag: u64, reach: Reach) -> Result<(), Error> {
        if !self.is_open() {
            return Err(Error::Stale);
        }
        let options = BasicAckOptions { multiple: reach == Reach::Through };
        // The first poll hands the frame to the connection's thread; the rest of the future only waits until it is
        // written. Nobody needs to know that: an ack that gets lost is a redelivery.
        match self.0.basic_ack(tag, options).now_or_never() {
            Some(Err(_)) => Err(Error::Stale),
            _ => Ok(()),
        }
    }

    fn is_open(&self) -> bool {
        self.0.status().connected()
    }
}
