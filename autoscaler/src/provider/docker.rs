//! Containers of a Docker daemon, each with an agent. Labels say whose a container is: `springtide.cluster`,
//! `springtide.pool`, `springtide.launch`, `springtide.offer`.
//!
//! A container's name follows from the launch's id, and Docker gives no name twice: so a launch that is asked for again
//! finds the containers that it made. They are removed when they end; a small volume of the same name, made with the
//! container, stays for a day and says that there was one, so that it is not made again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bollard::errors::Error as DockerError;
use bollard::models::{
    ContainerCreateBody, ContainerStateStatusEnum, ContainerSummary, ContainerSummaryStateEnum,
    DeviceRequest, HostConfig, Mount, MountType, MountVolumeOptions, Volume,
};
use bollard::query_parameters::{
    CreateContainerOptions, InspectContainerOptions, ListContainersOptions, ListVolumesOptions,
    RemoveContainerOptions, RemoveVolumeOptions, StartContainerOptions, StopContainerOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker as Client};
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use springtide_core::{NodeId, Timestamp};
use springtide_process::clock::SharedClock;
use tokio::sync::OnceCell;

use super::{Error, LaunchId, Launched, Life, Machine, Order, Provider, Request, Result};
use crate::config::{Docker as Config, DockerPool};

const CLUSTER: &str = "springtide.cluster";
const POOL: &str = "springtide.pool";
const LAUNCH: &str = "springtide.launch";
const OFFER: &str = "springtide.offer";
/// What tells one request from another under the same launch.
const REQUEST: &str = "springtide.request";

/// One call of the daemon.
const CALL_TIMEOUT_S: u64 = 60;
/// Where a container finds the volume that marks it. Nothing is in it.
const MARKER: &str = "/run/springtide-launch";
/// For so long it is known which containers there were: longer than a launch is asked for.
const MARKED_FOR: Duration = Duration::from_hours(24);
/// Shortest time between two looks for markers that are over.
const TIDY_EVERY: Duration = Duration::from_hours(1);

/// A Docker daemon.
pub struct Docker {
    host: String,
    cluster: String,
    pools: BTreeMap<String, DockerPool>,
    stop_timeout: Duration,
    clock: SharedClock,
    tidied_at: Mutex<Option<Timestamp>>,
    /// Connected, and agreed on a version, with the first call.
    client: OnceCell<Client>,
}

impl std::fmt::Debug for Docker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Docker").field("host", &self.host).finish_non_exhaustive()
    }
}

/// What a request holds beyond the order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Detail {
    pool: DockerPool,
    cluster: String,
}

/// A container that was made before.
struct MadeBefore {
    /// Of the request that it was made for.
    mark: Option<String>,
    /// It was not started yet.
    is_new: bool,
}

impl Docker {
    /// As configured. Nothing is asked yet.
    pub fn new(config: &Config, cluster: &str, clock: SharedClock) -> Self {
        Self {
            host: config.host.clone(),
            cluster: cluster.to_owned(),
            pools: config.pools.iter().map(|pool| (pool.name.clone(), pool.clone())).collect(),
            stop_timeout: config.stop_timeout,
            clock,
            tidied_at: Mutex::default(),
            client: OnceCell::new(),
        }
    }

    async fn client(&self, call: &'static str) -> Result<&Client> {
        let connect = async || {
            let client = if let Some(address) = self.host.strip_prefix("tcp://") {
                Client::connect_with_http(address, CALL_TIMEOUT_S, API_DEFAULT_VERSION)
            } else {
                Client::connect_with_unix(&self.host, CALL_TIMEOUT_S, API_DEFAULT_VERSION)
            };
            client?.negotiate_version().await
        };
        self.client.get_or_try_init(connect).await.map_err(|error| self.failed(call, &error))
    }

