//! Whatever is wrong with an upload, its reply says what, and nothing of it is kept.

use axum::body::{Body, Bytes};
use axum::http::Request;
use tar::EntryType;

use crate::api::Api;
use crate::models::{Entry, MODEL, archive, tensors, tensors_manifest};

async fn assert_nothing_kept(api: &Api) {
    api.assert_empty().await;
    assert_eq!(api.get("/v1/models").await.json()["items"].as_array().unwrap().len(), 1, "echo alone");
}

#[tokio::test]
async fn each_file_that_is_wrong_is_named() {
    let api = Api::new().await;
    let manifest = tensors_manifest("6");
    let with = |entries: Vec<Entry<'_>>| {
        let mut all = vec![Entry::file("model.toml", manifest.as_bytes())];
        all.extend(entries);
        archive(&all)
    };
    let fine = || Entry::file("model.pt", MODEL);
    let odd = |name, kind| Entry { name, kind, bytes: b"" };
    let cases = [
        (with(vec![Entry::file("model.pt", b"other bytes")]), "/files/model.pt"),
        (with(vec![]), "/files/model.pt"),
        (with(vec![fine(), fine()]), "/files/model.pt"),
        (with(vec![fine(), Entry::file("extra.bin", b"x")]), "/files/extra.bin"),
        (with(vec![fine(), Entry::file("../evil", b"x")]), "/files/..~1evil"),
        (with(vec![fine(), Entry::file("/etc/passwd", b"x")]), "/files/~1etc~1passwd"),
        (with(vec![fine(), Entry::file("sub/model.pt", MODEL)]), "/files/sub~1model.pt"),
        (with(vec![fine(), Entry::file(".hidden", b"x")]), "/files/.hidden"),
        (with(vec![fine(), odd("link", EntryType::Symlink)]), "/files/link"),
        (with(vec![fine(), odd("hard", EntryType::Link)]), "/files/hard"),
        (with(vec![fine(), odd("dir", EntryType::Directory)]), "/files/dir"),
        (with(vec![fine(), odd("pipe", EntryType::Fifo)]), "/files/pipe"),
        (with(vec![fine(), odd("disk", EntryType::Block)]), "/files/disk"),
        (with(vec![fine(), odd("sparse", EntryType::GNUSparse)]), "/files/sparse"),
    ];
    for (archive, pointer) in cases {
        let problem = api.push(archive).await.problem(422);
        assert_eq!(problem.pointer.as_deref(), Some(pointer), "{problem:?}");
    }
    assert_nothing_kept(&api).await;
}

#[tokio::test]
async fn each_key_of_a_manifest_that_is_wrong_is_named() {
    let api = Api::new().await;
    let fine = tensors_manifest("6");
    let cases = [
        (fine.replace("kind =", "knd ="), None, "knd"),
        (fine.replace("entry = \"model.pt\"", ""), Some("/entry"), "entry"),
        (fine.replace("entry = \"model.pt\"", "entry = \"other.pt\""), Some("/entry"), "other.pt"),
        (fine.replace("sha256:", "md5:"), Some("/files/model.pt"), "sha256"),
        (fine.replace("shape = [-1, 4]", "shape = [-2, 4]"), Some("/inputs/0"), "shape"),
        (fine.replace("name = \"vad\"", "name = \"../vad\""), None, "../vad"),
        (fine.replace("name = \"vad\"", "name = \"echo\""), Some("/name"), "echo"),
        (fine.replace("\"torchscript\"", "\"echo\""), Some("/kind"), "built in"),
    ];
    for (manifest, pointer, word) in cases {
        let archive =
            archive(&[Entry::file("model.toml", manifest.as_bytes()), Entry::file("model.pt", MODEL)]);
        let problem = api.push(archive).await.problem(422);
        assert_eq!(problem.pointer.as_deref(), pointer, "{problem:?}");
        assert!(problem.detail.contains(word), "{problem:?}");
    }
    assert_nothing_kept(&api).await;
}

#[tokio::test]
async fn what_is_no_whole_archive_is_refused() {
    let api = Api::new().await;
    let whole = tensors("6");
    // Wherever it is cut off, also between two files and in the empty blocks at its end.
    for cut in (0..whole.len()).step_by(256).chain([whole.len() - 1]) {
        api.push(whole[..cut].to_vec()).await.problem(400);
    }
    api.push(b"not an archive".repeat(100)).await.problem(400);
    api.push(archive(&[Entry::file("model.pt", MODEL)])).await.problem(400);
    let manifest = tensors_manifest("6");
    let twice =
        [Entry::file("model.toml", manifest.as_bytes()), Entry::file("model.toml", manifest.as_bytes())];
    api.push(archive(&twice)).await.problem(400);
    api.push(archive(&[Entry::file("model.toml", b"\xff\xfe")])).await.problem(400);
    assert_nothing_kept(&api).await;
}

#[tokio::test]
async fn an_upload_that_breaks_off_is_refused() {
    let api = Api::new().await;
    let whole = tensors("6");
    let half = Bytes::copy_from_slice(&whole[..whole.len() / 2]);
    let pieces = futures::stream::iter([Ok(half), Err(std::io::Error::other("connection reset"))]);
    let request = Request::post("/v1/models").header("content-type", "application/x-tar");
    let problem = api.send(request.body(Body::from_stream(pieces)).unwrap()).await.problem(400);
    assert!(problem.detail.contains("broke off"), "{problem:?}");
    assert_nothing_kept(&api).await;
}

#[tokio::test]
async fn an_upload_has_a_type_and_a_size() {
    let api = Api::with(|config| config.max_model_bytes = 1000).await;
    let request = Request::post("/v1/models").header("content-type", "application/zip");
    api.send(request.body(Body::from(tensors("6"))).unwrap()).await.problem(415);
    let announced = Request::post("/v1/models")
        .header("content-type", "application/x-tar")
        .header("content-length", "5000");
    api.send(announced.body(Body::empty()).unwrap()).await.problem(413);
    api.push(tensors("6")).await.problem(413);
    assert_nothing_kept(&api).await;
}
