//! What Prometheus reads at `/metrics`. Names begin with `springtide_autoscaler_`.

use prometheus::{GaugeVec, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use springtide_planner::{Limit, Plan};
use springtide_process::metrics::{Described, Made, Maker};

use crate::trouble::{Part, Troubles};

/// The metrics of one autoscaler.
#[derive(Clone, Debug)]
pub struct Metrics {
    made: Made,
    nodes: IntGaugeVec,
    wanted: IntGaugeVec,
    target: IntGaugeVec,
    limited: IntGaugeVec,
    price: GaugeVec,
    trouble: IntGaugeVec,
    /// 1: this one acts.
    pub leader: IntGauge,
    /// Actions of plans, by pool, action and cause.
    pub actions: IntCounterVec,
    /// Machines that launches brought, by pool.
    pub launched: IntCounterVec,
    /// Launches that brought less than was asked for, by pool and kind of failure.
    pub shortfalls: IntCounterVec,
    /// Machines that never reported and were given back, by pool.
    pub boot_timeouts: IntCounterVec,
    /// Machines that belonged to nobody and were given back.
    pub orphans: IntCounter,
    /// Calls of the provider, by call and result.
    pub call_seconds: HistogramVec,
    /// One round: look, plan, act.
    pub round_seconds: HistogramVec,
    /// Alerts, by what became of them.
    pub alerts: IntCounterVec,
    /// Interruptions, by kind and what became of them.
    pub interruptions: IntCounterVec,
}

impl Default for Metrics {
    fn default() -> Self {
        let maker = Maker::new("springtide_autoscaler");
        Self {
            nodes: maker.int_gauges("nodes", "Nodes of a pool: active, coming, leaving", &["pool", "state"]),
            wanted: maker.int_gauges(
                "wanted_nodes",
                "Nodes that the strategy wants, before limits",
                &["pool"],
            ),
            target: maker.int_gauges("target_nodes", "Nodes that the plan aims at", &["pool"]),
            limited: maker.int_gauges(
                "limited",
                "1: this keeps the plan from what the strategy wants",
                &["pool", "limit"],
            ),
            price: maker.gauges("price_per_hour", "What a pool's machines cost", &["pool"]),
            trouble: maker.int_gauges("trouble", "1: this part is in trouble; /readyz says why", &["part"]),
            leader: maker.int_gauge("leader", "1: this autoscaler acts"),
            actions: maker.counters("actions_total", "Actions of plans", &["pool", "action", "cause"]),
            launched: maker.counters("launched_total", "Machines that launches brought", &["pool"]),
            shortfalls: maker.counters(
                "shortfalls_total",
                "Launches that brought less than was asked for",
                &["pool", "kind"],
            ),
            boot_timeouts: maker.counters("boot_timeouts_total", "Machines that never reported", &["pool"]),
            orphans: maker.counter("orphans_total", "Machines of no pool that were given back"),
            call_seconds: maker.histograms("call_seconds", "Calls of the provider", &["call", "result"]),
            round_seconds: maker.histograms("round_seconds", "Looking, planning, acting", &["result"]),
            alerts: maker.counters("alerts_total", "Alerts that came", &["result"]),
            interruptions: maker.counters("interruptions_total", "Interruptions", &["kind", "result"]),
            made: maker.made(),
        }
    }
}

impl Metrics {
    /// What there is, also what has no value yet and is not shown.
    pub fn described(&self) -> &[Described] {
        self.made.described()
    }

    /// All of them, in Prometheus' text format.
    pub fn render(&self, troubles: &Troubles) -> String {
        let now = troubles.all();
        for part in Part::ALL {
            let is_in_trouble = now.iter().any(|trouble| trouble.part == part);
            self.trouble.with_label_values(&[part.as_str()]).set(i64::from(is_in_trouble));
        }
        self.made.render()
    }

    /// Shows how the pools stand, and counts what is to be done.
    pub fn show(&self, plan: &Plan) {
        for outlook in &plan.pools {
            let pool = outlook.pool.as_str();
            for (state, count) in
                [("active", outlook.active), ("coming", outlook.coming), ("leaving", outlook.leaving)]
            {
                self.nodes.with_label_values(&[pool, state]).set(i64::from(count));
            }
            self.wanted.with_label_values(&[pool]).set(i64::from(outlook.wanted));
            self.target.with_label_values(&[pool]).set(i64::from(outlook.target));
            self.price.with_label_values(&[pool]).set(outlook.price_per_hour);
            for limit in LIMITS {
                let holds = outlook.limits.contains(&limit);
                self.limited.with_label_values(&[pool, limit.as_str()]).set(i64::from(holds));
            }
        }
        for action in &plan.actions {
            self.actions.with_label_values(&[action.pool(), action.name(), action.cause().as_str()]).inc();
        }
    }
}

const LIMITS: [Limit; 6] =
    [Limit::Max, Limit::Budget, Limit::Frozen, Limit::Stale, Limit::NoCapacity, Limit::Hysteresis];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_valid_and_shown() {
        let metrics = Metrics::default();
        metrics.actions.with_label_values(&["gpu", "launch", "demand"]).inc();
        let troubles = Troubles::default();
        troubles.set(Part::Launch, "no template", springtide_core::Timestamp::default());
        let text = metrics.render(&troubles);
        assert!(text.contains(r#"springtide_autoscaler_trouble{part="launch"} 1"#), "{text}");
        assert!(text.contains(r#"springtide_autoscaler_trouble{part="describe"} 0"#), "{text}");
        let actions = r#"springtide_autoscaler_actions_total{action="launch",cause="demand",pool="gpu"} 1"#;
        assert!(text.contains(actions), "{text}");
    }
}
