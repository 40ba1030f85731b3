//! Frames to the agent.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use springtide_worker_protocol::{FromWorker, Limits, write_frame};

/// Where answers go. A failure to write means that the agent is gone; it is kept until someone can act on it.
pub struct Outbox {
    pipe: Mutex<Box<dyn Write + Send>>,
    broken: AtomicBool,
}

impl Outbox {
    /// Writes to this pipe.
    pub fn new(pipe: impl Write + Send + 'static) -> Self {
        Self { pipe: Mutex::new(Box::new(pipe)), broken: AtomicBool::new(false) }
    }

    /// Sends a frame.
    pub fn send(&self, message: &FromWorker, body: &[u8]) {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = write_frame(&mut *pipe, message, body, &Limits::default()) {
            eprintln!("a frame to the agent was lost: {error}");
            self.broken.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a frame was lost.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }
}
