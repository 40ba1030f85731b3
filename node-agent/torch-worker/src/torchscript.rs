//! TorchScript modules: tensors and scalars in, tensors out, in the form of the KServe V2 protocol.
//!
//! Inputs are read and checked by `springtide-core`, against the manifest (`values` turns them into libtorch's).
//! Tasks whose arguments agree in all but the first dimension are joined along it and their results split again.
//! Results of up to 64 KiB of JSON travel inline, larger ones as the same JSON, `{"outputs": […]}`, in a blob.

mod reply;
mod values;

use std::path::Path;

use springtide_core::model::{Argument, Batching, TorchScriptSpec};
use springtide_worker_protocol::Member;
use tch::{Device, IValue};

use crate::Failure;
use crate::module::{Module, Precision};
use crate::worker::Answers;

/// A TorchScript model on a device.
#[derive(Debug)]
pub struct ScriptModel {
    spec: TorchScriptSpec,
    batching: Batching,
    device: Device,
    module: Module,
}

/// A member whose input is good.
struct Part<'a> {
    run: &'a str,
    arguments: Vec<Argument>,
}

impl ScriptModel {
    /// Loads the module.
    pub fn load(
        dir: &Path,
        spec: &TorchScriptSpec,
        batching: Batching,
        device: Device,
    ) -> Result<Self, Failure> {
        let module = Module::load(dir, &spec.entry, device, Precision::Full)?;
        Ok(Self { spec: spec.clone(), batching, device, module })
    }

    /// Memory of the weights.
    pub fn memory_bytes(&self) -> u64 {
        self.module.memory_bytes()
    }

    /// Runs the members; each is answered once.
    pub fn run(&self, members: &[Member], answers: &mut Answers<'_>) {
        let mut groups: Vec<Vec<Part<'_>>> = Vec::new();
        for member in members {
            match self.spec.signature.arguments(&member.input) {
                Ok(arguments) => self.place(Part { run: &member.run, arguments }, &mut groups),
                Err(fault) => answers.failed(&member.run, &fault.into()),
            }
        }
        for group in groups {
            self.run_group(&group, answers);
        }
    }

    fn place<'a>(&self, part: Part<'a>, groups: &mut Vec<Vec<Part<'a>>>) {
        let rows = self.rows(&part);
        let fits = |group: &&mut Vec<Part<'_>>| {
            let taken = group.iter().map(|other| self.rows(other)).sum::<Option<i64>>();
            let (Some(taken), Some(rows)) = (taken, rows) else { return false };
            taken + rows <= i64::from(self.batching.max)
                && group.iter().all(|other| values::join(&other.arguments, &part.arguments))
        };
        match groups.iter_mut().find(fits) {
            Some(group) => group.push(part),
            None => groups.push(vec![part]),
        }
    }

    /// The size of the part's first dimension; nothing if it can't be joined with others.
    fn rows(&self, part: &Part<'_>) -> Option<i64> {
        let is_open =
            |shape: &Option<Vec<i64>>| shape.as_ref().is_none_or(|shape| shape.first() == Some(&-1));
        let may_join =
            self.batching.max > 1 && self.spec.signature.inputs.iter().all(|input| is_open(&input.shape));
        if may_join { values::rows(&part.arguments) } else { None }
    }

    fn run_group(&self, group: &[Part<'_>], answers: &mut Answers<'_>) {
        let group: Vec<&Part<'_>> = group.iter().filter(|part| !answers.end_if_cancelled(part.run)).collect();
        match group.as_slice() {
            [] => {}
            [part] => {
                let reply = self.call(&[&part.arguments]).and_then(|outputs| self.reply(outputs));
                answer(part.run, reply, answers);
            }
            parts => match self.call_joined(parts) {
                Ok(results) => {
                    for (part, outputs) in parts.iter().zip(results) {
                        answer(part.run, self.reply(outputs), answers);
                    }
                }
                // One member's fault must not end the others, and some models can't be joined: one by one.
                Err(Failure::Invalid { .. }) => {
                    for part in parts {
                        self.run_group(&[Part { run: part.run, arguments: part.arguments.clone() }], answers);
                    }
                }
                Err(failure) => parts.iter().for_each(|part| answers.failed(part.run, &failure)),
            },
        }
    }

    fn call(&self, members: &[&Vec<Argument>]) -> Result<Vec<values::Named>, Failure> {
        let failed = |error| Failure::torch("the inputs", &error);
        let arguments = (0..self.spec.signature.inputs.len())
            .map(|at| values::joined(members, at, self.device))
            .collect::<Result<Vec<IValue>, _>>()
            .map_err(failed)?;
        values::tensors(self.module.call(&arguments)?, self.module.file())
    }

    fn call_joined(&self, parts: &[&Part<'_>]) -> Result<Vec<Vec<values::Named>>, Failure> {
        let members: Vec<_> = parts.iter().map(|part| &part.arguments).collect();
        let outputs = self.call(&members)?;
        let rows: Vec<i64> = parts.iter().filter_map(|part| self.rows(part)).collect();
        values::split(&outputs, &rows).ok_or_else(|| Failure::model("the outputs can't be split"))
    }

    fn reply(&self, outputs: Vec<values::Named>) -> Result<reply::Reply, Failure> {
        reply::Reply::new(&self.spec.signature.outputs, outputs, self.module.file())
    }
}

fn answer(run: &str, reply: Result<reply::Reply, Failure>, answers: &mut Answers<'_>) {
    match reply {
        Ok(reply) => answers.done(run, vec![reply.output], &reply.body),
        Err(failure) => answers.failed(run, &failure),
    }
}
