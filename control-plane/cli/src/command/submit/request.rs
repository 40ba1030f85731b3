//! From the command line to the job that is posted.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use springtide_core::api::SubmitJob;
use springtide_core::lane::{DeviceRequest, Resources};
use springtide_core::{Priority, Timestamp};

use crate::command::{duration, key_value};
use crate::exit::Usage;

/// What to run.
#[derive(Debug, Args)]
pub struct Request {
    /// NAME (its latest version) or NAME@VERSION
    model: String,
    /// The input as JSON; @FILE reads a file, - reads stdin
    #[arg(long, value_name = "JSON", conflicts_with = "Picture")]
    input: Option<String>,
    /// A JSON array of inputs, one task for each; @FILE reads a file, - reads stdin
    #[arg(long, value_name = "JSON", conflicts_with_all = ["Picture", "input"])]
    inputs: Option<String>,
    /// How urgent it is
    #[arg(long, value_enum, default_value_t = PriorityName::Normal)]
    priority: PriorityName,
    /// Limit of one run of one task, such as 90s or 10m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
    /// Charged failures of a task that are followed by another try
    #[arg(long, value_name = "N")]
    max_retries: Option<u32>,
    /// When it should be done: from now, such as 10m, or a time, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    deadline: Option<String>,
    /// The device that runs it [default: what the model says]
    #[arg(long, value_enum)]
    device: Option<DeviceName>,
    /// A label to find it by; repeatable
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = key_value)]
    labels: Vec<(String, String)>,
    /// At most one task with this key runs in the cluster
    #[arg(long, value_name = "KEY")]
    exclusive: Option<String>,
    // Last: its heading would stand over what follows.
    #[command(flatten)]
    picture: Picture,
}

