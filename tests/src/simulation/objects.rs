//! The object store as one process reaches it: full, or out of reach for a while.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::life::Life;
use super::weather::{Trouble, Weather};

/// See the module.
pub struct FaultyObjects {
    /// The object store itself.
    pub inner: Arc<InMemory>,
    /// Who calls.
    pub life: Arc<Life>,
    /// What happens to calls.
    pub weather: Arc<Weather>,
}

impl FaultyObjects {
    fn fault(&self) -> Result<()> {
        if self.weather.has(Trouble::ObjectsFail) {
            return Err(Error::Generic { store: "simulation", source: "an injected fault".into() });
        }
        Ok(())
    }

    async fn pass(&self) -> Result<()> {
        self.life.pass().await;
        self.fault()
    }
}

impl fmt::Debug for FaultyObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyObjects").finish_non_exhaustive()
    }
}

impl fmt::Display for FaultyObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated objects")
    }
}

#[async_trait]
impl ObjectStore for FaultyObjects {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.pass().await?;
        let result = self.inner.put_opts(location, payload, options).await;
        self.life.pass().await;
        result
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.pass().await?;
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.pass().await?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match self.fault() {
            Ok(()) if !self.life.is_dead() => self.inner.delete_stream(locations),
            Ok(()) => stream::pending().boxed(),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.pass().await?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.pass().await?;
        self.inner.copy_opts(from, to, options).await
    }
}
