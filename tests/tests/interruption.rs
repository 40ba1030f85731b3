//! A spot machine is taken back in the middle of a picture: the warning in the queue becomes a drain, the picture is
//! finished on another machine, bit for bit.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_sdk_ec2::types::{Filter, InstanceStateName, RequestLaunchTemplateData, Reservation};
use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::json;
use springtide_client::Package;
use springtide_core::NodeId;
use springtide_core::api::{JobView, SubmitJob};
use springtide_core::job::JobStatus;
use springtide_tests::autoscaler::Autoscaler;
use springtide_tests::servers::{RabbitMq, Version};
use springtide_tests::{AgentOptions, Cluster, ClusterOptions, wait};
use tokio::time::Instant;

const LIMIT: Duration = Duration::from_mins(4);
const REGION: &str = "us-east-1";
/// Of one picture: so many that it is not done by the time that its machine goes.
const STEPS: u64 = 100;
const IMAGES: usize = 24;
/// Of the two minutes so much is over when the warning comes: what is left is less than the picture takes.
const OVER: Duration = Duration::from_secs(116);

/// A region of AWS, as moto plays it, with this test's own queue, template and tag.
struct Aws {
    ec2: aws_sdk_ec2::Client,
    sqs: aws_sdk_sqs::Client,
    endpoint: String,
    queue: String,
    template: String,
    /// Tag of all machines.
    cluster: String,
}

impl Aws {
    /// `None`, and a line that says so, without moto.
    async fn open(cluster: &str) -> Result<Option<Self>> {
        let Ok(endpoint) = std::env::var("SPRINGTIDE_TEST_AWS_URL") else {
            eprintln!(
                "skipped: SPRINGTIDE_TEST_AWS_URL is not set; `cargo xtask test` starts moto and sets it"
            );
            return Ok(None);
        };
        let ec2 = {
            use aws_sdk_ec2::config::{BehaviorVersion, Config, Credentials, Region};
            let config = Config::builder().behavior_version(BehaviorVersion::latest());
            let config = config.region(Region::new(REGION)).endpoint_url(&endpoint);
            let credentials = Credentials::new("test", "test", None, None, "test");
            aws_sdk_ec2::Client::from_conf(config.credentials_provider(credentials).build())
        };
        let sqs = {
            use aws_sdk_sqs::config::{BehaviorVersion, Config, Credentials, Region};
            let config = Config::builder().behavior_version(BehaviorVersion::latest());
            let config = config.region(Region::new(REGION)).endpoint_url(&endpoint);
            let credentials = Credentials::new("test", "test", None, None, "test");
            aws_sdk_sqs::Client::from_conf(config.credentials_provider(credentials).build())
        };
        let images = ec2.describe_images().send().await?;
        let image = images.images().iter().find_map(|image| image.image_id()).context("moto has no image")?;
        let data = RequestLaunchTemplateData::builder().image_id(image).build();
        let template = ec2.create_launch_template().launch_template_name(cluster).launch_template_data(data);
        let template = template.send().await?;
        let template = template.launch_template().and_then(|made| made.launch_template_id());
        let template = template.context("no launch template was made")?.to_owned();
        let queue = sqs.create_queue().queue_name(cluster).send().await?;
        let queue = queue.queue_url().context("no queue was made")?.to_owned();
        Ok(Some(Self { ec2, sqs, endpoint, queue, template, cluster: cluster.to_owned() }))
    }

