//! Which tasks may be run together, told from their inputs alone, so that the agent needs neither libtorch nor the
//! model for it.

use serde_json::Value;

/// What a model is, as far as batching cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Tensors in, tensors out.
    Torchscript,
    /// A prompt in, pictures out.
    TextToImage,
    /// Anything else: never batched.
    Other,
}

/// Tasks of one model whose keys are equal may share a batch.
///
/// The key is a hint and errs on the side of parting: a value that is given and one that is left to the manifest's
/// default differ. The worker looks again, with the manifest at hand, and runs apart what it cannot join; so a
/// wrong hint costs time, never a result.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BatchKey(String);

impl BatchKey {
    /// The key of a task and how much of the manifest's `batching.max` it takes up: its images, or the first
    /// dimension of its tensors. Nothing, if the task must run by itself.
    ///
    /// ```
    /// use serde_json::json;
    /// use springtide_worker_protocol::{BatchKey, Kind};
    ///
    /// let tide = json!({"prompt": "a low tide", "steps": 20, "images": 4});
    /// let dune = json!({"prompt": "a dune", "steps": 20});
    /// let (tide, four) = BatchKey::of(Kind::TextToImage, &tide).unwrap();
    /// let (dune, one) = BatchKey::of(Kind::TextToImage, &dune).unwrap();
    /// assert_eq!(tide, dune);
    /// assert_eq!((four, one), (4, 1));
    /// ```
    #[must_use]
    pub fn of(kind: Kind, input: &Value) -> Option<(Self, u64)> {
        match kind {
            Kind::TextToImage => Self::of_text_to_image(input),
            Kind::Torchscript => Self::of_torchscript(input),
            Kind::Other => None,
        }
    }

    fn of_text_to_image(input: &Value) -> Option<(Self, u64)> {
        let settings = ["width", "height", "steps", "sampler", "guidance_scale"].map(|name| &input[name]);
        let images = match &input["images"] {
            Value::Null => 1,
            images => images.as_u64()?,
        };
        Some((Self(format!("text-to-image {}", list(&settings))), images))
    }

    fn of_torchscript(input: &Value) -> Option<(Self, u64)> {
        let mut rows = None;
        let mut facts = Vec::new();
        for tensor in input["inputs"].as_array()? {
            let name = tensor["name"].as_str()?;
            let fact = match tensor.get("value") {
                Some(value) => list(&[value]),
                None => match tensor["shape"].as_array()?.as_slice() {
                    [] => list(&[&tensor["datatype"], &tensor["data"]]),
                    [first, rest @ ..] => {
                        let first = first.as_u64()?;
                        if *rows.get_or_insert(first) != first {
                            return None;
                        }
                        list(&std::iter::once(&tensor["datatype"]).chain(rest).collect::<Vec<_>>())
                    }
                },
            };
            facts.push(format!("{}={fact}", Value::from(name)));
        }
        facts.sort();
        Some((Self(format!("torchscript {}", facts.join(" "))), rows?))
    }
}

fn list(values: &[&Value]) -> String {
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    format!("[{}]", values.join(","))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tensors(input: &Value) -> Option<(BatchKey, u64)> {
        BatchKey::of(Kind::Torchscript, input)
    }

    fn audio(rows: u64, width: u64, rate: u64) -> Value {
        json!({"inputs": [
            {"name": "audio", "datatype": "FP32", "shape": [rows, width], "data": []},
            {"name": "rate", "value": rate},
        ]})
    }

    #[test]
    fn pictures_of_one_size_share_a_batch() {
        let key = |input| BatchKey::of(Kind::TextToImage, &input).unwrap();
        let (square, one) = key(json!({"prompt": "a", "width": 64, "seed": 1}));
        let (other_prompt, three) = key(json!({"prompt": "b", "width": 64, "images": 3, "seed": 9}));
        let (wide, _) = key(json!({"prompt": "a", "width": 128}));
        assert_eq!(square, other_prompt);
        assert_ne!(square, wide);
        assert_eq!((one, three), (1, 3));
    }

    #[test]
    fn tensors_share_a_batch_when_all_but_the_first_dimension_agrees() {
        let (one_row, 1) = tensors(&audio(1, 512, 16000)).unwrap() else { panic!("one row") };
        let (three_rows, 3) = tensors(&audio(3, 512, 16000)).unwrap() else { panic!("three rows") };
        assert_eq!(one_row, three_rows);
        assert_ne!(one_row, tensors(&audio(1, 256, 16000)).unwrap().0);
        assert_ne!(one_row, tensors(&audio(1, 512, 8000)).unwrap().0);
    }

    #[test]
    fn the_order_of_inputs_does_not_matter() {
        let mut turned = audio(1, 512, 16000);
        turned["inputs"].as_array_mut().unwrap().reverse();
        assert_eq!(tensors(&turned), tensors(&audio(1, 512, 16000)));
    }

    #[test]
    fn what_has_no_first_dimension_in_common_runs_by_itself() {
        let uneven = json!({"inputs": [
            {"name": "a", "datatype": "FP32", "shape": [1, 2], "data": []},
            {"name": "b", "datatype": "FP32", "shape": [2, 2], "data": []},
        ]});
        assert_eq!(tensors(&uneven), None);
        assert_eq!(tensors(&json!({"inputs": [{"name": "rate", "value": 1}]})), None);
        assert_eq!(tensors(&json!({"inputs": "garbage"})), None);
        assert_eq!(BatchKey::of(Kind::Other, &audio(1, 1, 1)), None);
    }
}
