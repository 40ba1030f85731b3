//! What ships for Prometheus and Grafana, held against what the services show; and the whole way of an alert, from a
//! task that waits to the floor that it raises.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use springtide_control_plane::metrics::Metrics;
use springtide_core::api::SubmitJob;
use springtide_core::job::JobStatus;
use springtide_core::priority::Priority;
use springtide_process::metrics::Described;
use springtide_tests::autoscaler::Autoscaler;
use springtide_tests::monitoring::{Monitoring, Watched, shipped};
use springtide_tests::servers::{RabbitMq, Version};
use springtide_tests::{Cluster, ClusterOptions, wait};

const LIMIT: Duration = Duration::from_mins(2);
/// Labels that Prometheus adds, and the one of a histogram's buckets.
const ADDED: [&str; 3] = ["instance", "job", "le"];
/// Metrics of Prometheus itself.
const OWN: [&str; 1] = ["up"];
/// Those of the autoscaler are looked at in `autoscaler/tests/shipped.rs`.
const AUTOSCALER: &str = "springtide_autoscaler_";

/// The expressions of the rules: what stands after `expr:`, on its line or indented below it.
fn expressions_of_rules() -> Vec<String> {
    let text = shipped("rules.yml").expect("the rules ship");
    let mut expressions: Vec<String> = Vec::new();
    let mut indent = None;
    for line in text.lines() {
        let depth = line.len() - line.trim_start().len();
        if let Some(rest) = line.trim_start().strip_prefix("expr:") {
            expressions.push(rest.trim_start_matches([' ', '|']).to_owned());
            indent = Some(depth);
        } else if indent.is_some_and(|indent| depth > indent) {
            let last = expressions.last_mut().expect("an expression has begun");
            last.push(' ');
            last.push_str(line.trim());
        } else {
            indent = None;
        }
    }
    expressions
}

fn expressions_of_dashboard() -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../infra/grafana/springtide.json");
    let dashboard: Value =
        serde_json::from_str(&std::fs::read_to_string(path).expect("the dashboard ships")).expect("JSON");
    let panels = dashboard["panels"].as_array().into_iter().flatten();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    targets.map(|target| target["expr"].as_str().expect("an expression").to_owned()).collect()
}

/// What an expression of Prometheus names: metrics with the labels that are matched, and labels that are grouped by.
#[derive(Debug, Default, PartialEq)]
struct Named {
    metrics: Vec<(String, Vec<String>)>,
    groups: BTreeSet<String>,
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn named(expression: &str) -> Named {
    let mut named = Named::default();
    let mut rest = expression;
    while let Some(at) = rest.find(is_name) {
        rest = &rest[at..];
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        if matches!(word, "by" | "on" | "without" | "ignoring") {
            let inner = after.trim_start().strip_prefix('(').and_then(|text| text.split_once(')'));
            let (labels, after) = inner.unwrap_or_else(|| panic!("{word} what? {expression}"));
            named.groups.extend(labels.split(',').map(|label| label.trim().to_owned()));
            rest = after;
        } else if word.starts_with("springtide_") || OWN.contains(&word) {
            let mut labels = Vec::new();
            if let Some(matchers) = after.strip_prefix('{') {
                let (matchers, after) = matchers.split_once('}').expect("a brace is closed");
                // No value of ours holds a comma.
                labels.extend(
                    matchers.split(',').map(|one| one.trim().chars().take_while(|c| is_name(*c)).collect()),
                );
                rest = after;
            }
            named.metrics.push((word.to_owned(), labels));
        }
    }
    named
}

/// What is wrong with an expression.
fn faults(expression: &str, known: &[Described]) -> Vec<String> {
    let named = named(expression);
    let mut faults = Vec::new();
    let mut grouped: BTreeSet<&str> = ADDED.into();
    if named.metrics.is_empty() {
        faults.push("names no metric".to_owned());
    }
    for (name, labels) in &named.metrics {
        if OWN.contains(&name.as_str()) {
            continue;
        }
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        let found = known.iter().find(|metric| metric.name == *name || Some(metric.name.as_str()) == base);
        let Some(found) = found else {
            faults.push(format!("there is no {name}"));
            continue;
        };
        grouped.extend(found.labels.iter().map(String::as_str));
        let unknown = |label: &&String| !found.labels.contains(label) && !ADDED.contains(&label.as_str());
        faults.extend(labels.iter().filter(unknown).map(|label| format!("{name} has no label {label}")));
    }
    let unknown = named.groups.iter().filter(|label| !grouped.contains(label.as_str()));
    faults.extend(unknown.map(|label| format!("nothing has the label {label}")));
    faults
}

#[test]
fn rules_and_dashboard_name_what_there_is() {
    let known = Metrics::default().described().to_vec();
    let (rules, dashboard) = (expressions_of_rules(), expressions_of_dashboard());
    assert!(rules.len() >= 9 && dashboard.len() >= 20, "they were not read");
    for expression in rules.iter().chain(&dashboard).filter(|text| !text.contains(AUTOSCALER)) {
        assert_eq!(faults(expression, &known), Vec::<String>::new(), "{expression}");
    }
}

#[test]
fn what_is_wrong_is_found() {
    let known = Metrics::default().described().to_vec();
    let check = |expression: &str| faults(expression, &known).join("; ");
    assert_eq!(check("max(springtide_leaders) < 1"), "there is no springtide_leaders");
    assert_eq!(check("springtide_nodes{status=\"lost\"} > 0"), "springtide_nodes has no label status");
    assert_eq!(check("sum by (pool) (springtide_nodes)"), "nothing has the label pool");
    assert_eq!(check("vector(1)"), "names no metric");
    assert_eq!(check("sum by (le) (rate(springtide_task_wait_seconds_bucket{priority=\"high\"}[5m]))"), "");
}

#[test]
fn every_rule_is_tested_to_fire() {
    let tests = shipped("rules.test.yml").unwrap();
    let rules = shipped("rules.yml").unwrap();
    let names: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() >= 9);
    for name in names {
        let mut tried =
            tests.split("alertname: ").skip(1).filter(|test| test.starts_with(&format!("{name}\n")));
        assert!(tried.any(|test| test.contains("exp_labels")), "no test makes {name} fire");
    }
}

