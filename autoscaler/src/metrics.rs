//! What Prometheus reads at `/metrics`. Names begin with `springtide_autoscaler_`.

use std::cell::RefCell;

use prometheus::core::Collector;
use prometheus::{
    Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder, exponential_buckets,
};
use springtide_planner::{Limit, Plan};

use crate::trouble::{Part, Troubles};

/// What a metric is called: rules and dashboards are held against it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its name. A histogram is read as `NAME_bucket`, `NAME_sum` and `NAME_count`.
    pub name: String,
    /// The names of its labels.
    pub labels: Vec<String>,
}

/// The metrics of one autoscaler.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    described: Vec<Described>,
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
        let registry = Registry::new();
        let made = Maker { registry: &registry, described: RefCell::default() };
        let mut metrics = Self {
            described: Vec::new(),
            nodes: made.gauges("nodes", "Nodes of a pool: active, coming, leaving", &["pool", "state"]),
            wanted: made.gauges("wanted_nodes", "Nodes that the strategy wants, before limits", &["pool"]),
            target: made.gauges("target_nodes", "Nodes that the plan aims at", &["pool"]),
            limited: made.gauges(
                "limited",
                "1: this keeps the plan from what the strategy wants",
                &["pool", "limit"],
            ),
            price: made.register(GaugeVec::new(
                Maker::opts("price_per_hour", "What a pool's machines cost"),
                &["pool"],
            )),
            trouble: made.gauges("trouble", "1: this part is in trouble; /readyz says why", &["part"]),
            leader: made.register(IntGauge::with_opts(Maker::opts("leader", "1: this autoscaler acts"))),
            actions: made.counters("actions_total", "Actions of plans", &["pool", "action", "cause"]),
            launched: made.counters("launched_total", "Machines that launches brought", &["pool"]),
            shortfalls: made.counters(
                "shortfalls_total",
                "Launches that brought less than was asked for",
                &["pool", "kind"],
            ),
            boot_timeouts: made.counters("boot_timeouts_total", "Machines that never reported", &["pool"]),
            orphans: made.register(IntCounter::with_opts(Maker::opts(
                "orphans_total",
                "Machines of no pool that were given back",
            ))),
            call_seconds: made.histograms("call_seconds", "Calls of the provider", &["call", "result"]),
            round_seconds: made.histograms("round_seconds", "Looking, planning, acting", &["result"]),
            alerts: made.counters("alerts_total", "Alerts that came", &["result"]),
            interruptions: made.counters("interruptions_total", "Interruptions", &["kind", "result"]),
            registry: registry.clone(),
        };
        metrics.described = made.described.into_inner();
        metrics
    }
}

impl Metrics {
    /// What there is, also what has no value yet and is not shown.
    pub fn described(&self) -> &[Described] {
        &self.described
    }

    /// All of them, in Prometheus' text format.
    pub fn render(&self, troubles: &Troubles) -> String {
        let now = troubles.all();
        for part in Part::ALL {
            let is_in_trouble = now.iter().any(|trouble| trouble.part == part);
            self.trouble.with_label_values(&[part.as_str()]).set(i64::from(is_in_trouble));
        }
        let mut text = Vec::new();
        // Encoding into memory fails only for metrics without a name.
        let encoded = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        debug_assert!(encoded.is_ok());
        String::from_utf8_lossy(&text).into_owned()
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

/// Makes metrics and registers them. Names are constants, so a failure is a slip that the first test finds.
struct Maker<'a> {
    registry: &'a Registry,
    described: RefCell<Vec<Described>>,
}

impl Maker<'_> {
    fn register<M: Collector + Clone + 'static>(&self, metric: prometheus::Result<M>) -> M {
        let metric = metric.expect("names and labels of metrics are constants and valid");
        let described = metric
            .desc()
            .into_iter()
            .map(|desc| Described { name: desc.fq_name.clone(), labels: desc.variable_labels.clone() });
        self.described.borrow_mut().extend(described);
        self.registry.register(Box::new(metric.clone())).expect("each metric is registered once");
        metric
    }

    fn opts(name: &str, help: &str) -> Opts {
        Opts::new(name, help).namespace("springtide_autoscaler")
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(Self::opts(name, help), labels))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(Self::opts(name, help), labels))
    }

    /// From a millisecond to about two minutes.
    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        let buckets = exponential_buckets(0.001, 2.0, 18).expect("positive, growing, some");
        let opts = HistogramOpts::new(name, help).namespace("springtide_autoscaler").buckets(buckets);
        self.register(HistogramVec::new(opts, labels))
    }
}

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
