//! What is done to whom.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

/// Kinds of faults that can be asked for together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// kill -9 of agents, workers and control planes.
    Kill,
    /// SIGSTOP and SIGCONT of the same.
    Stop,
    /// RabbitMQ restarted, in order and by kill -9.
    Broker,
    /// Wires cut, held up and slowed down.
    Network,
    /// Full disks; needs root.
    Disk,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// kill -9; started again after a while.
    Kill,
    /// SIGSTOP, and SIGCONT after a while.
    Stop,
    /// Ended in order and started again after a while.
    Restart,
    /// Connections are closed and refused for a while.
    Cut,
    /// Nothing passes for a while; then what was held up does.
    Stall,
    /// Everything takes 0.2 s longer for a while.
    Slow,
    /// A file takes all the room of a disk for a while.
    Fill,
}

/// Which worker of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Worker {
    /// The echo worker.
    Echo,
    /// The torch worker.
    Torch,
}

/// To whom it is done. Numbers count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// An agent's process.
    Agent(usize),
    /// A worker of an agent.
    Worker(usize, Worker),
    /// A control plane's process.
    ControlPlane(usize),
    /// RabbitMQ.
    Broker,
    /// The wire between an agent and the broker.
    AgentToBroker(usize),
    /// The wire between a control plane and the broker.
    ControlPlaneToBroker(usize),
    /// The wire between a control plane and PostgreSQL.
    ControlPlaneToStore(usize),
    /// The wire between a control plane and Redis, which has the locks.
    ControlPlaneToLocks(usize),
    /// The wire between the users and a control plane.
    UsersTo(usize),
    /// The disk with an agent's data directory.
    AgentDisk(usize),
    /// The disk with the objects.
    Objects,
}

/// What a fault is about: one of these has one fault at a time, and a row in the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// An agent with its workers, its wire and its disk.
    Node(usize),
    /// A control plane with its wires.
    ControlPlane(usize),
    /// The broker.
    Broker,
    /// The object store.
    Objects,
}

impl Target {
    /// What it belongs to.
    pub const fn subject(self) -> Subject {
        match self {
            Self::Agent(node) | Self::Worker(node, _) | Self::AgentToBroker(node) | Self::AgentDisk(node) => {
                Subject::Node(node)
            }
            Self::ControlPlane(index)
            | Self::ControlPlaneToBroker(index)
            | Self::ControlPlaneToStore(index)
            | Self::ControlPlaneToLocks(index)
            | Self::UsersTo(index) => Subject::ControlPlane(index),
            Self::Broker => Subject::Broker,
            Self::Objects => Subject::Objects,
        }
    }

    /// Of which kind it is, for tables.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Agent(_) => "agent",
            Self::Worker(..) => "worker",
            Self::ControlPlane(_) => "control plane",
            Self::Broker => "broker",
            Self::AgentToBroker(_) => "wire agent–broker",
            Self::ControlPlaneToBroker(_) => "wire control plane–broker",
            Self::ControlPlaneToStore(_) => "wire control plane–PostgreSQL",
            Self::ControlPlaneToLocks(_) => "wire control plane–Redis",
            Self::UsersTo(_) => "wire users–control plane",
            Self::AgentDisk(_) => "disk of an agent",
            Self::Objects => "disk of the objects",
        }
    }
}

impl Action {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Cut => "cut",
            Self::Stall => "stall",
            Self::Slow => "slow",
            Self::Fill => "fill",
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(index) => write!(f, "node-{}", index + 1),
            Self::ControlPlane(index) => write!(f, "control-plane-{}", index + 1),
            Self::Broker => f.write_str("broker"),
            Self::Objects => f.write_str("objects"),
        }
    }
}

/// A fault that is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its place in the schedule.
    pub number: usize,
    /// After the start of the load.
    pub at: Duration,
    /// What is done.
    pub action: Action,
    /// To whom.
    pub target: Target,
    /// How long it goes on. What was killed is started again after so long; a worker, by its agent, at once.
    pub lasts: Duration,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { action, target, lasts, .. } = self;
        write!(
            f,
            "{} {} of {} for {:.1} s",
            action.as_str(),
            target.kind(),
            target.subject(),
            lasts.as_secs_f64()
        )
    }
}
