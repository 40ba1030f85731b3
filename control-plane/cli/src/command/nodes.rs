//! `springtide nodes`: lists nodes, drains and undrains them.

use std::time::Duration;

use clap::{Args, Subcommand};
use springtide_client::Client;
use springtide_core::NodeId;
use springtide_core::api::{DrainNode, NodeView, Page};

use super::duration;
use crate::context::Context;
use crate::exit::Exit;
use crate::table::Table;
use crate::{say, when};

/// Arguments of `nodes`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List nodes (what `nodes` alone does)
    List,
    /// Give a node no new tasks; what it runs ends, or is handed back at the deadline
    Drain {
        /// The node
        node: NodeId,
        /// How long what it runs may take
        #[arg(long, value_name = "TIME", default_value = "2m", value_parser = duration)]
        deadline: Duration,
        /// Why, for people
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Give a drained node tasks again
    Undrain {
        /// The node
        node: NodeId,
    },
}

/// Runs `nodes`.
pub async fn run(arguments: Arguments, context: &Context) -> anyhow::Result<Exit> {
    let client = context.client()?;
    let node = match arguments.action.unwrap_or(Action::List) {
        Action::List => return list(&client, context).await,
        Action::Drain { node, deadline, reason } => {
            client.drain(&node, &DrainNode { deadline_s: deadline.as_secs_f64(), reason }).await?
        }
        Action::Undrain { node } => client.undrain(&node).await?,
    };
    if context.json() {
        say::json(&node)?;
    } else {
        say::line(format_args!("{} {}", node.id, node.state));
    }
    Ok(Exit::Succeeded)
}

async fn list(client: &Client, context: &Context) -> anyhow::Result<Exit> {
    let mut nodes = Vec::new();
    let mut cursor = None;
    loop {
        let page = client.nodes(cursor.as_deref()).await?;
        nodes.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    if context.json() {
        say::json(&Page { items: nodes, next_cursor: None })?;
        return Ok(Exit::Succeeded);
    }
    let now = context.now();
    let mut table = Table::new(&["ID", "STATE", "LANE", "RUNS", "CPU", "DEVICES", "HEARD", "REASON"]);
    for node in &nodes {
        table.row([
            node.id.to_string(),
            node.state.clone(),
            node.lane.to_string(),
            format!("{}/{}", node.runs.len(), node.slots),
            format!("{:.0} %", node.cpu * 100.0),
            devices(node),
            node.heard_at.map(|time| when::ago(time, now)).unwrap_or_default(),
            node.reason.clone().unwrap_or_default(),
        ]);
    }
    table.print("no nodes");
    Ok(Exit::Succeeded)
}

fn devices(node: &NodeView) -> String {
    let one = |device: &springtide_core::wire::DeviceFigures| match device.memory_total_bytes {
        0 => device.id.clone(),
        total => format!("{} {} of {}", device.id, when::size(device.memory_used_bytes), when::size(total)),
    };
    node.devices.iter().map(one).collect::<Vec<_>>().join(", ")
}
