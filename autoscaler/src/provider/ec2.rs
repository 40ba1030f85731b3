//! AWS EC2: `CreateFleet` of type instant, with a launch template by its version's number; `RunInstances` where that is
//! not to be had. Tags say whose a machine is: `springtide:cluster`, `springtide:pool`, `springtide:launch`,
//! `springtide:offer`.
//!
//! Both calls are idempotent by their client token, which is the launch's id (EC2 API Reference, "Ensuring idempotency").
//! The SDK's own retries are off: the loop repeats, to the letter.

mod failure;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use aws_sdk_ec2::Client;
use aws_sdk_ec2::error::ProvideErrorMetadata;
use aws_sdk_ec2::primitives::DateTime;
use aws_sdk_ec2::types::{
    CreateFleetInstance, DefaultTargetCapacityType, Filter, FleetLaunchTemplateConfigRequest,
    FleetLaunchTemplateOverridesRequest, FleetLaunchTemplateSpecificationRequest, FleetType, Instance,
    InstanceMarketOptionsRequest, InstanceStateName, InstanceType, LaunchTemplateSpecification,
    LaunchTemplateVersion, MarketType, Reservation, ResourceType, Tag, TagSpecification,
    TargetCapacitySpecificationRequest,
};
use serde::{Deserialize, Serialize};
use springtide_core::{NodeId, Timestamp};
use springtide_planner::{Market, OfferKey};

use super::{Error, LaunchId, Launched, Life, Machine, Order, Provider, Request, Result};
use crate::config::{Ec2, Ec2Pool};

const CLUSTER: &str = "springtide:cluster";
const POOL: &str = "springtide:pool";
const LAUNCH: &str = "springtide:launch";
const OFFER: &str = "springtide:offer";

/// Where `CreateFleet` is not to be had, its refusal has one of these codes.
const NO_FLEETS: &[&str] = &["InvalidAction", "UnsupportedOperation", "NotImplemented", "UnknownOperation"];

/// EC2 in one region.
#[derive(Debug)]
pub struct Ec2Provider {
    client: Client,
    cluster: String,
    pools: BTreeMap<String, Ec2Pool>,
    /// `CreateFleet` was refused as such: new requests are for `RunInstances`.
    no_fleets: AtomicBool,
}

/// What a request holds beyond the order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Detail {
    call: Call,
    launch_template: String,
    /// A number, never `$Latest`: a retry is to the letter.
    version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subnet: Option<String>,
    cluster: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Call {
    CreateFleet,
    RunInstances,
}

impl Ec2Provider {
    /// Of the account and region that the configuration, the environment or the machine's role name. Nothing is asked yet.
    pub async fn open(config: &Ec2, cluster: &str) -> Self {
        let aws = super::aws::settings(config).await;
        let pools = config.pools.iter().map(|pool| (pool.name.clone(), pool.clone())).collect();
        Self {
            client: Client::new(&aws),
            cluster: cluster.to_owned(),
            pools,
            no_fleets: AtomicBool::new(!config.create_fleet),
        }
    }

    fn tags(&self, id: &LaunchId, order: &Order, kind: ResourceType) -> TagSpecification {
        let tag = |key: &str, value: String| Tag::builder().key(key).value(value).build();
        TagSpecification::builder()
            .resource_type(kind)
            .tags(tag(CLUSTER, self.cluster.clone()))
            .tags(tag(POOL, order.pool.clone()))
            .tags(tag(LAUNCH, id.to_string()))
            .tags(tag(OFFER, order.offer.to_string()))
            .build()
    }

