//! The receipt for a call that publishes: a place for the fate of each of its messages. The publisher fills it, the
//! caller waits until it is full or its time is up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::error::Error;

pub(super) struct Ticket {
    state: Mutex<State>,
    full: Notify,
    given_up: AtomicBool,
}

struct State {
    fates: Vec<Option<Result<(), Error>>>,
    open: usize,
}

impl Ticket {
    /// `known` has the fates that are known already: messages that could not be encoded.
    pub(super) fn new(known: Vec<Option<Result<(), Error>>>) -> Self {
        let open = known.iter().filter(|fate| fate.is_none()).count();
        let state = Mutex::new(State { fates: known, open });
        Self { state, full: Notify::new(), given_up: AtomicBool::new(false) }
    }

    /// Writes down what became of a message. The first word about it counts.
    pub(super) fn settle(&self, at: usize, fate: Result<(), Error>) {
        let mut state = self.lock();
        if let Some(slot @ None) = state.fates.get_mut(at) {
            *slot = Some(fate);
            state.open -= 1;
            if state.open == 0 {
                self.full.notify_one();
            }
        }
    }

    /// Until the fate of each message is known.
    pub(super) async fn settled(&self) {
        while self.lock().open > 0 {
            self.full.notified().await;
        }
    }

    /// All fates; `open` for those that are not known.
    pub(super) fn take(&self, open: impl Fn() -> Error) -> Vec<Result<(), Error>> {
        let fates = std::mem::take(&mut self.lock().fates);
        fates.into_iter().map(|fate| fate.unwrap_or_else(|| Err(open()))).collect()
    }

    /// Nobody waits any more: what is not sent yet need not be.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_word_counts_and_what_is_open_is_an_error() {
        let lost = || Error::Lost { what: "a test", reason: String::new() };
        let ticket = Ticket::new(vec![None, None, Some(Err(Error::Stale))]);
        ticket.settle(0, Ok(()));
        ticket.settle(0, Err(lost()));
        ticket.settle(2, Ok(()));
        assert_eq!(ticket.take(lost), [Ok(()), Err(lost()), Err(Error::Stale)]);
        let ticket = Ticket::new(vec![None]);
        ticket.settle(0, Ok(()));
        ticket.settled().await;
    }
}
