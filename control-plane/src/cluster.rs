//! The whole cluster in one snapshot, and the gauges that follow from it.

use std::collections::BTreeMap;
use std::time::Duration;

use springtide_core::LaneName;
use springtide_core::api::{
    ArrivalsView, ClusterView, DueView, LaneView, LaunchView, NodeView, Predicted, RunView, WorkView,
};
use springtide_core::lane::{Device, DeviceRequest};
use springtide_core::node::NodeState;
use springtide_core::wire::NodeCondition;
use springtide_store::port::{ArrivalsRow, BacklogRow, DueRow, LaunchRow, NodeRow, Result};

use crate::app::App;
use crate::registry::Seen;

/// Jobs with a deadline that are looked at: those that are due first.
const DUE_JOBS: u32 = 1000;
/// Jobs of a lane that are due within so long of each other are taken together …
const DUE_TOGETHER: Duration = Duration::from_secs(10);
/// … and so many steps are shown of each lane.
const DUE_STEPS: usize = 32;

impl App {
    /// One snapshot of work, nodes and launches.
    pub async fn cluster_view(&self) -> Result<ClusterView> {
        let at = self.now();
        let work = self.store.backlog().await?.iter().map(|row| self.work_view(row)).collect();
        let arrivals = self.store.arrivals().await?.into_iter().map(arrivals_view).collect();
        let deadlines = self.deadlines(&self.store.due(DUE_JOBS).await?);
        let nodes = self.store.nodes(at).await?.iter().map(|row| self.node_view(row)).collect();
        let launches = self.store.launches(at).await?.into_iter().map(launch_view).collect();
        let lanes = self.lanes.iter().map(|lane| self.lane_view(lane)).collect();
        Ok(ClusterView { at, lanes, work, arrivals, deadlines, nodes, launches })
    }

    /// What is due, by lane, in few steps.
    fn deadlines(&self, rows: &[DueRow]) -> Vec<DueView> {
        let mut lanes: BTreeMap<&LaneName, Vec<DueView>> = BTreeMap::new();
        for row in rows {
            let device = self.device_for(row.device, &row.lane);
            let load = self.forecasts.predicted(&row.model, device, &row.load);
            let steps = lanes.entry(&row.lane).or_default();
            // Late together: to take them for due at the earliest of them errs on the safe side.
            let shown = steps.len();
            match steps.last_mut().filter(|last| row.by.since(last.by) < DUE_TOGETHER) {
                Some(last) => last.load = last.load.and(&load),
                None if shown < DUE_STEPS => {
                    steps.push(DueView { lane: row.lane.clone(), by: row.by, load });
                }
                None => {}
            }
        }
        lanes.into_values().flatten().collect()
    }

    /// The kind of device that work of a lane runs on.
    pub(crate) fn device_for(&self, asked: DeviceRequest, lane: &LaneName) -> Device {
        match asked {
            DeviceRequest::Cpu => Device::Cpu,
            DeviceRequest::Cuda => Device::Cuda,
            DeviceRequest::Any => self.lanes.get(lane).map_or(Device::Cpu, |lane| lane.device),
        }
    }

    fn lane_view(&self, lane: &springtide_core::lane::Lane) -> LaneView {
        let lost_after = self.config.node_lost_after();
        let seen = self.registry.all();
        let live = seen.iter().filter(|seen| seen.is_live(lost_after) && seen.heartbeat.lane == lane.name);
        LaneView {
            name: lane.name.clone(),
            device: lane.device,
            gpu_memory_bytes: lane.gpu_memory_bytes,
            nodes: live.count() as u32,
            slots: self.registry.live_slots(&lane.name, lost_after),
        }
    }

    fn work_view(&self, row: &BacklogRow) -> WorkView {
        let device = self.device_for(row.device, &row.lane);
        WorkView {
            lane: row.lane.clone(),
            device: row.device,
            priority: row.priority,
            model: row.model.clone(),
            waiting: self.forecasts.predicted(&row.model, device, &row.waiting),
            released: self.forecasts.predicted(&row.model, device, &row.released),
            running: self.forecasts.predicted(&row.model, device, &row.running),
            oldest_waiting: row.oldest_waiting,
        }
    }

