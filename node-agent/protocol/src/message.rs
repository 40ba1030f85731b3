//! The messages themselves: what stands in a frame's header.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What an agent says to a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToWorker {
    /// Bring a model onto the device. Loading a model that is loaded already is answered by `loaded` at once.
    Load {
        /// `name@version`.
        model: String,
        /// Its directory, with all files verified by the agent.
        dir: PathBuf,
    },
    /// Let go of a model. Its memory may only come back for sure when the worker ends.
    Unload {
        /// `name@version`.
        model: String,
    },
    /// Run a batch.
    Run(Batch),
    /// Stop a run between two steps. Unknown runs are ignored: the run may have ended meanwhile.
    Cancel {
        /// Which run.
        run: String,
        /// Send a checkpoint before the end, if the run has come further than where it began: another worker shall
        /// go on from there. One that was asked for stays asked for.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        checkpoint: bool,
    },
    /// Finish what was sent before, then exit with status 0. The end of standard input instead means that the agent is
    /// gone: the worker gives up what it has between two steps, and exits.
    Shutdown,
}

/// Tasks that are run together. One task alone is a batch of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// The agent's number for this batch, for log lines.
    pub batch: u64,
    /// `name@version` of a model that was loaded.
    pub model: String,
    /// The runs in it. Each is answered on its own.
    pub members: Vec<Member>,
}

/// One run of one task inside a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// `JOB/INDEX`, for log lines and for the names of things.
    pub task: String,
    /// The run's id; every answer carries it.
    pub run: String,
    /// The task's input, resolved by the agent (never a reference to the object store).
    pub input: Value,
    /// The fencing token of an exclusive task, for models that write somewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
    /// Where in this frame's body the checkpoint lies from which to go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<ByteRange>,
    /// Send a checkpoint each time that this many steps were done; never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_every_steps: Option<u32>,
    /// Send a checkpoint after the first step that ends so many seconds after the last one, or after the start; never
    /// if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_every_s: Option<f64>,
}

impl Member {
    /// A run from the start that sends no checkpoints.
    pub fn new(task: impl Into<String>, run: impl Into<String>, input: Value) -> Self {
        Self {
            task: task.into(),
            run: run.into(),
            input,
            fence: None,
            resume: None,
            checkpoint_every_steps: None,
            checkpoint_every_s: None,
        }
    }
}

/// What a worker says to its agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromWorker {
    /// The worker is up and its device answers. The first frame, once.
    Ready(Ready),
    /// A model is on the device.
    Loaded {
        /// `name@version`.
        model: String,
        /// Seconds that it took.
        load_s: f64,
        /// Memory of the device that its weights take.
        memory_bytes: u64,
    },
    /// How far a run is. After each step.
    Progress {
        /// Which run.
        run: String,
        /// From 0 to 1.
        fraction: f64,
        /// Steps done, of all its images.
        step: u32,
        /// Steps in all.
        steps: u32,
    },
    /// The state of a half-done run, in the frame's body; opaque to all but a worker of the same kind.
    Checkpoint {
        /// Which run.
        run: String,
        /// Steps done, as in `progress`.
        step: u32,
        /// Where in this frame's body it lies.
        body: ByteRange,
    },
    /// A run has ended well.
    Done(Done),
    /// A run, or the loading of a model, has ended badly.
    Failed(Failed),
}

/// What a worker is and has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    /// Which worker this is.
    pub kind: WorkerKind,
    /// The device that it holds.
    pub device: Device,
    /// Batches that it runs at once: 1 for a device, many for `echo`.
    pub concurrency: u32,
    /// Its process id.
    pub pid: u32,
    /// Versions of itself and of what it is made of, by name (`worker`, `libtorch`, …).
    pub versions: BTreeMap<String, String>,
}

/// The kinds of worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerKind {
    /// libtorch.
    Torch,
    /// Sleeps, fails, crashes on request.
    Echo,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its kind.
    pub kind: DeviceKind,
    /// Which of its kind.
    pub index: u32,
    /// What its maker calls it.
    pub name: String,
    /// Its whole memory, where the worker could find out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

/// The kinds of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// The machine's processors.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

/// The good end of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Which run.
    pub run: String,
    /// What came out, in the order of the task's images or of the model's outputs.
    pub outputs: Vec<Output>,
    /// How long it took.
    pub timings: Timings,
}

/// Something that came out of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "snake_case")]
pub enum Output {
    /// Bytes in the frame's body: a picture, or tensors too large to be inline.
    Blob {
        /// `image/png`; `application/json` for `{"outputs":[…]}` with tensors in KServe V2 form.
        media_type: String,
        /// The seed of this very image.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seed: Option<u64>,
        /// Where in the body it lies.
        body: ByteRange,
    },
    /// Small tensors, right here.
    Tensors {
        /// Each `{"name", "datatype", "shape", "data"}`, the KServe V2 form. What JSON has no number for stands
        /// as `"NaN"`, `"Infinity"`, `"-Infinity"` (as in the JSON mapping of protocol buffers).
        outputs: Vec<Value>,
    },
}

/// Where the time of a run went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// Seconds between the `run` frame's arrival and the start of its batch on the device.
    pub queued_s: f64,
    /// Seconds from there to the end of the run.
    pub run_s: f64,
}

/// The bad end of a run, or of the loading of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// What failed.
    #[serde(flatten)]
    pub subject: Subject,
    /// What follows from it.
    pub class: Class,
    /// The device's memory did not suffice: fewer at once, or a larger device, may do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub out_of_memory: bool,
    /// What failed, on what, and what to do; for people.
    pub message: String,
    /// The field of the input that is wrong, as a JSON pointer (RFC 6901), where it is one field's fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
}

/// What a failure is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// One run.
    Run(String),
    /// A model, `name@version`, that could not be loaded.
    Model(String),
}

/// The classes of failure, as in the design's section 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The same input will fail again.
    Invalid,
    /// It may work another time; charged.
    Transient,
    /// Cancelled, or run beside something that failed; not charged.
    Evicted,
}

/// A part of a frame's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByteRange {
    /// First byte.
    pub offset: u64,
    /// How many.
    pub len: u64,
}

impl ByteRange {
    /// Appends `bytes` to `body` and says where they lie.
    pub fn append(body: &mut Vec<u8>, bytes: &[u8]) -> Self {
        let range = Self { offset: body.len() as u64, len: bytes.len() as u64 };
        body.extend_from_slice(bytes);
        range
    }

    /// The bytes that it points at, or nothing if it points outside of `body`.
    #[must_use]
    pub fn of<'a>(&self, body: &'a [u8]) -> Option<&'a [u8]> {
        let start = usize::try_from(self.offset).ok()?;
        let end = start.checked_add(usize::try_from(self.len).ok()?)?;
        body.get(start..end)
    }
}
