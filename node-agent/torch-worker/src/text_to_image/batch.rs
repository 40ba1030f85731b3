//! Runs a batch of tasks: joins what can be joined, and answers each run.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::time::Instant;

use springtide_core::model::{ImageRequest, ImageTask, InputFault};
use springtide_worker_protocol::{ByteRange, Member, Output};
use tch::Tensor;

use super::checkpoint::State;
use super::picture::parameters;
use super::pipeline::{Image, Pipeline, Settings, Snapshot};
use crate::Failure;
use crate::worker::{self, Answers, Farewell, Standing};

/// A member whose input is good.
struct Part<'a> {
    member: &'a Member,
    task: ImageTask,
    from: Option<State>,
    /// When its state was saved last, or its run began.
    saved_at: Cell<Instant>,
}

impl<'a> Part<'a> {
    fn new(pipeline: &Pipeline, member: &'a Member, body: &[u8]) -> Result<Self, Failure> {
        let task = ImageRequest::parse(&member.input, &pipeline.spec, pipeline.batching, 0)?.whole;
        let most = pipeline.batching.max;
        if task.images > most {
            let message = format!("is {}; one task of this model makes at most {most}", task.images);
            return Err(InputFault::field("images", message).into());
        }
        let from = member.resume.and_then(|range| {
            let bytes = range.of(body).unwrap_or_default();
            let state = State::from_bytes(bytes, &task);
            match &state {
                Ok(state) => eprintln!("{} goes on from step {}", member.task, state.step),
                Err(error) => {
                    eprintln!("{} starts again, its checkpoint can't be used: {error}", member.task);
                }
            }
            state.ok()
        });
        Ok(Self { member, task, from, saved_at: Cell::new(worker::now()) })
    }

    fn run(&self) -> &str {
        &self.member.run
    }

    /// Whether the state after this step is to be saved, as the agent asked for.
    fn is_due(&self, step: u32) -> bool {
        let after_steps = self.member.checkpoint_every_steps.filter(|&every| every > 0);
        let after_s = self.member.checkpoint_every_s;
        step < self.task.steps
            && (after_steps.is_some_and(|every| step.is_multiple_of(every))
                || after_s.is_some_and(|every| self.saved_at.get().elapsed().as_secs_f64() >= every))
    }

    /// Saves its state; its pictures are those from `first` on. A run goes on without a checkpoint as well.
    fn save(&self, snapshot: &Snapshot<'_>, first: usize, answers: &Answers<'_>) {
        self.saved_at.set(worker::now());
        let state = snapshot.state(first, self.task.images as usize);
        let bytes = state
            .and_then(|state| state.to_bytes(&self.task).map_err(|error| Failure::device(error.to_string())));
        match bytes {
            Ok(bytes) => answers.checkpoint(self.run(), snapshot.step as u32, &bytes),
            Err(failure) => {
                eprintln!("{}: no checkpoint at step {}: {failure}", self.member.task, snapshot.step);
            }
        }
    }

    fn images(&self) -> impl Iterator<Item = Image<'_>> {
        (0..u64::from(self.task.images)).map(|index| Image {
            prompt: &self.task.prompt,
            negative_prompt: &self.task.negative_prompt,
            seed: self.task.seed + index,
        })
    }
}

/// Runs the members; each is answered once.
pub fn run(pipeline: &Pipeline, members: &[Member], body: &[u8], answers: &mut Answers<'_>) {
    let mut parts = Vec::new();
    for member in members {
        match Part::new(pipeline, member, body) {
            Ok(part) => parts.push(part),
            Err(failure) => answers.failed(&member.run, &failure),
        }
    }
    for group in groups(parts, pipeline.batching.max) {
        run_group(pipeline, group, answers);
    }
}

/// Members of the same settings, together as many pictures as the model takes. What goes on from a checkpoint is at
/// a step of its own, and so runs by itself; so it also meets the batch that it was saved from, if that was its own,
/// and ends bit for bit as it would have.
fn groups(parts: Vec<Part<'_>>, max: u32) -> Vec<Vec<Part<'_>>> {
    let mut groups: Vec<Vec<Part<'_>>> = Vec::new();
    for part in parts {
        let fits = |group: &&mut Vec<Part<'_>>| {
            let images: u32 = group.iter().map(|part| part.task.images).sum();
            let joins = |other: &Part<'_>| {
                other.from.is_none() && Settings::from(&other.task) == Settings::from(&part.task)
            };
            part.from.is_none() && images + part.task.images <= max && group.iter().all(joins)
        };
        match groups.iter_mut().find(fits) {
            Some(group) => group.push(part),
            None => groups.push(vec![part]),
        }
    }
    groups
}

fn run_group(pipeline: &Pipeline, mut group: Vec<Part<'_>>, answers: &mut Answers<'_>) {
    group.retain(|part| !answers.end_if_cancelled(part.run()));
    let Some(first) = group.first() else { return };
    let settings = Settings::from(&first.task);
    let state = group.first_mut().and_then(|part| part.from.take());
    let images: Vec<Image<'_>> = group.iter().flat_map(Part::images).collect();
    let latents =
        pipeline.denoise(&settings, &images, state, &mut |snapshot| between_steps(&group, snapshot, answers));
    let result = latents.and_then(|latents| finish(pipeline, &group, &latents, answers));
    match result {
        Ok(()) => {}
        // One member's fault must not end the others: who is it?
        Err(Failure::Invalid { .. }) if group.len() > 1 => {
            for part in group {
                if answers.is_open(part.run()) {
                    run_group(pipeline, vec![part], answers);
                }
            }
        }
        Err(failure) => {
            for part in &group {
                answers.failed(part.run(), &failure);
            }
        }
    }
}

fn between_steps(group: &[Part<'_>], snapshot: &Snapshot<'_>, answers: &mut Answers<'_>) -> ControlFlow<()> {
    let mut first = 0;
    for part in group {
        let (step, count) = (snapshot.step as u32, part.task.images as usize);
        if answers.is_open(part.run()) {
            match answers.standing(part.run()) {
                Standing::Wanted => {
                    answers.progress(part.run(), step, part.task.steps);
                    if part.is_due(step) {
                        part.save(snapshot, first, answers);
                    }
                }
                Standing::Cancelled(farewell) => {
                    if farewell == Farewell::Checkpoint {
                        part.save(snapshot, first, answers);
                    }
                    answers.failed(part.run(), &Failure::Cancelled);
                }
            }
        }
        first += count;
    }
    // What is left of a batch goes on with the rows of those that left: taking them out would change its shape.
    if group.iter().any(|part| answers.is_open(part.run())) {
        ControlFlow::Continue(())
    } else {
        ControlFlow::Break(())
    }
}

fn finish(
    pipeline: &Pipeline,
    group: &[Part<'_>],
    latents: &Tensor,
    answers: &mut Answers<'_>,
) -> Result<(), Failure> {
    let mut pictures = pipeline.decode(latents)?.into_iter();
    for part in group {
        let (mut body, mut outputs) = (Vec::new(), Vec::new());
        for (image, picture) in part.images().zip(pictures.by_ref().take(part.task.images as usize)) {
            let png = picture
                .to_png(&parameters(&part.task, image.seed, &pipeline.id))
                .map_err(|error| Failure::device(format!("writing a PNG: {error}")))?;
            let body = ByteRange::append(&mut body, &png);
            outputs.push(Output::Blob { media_type: "image/png".into(), seed: Some(image.seed), body });
        }
        answers.done(part.run(), outputs, &body);
    }
    Ok(())
}
