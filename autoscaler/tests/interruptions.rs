//! Interruptions become drains, whatever the queue does.
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in test functions, not in what they call")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use springtide_autoscaler::interruption::{Fate, Listener, Message, Queue, QueueError};
use springtide_autoscaler::{Config, Part, Plane, Shared, alert_book};
use springtide_client::Error;
use springtide_core::api::{
    ClusterView, DrainNode, LaunchView, LeaseGrant, LeaseWish, NodeView, Problem, PutLaunch, RetireNode,
};
use springtide_core::{NodeId, Timestamp};
use springtide_process::clock::{SharedClock, SystemClock};
use springtide_process::config::Layers;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A new machine may be missing for so long.
const SETTLE: Duration = Duration::from_mins(1);
/// Nothing here takes so long.
const LIMIT: Duration = Duration::from_secs(60);

/// A control plane that answers drains as it is told.
#[derive(Default)]
struct Drains {
    answers: Mutex<Vec<u16>>,
    seen: Mutex<Vec<(NodeId, DrainNode)>>,
    asked: Notify,
}

#[async_trait]
impl Plane for Drains {
    async fn cluster(&self) -> Result<ClusterView, Error> {
        unreachable!("interruptions do not look")
    }
    async fn lease(&self, _: &str, _: &LeaseWish) -> Result<LeaseGrant, Error> {
        unreachable!("whoever hears of an interruption drains")
    }
    async fn put_launch(&self, _: &str, _: &PutLaunch) -> Result<LaunchView, Error> {
        unreachable!("replacements are the loop's")
    }
    async fn drain(&self, node: &NodeId, drain: &DrainNode) -> Result<NodeView, Error> {
        self.seen.lock().unwrap().push((node.clone(), drain.clone()));
        self.asked.notify_one();
        match self.answers.lock().unwrap().pop() {
            None => {
                let view = json!({
                    "id": node, "state": "draining", "lane": "cpu", "consuming": null, "pool": null, "slots": 1,
                    "heard_at": null, "runs": [], "held": 0, "models": [], "cpu": 0.0, "devices": [], "version": "",
                });
                Ok(serde_json::from_value(view).unwrap())
            }
            Some(status) => Err(Error::Problem(Box::new(Problem {
                r#type: "about:blank".to_owned(),
                title: String::new(),
                status,
                detail: "as was wished".to_owned(),
                pointer: None,
            }))),
        }
    }
    async fn undrain(&self, _: &NodeId) -> Result<NodeView, Error> {
        unreachable!("nothing is taken back")
    }
    async fn retire(&self, _: &NodeId, _: &RetireNode) -> Result<NodeView, Error> {
        unreachable!("the loop retires")
    }
}

/// A queue that gives its messages again until they are deleted.
#[derive(Default)]
struct Waiting {
    messages: Mutex<Vec<Message>>,
    deleted: Notify,
    /// It fails, and then, asked again, waits for `go_on`.
    broken: Mutex<bool>,
    mended: Mutex<bool>,
    asked_again: Notify,
    go_on: Notify,
}

#[async_trait]
impl Queue for Waiting {
    async fn receive(&self) -> Result<Vec<Message>, QueueError> {
        // As long as it waits for messages, on the test's clock.
        tokio::time::sleep(Duration::from_millis(10)).await;
        if std::mem::take(&mut *self.broken.lock().unwrap()) {
            *self.mended.lock().unwrap() = true;
            return Err(QueueError("no such queue".to_owned()));
        }
        let mended = std::mem::take(&mut *self.mended.lock().unwrap());
        if mended {
            self.asked_again.notify_one();
            self.go_on.notified().await;
        }
        Ok(self.messages.lock().unwrap().clone())
    }
    async fn delete(&self, receipt: &str) -> Result<(), QueueError> {
        self.messages.lock().unwrap().retain(|message| message.receipt != receipt);
        self.deleted.notify_one();
        Ok(())
    }
}

struct Scene {
    plane: Arc<Drains>,
    queue: Arc<Waiting>,
    shared: Arc<Shared>,
    clock: SharedClock,
}

impl Scene {
    /// `i-1` and `i-2` are this cluster's.
    fn new() -> Self {
        let config = Config::read(&Layers::defaults()).unwrap();
        let shared = Arc::new(Shared::new(alert_book(&config)));
        let ours: BTreeSet<NodeId> = ["i-1", "i-2"].iter().map(|id| id.parse().unwrap()).collect();
        let clock: SharedClock = Arc::new(SystemClock);
        shared.set_machines(clock.now().into(), ours);
        Self { plane: Arc::default(), queue: Arc::default(), shared, clock }
    }

