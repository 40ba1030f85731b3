//! What ships for an autoscaler and is not Rust: configurations that it has to be able to read, and rules and a dashboard
//! that name its metrics.

use std::fs;
use std::path::{Path, PathBuf};

use springtide_autoscaler::config::Config;
use springtide_autoscaler::metrics::Metrics;
use springtide_core::LaneName;
use springtide_process::config::{Layers, Sources};

fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(relative)
}

fn text(relative: &str) -> String {
    fs::read_to_string(path(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
}

/// The configuration, which has to be fit for the planner as well.
fn read(relative: &str) -> Config {
    let sources = Sources { file: Some(path(relative)), ..Sources::default() };
    let layers = Layers::load(&sources).unwrap_or_else(|error| panic!("{relative}: {error}"));
    let config = Config::read(&layers).unwrap_or_else(|error| panic!("{relative}: {error}"));
    let lanes: Vec<LaneName> =
        ["cpu", "gpu-24g", "gpu-80g"].iter().filter_map(|lane| lane.parse().ok()).collect();
    let (policy, problems) = config.policy(&lanes);
    assert!(problems.is_empty(), "{relative}: {problems:?}");
    assert_eq!(policy.pools.len(), config.pools.len());
    config
}

#[test]
fn what_terraform_makes_can_be_read() {
    // `infra/checks/test_templates.py` holds this file against the template that it is made from.
    let config = read("infra/terraform/example/autoscaler.toml");
    assert_eq!((config.provider.as_str(), config.cluster.as_str()), ("ec2", "studio"));
    assert_eq!(
        config.pools.iter().map(|pool| pool.name.as_str()).collect::<Vec<_>>(),
        ["gpu-24g", "gpu-spare"]
    );
    for (pool, made) in config.pools.iter().zip(&config.ec2.pools) {
        assert_eq!(pool.name, made.name);
        assert!(
            pool.offers.iter().all(|offer| made.subnets.contains_key(&offer.zone)),
            "a subnet for each zone"
        );
    }
    assert!(!config.ec2.interruption_queue_url.is_empty());
}

#[test]
fn what_the_compose_file_mounts_can_be_read() {
    let config = read("infra/docker/autoscaler.toml");
    assert_eq!((config.provider.as_str(), config.docker.pools[0].name.as_str()), ("docker", "cpu"));
}

/// Every metric of an autoscaler that a text names, with what stands in braces behind it.
fn named(text: &str) -> Vec<(String, String)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = text.match_indices("springtide_autoscaler_").map(|(at, _)| &text[at..]);
    let name = |rest: &str| {
        let (name, after) = rest.split_at(rest.find(|c| !is_name(c)).unwrap_or(rest.len()));
        let matchers = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        (name.to_owned(), matchers.map_or_else(String::new, |(inner, _)| inner.replace('\\', "")))
    };
    starts.map(name).collect()
}

#[test]
fn rules_and_dashboard_name_metrics_that_there_are() {
    let metrics = Metrics::default();
    for file in
        ["infra/prometheus/rules.yml", "infra/prometheus/rules.test.yml", "infra/grafana/springtide.json"]
    {
        let found = named(&text(file));
        assert!(found.len() >= 5, "{file} was not read");
        for (name, matchers) in found {
            let metric = metrics.described().iter().find(|metric| metric.name == name);
            let metric = metric.unwrap_or_else(|| panic!("{file}: there is no {name}"));
            let labels = matchers.split(',').filter_map(|one| one.split(['=', '!']).next()).map(str::trim);
            for label in labels.filter(|label| !label.is_empty() && *label != "instance") {
                assert!(
                    metric.labels.iter().any(|known| known == label),
                    "{file}: {name} has no label {label}"
                );
            }
        }
    }
}
