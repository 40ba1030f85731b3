//! `up --models DIR`: pushes models that are not there yet.

use std::path::PathBuf;

use springtide_client::{Client, Package};
use springtide_core::api::ModelView;

use crate::command::models::push;

/// Reads all directories: what is wrong with one is said before anything is started.
pub async fn read(dirs: &[PathBuf]) -> anyhow::Result<Vec<Package>> {
    let mut packages = Vec::new();
    for dir in dirs {
        packages.push(push::read(dir).await?);
    }
    Ok(packages)
}

/// Pushes those that are not there.
pub async fn push(client: &Client, packages: Vec<Package>) -> anyhow::Result<()> {
    for package in packages {
        match client.model(&package.manifest.id.to_string()).await {
            Ok(view) if has_same_files(&view, &package) => {}
            Ok(view) => eprintln!(
                "{} is there already, with other files: it stays as it is; give the new one another version",
                view.id
            ),
            Err(error) if error.status() == Some(404) => drop(push::send(client, &package).await?),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn has_same_files(view: &ModelView, package: &Package) -> bool {
    serde_json::to_value(&package.manifest.files)
        .is_ok_and(|files| view.manifest.get("files") == Some(&files))
}
