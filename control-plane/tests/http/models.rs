//! Pushing and looking at models; archives of models for the other tests.

use serde_json::json;
use sha2::{Digest, Sha256};
use springtide_control_plane::models::hex;

use crate::api::Api;

/// One entry of an archive, as it shall be written, however wrong.
pub struct Entry<'a> {
    pub name: &'a str,
    pub kind: tar::EntryType,
    pub bytes: &'a [u8],
}

impl<'a> Entry<'a> {
    pub fn file(name: &'a str, bytes: &'a [u8]) -> Self {
        Self { name, kind: tar::EntryType::Regular, bytes }
    }
}

/// An archive of these entries.
pub fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_ustar();
        // Not through `set_path`: it refuses what has to be refused by the service.
        header.as_old_mut().name[..entry.name.len()].copy_from_slice(entry.name.as_bytes());
        header.set_entry_type(entry.kind);
        header.set_size(entry.bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, entry.bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

pub fn checksum(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// The bytes of the tensor model's only file.
pub const MODEL: &[u8] = b"as good as TorchScript here";

pub fn tensors_manifest(version: &str) -> String {
    format!(
        r#"
name = "vad"
version = "{version}"
kind = "torchscript"
entry = "model.pt"
[files]
"model.pt" = "{}"
[[inputs]]
name = "audio"
datatype = "FP32"
shape = [-1, 4]
[resources]
device = "any"
"#,
        checksum(MODEL)
    )
}

/// A model of tensors.
pub fn tensors(version: &str) -> Vec<u8> {
    let manifest = tensors_manifest(version);
    archive(&[Entry::file("model.toml", manifest.as_bytes()), Entry::file("model.pt", MODEL)])
}

/// A model of pictures.
pub fn pictures(version: &str) -> Vec<u8> {
    let files = ["tokenizer.json", "text_encoder.pt", "denoiser.pt", "decoder.pt"];
    let listed: Vec<_> =
        files.iter().map(|file| format!("\"{file}\" = \"{}\"", checksum(file.as_bytes()))).collect();
    let listed = listed.join("\n");
    let manifest = format!(
        r#"
name = "pictures"
version = "{version}"
kind = "text-to-image"
[files]
{listed}
[components]
tokenizer = "tokenizer.json"
text_encoder = "text_encoder.pt"
denoiser = "denoiser.pt"
decoder = "decoder.pt"
[tokenizer]
length = 16
pad_id = 0
[schedule]
train_timesteps = 1000
beta_start = 0.00085
beta_end = 0.012
beta_schedule = "scaled_linear"
prediction = "v_prediction"
timestep_spacing = "leading"
[latents]
channels = 4
downscale = 4
scale = 1.0
[image]
width = {{ default = 64, min = 32, max = 128, multiple = 4 }}
height = {{ default = 64, min = 32, max = 128, multiple = 4 }}
[sampling]
steps = {{ default = 20, min = 1, max = 100 }}
guidance_scale = {{ default = 4.0, min = 1.0, max = 20.0 }}
sampler = "dpmpp_2m"
[batching]
max = 8
"#
    );
    let mut entries = vec![Entry::file("model.toml", manifest.as_bytes())];
    entries.extend(files.iter().map(|file| Entry::file(file, file.as_bytes())));
    archive(&entries)
}

#[tokio::test]
async fn a_model_is_kept_with_its_files_and_found() {
    let api = Api::new().await;
    let reply = api.push(tensors("6")).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!(reply.header("location"), Some("/v1/models/vad@6"));
    let view = reply.json();
    assert_eq!((&view["id"], &view["kind"]), (&json!("vad@6"), &json!("torchscript")));
    assert_eq!(view["size_bytes"], json!(MODEL.len()));
    assert_eq!(view["manifest"]["entry"], "model.pt");
    assert_eq!(api.objects().await, ["models/vad/6/model.pt", "models/vad/6/model.toml"]);
    for name in ["vad", "vad@6"] {
        assert_eq!(api.get(&format!("/v1/models/{name}")).await.json(), view);
    }
    assert_eq!(api.get("/v1/models/echo").await.json()["kind"], "echo");
    let ids = |reply: serde_json::Value| -> Vec<String> {
        let items = reply["items"].as_array().unwrap().clone();
        items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(api.get("/v1/models").await.json()), ["echo@1", "vad@6"]);
    api.push(tensors("7")).await;
    assert_eq!(ids(api.get("/v1/models").await.json()), ["echo@1", "vad@7"]);
    assert_eq!(ids(api.get("/v1/models?name=vad").await.json()), ["vad@6", "vad@7"]);
    let page = api.get("/v1/models?name=vad&limit=1").await.json();
    assert_eq!(page["next_cursor"], "vad@6");
    assert_eq!(ids(api.get("/v1/models?name=vad&limit=1&cursor=vad@6").await.json()), ["vad@7"]);
}

#[tokio::test]
async fn a_version_may_be_pushed_again_but_never_changes() {
    let api = Api::new().await;
    assert_eq!(api.push(tensors("6")).await.status, 201);
    assert_eq!(api.push(tensors("6")).await.status, 200);
    let changed = format!("{}\n# changed", tensors_manifest("6"));
    let other = archive(&[Entry::file("model.toml", changed.as_bytes()), Entry::file("model.pt", MODEL)]);
    api.push(other).await.problem(409);
    assert_eq!(api.objects().await, ["models/vad/6/model.pt", "models/vad/6/model.toml"]);
}

#[tokio::test]
async fn the_newest_version_is_the_one_that_a_name_means_at_once() {
    let api = Api::new().await;
    let input = json!({"inputs": [{"name": "audio", "datatype": "FP32", "shape": [0, 4], "data": []}]});
    for version in ["6", "7"] {
        api.push(tensors(version)).await;
        let view = api.post("/v1/jobs", &json!({"model": "vad", "input": input})).await.json();
        assert_eq!(view["model"], json!(format!("vad@{version}")));
    }
}

#[tokio::test]
async fn archives_of_whole_directories_are_taken() {
    let api = Api::new().await;
    let manifest = tensors_manifest("6");
    // As `tar -C DIR -c .` writes it; with attributes, as Python does.
    let archive = archive(&[
        Entry { name: "./", kind: tar::EntryType::Directory, bytes: b"" },
        Entry { name: "PaxHeaders/model.pt", kind: tar::EntryType::XHeader, bytes: b"20 mtime=1700000000\n" },
        Entry::file("./model.pt", MODEL),
        Entry::file("./model.toml", manifest.as_bytes()),
    ]);
    assert_eq!(api.push(archive).await.status, 201);
    assert_eq!(api.objects().await, ["models/vad/6/model.pt", "models/vad/6/model.toml"]);
}
