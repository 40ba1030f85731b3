//! Inputs that are too large for a message: they go to the object store before their job is kept.

use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use springtide_core::JobId;
use springtide_core::wire::{InputRef, TaskInput};
use springtide_store::port::JobInput;

use crate::app::App;
use crate::http::problem::{Kind, Refusal, Result};

/// Objects that are written at once, for one request.
const WRITES: usize = 8;
/// JSON may grow when it is written anew (`1e15` becomes 18 characters), but not by more than this factor.
const GROWTH: usize = 5;

/// Inputs that were put into the object store for a job that is not kept yet. Dropped without [`keep`](Self::keep),
/// they are removed again.
#[must_use]
pub struct Parked<'a> {
    app: &'a App,
    keys: Vec<String>,
}

impl<'a> Parked<'a> {
    /// None yet.
    pub fn new(app: &'a App) -> Self {
        Self { app, keys: Vec::new() }
    }

    /// Puts the large inputs of a job into the object store, and references in their place.
    pub async fn park(&mut self, job: JobId, input: &mut JobInput, body_bytes: usize) -> Result<()> {
        let limit = usize::try_from(self.app.config.inline_bytes).unwrap_or(usize::MAX);
        if body_bytes.saturating_mul(GROWTH) <= limit {
            return Ok(());
        }
        let inputs: Vec<&mut TaskInput> = match input {
            JobInput::Same(input) => vec![input],
            JobInput::Each(inputs) => inputs.iter_mut().collect(),
            // The parameters of pictures are small, and a retry brings no inputs of its own.
            JobInput::Images { .. } | JobInput::Again { .. } => return Ok(()),
        };
        let mut large = Vec::new();
        for (index, input) in inputs.into_iter().enumerate() {
            let TaskInput::Inline(value) = &*input else { continue };
            let json =
                serde_json::to_vec(value).map_err(|error| Refusal::new(Kind::Internal, error.to_string()))?;
            if json.len() > limit {
                let reference =
                    InputRef { key: format!("inputs/{job}/{index}"), size_bytes: json.len() as u64 };
                *input = TaskInput::Object(reference.clone());
                large.push((reference, json));
            }
        }
        // Noted first: a write that fails may have happened.
        self.keys = large.iter().map(|(reference, _)| reference.key.clone()).collect();
        let app = self.app;
        let writes = stream::iter(large).map(|(reference, json)| async move {
            let path = Path::from(reference.key);
            app.parts.objects.put(&path, PutPayload::from(json)).await
        });
        writes.buffer_unordered(WRITES).try_for_each(|_| async { Ok(()) }).await?;
        Ok(())
    }

    /// The job is kept, or may be: so are its inputs.
    pub fn keep(mut self) {
        self.keys.clear();
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.app.rubbish.discard(std::mem::take(&mut self.keys));
    }
}