/// The input of a `text-to-image` model.
#[derive(Debug, Args)]
#[group(id = "Picture", multiple = true)]
#[command(next_help_heading = "Pictures (text-to-image models)")]
struct Picture {
    /// What shall be seen
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// What shall not
    #[arg(long, value_name = "TEXT")]
    negative_prompt: Option<String>,
    /// In pixels
    #[arg(long, value_name = "N")]
    width: Option<u32>,
    /// In pixels
    #[arg(long, value_name = "N")]
    height: Option<u32>,
    /// Denoising steps
    #[arg(long, value_name = "N")]
    steps: Option<u32>,
    /// How closely the prompt is followed
    #[arg(long, value_name = "X")]
    guidance_scale: Option<f64>,
    /// `ddim`, `euler`, `euler_a`, `dpmpp_2m`, or one of the last three with `_karras`
    #[arg(long, value_name = "NAME")]
    sampler: Option<String>,
    /// Seed of the first picture; each next one has the next seed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How many pictures
    #[arg(long, value_name = "N")]
    images: Option<u32>,
    /// How many of them one task makes
    #[arg(long, value_name = "N")]
    images_per_task: Option<u32>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PriorityName {
    High,
    Normal,
    Low,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DeviceName {
    Cuda,
    Cpu,
    Any,
}

impl Request {
    /// The job. What a model takes is for the control plane to judge.
    pub fn read(self, now: Timestamp) -> anyhow::Result<SubmitJob> {
        let (input, inputs) = match (self.input, self.inputs) {
            (_, Some(text)) => match document("--inputs", &text)? {
                Value::Array(inputs) => (None, Some(inputs)),
                _ => {
                    return Err(
                        Usage("--inputs: it has to be a JSON array, one input for each task".into()).into()
                    );
                }
            },
            (Some(text), None) => (Some(document("--input", &text)?), None),
            (None, None) => (Some(self.picture.input()), None),
        };
        Ok(SubmitJob {
            model: self.model,
            input,
            inputs,
            priority: match self.priority {
                PriorityName::High => Priority::High,
                PriorityName::Normal => Priority::Normal,
                PriorityName::Low => Priority::Low,
            },
            timeout_s: self.timeout.map(|timeout| timeout.as_secs_f64()),
            max_retries: self.max_retries,
            deadline: self.deadline.map(|text| deadline(&text, now)).transpose()?,
            resources: self
                .device
                .map(|device| Resources { device: device.request(), ..Resources::default() }),
            labels: self.labels.into_iter().collect::<BTreeMap<_, _>>(),
            exclusive: self.exclusive,
        })
    }
}

impl DeviceName {
    const fn request(self) -> DeviceRequest {
        match self {
            Self::Cuda => DeviceRequest::Cuda,
            Self::Cpu => DeviceRequest::Cpu,
            Self::Any => DeviceRequest::Any,
        }
    }
}

impl Picture {
    fn input(self) -> Value {
        let fields = [
            ("prompt", self.prompt.map(Value::from)),
            ("negative_prompt", self.negative_prompt.map(Value::from)),
            ("width", self.width.map(Value::from)),
            ("height", self.height.map(Value::from)),
            ("steps", self.steps.map(Value::from)),
            ("guidance_scale", self.guidance_scale.map(|scale| json!(scale))),
            ("sampler", self.sampler.map(Value::from)),
            ("seed", self.seed.map(Value::from)),
            ("images", self.images.map(Value::from)),
            ("images_per_task", self.images_per_task.map(Value::from)),
        ];
        let given = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Value::Object(given.collect::<Map<_, _>>())
    }
}

/// JSON from the command line, a file or stdin.
fn document(flag: &str, text: &str) -> Result<Value, Usage> {
    let unreadable = |from: &str, error: std::io::Error| Usage(format!("{flag}: can't read {from}: {error}"));
    let (from, text) = match text.strip_prefix('@') {
        Some(path) => (path, std::fs::read_to_string(path).map_err(|e| unreadable(path, e))?),
        None if text == "-" => {
            let mut read = String::new();
            std::io::stdin().read_to_string(&mut read).map_err(|e| unreadable("stdin", e))?;
            ("stdin", read)
        }
        None => ("the command line", text.to_owned()),
    };
    serde_json::from_str(&text).map_err(|error| Usage(format!("{flag}: what {from} has is no JSON: {error}")))
}

fn deadline(text: &str, now: Timestamp) -> Result<Timestamp, Usage> {
    match duration(text) {
        Ok(from_now) => Ok(now + from_now),
        Err(_) => text.parse().map_err(|_| {
            Usage(format!(
                "--deadline: `{text}` is neither a duration such as 10m nor a time such as 2026-01-31T12:00:00Z"
            ))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        request: Request,
    }

    fn read(args: &[&str]) -> Result<SubmitJob, String> {
        let args = ["submit"].iter().chain(args);
        let line = Line::try_parse_from(args).map_err(|e| e.to_string())?;
        line.request.read(Timestamp::from_micros(0)).map_err(|e| e.to_string())
    }

    #[test]
    fn only_what_is_given_is_sent() {
        let job =
            read(&["shapes", "--prompt", "a red circle", "--seed", "0", "--guidance-scale", "2.5"]).unwrap();
        assert_eq!(
            serde_json::to_value(&job).unwrap(),
            json!({"model": "shapes", "priority": "normal",
                "input": {"prompt": "a red circle", "seed": 0, "guidance_scale": 2.5}})
        );
        assert_eq!(read(&["echo"]).unwrap().input, Some(json!({})));
    }

    #[test]
    fn everything_else_has_its_field() {
        let job = read(&[
            "vad@6",
            "--inputs",
            "[{}, {}]",
            "--priority",
            "high",
            "--timeout",
            "1.5m",
            "--max-retries",
            "0",
            "--deadline",
            "10m",
            "--device",
            "cuda",
            "--label",
            "team=a=b",
            "--label",
            "x=",
            "--exclusive",
            "k",
        ]);
        assert_eq!(
            serde_json::to_value(job.unwrap()).unwrap(),
            json!({"model": "vad@6", "inputs": [{}, {}], "priority": "high", "timeout_s": 90.0, "max_retries": 0,
                "deadline": "1970-01-01T00:10:00.000000Z", "resources": {"device": "cuda", "gpu_memory_bytes": 0},
                "labels": {"team": "a=b", "x": ""}, "exclusive": "k"})
        );
    }

    #[test]
    fn inputs_come_from_files() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, b"{\"sleep_s\": 1}").unwrap();
        let at = format!("@{}", file.path().display());
        assert_eq!(read(&["echo", "--input", &at]).unwrap().input, Some(json!({"sleep_s": 1})));
        assert!(read(&["echo", "--inputs", &at]).unwrap_err().contains("JSON array"));
        assert!(
            read(&["echo", "--input", "@/nowhere.json"]).unwrap_err().contains("can't read /nowhere.json")
        );
        assert!(read(&["echo", "--input", "{"]).unwrap_err().contains("no JSON"));
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        assert!(read(&["a", "--prompt", "x", "--input", "{}"]).unwrap_err().contains("cannot be used with"));
        assert!(read(&["a", "--inputs", "[]", "--input", "{}"]).unwrap_err().contains("cannot be used with"));
        assert!(read(&["a", "--steps", "3", "--inputs", "[]"]).unwrap_err().contains("cannot be used with"));
        assert!(read(&["a", "--deadline", "soon"]).unwrap_err().contains("--deadline"));
        assert!(read(&["a", "--label", "x"]).unwrap_err().contains("KEY=VALUE"));
        assert!(read(&["a", "--timeout", "soon"]).unwrap_err().contains("250ms"));
    }
}
