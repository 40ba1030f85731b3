use super::sections::{Broker, LogFormat, Objects, Store, Telemetry};
use super::*;
use serde::Deserialize;
use std::io::Write;
use std::time::Duration;

#[derive(Debug, Deserialize)]
struct NodeExcerpt {
    max_concurrent_tasks: u32,
    #[serde(with = "duration")]
    heartbeat_interval: Duration,
    #[serde(with = "size")]
    cache_bytes: u64,
    devices: Vec<String>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Lane {
    name: String,
    gpu_memory_bytes: u64,
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn load(text: &str, environment: &[(&str, &str)], overrides: Vec<Override>) -> Result<Layers, Error> {
    let file = file(text);
    let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Layers::load(&Sources { file: Some(file.path().to_owned()), environment, overrides })
}

fn message(result: Result<Layers, Error>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn the_defaults_fill_every_shared_section() {
    let layers = Layers::defaults();
    assert_eq!(layers.section::<Broker>("broker").unwrap().heartbeat, Duration::from_secs(3));
    assert_eq!(layers.section::<Store>("store").unwrap().url.reveal(), "sqlite:");
    assert!(layers.section::<Objects>("objects").unwrap().secret_access_key.is_empty());
    assert_eq!(layers.section::<Telemetry>("telemetry").unwrap().format, LogFormat::Text);
    assert_eq!(layers.data_dir(), PathBuf::from("springtide-data"));
}

/// These names and values are promised to users of the system that this one descends from.
#[test]
fn inherited_names_keep_their_values() {
    let layers = Layers::defaults();
    let value = |key: &str| layers.section::<Value>(key).unwrap();
    assert_eq!(value("node.heartbeat_interval"), "5s".into());
    assert_eq!(value("control_plane.task_timeout"), "300s".into());
    assert_eq!(value("control_plane.max_retries"), 3.into());
    assert_eq!(value("node.gpu_memory_threshold"), 0.8.into());
    assert_eq!(value("node.cpu_usage_threshold"), 0.7.into());
    assert_eq!(value("node.max_concurrent_tasks"), 2.into());
    assert_eq!(value("node.load_balancing_strategy"), "round_robin".into());
}

#[test]
fn each_layer_wins_over_the_one_before() {
    let text = "[node]\nmax_concurrent_tasks = 4\nheartbeat_interval = 2.5\ncache_bytes = \"1GiB\"";
    let node = |environment: &[(&str, &str)], overrides| {
        load(text, environment, overrides).unwrap().section::<NodeExcerpt>("node").unwrap()
    };
    let from_file = node(&[], vec![]);
    assert_eq!(from_file.max_concurrent_tasks, 4);
    assert_eq!(from_file.heartbeat_interval, Duration::from_millis(2_500));
    assert_eq!(from_file.cache_bytes, 1 << 30);
    assert_eq!(from_file.devices, ["auto"]);
    let variables =
        [("SPRINGTIDE__NODE__MAX_CONCURRENT_TASKS", "6"), ("SPRINGTIDE__NODE__DEVICES", "cuda:0, cuda:1")];
    let from_environment = node(&variables, vec![]);
    assert_eq!(from_environment.max_concurrent_tasks, 6);
    assert_eq!(from_environment.devices, ["cuda:0", "cuda:1"]);
    let flags = vec![
        Override::new("--slots", "node.max_concurrent_tasks", 8),
        Override::parse("node.heartbeat_interval=250ms").unwrap(),
    ];
    let from_flags = node(&variables, flags);
    assert_eq!(from_flags.max_concurrent_tasks, 8);
    assert_eq!(from_flags.heartbeat_interval, Duration::from_millis(250));
}

#[test]
fn an_unknown_key_names_its_place_and_the_nearest_known_one() {
    let found = message(load("[node]\nmax_concurent_tasks = 4", &[], vec![]));
    assert!(found.starts_with(r#"unknown key "node.max_concurent_tasks" in /"#), "{found}");
    assert!(found.ends_with(r#".toml; did you mean "node.max_concurrent_tasks"?"#), "{found}");

    let found = message(load("", &[("SPRINGTIDE__BROKER__HEARTBAET", "5s")], vec![]));
    assert_eq!(
        found,
        r#"unknown key "broker.heartbaet" in SPRINGTIDE__BROKER__HEARTBAET; did you mean "broker.heartbeat"?"#
    );
    let found = message(load("", &[], vec![Override::parse("nod.id=a").unwrap()]));
    assert_eq!(found, r#"unknown key "nod.id" in --set nod.id; did you mean "node.id"?"#);
}

#[test]
fn a_known_name_in_the_wrong_section_is_found() {
    let found = message(load("[node]\ntask_timeout = 5", &[], vec![]));
    assert!(found.contains(r#"did you mean "control_plane.task_timeout"?"#), "{found}");
    let found = message(load("[nodes]\nid = \"a\"", &[], vec![]));
    assert!(found.contains(r#"unknown key "nodes""#) && found.contains(r#"did you mean "node"?"#), "{found}");
}

#[test]
fn a_key_like_no_other_gets_no_suggestion() {
    let found = message(load("[node]\nzzzzzzzzzzzz = 5", &[], vec![]));
    assert!(!found.contains("did you mean"), "{found}");
}

#[test]
fn everything_wrong_is_reported_at_once() {
    let found = message(load("[node]\nidd = 1\n[store]\npool_size = true", &[], vec![]));
    assert_eq!(found.lines().count(), 2, "{found}");
}

#[test]
fn a_type_error_names_key_place_found_and_expected() {
    let found = message(load("[node]\nmax_concurrent_tasks = \"two\"", &[], vec![]));
    assert!(found.contains(r#""node.max_concurrent_tasks" in /"#), "{found}");
    assert!(found.ends_with(r#"found text "two", expected a whole number"#), "{found}");

    let found = message(load("", &[("SPRINGTIDE__NODE__HEARTBEAT_INTERVAL", "soon")], vec![]));
    assert!(
        found.starts_with(r#""node.heartbeat_interval" in SPRINGTIDE__NODE__HEARTBEAT_INTERVAL"#),
        "{found}"
    );
    assert!(found.contains(r#"found "soon", expected a duration"#), "{found}");

    let found = message(load("node = 5", &[], vec![]));
    assert!(found.ends_with("found integer, expected a table"), "{found}");
}

#[test]
fn a_type_error_does_not_show_a_secret() {
    let found = message(load("[objects]\nsecret_access_key = 12345", &[], vec![]));
    assert!(found.contains("objects.secret_access_key") && !found.contains("12345"), "{found}");
}

#[test]
fn a_value_that_the_section_type_refuses_names_the_key_and_its_origin() {
    let layers = load("", &[("SPRINGTIDE__TELEMETRY__FORMAT", "xml")], vec![]).unwrap();
    let found = layers.section::<Telemetry>("telemetry").unwrap_err().to_string();
    assert!(
        found.starts_with(r#""telemetry.format" in SPRINGTIDE__TELEMETRY__FORMAT: unknown variant `xml`"#),
        "{found}"
    );
}

#[test]
fn lanes_are_replaced_as_a_whole_and_checked_one_by_one() {
    let text = "[[control_plane.lanes]]\nname = \"big\"\ndevice = \"cuda\"\ngpu_memory_bytes = \"40GiB\"";
    let lanes = load(text, &[], vec![]).unwrap().section::<Vec<Lane>>("control_plane.lanes").unwrap();
    assert_eq!(lanes, [Lane { name: "big".into(), gpu_memory_bytes: 40 << 30 }]);
    assert_eq!(Layers::defaults().section::<Vec<Lane>>("control_plane.lanes").unwrap().len(), 3);

    let found = message(load("[[control_plane.lanes]]\nnmae = \"big\"", &[], vec![]));
    assert!(found.contains(r#""control_plane.lanes[0].nmae""#), "{found}");
    assert!(found.contains(r#"did you mean "control_plane.lanes.name"?"#), "{found}");

    let variable =
        [("SPRINGTIDE__CONTROL_PLANE__LANES", r#"[{name = "a", device = "cpu", gpu_memory_bytes = 0}]"#)];
    let lanes = load("", &variable, vec![]).unwrap().section::<Vec<Lane>>("control_plane.lanes").unwrap();
    assert_eq!(lanes[0].name, "a");
}

#[test]
fn show_tells_origins_and_masks_secrets() {
    let text = "[broker]\nurl = \"amqp://me:hunter2@host\"\n[objects]\nsecret_access_key = \"hunter3\"";
    let shown = load(text, &[("SPRINGTIDE__NODE__MAX_CONCURRENT_TASKS", "6")], vec![]).unwrap().show();
    assert!(shown.contains("url = \"amqp://me:***@host\""), "{shown}");
    assert!(!shown.contains("hunter"), "{shown}");
    let line = shown.lines().find(|line| line.starts_with("max_concurrent_tasks")).unwrap();
    assert_eq!(
        line.split_whitespace().collect::<Vec<_>>().join(" "),
        "max_concurrent_tasks = 6 # SPRINGTIDE__NODE__MAX_CONCURRENT_TASKS"
    );
    toml::from_str::<Table>(&shown).expect("what is shown can be read again");
}

#[test]
fn a_file_that_is_missing_or_broken_is_named() {
    let sources = Sources { file: Some("/nowhere/prod.toml".into()), ..Sources::default() };
    assert_eq!(
        Layers::load(&sources).unwrap_err().to_string(),
        "cannot read the configuration file /nowhere/prod.toml"
    );
    let found = message(load("[node\n", &[], vec![]));
    assert!(found.contains("is not valid TOML") && found.contains("line 1"), "{found}");
}

#[test]
fn other_variables_are_left_alone() {
    load("", &[("SPRINGTIDE_SERVER", "http://x"), ("SPRINGTIDE_TEST_AMQP_URL", "amqp://x")], vec![]).unwrap();
}

#[test]
fn every_example_that_ships_is_accepted() {
    let configs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let files = std::fs::read_dir(configs).unwrap().map(|entry| entry.unwrap().path());
    for file in files.filter(|path| path.extension().is_some_and(|extension| extension == "toml")) {
        Layers::load(&Sources { file: Some(file.clone()), ..Sources::default() })
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
}
