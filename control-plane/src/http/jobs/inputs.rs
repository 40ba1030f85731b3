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

/// Inputs that were put into the object store for a job that is not kept yet. Dropped before [`keep`](Self::keep), they
/// are removed again.
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

    /// The job is kept from now on, or may be: so are its inputs. What is left of them, should it turn out that it is not.
    pub fn keep(mut self) -> Kept<'a> {
        Kept { app: self.app, keys: std::mem::take(&mut self.keys) }
    }
}

/// Inputs of a job that may be kept. Inputs that nobody needs cost space, lost ones a job: they stay, however this ends,
/// unless it is known that nobody needs them.
#[must_use]
pub struct Kept<'a> {
    app: &'a App,
    keys: Vec<String>,
}

impl Kept<'_> {
    /// The job is not kept.
    pub fn remove(self) {
        self.app.rubbish.discard(self.keys);
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.app.rubbish.discard(std::mem::take(&mut self.keys));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use serde_json::json;
    use springtide_core::Timestamp;

    use super::*;
    use crate::rubbish;
    use crate::testing::app;

    #[tokio::test(start_paused = true)]
    async fn inputs_stay_from_the_moment_on_in_which_their_job_may_be_kept() {
        let app = app();
        tokio::spawn(rubbish::run(Arc::clone(&app)));
        let large = json!({ "output": "x".repeat(1 << 20) });
        let park = async |number: u128| {
            let job = JobId::new(Timestamp::default(), number);
            let mut parked = Parked::new(&app);
            let mut input = JobInput::Each(vec![TaskInput::Inline(large.clone())]);
            parked.park(job, &mut input, 1 << 20).await.unwrap();
            assert!(matches!(&input, JobInput::Each(inputs) if matches!(inputs[..], [TaskInput::Object(_)])));
            (parked, Path::from(format!("inputs/{job}/0")))
        };
        let (given_up, first) = park(1).await;
        let (asked_for, second) = park(2).await;
        let (refused, third) = park(3).await;
        drop(given_up);
        drop(asked_for.keep());
        refused.keep().remove();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut there = Vec::new();
        for key in [first, second, third] {
            there.push(app.parts.objects.head(&key).await.is_ok());
        }
        assert_eq!(there, [false, true, false]);
    }
}
