//! What Prometheus reads at `/metrics`. Names begin with `springtide_` and end in their unit.

use prometheus::{Gauge, GaugeVec, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec};
use springtide_process::metrics::{Described, Made, Maker};

/// The metrics of one control plane.
#[derive(Clone, Debug)]
pub struct Metrics {
    made: Made,
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
        let maker = Maker::new("springtide");
        Self {
            backlog_tasks: maker.int_gauges("backlog_tasks", "Tasks by state", &["lane", "priority", "state"]),
            backlog_seconds: maker.gauges(
                "backlog_predicted_seconds",
                "Predicted seconds of the tasks in each state",
                &["lane", "priority", "state"],
            ),
            oldest_waiting_seconds: maker.gauges(
                "oldest_waiting_seconds",
                "Age of the oldest waiting task",
                &["lane", "priority"],
            ),
            wait_seconds: maker.histograms("task_wait_seconds", "From acceptance to start", &["priority"]),
            run_seconds: maker.histograms("task_run_seconds", "Time on a device", &["model", "device"]),
            load_seconds: maker.histograms(
                "model_load_seconds",
                "Time of loading a model",
                &["model", "device"],
            ),
            events: maker.counters("events_total", "Events from nodes", &["event", "outcome"]),
            jobs: maker.counters("jobs_accepted_total", "Jobs accepted", &["priority"]),
            tasks: maker.counters("tasks_accepted_total", "Tasks accepted", &["priority"]),
            released: maker.counters(
                "tasks_released_total",
                "Tasks released, each attempt counted",
                &["lane"],
            ),
            corrections: maker.counters(
                "corrections_total",
                "Corrections by comparing store and nodes",
                &["kind"],
            ),
            broker_seconds: maker.histograms(
                "broker_operation_seconds",
                "Operations of the broker",
                &["operation"],
            ),
            store_seconds: maker.histograms(
                "store_operation_seconds",
                "Transactions of the store",
                &["operation"],
            ),
            nodes: maker.int_gauges("nodes", "Nodes by state", &["state"]),
            slots: maker.int_gauges("live_slots", "Slots of live nodes", &["lane"]),
            leader: maker.int_gauge("leader", "1: this replica releases and projects"),
            event_lag_seconds: maker.gauge(
                "event_lag_seconds",
                "How long the leader's last marker took through the events' queue, or since when none came back",
            ),
            unreadable: maker
                .int_gauge("unreadable_messages", "Messages put into springtide.dead by this process"),
            streams: maker.int_gauge("event_streams", "Server-sent event streams that are open"),
            made: maker.made(),
        }
    }
}

impl Metrics {
    /// What there is, also what has no value yet and is not shown.
    pub fn described(&self) -> &[Described] {
        self.made.described()
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
        self.made.render()
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
