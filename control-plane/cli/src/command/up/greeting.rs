//! What `up` prints once it runs.

use std::fmt::Write;

use serde_json::json;
use springtide_core::api::ModelView;
use springtide_core::model::ModelKind;
use springtide_process::config::Layers;

use super::house::House;
use crate::args::DEFAULT_SERVER;
use crate::context::{Context, client_of};
use crate::say;

/// Prints where it is, what it has, and what to do with it.
pub async fn print(house: &House, layers: &Layers, context: &Context) -> anyhow::Result<()> {
    let url = house.url().as_str().trim_end_matches('/').to_owned();
    let data_dir = std::path::absolute(layers.data_dir())?;
    if context.json() {
        let node = house.agent().map(|agent| json!({"id": agent.node(), "lane": agent.lane()}));
        let scaler = house.scaler().map(|scaler| json!({"url": format!("http://{}", scaler.address())}));
        return say::json(&json!({"url": url, "data_dir": data_dir, "node": node, "autoscaler": scaler}));
    }
    // Without a token (SPRINGTIDE_TOKEN) that may read, nothing is known of models: that is no reason not to start.
    let models = match client_of(house.url())?.models(None).await {
        Ok(page) => page.items,
        Err(_) => Vec::new(),
    };
    let mut text = format!("Springtide is up at {url}\n\n");
    let mut line = |name: &str, value: String| writeln!(text, "  {name:<7} {value}");
    line("data", data_dir.display().to_string())?;
    line("broker", broker(house))?;
    line("node", node(house))?;
    if !models.is_empty() {
        line("models", models.iter().map(|model| model.id.to_string()).collect::<Vec<_>>().join(", "))?;
    }
    let server = if url == DEFAULT_SERVER { String::new() } else { format!(" --server {url}") };
    writeln!(text, "\n  try     springtide submit{server} {}", example(&models))?;
    writeln!(text, "  stop    Ctrl-C\n")?;
    say::text(&text);
    Ok(())
}

fn broker(house: &House) -> String {
    let health = house.app().parts.broker.health.borrow();
    if health.address == "memory:" { "in this process".to_owned() } else { health.to_string() }
}

fn node(house: &House) -> String {
    if let Some(scaler) = house.scaler() {
        let pools = scaler.config().pools.iter();
        let pools: Vec<_> =
            pools.map(|pool| format!("{} to {} in pool {}", pool.min, pool.max, pool.name)).collect();
        return format!("{}; autoscaler at http://{}", pools.join(", "), scaler.address());
    }
    let (Some(agent), Some(settings)) = (house.agent(), house.settings()) else {
        return "none here: tasks wait for nodes elsewhere".to_owned();
    };
    let slots = settings.slots();
    let plural = if slots == 1 { "" } else { "s" };
    format!("{}, lane {}, {slots} task{plural} at once", agent.node(), agent.lane())
}

fn example(models: &[ModelView]) -> String {
    match models.iter().find(|model| model.kind == ModelKind::TextToImage) {
        Some(model) if model.id.name() == "shapes" => {
            "shapes --prompt \"a red circle on a blue ground\"".to_owned()
        }
        Some(model) => format!("{} --prompt \"…\"", model.id.name()),
        None => "echo --input '{\"sleep_s\": 3}'".to_owned(),
    }
}
