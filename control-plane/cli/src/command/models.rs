//! `springtide models`: pushes, lists and shows models.

pub mod push;

use clap::{Args, Subcommand};
use springtide_client::Client;
use springtide_core::api::Page;

use crate::context::Context;
use crate::exit::Exit;
use crate::table::Table;
use crate::{say, when};

/// Arguments of `models`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Push a model directory: a model.toml and the files that it names
    Push {
        /// The directory
        dir: std::path::PathBuf,
    },
    /// List models, each at its latest version
    List,
    /// Show a model
    Show {
        /// NAME (its latest version) or NAME@VERSION
        model: String,
    },
}

/// Runs `models`.
pub async fn run(arguments: Arguments, context: &Context) -> anyhow::Result<Exit> {
    let client = context.client()?;
    match arguments.action {
        Action::Push { dir } => {
            let view = push::push(&client, &dir).await?;
            if context.json() {
                say::json(&view)?;
            } else {
                say::line(&view.id);
            }
        }
        Action::List => list(&client, context).await?,
        Action::Show { model } => show(&client, &model, context).await?,
    }
    Ok(Exit::Succeeded)
}

async fn list(client: &Client, context: &Context) -> anyhow::Result<()> {
    let mut models = Vec::new();
    let mut cursor = None;
    loop {
        let page = client.models(cursor.as_deref()).await?;
        models.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    if context.json() {
        return say::json(&Page { items: models, next_cursor: None });
    }
    let now = context.now();
    let mut table = Table::new(&["MODEL", "KIND", "SIZE", "PUSHED"]);
    for model in &models {
        table.row([
            model.id.to_string(),
            model.kind.as_str().to_owned(),
            when::size(model.size_bytes),
            model.pushed_at.map_or_else(|| "built in".to_owned(), |time| when::ago(time, now)),
        ]);
    }
    table.print("no models; `springtide models push DIR` adds one");
    Ok(())
}

async fn show(client: &Client, model: &str, context: &Context) -> anyhow::Result<()> {
    let view = client.model(model).await?;
    if context.json() {
        return say::json(&view);
    }
    say::line(format_args!("model   {}", view.id));
    say::line(format_args!("kind    {}", view.kind.as_str()));
    say::line(format_args!("size    {}", when::size(view.size_bytes)));
    if let Some(pushed) = view.pushed_at {
        say::line(format_args!("pushed  {pushed}"));
    }
    say::line("");
    say::json(&view.manifest)
}