    fn configuration(&self) -> String {
        let Self { endpoint, queue, template, cluster, .. } = self;
        format!(
            r#"autoscaler.provider = "ec2"
            autoscaler.cluster = "{cluster}"
            autoscaler.describe_interval = "1s"
            autoscaler.pools = [{{name = "spot", lane = "cpu", max = 2, boot_time = "5s", boot_timeout = "120s", drain_deadline = "60s",
                reversal_pause = "2s", offers = [{{instance_type = "t3.small", zone = "us-east-1a", market = "spot",
                price_per_hour = 0.1, slots = 1}}]}}]
            autoscaler.ec2.region = "{REGION}"
            autoscaler.ec2.endpoint = "{endpoint}"
            autoscaler.ec2.access_key_id = "test"
            autoscaler.ec2.secret_access_key = "test"
            autoscaler.ec2.interruption_queue_url = "{queue}"
            autoscaler.ec2.pools = [{{name = "spot", launch_template = "{template}", launch_template_version = "$Latest"}}]
            "#
        )
    }

    /// Instances of this test, and whether each runs.
    async fn instances(&self) -> Result<BTreeMap<NodeId, bool>> {
        let tag = Filter::builder().name("tag:springtide:cluster").values(&self.cluster).build();
        let answer = self.ec2.describe_instances().filters(tag).send().await?;
        let all = answer.reservations().iter().flat_map(Reservation::instances);
        all.map(|instance| {
            let state = instance.state().and_then(|state| state.name()).context("no state")?;
            let id = instance.instance_id().context("no id")?.parse()?;
            Ok((id, *state == InstanceStateName::Running))
        })
        .collect()
    }

    /// Puts the warning into the queue that an instance is taken back.
    async fn warn(&self, instance: &NodeId) -> Result<()> {
        let noticed = jiff::Timestamp::now() - OVER;
        let event = json!({
            "version": "0", "id": "12345678-1234-1234-1234-123456789012", "account": "123456789012",
            "source": "aws.ec2", "detail-type": "EC2 Spot Instance Interruption Warning", "region": REGION,
            "time": noticed.to_string(), "resources": [],
            "detail": {"instance-id": instance.to_string(), "instance-action": "terminate"},
        });
        self.sqs.send_message().queue_url(&self.queue).message_body(event.to_string()).send().await?;
        Ok(())
    }

    /// Messages that are in the queue, those that somebody reads right now included.
    async fn messages(&self) -> Result<i64> {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let call = self.sqs.get_queue_attributes().queue_url(&self.queue);
        let answer = call.set_attribute_names(Some(names.to_vec())).send().await?;
        let attributes = answer.attributes().context("no attributes")?;
        names.iter().map(|name| Ok(attributes[name].parse::<i64>()?)).sum()
    }
}

/// The machines: moto's have nothing in them, so this starts on each what its user data would start, and ends it with
/// the machine.
struct Machines<'a> {
    aws: &'a Aws,
    cluster: &'a mut Cluster,
    started: BTreeSet<NodeId>,
}

impl Machines<'_> {
    async fn look(&mut self) -> Result<BTreeMap<NodeId, bool>> {
        let instances = self.aws.instances().await?;
        for (id, runs) in &instances {
            if *runs && self.started.insert(id.clone()) {
                let agent = AgentOptions { slots: 1, ..AgentOptions::default() };
                let agent = agent.with(&[("node.pool", "spot"), ("node.lane", "cpu")]);
                self.cluster.start_agent_as(id, &agent)?;
            } else if !*runs && self.started.contains(id) {
                let agents = self.cluster.agents.iter_mut();
                for agent in agents.filter(|agent| agent.id == *id) {
                    if agent.process.is_running() {
                        agent.process.kill()?;
                    }
                }
            }
        }
        Ok(instances)
    }

    /// Waits for a job's end, with machines that come and go.
    async fn wait_for_end(&mut self, job: &JobView) -> Result<JobView> {
        let mut view = job.clone();
        wait::until(&format!("the end of {}", job.id), LIMIT, async || {
            self.look().await?;
            view = self.cluster.client.job(job.id).await?;
            Ok(view.status.is_terminal())
        })
        .await
        .with_context(|| format!("{view:?}"))?;
        Ok(view)
    }
}

