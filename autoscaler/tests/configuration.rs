//! What the configuration may say: what Terraform writes is taken, and what can't be used is named and left out.
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in test functions, not in what they call")]

use std::path::PathBuf;
use std::process::Command;

use springtide_autoscaler::Config;
use springtide_core::LaneName;
use springtide_process::config::{Layers, Override, Sources};

fn lanes() -> Vec<LaneName> {
    ["cpu", "gpu-24g", "gpu-80g"].iter().map(|name| name.parse().unwrap()).collect()
}

fn read(file: Option<PathBuf>, overrides: &[&str]) -> Config {
    let overrides = overrides.iter().map(|text| Override::parse(text).unwrap()).collect();
    Config::read(&Layers::load(&Sources { file, overrides, ..Sources::default() }).unwrap()).unwrap()
}

#[test]
fn the_defaults_can_be_used() {
    let (policy, problems) = read(None, &[]).policy(&lanes());
    assert_eq!(problems, []);
    assert_eq!(policy.pools[0].name, "local");
}

#[test]
fn what_terraform_writes_is_taken() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../infra/terraform/example/autoscaler.toml");
    let config = read(Some(file), &[]);
    assert_eq!((config.provider.as_str(), config.cluster.as_str()), ("ec2", "studio"));
    let (policy, problems) = config.policy(&lanes());
    assert_eq!(problems, []);
    assert_eq!(policy.pools.len(), config.ec2.pools.len());
    for (pool, machines) in policy.pools.iter().zip(&config.ec2.pools) {
        assert_eq!(pool.name, machines.name);
        let zone = &pool.offers[0].zone;
        assert!(machines.subnets.contains_key(zone), "{zone}: {:?}", machines.subnets);
    }
}

#[test]
fn a_pool_that_can_not_be_used_is_named_and_the_others_stay() {
    let offers = "offers = [{instance_type = \"m\"}]";
    let pools = format!(
        "autoscaler.pools=[{{name = \"good\", lane = \"cpu\", max = 2, {offers}}}, \
         {{name = \"lost\", lane = \"tpu\", max = 2, {offers}}}, \
         {{name = \"upside-down\", lane = \"gpu-24g\", min = 3, max = 2, {offers}}}]"
    );
    let (policy, problems) = read(None, &[&pools]).policy(&lanes());
    assert_eq!(policy.pools.iter().map(|pool| pool.name.as_str()).collect::<Vec<_>>(), ["good"]);
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("pools[lost].lane") && problems[0].contains("no lane"), "{problems:?}");
    assert!(problems[1].contains("pools[upside-down].max"), "{problems:?}");
}

#[test]
fn a_pool_without_machines_and_machines_without_a_pool_are_named() {
    let pools = "autoscaler.pools=[{name = \"gpu\", lane = \"gpu-24g\", max = 2, offers = [{instance_type = \"m\"}]}]";
    for (provider, machines) in [
        ("ec2", "autoscaler.ec2.pools=[{name = \"gpus\", launch_template = \"lt-1\"}]"),
        ("docker", "autoscaler.docker.pools=[{name = \"gpus\", image = \"agent:1\"}]"),
    ] {
        let config = read(None, &[pools, machines, &format!("autoscaler.provider={provider}")]);
        let (policy, problems) = config.policy(&lanes());
        assert_eq!(policy.pools, [], "{provider}");
        let fields: Vec<_> = problems.iter().map(|problem| problem.field.clone()).collect();
        assert_eq!(fields, ["pools[gpu].name".to_owned(), format!("{provider}.pools[gpus].name")]);
        assert!(problems[0].problem.contains(&format!("autoscaler.{provider}.pools")), "{problems:?}");
        assert!(problems[1].problem.contains("`autoscaler.pools` has gpu"), "{problems:?}");
    }
}

fn refusal(arguments: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_springtide-autoscaler"));
    let output = command.current_dir(dir.path()).args(arguments).output().unwrap();
    assert!(!output.status.success(), "it started");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn what_keeps_it_from_starting_is_said() {
    let said = refusal(&["--set", "autoscaler.provider=gcp"]);
    assert!(said.contains("`gcp`") && said.contains("local, docker, ec2"), "{said}");
    let said = refusal(&["--set", "autoscaler.pools=[{nmae = \"a\"}]"]);
    assert!(said.contains("autoscaler.pools[0].nmae") && said.contains("autoscaler.pools.name"), "{said}");
    let said =
        refusal(&["--set", "autoscaler.control_plane=nowhere", "--set", "autoscaler.provider=simulated"]);
    assert!(said.contains("autoscaler.control_plane"), "{said}");
    let said = refusal(&["explain"]);
    assert!(said.contains("holds no decisions"), "{said}");
}
