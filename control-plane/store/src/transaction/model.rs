//! Models, by name and version.

use async_trait::async_trait;
use springtide_core::ModelId;

use super::{Transaction, Tx};
use crate::connection::{Row, set, text, values};
use crate::port::ModelRow;
use crate::{Error, Result};

fn read(mut row: Row) -> Result<ModelRow> {
    let (name, version): (String, String) = (row.take()?, row.take()?);
    let id = ModelId::new(&name, &version).map_err(|error| Error::Broken(error.to_string()))?;
    Ok(ModelRow { id, manifest: row.take()?, size_bytes: row.take()?, pushed_at: row.take()? })
}

/// [`crate::Store::put_model`].
pub(crate) struct Put(pub(crate) ModelRow);

#[async_trait]
impl Transaction for Put {
    type Output = ();

    async fn run(&self, tx: &mut Tx<'_>) -> Result<()> {
        let ModelRow { id, manifest, size_bytes, pushed_at } = &self.0;
        let key = [text(id.name()), text(id.version())];
        let mut row = key.to_vec();
        row.extend(set![manifest, *size_bytes, *pushed_at]);
        let added = tx
            .execute(
                "INSERT INTO models (name, version, manifest, size_bytes, pushed_at) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (name, version) DO NOTHING",
                &row,
            )
            .await?;
        if added > 0 {
            return Ok(());
        }
        let sql = "SELECT manifest FROM models WHERE name = $1 AND version = $2";
        let stored: Option<String> = tx.query_one(sql, &key).await?.map(|mut row| row.take()).transpose()?;
        if stored.as_ref() == Some(manifest) {
            Ok(())
        } else {
            Err(Error::Conflict(format!(
                "model {id} is there with another manifest: push it under a new version"
            )))
        }
    }
}

/// [`crate::Store::model`].
pub(crate) struct Get {
    pub(crate) name: String,
    pub(crate) version: Option<String>,
}

#[async_trait]
impl Transaction for Get {
    type Output = ModelRow;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<ModelRow> {
        let found = match &self.version {
            Some(version) => {
                let sql = "SELECT name, version, manifest, size_bytes, pushed_at FROM models WHERE name = $1 AND version = $2";
                tx.query_one(sql, &values![&self.name, version]).await?
            }
            None => tx.query_one(VERSIONS, &values![&self.name]).await?,
        };
        let asked = || {
            self.version
                .as_ref()
                .map_or_else(|| self.name.clone(), |version| format!("{}@{version}", self.name))
        };
        found.map_or_else(|| Err(Error::NotFound { kind: "model", id: asked() }), read)
    }
}

/// Versions of a model, the latest first.
const VERSIONS: &str = "SELECT name, version, manifest, size_bytes, pushed_at FROM models WHERE name = $1 \
    ORDER BY pushed_at DESC, version DESC";

/// The latest version of each model.
const LATEST: &str = "SELECT name, version, manifest, size_bytes, pushed_at FROM models m WHERE NOT EXISTS \
    (SELECT 1 FROM models n WHERE n.name = m.name AND (n.pushed_at > m.pushed_at \
    OR (n.pushed_at = m.pushed_at AND n.version > m.version))) ORDER BY name";

/// [`crate::Store::models`].
pub(crate) struct List {
    pub(crate) name: Option<String>,
}

#[async_trait]
impl Transaction for List {
    type Output = Vec<ModelRow>;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Vec<ModelRow>> {
        let rows = match &self.name {
            Some(name) => tx.query(VERSIONS, &values![name]).await?,
            None => tx.query(LATEST, &[]).await?,
        };
        rows.into_iter().map(read).collect()
    }
}
