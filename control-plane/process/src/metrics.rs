//! Metrics for Prometheus: made and registered in one step, with what they are called at hand, so that rules and dashboards
//! can be held against it.

use std::cell::RefCell;

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder, exponential_buckets,
};

/// What a metric is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its name. A histogram is read as `NAME_bucket`, `NAME_sum` and `NAME_count`.
    pub name: String,
    /// The names of its labels.
    pub labels: Vec<String>,
}

/// Makes metrics and registers them. Names and labels are constants, so a failure is a slip that the first test finds.
#[derive(Debug)]
pub struct Maker {
    namespace: &'static str,
    registry: Registry,
    described: RefCell<Vec<Described>>,
}

impl Maker {
    /// Of metrics whose names begin with this and an underscore.
    pub fn new(namespace: &'static str) -> Self {
        Self { namespace, registry: Registry::new(), described: RefCell::default() }
    }

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

    fn opts(&self, name: &str, help: &str) -> Opts {
        Opts::new(name, help).namespace(self.namespace)
    }

    /// A count that only grows.
    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::with_opts(self.opts(name, help)))
    }

    /// The same, by labels.
    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(self.opts(name, help), labels))
    }

    /// A measure.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(Gauge::with_opts(self.opts(name, help)))
    }

    /// The same, by labels.
    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.register(GaugeVec::new(self.opts(name, help), labels))
    }

    /// A number of things.
    pub fn int_gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::with_opts(self.opts(name, help)))
    }

    /// The same, by labels.
    pub fn int_gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(self.opts(name, help), labels))
    }

    /// Times in seconds, from a millisecond to about an hour and a half, by labels.
    pub fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        let buckets = exponential_buckets(0.001, 2.0, 23).expect("positive, growing, some");
        let opts = HistogramOpts::new(name, help).namespace(self.namespace).buckets(buckets);
        self.register(HistogramVec::new(opts, labels))
    }

    /// All that was made.
    pub fn made(self) -> Made {
        Made { registry: self.registry, described: self.described.into_inner() }
    }
}

/// Metrics that are made.
#[derive(Clone, Debug)]
pub struct Made {
    registry: Registry,
    described: Vec<Described>,
}

impl Made {
    /// What there is, also what has no value yet and is not shown.
    pub fn described(&self) -> &[Described] {
        &self.described
    }

    /// All of them, in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        // Encoding into memory fails only for metrics without a name.
        let encoded = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        debug_assert!(encoded.is_ok());
        String::from_utf8_lossy(&text).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_described_and_shown() {
        let maker = Maker::new("house");
        let doors = maker.counters("doors_total", "Doors that were opened", &["floor"]);
        maker.histograms("visit_seconds", "Visits", &["floor"]).with_label_values(&["first"]).observe(3.0);
        let made = maker.made();
        doors.with_label_values(&["ground"]).inc();
        let text = made.render();
        assert!(text.contains(r#"house_doors_total{floor="ground"} 1"#), "{text}");
        assert!(text.contains(r#"house_visit_seconds_count{floor="first"} 1"#), "{text}");
        let doors = Described { name: "house_doors_total".to_owned(), labels: vec!["floor".to_owned()] };
        assert_eq!(made.described()[0], doors);
        let shown = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_whitespace().next());
        for name in shown {
            assert!(made.described().iter().any(|metric| metric.name == name), "{name} is not described");
        }
    }
}