/// One task of many pictures, each step of which draws noise.
fn job() -> SubmitJob {
    let input = json!({
        "prompt": "a red circle on a blue ground", "seed": 11, "images": IMAGES, "images_per_task": IMAGES,
        "steps": STEPS, "sampler": "euler_a",
    });
    SubmitJob { model: "shapes".into(), input: Some(input), ..SubmitJob::default() }
}

/// The files of a job that has succeeded.
async fn files(cluster: &Cluster, done: &JobView) -> Result<Vec<Vec<u8>>> {
    ensure!(done.status == JobStatus::Succeeded && done.outputs.len() == IMAGES, "{done:?}");
    cluster.files(done).await
}

#[tokio::test]
async fn a_picture_outlives_its_spot_machine() {
    story().await.unwrap();
}

async fn story() -> Result<()> {
    let Some(broker) = RabbitMq::fresh(Version::Installed)? else { return Ok(()) };
    let Some(aws) = Aws::open(broker.vhost()).await? else { return Ok(()) };
    let settings = [
        ("node.heartbeat_interval", "1s"),
        ("node.checkpoint_every_steps", "10"),
        ("node.checkpoint_interval", "0s"),
        // The same bits need the same number.
        ("node.worker_threads", "1"),
    ];
    let mut cluster = Cluster::start(ClusterOptions::new(&broker.url, "sqlite:", &settings))?;
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/models/shapes");
    cluster.client.push_model(&Package::read(&model, |_, _| {})?, |_| {}).await?;
    let mut autoscaler = Autoscaler::start(&cluster, &aws.configuration())?;
    ensure!(aws.instances().await?.is_empty(), "nothing is rented without work");
    let client = cluster.client.clone();
    let mut machines = Machines { aws: &aws, cluster: &mut cluster, started: BTreeSet::new() };

    let whole = machines.cluster.submit(&job()).await?;
    let whole = machines.wait_for_end(&whole).await?;
    let expected = files(machines.cluster, &whole).await?;

    let job = machines.cluster.submit(&job()).await?;
    let mut node = None;
    wait::until("a picture that is half done", LIMIT, async || {
        machines.look().await?;
        let tasks = client.tasks(job.id, None).await?.items;
        node.clone_from(&tasks[0].node);
        Ok(tasks[0].progress >= 0.15)
    })
    .await?;
    let first = node.context("a running task without a node")?;

    aws.warn(&first).await?;
    let warned = Instant::now();
    wait::until("the drain", LIMIT, async || {
        let nodes = client.nodes(None).await?.items;
        Ok(nodes.iter().any(|node| node.id == first && node.state == "draining"))
    })
    .await?;
    eprintln!("cordoned {:?} after the warning was sent", warned.elapsed());
    let mut replacement = None;
    wait::until("a replacement", LIMIT, async || {
        let instances = machines.look().await?;
        replacement = instances.into_iter().find(|(id, runs)| *runs && *id != first);
        Ok(replacement.is_some())
    })
    .await?;
    eprintln!("a replacement {:?} after the warning was sent", warned.elapsed());
    wait::until("an empty queue", LIMIT, async || Ok(aws.messages().await? == 0)).await?;

    let done = machines.wait_for_end(&job).await?;
    ensure!(files(machines.cluster, &done).await? == expected, "the picture differs");
    let task = client.tasks(job.id, None).await?.items.remove(0);
    ensure!((task.charges, task.evictions) == (0, 1), "{task:?}");
    ensure!(task.node.as_ref() != Some(&first), "{task:?}");
    let second = machines.cluster.agents.iter().find(|agent| Some(&agent.id) == task.node.as_ref());
    let output = second.context("the task has ended on an agent that is not there")?.process.output();
    ensure!(output.contains("going on from a checkpoint"), "it was begun anew:\n{output}");

    wait::until("no machine", LIMIT, async || Ok(machines.look().await?.values().all(|runs| !runs))).await?;
    let text = machines.cluster.explained()?;
    ensure!(text.contains("spot: launch "), "{text}");
    autoscaler.stop()
}