    fn listener(&self) -> Listener {
        Listener {
            queue: Arc::clone(&self.queue) as Arc<dyn Queue>,
            plane: Arc::clone(&self.plane) as Arc<dyn Plane>,
            clock: Arc::clone(&self.clock),
            shared: Arc::clone(&self.shared),
            patience: Duration::from_mins(10),
            settle: SETTLE,
        }
    }

    fn event(&self, detail_type: &str, id: &str) -> String {
        self.event_of(detail_type, id, Duration::ZERO)
    }

    /// One that was said so long ago.
    fn event_of(&self, detail_type: &str, id: &str, ago: Duration) -> String {
        let now: Timestamp = self.clock.now().into();
        json!({
            "source": "aws.ec2", "detail-type": detail_type, "time": now - ago,
            "detail": {"instance-id": id, "instance-action": "terminate"},
        })
        .to_string()
    }

    fn deadlines(&self) -> Vec<f64> {
        self.plane.seen.lock().unwrap().iter().map(|(_, drain)| drain.deadline_s.round()).collect()
    }
}

const SPOT: &str = "EC2 Spot Instance Interruption Warning";
const REBALANCE: &str = "EC2 Instance Rebalance Recommendation";

#[tokio::test]
async fn a_spot_warning_drains_within_its_two_minutes_and_dooms_the_machine() {
    let scene = Scene::new();
    assert_eq!(scene.listener().heed(&scene.event(SPOT, "i-1")).await, Fate::Delete);
    let (node, drain) = scene.plane.seen.lock().unwrap()[0].clone();
    assert_eq!(node.as_str(), "i-1");
    assert!(drain.deadline_s > 110.0 && drain.deadline_s <= 120.0, "{drain:?}");
    assert_eq!(drain.reason, "interruption: spot interruption (terminate)");
    assert!(scene.shared.doomed.all().contains_key(&node));
}

#[tokio::test]
async fn of_several_times_the_earliest_counts() {
    let scene = Scene::new();
    for detail_type in [REBALANCE, SPOT, REBALANCE, SPOT] {
        scene.listener().heed(&scene.event(detail_type, "i-1")).await;
    }
    assert_eq!(scene.deadlines(), [600.0, 120.0, 120.0, 120.0]);
}

