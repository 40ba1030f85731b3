//! Pictures as PNG, with what made them in their metadata.

use png::{BitDepth, ColorType, Compression, Encoder, EncodingError};
use springtide_core::id::ModelId;
use springtide_core::model::ImageTask;

use crate::sampler;

/// Pixels, 8 bits each of red, green and blue, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// `width · height · 3` bytes.
    pub rgb: Vec<u8>,
}

impl Picture {
    /// As a PNG file with a text chunk `parameters`.
    pub fn to_png(&self, parameters: &str) -> Result<Vec<u8>, EncodingError> {
        let mut file = Vec::new();
        let mut encoder = Encoder::new(&mut file, self.width, self.height);
        encoder.set_color(ColorType::Rgb);
        encoder.set_depth(BitDepth::Eight);
        encoder.set_compression(Compression::Fast);
        // tEXt is Latin-1; what does not fit into that goes as UTF-8 into iTXt.
        if parameters.chars().all(|char| u32::from(char) <= 0xff) {
            encoder.add_text_chunk("parameters".into(), parameters.into())?;
        } else {
            encoder.add_itxt_chunk("parameters".into(), parameters.into())?;
        }
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.rgb)?;
        writer.finish()?;
        Ok(file)
    }
}

/// What made a picture, in the form that Stable Diffusion tools write and read (AUTOMATIC1111's
/// `modules/infotext_utils.py`).
pub fn parameters(task: &ImageTask, seed: u64, model: &ModelId) -> String {
    use std::fmt::Write;
    let mut text = task.prompt.clone();
    if !task.negative_prompt.is_empty() {
        let _ = write!(text, "\nNegative prompt: {}", task.negative_prompt);
    }
    let _ = write!(
        text,
        "\nSteps: {}, Sampler: {}, CFG scale: {}, Seed: {seed}, Size: {}x{}, Model: {}, Version: springtide {}",
        task.steps,
        sampler::label(task.sampler),
        task.guidance_scale,
        task.width,
        task.height,
        model.name(),
        env!("CARGO_PKG_VERSION"),
    );
    text
}

#[cfg(test)]
mod tests {
    use springtide_core::model::Sampler;

    use super::*;

    fn task(prompt: &str, negative_prompt: &str) -> ImageTask {
        ImageTask {
            prompt: prompt.into(),
            negative_prompt: negative_prompt.into(),
            width: 64,
            height: 32,
            steps: 20,
            guidance_scale: 4.0,
            sampler: Sampler::Dpmpp2mKarras,
            seed: 1,
            images: 2,
        }
    }

    fn text_of(png: &[u8]) -> (Vec<u8>, String) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut rgb).unwrap();
        let info = reader.info();
        let plain = info.uncompressed_latin1_text.iter().map(|chunk| chunk.text.clone());
        let unicode = info.utf8_text.iter().map(|chunk| chunk.get_text().unwrap());
        (rgb, plain.chain(unicode).collect())
    }

    #[test]
    fn parameters_read_as_others_write_them() {
        let model = ModelId::new("shapes", "1").unwrap();
        let version = env!("CARGO_PKG_VERSION");
        let line = format!(
            "Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 4, Seed: 2, Size: 64x32, Model: shapes, Version: springtide {version}"
        );
        assert_eq!(parameters(&task("a tide", ""), 2, &model), format!("a tide\n{line}"));
        assert_eq!(
            parameters(&task("a tide", "blur"), 2, &model),
            format!("a tide\nNegative prompt: blur\n{line}")
        );
    }

    #[test]
    fn a_png_keeps_pixels_and_text() {
        let picture = Picture { width: 2, height: 1, rgb: vec![255, 0, 7, 1, 2, 3] };
        for text in ["a café\nSteps: 1", "潮\nSteps: 1"] {
            assert_eq!(text_of(&picture.to_png(text).unwrap()), (picture.rgb.clone(), text.to_owned()));
        }
    }
}