    /// A node: its row, with what was heard of it last.
    pub fn node_view(&self, row: &NodeRow) -> NodeView {
        let seen = self.registry.get(&row.id);
        let (drain_until, wanted) = match &row.state {
            NodeState::Draining { until, reason } => (Some(*until), Some(reason.clone())),
            NodeState::Empty { reason } => (None, Some(reason.clone())),
            _ => (None, None),
        };
        let paused = seen.as_ref().and_then(|seen| match &seen.heartbeat.condition {
            NodeCondition::Paused { reason } => Some(reason.clone()),
            _ => None,
        });
        let heartbeat = seen.as_ref().map(|seen| &seen.heartbeat);
        NodeView {
            id: row.id.clone(),
            state: row.state.as_str().to_owned(),
            reason: wanted.or(paused).filter(|reason| !reason.is_empty()),
            drain_until,
            lane: row.lane.clone(),
            consuming: heartbeat.and_then(|heartbeat| heartbeat.consuming.clone()),
            pool: row.pool.clone(),
            slots: row.slots,
            first_heard_at: row.incarnation.map(|_| row.first_seen),
            heard_at: seen.as_ref().map(|seen| seen.heard_at),
            runs: seen.as_ref().map(run_views).unwrap_or_default(),
            held: heartbeat.map_or(0, |heartbeat| heartbeat.held.len() as u32),
            models: heartbeat.map(|heartbeat| heartbeat.models.clone()).unwrap_or_default(),
            cpu: heartbeat.map_or(0.0, |heartbeat| heartbeat.host.cpu),
            devices: heartbeat.map(|heartbeat| heartbeat.devices.clone()).unwrap_or_default(),
            version: heartbeat.map(|heartbeat| heartbeat.version.clone()).unwrap_or_default(),
        }
    }

    /// Brings the gauges up to date; called when `/metrics` is read.
    pub async fn refresh_gauges(&self) -> Result<()> {
        let view = self.cluster_view().await?;
        let metrics = &self.metrics;
        metrics.backlog_tasks.reset();
        metrics.backlog_seconds.reset();
        metrics.oldest_waiting_seconds.reset();
        // By lane and priority; the metrics don't tell models and requested devices apart.
        let mut sums: BTreeMap<[&str; 3], (u64, f64)> = BTreeMap::new();
        for work in &view.work {
            let (lane, priority) = (work.lane.as_str(), work.priority.as_str());
            let parts: [(&str, &Predicted); 3] =
                [("waiting", &work.waiting), ("released", &work.released), ("running", &work.running)];
            for (state, predicted) in parts {
                let sum = sums.entry([lane, priority, state]).or_default();
                *sum = (sum.0 + predicted.tasks, sum.1 + predicted.mean_s);
            }
            let age = work.oldest_waiting.map_or(0.0, |oldest| view.at.since(oldest).as_secs_f64());
            let gauge = metrics.oldest_waiting_seconds.with_label_values(&[lane, priority]);
            gauge.set(gauge.get().max(age));
        }
        for (labels, (tasks, seconds)) in sums {
            metrics.backlog_tasks.with_label_values(&labels).set(tasks.cast_signed());
            metrics.backlog_seconds.with_label_values(&labels).set(seconds);
        }
        metrics.nodes.reset();
        for node in &view.nodes {
            metrics.nodes.with_label_values(&[node.state.as_str()]).inc();
        }
        for lane in &view.lanes {
            metrics.slots.with_label_values(&[lane.name.as_str()]).set(i64::from(lane.slots));
        }
        metrics.unreadable.set(self.parts.broker.counters.unreadable().cast_signed());
        for commit in self.store.take_commits() {
            metrics.store_seconds.with_label_values(&["commit"]).observe(commit.took.as_secs_f64());
        }
        Ok(())
    }
}

fn arrivals_view(row: ArrivalsRow) -> ArrivalsView {
    let ArrivalsRow { lane, priority, tasks, seconds } = row;
    ArrivalsView { lane, priority, tasks, predicted_s: seconds }
}

fn run_views(seen: &Seen) -> Vec<RunView> {
    let view = |run: &springtide_core::wire::RunReport| RunView {
        task: run.task,
        run: run.run,
        progress: run.progress,
        elapsed_s: run.elapsed_s,
    };
    seen.heartbeat.runs.iter().map(view).collect()
}

/// A launch as it is shown: its row's body holds `request` and `outcome`.
pub fn launch_view(row: LaunchRow) -> LaunchView {
    LaunchView {
        id: row.id,
        pool: row.pool,
        request: row.body.get("request").cloned().unwrap_or_default(),
        outcome: row.body.get("outcome").cloned().unwrap_or_default(),
        closed: !row.open,
        created_at: row.created_at,
    }
}
