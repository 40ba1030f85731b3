//! Who may import whom: the rules of the design, held against `cargo metadata`. `deny.toml` says the part of it that
//! cargo-deny can; this needs nothing installed.

use serde::Deserialize;

/// What `cargo metadata --no-deps` says, as far as it is used here.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
}

/// What a crate of ours may import of ours.
enum Ours {
    These(&'static [&'static str]),
    Anything,
}

const LIBRARIES: &[&str] = &[
    "springtide-broker",
    "springtide-client",
    "springtide-core",
    "springtide-forecast",
    "springtide-planner",
    "springtide-process",
    "springtide-store",
    "springtide-worker-confinement",
    "springtide-worker-protocol",
];

fn may_import(name: &str) -> Option<Ours> {
    let allowed: &[&str] = match name {
        "springtide-core"
        | "springtide-worker-confinement"
        | "springtide-worker-protocol"
        | "springtide-process" => &[],
        "springtide-forecast" | "springtide-broker" | "springtide-store" | "springtide-client" => {
            &["springtide-core"]
        }
        "springtide-planner" => &["springtide-core", "springtide-forecast"],
        "springtide-simulator" => &["springtide-core", "springtide-forecast", "springtide-planner"],
        "springtide-torch-worker" => {
            &["springtide-core", "springtide-worker-confinement", "springtide-worker-protocol"]
        }
        "springtide-node-agent" => &[
            "springtide-broker",
            "springtide-core",
            "springtide-process",
            "springtide-worker-confinement",
            "springtide-worker-protocol",
        ],
        "springtide-control-plane" | "springtide-autoscaler" => LIBRARIES,
        "springtide" | "xtask" => return Some(Ours::Anything),
        _ if is_for_tests(name) => return Some(Ours::Anything),
        _ => return None,
    };
    Some(Ours::These(allowed))
}

fn is_for_tests(name: &str) -> bool {
    name.starts_with("springtide-tests") || name.starts_with("springtide-bench")
}

/// Crates of others that only some of ours may name, by the start of their name.
const FENCED: &[(&str, &[&str])] = &[
    ("lapin", &["springtide-broker", "xtask"]),
    ("tch", &["springtide-torch-worker", "xtask"]),
    ("torch-sys", &["springtide-torch-worker", "xtask"]),
    ("rusqlite", &["springtide-store"]),
    ("sqlx", &["springtide-store"]),
    ("tokio-postgres", &["springtide-store"]),
    ("deadpool-postgres", &["springtide-store"]),
    ("aws-", &["springtide-autoscaler"]),
    ("bollard", &["springtide-autoscaler"]),
];

/// Everything that breaks a rule, one line each.
pub fn violations(metadata: &Metadata) -> Vec<String> {
    metadata.packages.iter().flat_map(of_package).collect()
}

fn of_package(package: &Package) -> Vec<String> {
    let name = package.name.as_str();
    let Some(ours) = may_import(name) else {
        return vec![format!("{name} has no rule: say in infra/xtask/src/imports.rs what it may import")];
    };
    let breaks = |dependency: &&Dependency| {
        let dependency = dependency.name.as_str();
        if dependency.starts_with("springtide") {
            return matches!(&ours, Ours::These(allowed) if !allowed.contains(&dependency));
        }
        // A tool that the tests start themselves against is theirs; the raw baselines are the reason.
        let fence = FENCED.iter().find(|(prefix, _)| dependency.starts_with(prefix));
        fence.is_some_and(|(_, allowed)| !allowed.contains(&name) && !is_for_tests(name))
    };
    let broken = package.dependencies.iter().filter(breaks);
    broken.map(|dependency| format!("{name} must not import {}", dependency.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, dependencies: &[&str]) -> Vec<String> {
        let dependencies = dependencies.iter().map(|name| Dependency { name: (*name).to_owned() }).collect();
        violations(&Metadata { packages: vec![Package { name: name.to_owned(), dependencies }] })
    }

    #[test]
    fn what_the_design_allows() {
        assert!(check("springtide-core", &["serde"]).is_empty());
        assert!(check("springtide-broker", &["springtide-core", "lapin"]).is_empty());
        assert!(check("springtide-store", &["rusqlite", "tokio-postgres", "deadpool-postgres"]).is_empty());
        assert!(check("springtide-control-plane", &["springtide-store", "springtide-process"]).is_empty());
        assert!(check("springtide", &["springtide-node-agent", "springtide-control-plane"]).is_empty());
        assert!(check("springtide-tests", &["lapin", "tch", "springtide"]).is_empty());
    }

    #[test]
    fn what_it_does_not() {
        assert_eq!(
            check("springtide-core", &["springtide-process"]),
            ["springtide-core must not import springtide-process"]
        );
        assert_eq!(check("springtide-broker", &["springtide-process", "tch"]).len(), 2);
        assert_eq!(
            check("springtide-control-plane", &["springtide-node-agent", "lapin", "rusqlite"]).len(),
            3
        );
        assert_eq!(check("springtide-node-agent", &["aws-sdk-ec2", "springtide"]).len(), 2);
    }

    #[test]
    fn a_new_crate_needs_a_rule() {
        assert!(check("springtide-novelty", &[])[0].contains("has no rule"));
    }
}
