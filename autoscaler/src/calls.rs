//! Calls of the provider: paced below its limits, timed out, measured, and less often while they fail.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, timeout};

use crate::metrics::Metrics;
use crate::provider::{Error, Provider, Result};

/// First pause after a call that failed.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// How often and how patiently the provider is called.
#[derive(Clone, Copy, Debug)]
pub struct CallRule {
    /// One call.
    pub timeout: Duration,
    /// Calls of one kind.
    pub per_second: f64,
    /// Calls of one kind at once, after some quiet.
    pub burst: u32,
    /// Longest pause after calls that failed.
    pub longest_pause: Duration,
}

/// A kind of call with a pace of its own: a token bucket, and a growing, jittered pause after failures.
#[derive(Debug)]
pub struct Pace {
    rule: CallRule,
    tokens: f64,
    filled_at: Instant,
    failures: u32,
    paused_until: Instant,
    jitter: SmallRng,
}

impl Pace {
    /// Full.
    pub fn new(rule: CallRule, seed: u64) -> Self {
        let now = Instant::now();
        let tokens = f64::from(rule.burst);
        let jitter = SmallRng::seed_from_u64(seed);
        Self { rule, tokens, filled_at: now, failures: 0, paused_until: now, jitter }
    }

    /// Whether a call may be made now; takes it.
    pub fn take(&mut self) -> bool {
        let now = Instant::now();
        let since = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.tokens = (self.tokens + since * self.rule.per_second).min(f64::from(self.rule.burst.max(1)));
        self.filled_at = now;
        if now < self.paused_until || self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }

    /// A call was answered.
    pub fn answered(&mut self) {
        self.failures = 0;
        self.paused_until = Instant::now();
    }

    /// A call failed: the next ones wait.
    pub fn failed(&mut self) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(self.rule.longest_pause);
        self.failures = self.failures.saturating_add(1);
        self.paused_until = Instant::now() + pause.mul_f64(0.5 + 0.5 * self.jitter.random::<f64>());
    }
}

/// The provider, called with a time limit and measured.
#[derive(Clone, Debug)]
pub struct Calls {
    /// The provider.
    pub provider: Arc<dyn Provider>,
    rule: CallRule,
    metrics: Metrics,
}

impl Calls {
    /// Calls of this provider.
    pub fn new(provider: Arc<dyn Provider>, rule: CallRule, metrics: Metrics) -> Self {
        Self { provider, rule, metrics }
    }

    /// Waits for a call, no longer than its time limit.
    pub async fn wait<T>(
        &self,
        call: &'static str,
        answer: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let asked = Instant::now();
        let result = timeout(self.rule.timeout, answer).await.unwrap_or_else(|_| {
            let message = format!("no answer within {} s", self.rule.timeout.as_secs_f64());
            Err(Error::Unavailable { call, message })
        });
        let label = result.as_ref().err().map_or("ok", Error::kind);
        self.metrics.call_seconds.with_label_values(&[call, label]).observe(asked.elapsed().as_secs_f64());
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace() -> Pace {
        let rule = CallRule {
            timeout: Duration::from_secs(1),
            per_second: 2.0,
            burst: 3,
            longest_pause: Duration::from_secs(30),
        };
        Pace::new(rule, 1)
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_calls_than_the_rate_allows() {
        let mut pace = pace();
        assert_eq!((0..5).filter(|_| pace.take()).count(), 3);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((0..5).filter(|_| pace.take()).count(), 2);
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!((0..5).filter(|_| pace.take()).count(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_while_calls_fail_and_end_with_an_answer() {
        let mut pace = pace();
        let mut longest = Duration::ZERO;
        for _ in 0..10 {
            let failed_at = Instant::now();
            pace.failed();
            assert!(!pace.take());
            while !pace.take() {
                tokio::time::advance(Duration::from_millis(100)).await;
            }
            longest = failed_at.elapsed();
        }
        assert!(longest > Duration::from_secs(14) && longest <= Duration::from_secs(31), "{longest:?}");
        pace.answered();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(pace.take());
    }
}