    fn failed(&self, call: &'static str, error: &DockerError) -> Error {
        match error {
            DockerError::DockerResponseServerError { status_code, message } if *status_code < 500 => {
                Error::Invalid { call, message: message.clone() }
            }
            DockerError::DockerResponseServerError { message, .. } => {
                Error::Unavailable { call, message: message.clone() }
            }
            other => {
                let message = format!("{}: {other} (autoscaler.docker.host)", self.host);
                Error::Unavailable { call, message }
            }
        }
    }

    /// Makes one container of a launch, unless it was made before, and starts it.
    async fn start(&self, node: &NodeId, body: ContainerCreateBody, order: &Order) -> Result<()> {
        const CALL: &str = "launch";
        let mark = body.labels.as_ref().and_then(|labels| labels.get(REQUEST)).cloned();
        match self.made_before(node).await? {
            Some(made) if made.mark != mark => {
                return Err(Error::Invalid {
                    call: CALL,
                    message: format!("{node} was made by another request"),
                });
            }
            // It runs, or has run.
            Some(made) if !made.is_new => return Ok(()),
            Some(_) => {}
            None => {
                let name = Some(node.to_string());
                let options = CreateContainerOptions { name, ..CreateContainerOptions::default() };
                match self.client(CALL).await?.create_container(Some(options), body).await {
                    Ok(_) => {}
                    // Somebody made it just now. Asked again, it is looked at.
                    Err(DockerError::DockerResponseServerError { status_code: 409, message }) => {
                        return Err(Error::Unavailable { call: CALL, message });
                    }
                    Err(error) => return Err(self.failed(CALL, &error)),
                }
            }
        }
        let client = self.client(CALL).await?;
        match client.start_container(node.as_str(), None::<StartContainerOptions>).await {
            Ok(()) | Err(DockerError::DockerResponseServerError { status_code: 304, .. }) => Ok(()),
            // The machine does not have what the container asks for: no such GPU, no such memory.
            Err(DockerError::DockerResponseServerError { message, .. }) => {
                self.remove(node).await?;
                Self::remove_marker(client, node.as_str()).await;
                Err(Error::NoCapacity { offer: order.offer.clone(), message })
            }
            Err(error) => Err(self.failed(CALL, &error)),
        }
    }