    async fn create_fleet(&self, id: &LaunchId, order: &Order, detail: &Detail) -> Result<Launched> {
        const CALL: &str = "CreateFleet";
        let offer = &order.offer;
        let template = FleetLaunchTemplateSpecificationRequest::builder()
            .launch_template_id(&detail.launch_template)
            .version(&detail.version)
            .build();
        let mut machine = FleetLaunchTemplateOverridesRequest::builder().instance_type(instance_type(offer));
        match &detail.subnet {
            Some(subnet) => machine = machine.subnet_id(subnet),
            None if offer.zone != "-" => machine = machine.availability_zone(&offer.zone),
            None => {}
        }
        let config = FleetLaunchTemplateConfigRequest::builder()
            .launch_template_specification(template)
            .overrides(machine.build())
            .build();
        let kind = match offer.market {
            Market::OnDemand => DefaultTargetCapacityType::OnDemand,
            Market::Spot => DefaultTargetCapacityType::Spot,
        };
        let capacity = TargetCapacitySpecificationRequest::builder()
            .total_target_capacity(order.count.cast_signed())
            .default_target_capacity_type(kind)
            .build();
        let answer = self
            .client
            .create_fleet()
            .client_token(id.as_str())
            .r#type(FleetType::Instant)
            .launch_template_configs(config)
            .target_capacity_specification(capacity)
            .tag_specifications(self.tags(id, order, ResourceType::Fleet))
            .tag_specifications(self.tags(id, order, ResourceType::Instance))
            .send()
            .await;
        let answer = answer.map_err(|error| {
            if error.code().is_some_and(|code| NO_FLEETS.contains(&code)) {
                self.no_fleets.store(true, Ordering::Relaxed);
            }
            failure::of(CALL, Some(offer), &error)
        })?;
        let ids = answer.instances().iter().flat_map(CreateFleetInstance::instance_ids);
        let nodes = ids.map(|id| node(CALL, id)).collect::<Result<Vec<_>>>()?;
        let shortfall = answer.errors().first().map(|error| {
            let (code, message) = (error.error_code(), error.error_message());
            failure::named(CALL, Some(offer), code.unwrap_or_default(), message.unwrap_or_default())
        });
        match shortfall {
            Some(error) if nodes.is_empty() => Err(error),
            _ if nodes.is_empty() => {
                let message = "the fleet has no instance and says no reason".to_owned();
                Err(Error::NoCapacity { offer: offer.clone(), message })
            }
            shortfall => Ok(Launched { nodes, shortfall }),
        }
    }

    async fn run_instances(&self, id: &LaunchId, order: &Order, detail: &Detail) -> Result<Launched> {
        const CALL: &str = "RunInstances";
        let offer = &order.offer;
        let template = LaunchTemplateSpecification::builder()
            .launch_template_id(&detail.launch_template)
            .version(&detail.version)
            .build();
        let mut call = self
            .client
            .run_instances()
            .client_token(id.as_str())
            .launch_template(template)
            .instance_type(instance_type(offer))
            // What there is of them.
            .min_count(1)
            .max_count(order.count.cast_signed())
            .set_subnet_id(detail.subnet.clone())
            .tag_specifications(self.tags(id, order, ResourceType::Instance));
        if offer.zone != "-" && detail.subnet.is_none() {
            let zone = aws_sdk_ec2::types::Placement::builder().availability_zone(&offer.zone).build();
            call = call.placement(zone);
        }
        if offer.market == Market::Spot {
            let spot = InstanceMarketOptionsRequest::builder().market_type(MarketType::Spot).build();
            call = call.instance_market_options(spot);
        }
        let answer = call.send().await.map_err(|error| failure::of(CALL, Some(offer), &error))?;
        let ids = answer.instances().iter().filter_map(|instance| instance.instance_id());
        let nodes = ids.map(|id| node(CALL, id)).collect::<Result<Vec<_>>>()?;
        let shortfall = (nodes.len() < order.count as usize).then(|| {
            let message = format!("{} of {} came", nodes.len(), order.count);
            Error::NoCapacity { offer: offer.clone(), message }
        });
        Ok(Launched { nodes, shortfall })
    }

    async fn terminate_some(&self, nodes: &[NodeId]) -> Result<()> {
        const CALL: &str = "TerminateInstances";
        let ids = nodes.iter().map(|node| node.as_str().to_owned()).collect();
        match self.client.terminate_instances().set_instance_ids(Some(ids)).send().await {
            Ok(_) => Ok(()),
            Err(error) if error.code().is_some_and(|code| code.starts_with("InvalidInstanceID")) => {
                // One that is not there makes EC2 refuse all: they go one by one.
                match nodes {
                    [_] => Ok(()),
                    nodes => {
                        let (left, right) = nodes.split_at(nodes.len() / 2);
                        Box::pin(self.terminate_some(left)).await?;
                        Box::pin(self.terminate_some(right)).await
                    }
                }
            }
            Err(error) => Err(failure::of(CALL, None, &error)),
        }
    }
}

fn instance_type(offer: &OfferKey) -> InstanceType {
    InstanceType::from(offer.instance_type.as_str())
}

