//! A process of the simulation: it lives, stands still, or dies at its n-th call to the world outside.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use springtide_process::clock::{Clock, TokioClock};
use tokio::sync::Notify;

type End = Box<dyn FnOnce() + Send>;

/// One start of a process. Every port that it is given asks here before and after each call.
pub struct Life {
    dead: AtomicBool,
    still: AtomicBool,
    /// Wakes in the order in which they came, as `watch` does not.
    moves: Notify,
    /// Calls that are left to it.
    fuse: AtomicI64,
    /// How often something went wrong with it that excuses what it does not do.
    troubles: AtomicU64,
    /// It can't reach the store.
    store_cut: AtomicBool,
    end: Mutex<Option<End>>,
}

impl Life {
    /// A process that has just begun.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            dead: AtomicBool::new(false),
            still: AtomicBool::new(false),
            moves: Notify::new(),
            fuse: AtomicI64::new(i64::MAX),
            troubles: AtomicU64::new(0),
            store_cut: AtomicBool::new(false),
            end: Mutex::new(None),
        })
    }

    /// What its death does to the rest of it; runs once, in the middle of whatever it was doing.
    pub fn on_death(&self, end: impl FnOnce() + Send + 'static) {
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(end));
    }

    /// `kill -9`, now.
    pub fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.has_trouble();
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(end) = end {
            end();
        }
    }

    /// The run is over: what its death would have done keeps everything that it has, and that keeps this.
    pub fn outlives_the_run(&self) {
        drop(self.end.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Whether it has died.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// `kill -9` at the `calls`-th call from now, or at its end: both are places where it stops for an answer.
    pub fn die_after(&self, calls: u32) {
        self.fuse.store(i64::from(calls.max(1)), Ordering::SeqCst);
    }

    /// It does not die by itself any more.
    pub fn defuse(&self) {
        self.fuse.store(i64::MAX, Ordering::SeqCst);
    }

    /// Stops it where it next calls, or lets it go on.
    pub fn stand_still(&self, still: bool) {
        self.still.store(still, Ordering::SeqCst);
        self.has_trouble();
        self.moves.notify_waiters();
    }

    /// Whether it stands still.
    pub fn is_still(&self) -> bool {
        self.still.load(Ordering::SeqCst)
    }

    /// Something went wrong with it that excuses what it does not do.
    pub fn has_trouble(&self) {
        self.troubles.fetch_add(1, Ordering::SeqCst);
    }

    /// See [`Self::has_trouble`].
    pub fn troubles(&self) -> u64 {
        self.troubles.load(Ordering::SeqCst)
    }

    /// Whether it can reach the store from now on.
    pub fn cut_store(&self, cut: bool) {
        self.store_cut.store(cut, Ordering::SeqCst);
    }

    /// See [`Self::cut_store`].
    pub fn is_store_cut(&self) -> bool {
        self.store_cut.load(Ordering::SeqCst)
    }

    /// Returns if it lives and moves; otherwise when it does, or never.
    pub async fn pass(&self) {
        if self.fuse.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.die();
        }
        loop {
            if self.is_dead() {
                std::future::pending::<()>().await;
            }
            if !self.is_still() {
                return;
            }
            self.moves.notified().await;
        }
    }
}

/// The clock of one machine: runs with tokio's and can be set.
#[derive(Debug)]
pub struct MachineClock {
    base: TokioClock,
    offset_us: AtomicI64,
}

impl MachineClock {
    /// A clock that is right.
    pub fn new(base: TokioClock) -> Arc<Self> {
        Arc::new(Self { base, offset_us: AtomicI64::new(0) })
    }

    /// Sets it forward, or back.
    pub fn jump(&self, by_ms: i64) {
        self.offset_us.fetch_add(by_ms * 1000, Ordering::SeqCst);
    }

    /// Sets it right.
    pub fn correct(&self) {
        self.offset_us.store(0, Ordering::SeqCst);
    }
}

impl Clock for MachineClock {
    fn now(&self) -> SystemTime {
        let offset = self.offset_us.load(Ordering::SeqCst);
        let magnitude = Duration::from_micros(offset.unsigned_abs());
        if offset < 0 { self.base.now() - magnitude } else { self.base.now() + magnitude }
    }
}
