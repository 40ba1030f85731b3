//! `springtide tokens`: makes, lists and revokes tokens, in the store itself: the first one can be made before the
//! control plane listens.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use rand::TryRng;
use rand::rngs::SysRng;
use serde_json::json;
use sha2::{Digest, Sha256};
use springtide_core::NodeId;
use springtide_process::config::Override;
use springtide_store::Store;
use springtide_store::port::TokenRow;

use super::config;
use crate::context::Context;
use crate::exit::{Exit, Usage};
use crate::table::Table;
use crate::{say, store, when};

/// Arguments of `tokens`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
    /// Configuration file
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Directory of what `up` keeps [default: springtide-data]
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
    /// The store, as `up` is given it [default: sqlite:]
    #[arg(long, value_name = "URL", global = true)]
    store: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a token and print it: it can't be shown again
    Create {
        /// Who it is for; the owner of what it posts
        name: String,
        /// What it may do; repeatable
        #[arg(long, value_enum, value_delimiter = ',', default_values = ["submit", "read"])]
        scope: Vec<Scope>,
    },
    /// List tokens
    List,
    /// Revoke a token; it works for some seconds more
    Revoke {
        /// Its name
        name: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scope {
    /// Post, cancel and retry jobs
    Submit,
    /// See everything
    Read,
    /// Push models, handle nodes
    Operate,
}

impl Scope {
    const fn name(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Read => "read",
            Self::Operate => "operate",
        }
    }
}

/// Runs `tokens`.
pub async fn run(arguments: Arguments, context: &Context) -> anyhow::Result<Exit> {
    let data_dir = arguments.data_dir.map(|dir| dir.display().to_string());
    let flags = [("--data-dir", "data_dir", data_dir), ("--store", "store.url", arguments.store)];
    let given = flags.into_iter().filter_map(|(flag, key, value)| Some(Override::new(flag, key, value?)));
    let layers = config::load(arguments.config, given.collect())?;
    let store = store::open(&layers).await?;
    match arguments.action {
        Action::Create { name, scope } => create(&*store, &name, &scope, context).await?,
        Action::List => list(&*store, context).await?,
        Action::Revoke { name } => {
            store.remove_token(&name).await.map_err(refusal)?;
            eprintln!("`{name}` is revoked");
        }
    }
    Ok(Exit::Succeeded)
}

async fn create(store: &dyn Store, name: &str, scopes: &[Scope], context: &Context) -> anyhow::Result<()> {
    // Names of tokens are as those of nodes: safe everywhere.
    if name.parse::<NodeId>().is_err() {
        let rule = "1 to 100 of a-z A-Z 0-9 . _ -, starting with a letter or digit";
        return Err(Usage(format!("`{name}` is not a valid token name: {rule}")).into());
    }
    let mut bytes = [0; 32];
    SysRng.try_fill_bytes(&mut bytes).context("the system gives no random numbers")?;
    let token = format!("st_{}", hex(&bytes));
    let mut scopes: Vec<String> = scopes.iter().map(|scope| scope.name().to_owned()).collect();
    scopes.dedup();
    let row = TokenRow {
        name: name.to_owned(),
        sha256: hex(&Sha256::digest(&token)),
        scopes: scopes.clone(),
        created_at: context.now(),
    };
    store.put_token(row).await.map_err(refusal)?;
    if context.json() {
        return say::json(&json!({"name": name, "scopes": scopes, "token": token}));
    }
    eprintln!(
        "this token is shown once; clients take it from SPRINGTIDE_TOKEN. From now on every request needs one."
    );
    say::line(token);
    Ok(())
}

async fn list(store: &dyn Store, context: &Context) -> anyhow::Result<()> {
    let tokens = store.tokens().await?;
    if context.json() {
        let items: Vec<_> = tokens
            .iter()
            .map(|token| json!({"name": token.name, "scopes": token.scopes, "created_at": token.created_at}))
            .collect();
        return say::json(&json!({ "items": items }));
    }
    let now = context.now();
    let mut table = Table::new(&["NAME", "SCOPES", "CREATED"]);
    for token in tokens {
        table.row([token.name, token.scopes.join(","), when::ago(token.created_at, now)]);
    }
    table.print("no tokens: whoever reaches the service may use it, and it listens on this machine only");
    Ok(())
}

/// What the store refuses is a matter of usage: a name that is taken, or that is not there.
fn refusal(error: springtide_store::Error) -> anyhow::Error {
    match error {
        springtide_store::Error::Conflict(_) | springtide_store::Error::NotFound { .. } => {
            Usage(error.to_string()).into()
        }
        other => other.into(),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all that is written");
        text
    })
}