fn node(call: &'static str, id: &str) -> Result<NodeId> {
    id.parse().map_err(|_| Error::Unavailable { call, message: format!("`{id}` is no instance's id") })
}

#[async_trait]
impl Provider for Ec2Provider {
    fn name(&self) -> &'static str {
        "ec2"
    }

    async fn prepare(&self, order: &Order) -> Result<Request> {
        const CALL: &str = "DescribeLaunchTemplateVersions";
        let invalid = |message: String| Error::Invalid { call: CALL, message };
        let pool = self.pools.get(&order.pool).filter(|pool| !pool.launch_template.is_empty());
        let pool = pool.ok_or_else(|| {
            invalid(format!(
                "the pool `{}` has no launch template: give it an entry with `launch_template` in autoscaler.ec2.pools",
                order.pool
            ))
        })?;
        let version = pool.launch_template_version.as_str();
        let answer = self
            .client
            .describe_launch_template_versions()
            .launch_template_id(&pool.launch_template)
            .versions(version)
            .send()
            .await
            .map_err(|error| failure::of(CALL, None, &error))
            .map_err(|error| match error {
                Error::Invalid { call, message } => {
                    let named = &pool.launch_template;
                    let key = format!("autoscaler.ec2.pools[{}].launch_template is {named}", pool.name);
                    Error::Invalid { call, message: format!("{message} ({key})") }
                }
                error => error,
            })?;
        let number =
            answer.launch_template_versions().first().and_then(LaunchTemplateVersion::version_number);
        let number = number.ok_or_else(|| {
            invalid(format!(
                "the launch template {} has no version {version} (autoscaler.ec2.pools[{}].launch_template_version)",
                pool.launch_template, pool.name
            ))
        })?;
        let call =
            if self.no_fleets.load(Ordering::Relaxed) { Call::RunInstances } else { Call::CreateFleet };
        let detail = Detail {
            call,
            launch_template: pool.launch_template.clone(),
            version: number.to_string(),
            subnet: pool.subnets.get(&order.offer.zone).cloned(),
            cluster: self.cluster.clone(),
        };
        let detail = serde_json::to_value(detail).map_err(|error| invalid(error.to_string()))?;
        Ok(Request { provider: self.name().to_owned(), order: order.clone(), detail })
    }

    async fn launch(&self, id: &LaunchId, request: &Request) -> Result<Launched> {
        let detail: Detail = serde_json::from_value(request.detail.clone()).map_err(|error| {
            Error::Invalid { call: "launch", message: format!("{id} can't be read: {error}") }
        })?;
        match detail.call {
            Call::CreateFleet => self.create_fleet(id, &request.order, &detail).await,
            Call::RunInstances => self.run_instances(id, &request.order, &detail).await,
        }
    }

    async fn machines(&self) -> Result<Vec<Machine>> {
        const CALL: &str = "DescribeInstances";
        let ours = Filter::builder().name(format!("tag:{CLUSTER}")).values(&self.cluster).build();
        let mut pages =
            self.client.describe_instances().filters(ours).max_results(1000).into_paginator().send();
        let mut machines = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| failure::of(CALL, None, &error))?;
            let instances = page.reservations().iter().flat_map(Reservation::instances);
            machines.extend(instances.filter_map(machine));
        }
        Ok(machines)
    }

    async fn terminate(&self, nodes: &[NodeId]) -> Result<()> {
        if nodes.is_empty() { Ok(()) } else { self.terminate_some(nodes).await }
    }
}

/// An instance as a machine. One without our tags was not made by a launch: it is the operator's.
fn machine(instance: &Instance) -> Option<Machine> {
    let tag =
        |key: &str| instance.tags().iter().find(|tag| tag.key() == Some(key)).and_then(|tag| tag.value());
    let life = match instance.state().and_then(|state| state.name())? {
        InstanceStateName::Terminated => Life::Ended,
        InstanceStateName::ShuttingDown | InstanceStateName::Stopping => Life::Ending,
        _ => Life::Running,
    };
    let launched_at = instance.launch_time().map_or(0, DateTime::secs);
    Some(Machine {
        node: instance.instance_id()?.parse().ok()?,
        launch: LaunchId::from_text(tag(LAUNCH)?),
        pool: tag(POOL)?.to_owned(),
        offer: tag(OFFER)?.parse().ok()?,
        launched_at: Timestamp::from_micros(launched_at.saturating_mul(1_000_000)),
        life,
    })
}