#[tokio::test]
async fn what_is_not_durable_stays_and_what_concerns_nobody_goes() {
    let scene = Scene::new();
    let heed_old = async |answer: u16, detail_type: &str, id: &str, ago: Duration| {
        scene.plane.answers.lock().unwrap().push(answer);
        scene.listener().heed(&scene.event_of(detail_type, id, ago)).await
    };
    let heed = async |answer: u16, detail_type: &str, id: &str| {
        heed_old(answer, detail_type, id, Duration::ZERO).await
    };
    assert_eq!(heed(503, SPOT, "i-1").await, Fate::Keep, "the control plane is away");
    assert_eq!(heed(404, SPOT, "i-1").await, Fate::Keep, "it has not reported yet");
    assert_eq!(heed(409, SPOT, "i-1").await, Fate::Delete, "it retires");
    assert_eq!(heed(404, SPOT, "i-9").await, Fate::Keep, "it may be so new that it is not shown yet");
    let old = SETTLE + Duration::from_secs(10);
    assert_eq!(heed_old(404, SPOT, "i-9", old).await, Fate::Delete, "another cluster's");
    for nonsense in ["", "{}", "null", "[1]", "{\"source\": 7}"] {
        assert_eq!(scene.listener().heed(nonsense).await, Fate::Delete, "{nonsense:?}");
    }
    let text = scene.shared.metrics.render(&scene.shared.troubles);
    assert!(text.contains(r#"interruptions_total{kind="spot",result="foreign"} 1"#), "{text}");
    assert!(text.contains(r#"interruptions_total{kind="none",result="malformed"} 5"#), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_message_comes_again_until_its_drain_is_durable() {
    let scene = Scene::new();
    let message = |body: String, receipt: &str| Message { body, receipt: receipt.to_owned() };
    let bodies = [message(scene.event(SPOT, "i-1"), "1"), message("nonsense".to_owned(), "2")];
    scene.queue.messages.lock().unwrap().extend(bodies);
    scene.plane.answers.lock().unwrap().extend([503, 503, 503]);
    *scene.queue.broken.lock().unwrap() = true;
    let stop = CancellationToken::new();
    let listening = tokio::spawn(scene.listener().run(stop.clone()));
    timeout(LIMIT, scene.queue.asked_again.notified())
        .await
        .expect("the queue is asked again after a failure");
    assert_eq!(scene.shared.troubles.all()[0].part, Part::Interruptions);
    scene.queue.go_on.notify_one();
    let deleted = async {
        while !scene.queue.messages.lock().unwrap().is_empty() {
            scene.queue.deleted.notified().await;
        }
    };
    timeout(LIMIT, deleted).await.expect("all messages are deleted");
    stop.cancel();
    listening.await.unwrap();
    assert_eq!(scene.plane.seen.lock().unwrap().len(), 4, "three in vain");
    assert_eq!(scene.shared.troubles.all(), []);
}

/// Against SQS, as moto plays it.
#[cfg(feature = "ec2")]
mod sqs {
    use aws_sdk_sqs::Client;
    use aws_sdk_sqs::types::QueueAttributeName;
    use springtide_autoscaler::config::Ec2;
    use springtide_autoscaler::interruption::sqs::Sqs;
    use springtide_autoscaler::provider::aws;
    use springtide_process::config::Secret;
    use tokio::time::Instant;

    use super::*;

    async fn left(client: &Client, url: &str) -> i64 {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let call = client.get_queue_attributes().queue_url(url).set_attribute_names(Some(names.to_vec()));
        let answer = call.send().await.unwrap();
        let attributes = answer.attributes().unwrap();
        names.iter().map(|name| attributes[name].parse::<i64>().unwrap()).sum()
    }

    #[tokio::test]
    async fn a_spot_warning_in_the_queue_drains_the_node_and_is_deleted() {
        let Ok(endpoint) = std::env::var("SPRINGTIDE_TEST_AWS_URL") else {
            eprintln!(
                "skipped: SPRINGTIDE_TEST_AWS_URL is not set; `cargo xtask test` starts moto and sets it"
            );
            return;
        };
        let mut config = Ec2 {
            region: "us-east-1".to_owned(),
            endpoint,
            access_key_id: Secret::new("test"),
            secret_access_key: Secret::new("test"),
            create_fleet: true,
            interruption_queue_url: String::new(),
            patience: Duration::from_mins(10),
            pools: Vec::new(),
        };
        let client = Client::new(&aws::settings(&config).await);
        let made = client.create_queue().queue_name("interruptions-test").send().await.unwrap();
        config.interruption_queue_url = made.queue_url().unwrap().to_owned();
        let url = &config.interruption_queue_url;

        let scene = Scene::new();
        let listener = Listener { queue: Arc::new(Sqs::open(&config).await), ..scene.listener() };
        let stop = CancellationToken::new();
        let listening = tokio::spawn(listener.run(stop.clone()));
        let sent = Instant::now();
        for body in [scene.event(SPOT, "i-1"), scene.event(SPOT, "i-1"), "nonsense".to_owned()] {
            client.send_message().queue_url(url).message_body(body).send().await.unwrap();
        }
        timeout(LIMIT, scene.plane.asked.notified()).await.expect("the node is drained");
        eprintln!("drained {:?} after the first message was sent", sent.elapsed());
        let deleted = async {
            // SQS tells nobody; it has to be asked.
            while left(&client, url).await > 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(LIMIT, deleted).await.expect("all messages are deleted");
        stop.cancel();
        listening.await.unwrap();
        assert!(scene.plane.seen.lock().unwrap().iter().all(|(node, _)| node.as_str() == "i-1"));
    }

    #[tokio::test]
    async fn a_queue_that_is_not_there_is_told() {
        let config = Config::read(&Layers::defaults()).unwrap().ec2;
        let config = Ec2 {
            region: "us-east-1".to_owned(),
            endpoint: "http://127.0.0.1:1".to_owned(),
            access_key_id: Secret::new("test"),
            secret_access_key: Secret::new("test"),
            interruption_queue_url: "http://127.0.0.1:1/1/none".to_owned(),
            ..config
        };
        let error = Sqs::open(&config).await.receive().await.unwrap_err();
        assert!(error.to_string().contains("interruption_queue_url"), "{error}");
    }
}
