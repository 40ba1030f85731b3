//! Models: look, push.

pub mod list;
pub mod push;
pub mod show;

use springtide_core::api::ModelView;
use springtide_core::model::Manifest;
use springtide_store::port::ModelRow;

use super::problem::{Kind, Refusal, Result};

/// A model as it is shown.
fn view(row: ModelRow) -> Result<ModelView> {
    let unreadable = |error: String| {
        tracing::error!(model = %row.id, error, "a stored manifest can't be read");
        Refusal::new(Kind::Internal, format!("the manifest of `{}` can't be read", row.id))
    };
    let manifest = Manifest::parse(&row.manifest).map_err(|error| unreadable(error.to_string()))?;
    Ok(ModelView {
        kind: manifest.kind(),
        size_bytes: row.size_bytes,
        pushed_at: Some(row.pushed_at),
        manifest: toml::from_str(&row.manifest).map_err(|error| unreadable(error.to_string()))?,
        id: row.id,
    })
}

/// The built-in model as it is shown.
fn echo() -> ModelView {
    let manifest = Manifest::echo();
    ModelView {
        kind: manifest.kind(),
        size_bytes: 0,
        pushed_at: None,
        manifest: serde_json::json!({
            "name": manifest.id.name(),
            "version": manifest.id.version(),
            "kind": manifest.kind(),
            "resources": manifest.resources,
        }),
        id: manifest.id,
    }
}
