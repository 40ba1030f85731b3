//! What Prometheus reads at `/metrics`. Names begin with `springtide_` and end in their unit.

use std::cell::RefCell;

use prometheus::{
    Encoder, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder, exponential_buckets,
};

/// What a metric is called: rules and dashboards are held against it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its name. A histogram is read as `NAME_bucket`, `NAME_sum` and `NAME_count`.
    pub name: String,
    /// The names of its labels.
    pub labels: Vec<String>,
}

/// The metrics of one control plane.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    described: Vec<Described>,
    /// Tasks by lane, priority and state (waiting, released, running).
    pub backlog_tasks: IntGaugeVec,
    /// Their predicted seconds.
    pub backlog_seconds: GaugeVec,
    /// Age of the oldest waiting task, by lane and priority.
    pub oldest_waiting_seconds: GaugeVec,
    /// From acceptance of a job to the start of a task, by priority.
    pub wait_seconds: HistogramVec,
    /// Time on a device, by model and device.
    pub run_seconds: HistogramVec,
    /// Time of loading models, by model and device.
    pub load_seconds: HistogramVec,
    /// Events from nodes, by kind and outcome.
    pub events: IntCounterVec,
    /// Jobs accepted, by priority.
    pub jobs: IntCounterVec,
    /// Tasks accepted, by priority.
    pub tasks: IntCounterVec,
    /// Tasks released, by lane.
    pub released: IntCounterVec,
    /// Corrections by the comparison, by kind.
    pub corrections: IntCounterVec,
    /// Operations of the broker, by operation.
    pub broker_seconds: HistogramVec,
    /// Transactions of the store, by operation.
    pub store_seconds: HistogramVec,
    /// Nodes by state.
    pub nodes: IntGaugeVec,
    /// Live slots by lane.
    pub slots: IntGaugeVec,
    /// 1: this replica leads.
    pub leader: IntGauge,
    /// What an event waits until it is applied, as the leader sees it by its markers.
    pub event_lag_seconds: Gauge,
    /// Messages that could not be read.
    pub unreadable: IntGauge,
    /// Event streams that are open.
    pub streams: IntGauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registry::new();
        let made = Maker { registry: &registry, described: RefCell::default() };
        let mut metrics = Self {
            described: Vec::new(),
            backlog_tasks: made.int_gauges("backlog_tasks", "Tasks by state", &["lane", "priority", "state"]),
            backlog_seconds: made.gauges(
                "backlog_predicted_seconds",
                "Predicted seconds of the tasks in each state",
                &["lane", "priority", "state"],
            ),
            oldest_waiting_seconds: made.gauges(
                "oldest_waiting_seconds",
                "Age of the oldest waiting task",
                &["lane", "priority"],
            ),
            wait_seconds: made.histograms("task_wait_seconds", "From acceptance to start", &["priority"]),
            run_seconds: made.histograms("task_run_seconds", "Time on a device", &["model", "device"]),
            load_seconds: made.histograms(
                "model_load_seconds",
                "Time of loading a model",
                &["model", "device"],
            ),
            events: made.counters("events_total", "Events from nodes", &["event", "outcome"]),
            jobs: made.counters("jobs_accepted_total", "Jobs accepted", &["priority"]),
            tasks: made.counters("tasks_accepted_total", "Tasks accepted", &["priority"]),
            released: made.counters(
                "tasks_released_total",
                "Tasks released, each attempt counted",
                &["lane"],
            ),
            corrections: made.counters(
                "corrections_total",
                "Corrections by comparing store and nodes",
                &["kind"],
            ),
            broker_seconds: made.histograms(
                "broker_operation_seconds",
                "Operations of the broker",
                &["operation"],
            ),
            store_seconds: made.histograms(
                "store_operation_seconds",
                "Transactions of the store",
                &["operation"],
            ),
            nodes: made.int_gauges("nodes", "Nodes by state", &["state"]),
            slots: made.int_gauges("live_slots", "Slots of live nodes", &["lane"]),
            leader: made.int_gauge("leader", "1: this replica releases and projects"),
            event_lag_seconds: made.gauge(
                "event_lag_seconds",
                "How long the leader's last marker took through the events' queue, or since when none came back",
            ),
            unreadable: made
                .int_gauge("unreadable_messages", "Messages put into springtide.dead by this process"),
            streams: made.int_gauge("event_streams", "Server-sent event streams that are open"),
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

    /// This replica leads, or does not: then what only a leader knows is known no more.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
        if !leads {
            self.event_lag_seconds.set(0.0);
        }
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

/// Makes metrics and registers them. Names are constants, so a failure is a slip that the first test finds.
struct Maker<'a> {
    registry: &'a Registry,
    described: RefCell<Vec<Described>>,
}

impl Maker<'_> {
    fn register<M: prometheus::core::Collector + Clone + 'static>(&self, metric: prometheus::Result<M>) -> M {
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
        Opts::new(name, help).namespace("springtide")
    }

    fn int_gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::with_opts(Self::opts(name, help)))
    }

    fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(Gauge::with_opts(Self::opts(name, help)))
    }

    fn int_gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(Self::opts(name, help), labels))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.register(GaugeVec::new(Self::opts(name, help), labels))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(Self::opts(name, help), labels))
    }

    /// From a millisecond to about an hour and a half.
    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        let buckets = exponential_buckets(0.001, 2.0, 23).expect("positive, growing, some");
        let opts = HistogramOpts::new(name, help).namespace("springtide").buckets(buckets);
        self.register(HistogramVec::new(opts, labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_valid_and_shown() {
        let metrics = Metrics::default();
        metrics.leader.set(1);
        metrics.events.with_label_values(&["started", "counted"]).inc();
        let text = metrics.render();
        assert!(text.contains("springtide_leader 1"));
        assert!(text.contains(r#"springtide_events_total{event="started",outcome="counted"} 1"#));
        let events = Described {
            name: "springtide_events_total".into(),
            labels: vec!["event".into(), "outcome".into()],
        };
        assert!(metrics.described().contains(&events));
        let shown = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_whitespace().next());
        for name in shown {
            assert!(metrics.described().iter().any(|metric| metric.name == name), "{name} is not described");
        }
    }

    #[test]
    fn only_a_leader_knows_the_lag() {
        let metrics = Metrics::default();
        metrics.leads(true);
        metrics.event_lag_seconds.set(2.5);
        metrics.leads(false);
        assert_eq!((metrics.leader.get(), metrics.event_lag_seconds.get()), (0, 0.0));
    }
}