/// A pool that gets one node, however much waits, unless an alert says more.
const POOL: &str = r#"
[autoscaler]
provider = "local"
[autoscaler.alerts]
token = "a-token"
[[autoscaler.pools]]
name = "cpu"
lane = "cpu"
max = 3
strategy = "queue_length"
queue_length = { tasks_per_slot = 1000.0, poll = "500ms", sync = "500ms", down_stabilisation = "1s" }
boot_time = "1s"
reversal_pause = "1s"
offers = [{ instance_type = "agent", slots = 1 }]
[node]
heartbeat_interval = "1s"
cpu_usage_threshold = 1.0
"#;
const TARGET: &str = "target_nodes{pool=\"cpu\"}";
const WANTED: &str = "wanted_nodes{pool=\"cpu\"}";

#[tokio::test]
async fn a_backlog_that_is_old_raises_the_floor_until_it_is_gone() {
    backlog().await.unwrap();
}

async fn backlog() -> Result<()> {
    let Some(broker) = RabbitMq::fresh(Version::Installed)? else { return Ok(()) };
    // What is in a queue does not wait in the store any more.
    let settings = [("control_plane.queue_cap", "1")];
    let cluster = Cluster::start(ClusterOptions::new(&broker.url, "sqlite:", &settings))?;
    let mut autoscaler = Autoscaler::start(&cluster, POOL)?;
    let server = cluster.client.server().clone();
    let address = format!("{}:{}", server.host_str().unwrap_or_default(), server.port().unwrap_or_default());
    let watched = Watched {
        targets: &[("springtide-control-plane", &address), ("springtide-autoscaler", &autoscaler.address)],
        webhook: (&format!("http://{}/v1/alerts", autoscaler.address), "a-token"),
        rules: &[("}) > 120", "}) > 1")],
    };
    let Some(monitoring) = Monitoring::start(&watched).await? else { return Ok(()) };
    for metric in ["springtide_leader", "springtide_autoscaler_leader"] {
        let scraped = async || Ok(monitoring.value(metric).await? == Some(1.0));
        wait::until(&format!("a scrape of {metric}"), LIMIT, scraped).await?;
    }

    let inputs = Some(vec![json!({"sleep_s": 4.0}); 8]);
    let job = SubmitJob { model: "echo".into(), inputs, priority: Priority::High, ..SubmitJob::default() };
    let job = cluster.submit(&job).await?.id;
    let mut most = 0.0_f64;
    wait::until("two nodes, because of the alert", LIMIT, async || {
        most = most.max(autoscaler.metric(TARGET).await?.unwrap_or_default());
        let nodes = cluster.client.nodes(None).await?.items;
        Ok(nodes.iter().filter(|node| node.state == "active").count() == 2)
    })
    .await
    .with_context(|| format!("the target was {most} at most"))?;
    let wanted = autoscaler.metric(WANTED).await?.unwrap_or_default();
    ensure!(wanted <= 1.0, "the strategy itself wants {wanted}");

    let done = cluster.wait_for_end(job, LIMIT).await?;
    ensure!(done.status == JobStatus::Succeeded, "{done:?}");
    wait::until("no target, since the alert is resolved", LIMIT, async || {
        Ok(autoscaler.metric(TARGET).await? == Some(0.0))
    })
    .await?;
    wait::until("no node", LIMIT, async || {
        Ok(cluster.client.cluster().await?.nodes.iter().all(|node| node.state == "gone"))
    })
    .await?;
    let text = cluster.explained()?;
    ensure!(text.contains("(floor): at least 2 nodes"), "{text}");
    autoscaler.stop()
}