    /// What an earlier call made of a node.
    async fn made_before(&self, node: &NodeId) -> Result<Option<MadeBefore>> {
        const CALL: &str = "launch";
        let client = self.client(CALL).await?;
        match client.inspect_container(node.as_str(), None::<InspectContainerOptions>).await {
            Ok(found) => {
                let status = found.state.and_then(|state| state.status);
                let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
                let is_new = status == Some(ContainerStateStatusEnum::CREATED);
                return Ok(Some(MadeBefore { mark: labels.get(REQUEST).cloned(), is_new }));
            }
            Err(DockerError::DockerResponseServerError { status_code: 404, .. }) => {}
            Err(error) => return Err(self.failed(CALL, &error)),
        }
        match client.inspect_volume(node.as_str()).await {
            Ok(volume) => Ok(Some(MadeBefore { mark: volume.labels.get(REQUEST).cloned(), is_new: false })),
            Err(DockerError::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(self.failed(CALL, &error)),
        }
    }

    /// Removes the markers of launches that nobody asks for any more. What fails is tried again the next time.
    async fn tidy(&self, client: &Client) {
        let now = Timestamp::from(self.clock.now());
        {
            let mut tidied_at = self.tidied_at.lock().unwrap_or_else(PoisonError::into_inner);
            if tidied_at.is_some_and(|at| now.since(at) < TIDY_EVERY) {
                return;
            }
            *tidied_at = Some(now);
        }
        let options = ListVolumesOptions { filters: Some(self.ours()) };
        let volumes = match client.list_volumes(Some(options)).await {
            Ok(listed) => listed.volumes.unwrap_or_default(),
            Err(error) => {
                tracing::debug!(%error, "the markers of launches are not shown");
                return;
            }
        };
        for volume in
            volumes.iter().filter(|volume| made_at(volume).is_some_and(|at| now.since(at) >= MARKED_FOR))
        {
            Self::remove_marker(client, &volume.name).await;
        }
    }

    /// One whose container still runs is in use, and stays.
    async fn remove_marker(client: &Client, name: &str) {
        if let Err(error) = client.remove_volume(name, None::<RemoveVolumeOptions>).await {
            tracing::debug!(name, %error, "the marker of a launch stays");
        }
    }

    /// What is this cluster's.
    fn ours(&self) -> HashMap<String, Vec<String>> {
        HashMap::from([("label".to_owned(), vec![format!("{CLUSTER}={}", self.cluster)])])
    }

    async fn remove(&self, node: &NodeId) -> Result<()> {
        let client = self.client("terminate").await?;
        let options = RemoveContainerOptions { force: true, v: true, ..RemoveContainerOptions::default() };
        match client.remove_container(node.as_str(), Some(options)).await {
            // Not there, or being removed.
            Ok(()) | Err(DockerError::DockerResponseServerError { status_code: 404 | 409, .. }) => Ok(()),
            Err(error) => Err(self.failed("terminate", &error)),
        }
    }

    /// Ends a container in order: its agent hands back what it has.
    async fn stop(&self, node: &NodeId) -> Result<()> {
        let client = self.client("terminate").await?;
        let t = i32::try_from(self.stop_timeout.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptions { t: Some(t), ..StopContainerOptions::default() };
        match client.stop_container(node.as_str(), Some(options)).await {
            Ok(()) | Err(DockerError::DockerResponseServerError { status_code: 304 | 404, .. }) => {}
            Err(error) => return Err(self.failed("terminate", &error)),
        }
        self.remove(node).await
    }
}

/// How a container of a launch is made.
fn container(id: &LaunchId, node: &NodeId, request: &Request, detail: &Detail) -> ContainerCreateBody {
    let order = &request.order;
    let pool = &detail.pool;
    let mut env = vec![
        format!("SPRINGTIDE__NODE__ID={node}"),
        format!("SPRINGTIDE__NODE__POOL={}", order.pool),
        format!("SPRINGTIDE__NODE__LANE={}", order.lane),
        format!("SPRINGTIDE__NODE__MAX_CONCURRENT_TASKS={}", order.slots),
    ];
    env.extend(pool.env.iter().map(|(name, value)| format!("{name}={value}")));
    let mut labels: HashMap<String, String> =
        pool.labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let ours = [
        (CLUSTER, detail.cluster.clone()),
        (POOL, order.pool.clone()),
        (LAUNCH, id.to_string()),
        (OFFER, order.offer.to_string()),
        (REQUEST, mark(request)),
    ];
    let ours = ours.map(|(name, value)| (name.to_owned(), value));
    let marker = Mount {
        typ: Some(MountType::VOLUME),
        source: Some(node.to_string()),
        target: Some(MARKER.to_owned()),
        volume_options: Some(MountVolumeOptions {
            no_copy: Some(true),
            labels: Some(ours.iter().cloned().collect()),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    };
    labels.extend(ours);
    let gpus = DeviceRequest {
        driver: Some("nvidia".to_owned()),
        count: Some(pool.gpus),
        capabilities: Some(vec![vec!["gpu".to_owned()]]),
        ..DeviceRequest::default()
    };
    let some = |number: i64| (number > 0).then_some(number);
    let host = HostConfig {
        auto_remove: Some(true),
        network_mode: (!pool.network.is_empty()).then(|| pool.network.clone()),
        binds: Some(pool.mounts.clone()),
        mounts: Some(vec![marker]),
        memory: some(pool.memory_bytes.cast_signed()),
        nano_cpus: some((pool.cpus * 1e9) as i64),
        device_requests: (pool.gpus != 0).then(|| vec![gpus]),
        ..HostConfig::default()
    };
    ContainerCreateBody {
        image: Some(pool.image.clone()),
        cmd: (!pool.command.is_empty()).then(|| pool.command.clone()),
        env: Some(env),
        labels: Some(labels),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    }
}

/// When Docker made a volume.
fn made_at(volume: &Volume) -> Option<Timestamp> {
    let at: jiff::Timestamp = volume.created_at.as_ref()?.parse().ok()?;
    Some(Timestamp::from_micros(at.as_microsecond()))
}

/// A request's own mark.
fn mark(request: &Request) -> String {
    let written = serde_json::to_vec(request).unwrap_or_default();
    let digest = Sha256::digest(written);
    let number = digest.iter().take(16).fold(0_u128, |number, byte| (number << 8) | u128::from(*byte));
    format!("{number:032x}")
}

#[async_trait]
impl Provider for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    async fn prepare(&self, order: &Order) -> Result<Request> {
        let invalid = |message: String| Error::Invalid { call: "prepare", message };
        let pool = self.pools.get(&order.pool).filter(|pool| !pool.image.is_empty());
        let pool = pool.ok_or_else(|| {
            invalid(format!(
                "the pool `{}` has no image: give it an entry with `image` in autoscaler.docker.pools",
                order.pool
            ))
        })?;
        let detail = Detail { pool: pool.clone(), cluster: self.cluster.clone() };
        let detail = serde_json::to_value(detail).map_err(|error| invalid(error.to_string()))?;
        Ok(Request { provider: self.name().to_owned(), order: order.clone(), detail })
    }

    async fn launch(&self, id: &LaunchId, request: &Request) -> Result<Launched> {
        let detail: Detail = serde_json::from_value(request.detail.clone()).map_err(|error| {
            Error::Invalid { call: "launch", message: format!("{id} can't be read: {error}") }
        })?;
        let mut nodes = Vec::new();
        for number in 0..request.order.count {
            let node = id.node("docker", number);
            match self.start(&node, container(id, &node, request, &detail), &request.order).await {
                Ok(()) => nodes.push(node),
                // What came of it is not known: asked again, it finds those that are there.
                Err(error) if error.is_retryable() || nodes.is_empty() => return Err(error),
                Err(error) => return Ok(Launched { nodes, shortfall: Some(error) }),
            }
        }
        Ok(Launched { nodes, shortfall: None })
    }

    async fn machines(&self) -> Result<Vec<Machine>> {
        const CALL: &str = "machines";
        let client = self.client(CALL).await?;
        let filters = Some(self.ours());
        let options = ListContainersOptions { all: true, filters, ..ListContainersOptions::default() };
        let listed =
            client.list_containers(Some(options)).await.map_err(|error| self.failed(CALL, &error))?;
        self.tidy(client).await;
        Ok(listed.iter().filter_map(machine).collect())
    }

    async fn terminate(&self, nodes: &[NodeId]) -> Result<()> {
        let ends = join_all(nodes.iter().map(|node| self.stop(node))).await;
        ends.into_iter().collect()
    }
}

fn machine(container: &ContainerSummary) -> Option<Machine> {
    let labels = container.labels.as_ref()?;
    let label = |name: &str| labels.get(name).map(String::as_str);
    let name = container.names.as_ref()?.first()?.trim_start_matches('/');
    let life = match container.state? {
        ContainerSummaryStateEnum::EXITED
        | ContainerSummaryStateEnum::DEAD
        | ContainerSummaryStateEnum::REMOVING => Life::Ended,
        _ => Life::Running,
    };
    Some(Machine {
        node: name.parse().ok()?,
        launch: LaunchId::from_text(label(LAUNCH)?),
        pool: label(POOL)?.to_owned(),
        offer: label(OFFER)?.parse().ok()?,
        launched_at: Timestamp::from_micros(container.created.unwrap_or(0).saturating_mul(1_000_000)),
        life,
    })
}
