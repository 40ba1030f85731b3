//! Prompts to token ids.

use std::path::Path;

use springtide_core::model::TokenizerSpec;
use tokenizers::Tokenizer;

use crate::Failure;

/// A tokenizer and the form that a model wants its tokens in.
#[derive(Debug)]
pub struct Prompts {
    tokenizer: Tokenizer,
    spec: TokenizerSpec,
}

impl Prompts {
    /// Reads a Hugging Face `tokenizer.json`. What that says of padding, truncation and special tokens is not used:
    /// the manifest says it.
    pub fn load(dir: &Path, file: &str, spec: TokenizerSpec) -> Result<Self, Failure> {
        let wrong =
            |error: &dyn std::fmt::Display| Failure::model(format!("{file} is no tokenizer: {error}"));
        let mut tokenizer = Tokenizer::from_file(dir.join(file)).map_err(|error| wrong(&error))?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| wrong(&error))?;
        let special = u32::from(spec.bos_id.is_some()) + u32::from(spec.eos_id.is_some());
        if spec.length <= special {
            return Err(Failure::model(format!(
                "model.toml: `tokenizer.length` is {}, too short",
                spec.length
            )));
        }
        Ok(Self { tokenizer, spec })
    }

    /// Tokens of every prompt.
    pub fn len(&self) -> usize {
        self.spec.length as usize
    }

    /// Never.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The ids of a prompt: begin, words, end, padding; what is too long is cut before the end token.
    pub fn encode(&self, prompt: &str) -> Result<Vec<i64>, Failure> {
        let encoding = self
            .tokenizer
            .encode(prompt, false)
            .map_err(|error| Failure::model(format!("the prompt cannot be tokenized: {error}")))?;
        let TokenizerSpec { pad_id, bos_id, eos_id, .. } = self.spec;
        let room = self.len() - usize::from(bos_id.is_some()) - usize::from(eos_id.is_some());
        let words = encoding.get_ids().iter().copied().take(room);
        let ids = bos_id.into_iter().chain(words).chain(eos_id).chain(std::iter::repeat(pad_id));
        Ok(ids.take(self.len()).map(i64::from).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: &str = r#"{"version": "1.0", "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        "padding": null,
        "model": {"type": "WordLevel", "vocab": {"?": 0, "a": 5, "red": 6, "tide": 7}, "unk_token": "?"}}"#;

    fn prompts(bos_id: Option<u32>, eos_id: Option<u32>) -> Prompts {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("t.json"), WORDS).unwrap();
        Prompts::load(dir.path(), "t.json", TokenizerSpec { length: 5, pad_id: 9, bos_id, eos_id }).unwrap()
    }

    #[test]
    fn pads_and_cuts() {
        let plain = prompts(None, None);
        assert_eq!(plain.encode("a red tide").unwrap(), [5, 6, 7, 9, 9]);
        assert_eq!(plain.encode("").unwrap(), [9; 5]);
        assert_eq!(plain.encode("a a a a a a a").unwrap(), [5; 5]);
    }

    #[test]
    fn begin_and_end_survive_cutting() {
        let marked = prompts(Some(1), Some(2));
        assert_eq!(marked.encode("red").unwrap(), [1, 6, 2, 9, 9]);
        assert_eq!(marked.encode("a a a a a a a").unwrap(), [1, 5, 5, 5, 2]);
        assert_eq!(marked.encode("").unwrap(), [1, 2, 9, 9, 9]);
    }

    #[test]
    fn says_what_is_wrong_with_a_tokenizer() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("t.json"), "{}").unwrap();
        let spec = TokenizerSpec { length: 5, pad_id: 0, bos_id: None, eos_id: None };
        let failure = Prompts::load(dir.path(), "t.json", spec).unwrap_err();
        assert!(failure.to_string().starts_with("t.json is no tokenizer"), "{failure}");
    }
}
