use std::io::Read;

use futures::TryStreamExt;
use springtide_core::model::MAX_FILE_NAME_BYTES;

use super::*;

const MANIFEST_TEXT: &str = r#"
name = "double"
version = "2"
kind = "torchscript"
entry = "model.pt"
[files]
"vocabulary.txt" = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
[[inputs]]
name = "x"
datatype = "FP32"
shape = [-1, 4]
[[outputs]]
name = "y"
datatype = "FP32"
shape = [-1, 4]
"#;

fn model(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(MANIFEST), MANIFEST_TEXT).unwrap();
    for (name, bytes) in files {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

fn message(dir: &Path) -> String {
    Package::read(dir, |_, _| {}).unwrap_err().to_string()
}

/// What a server would unpack.
async fn unpacked(package: &Package) -> Vec<(String, Vec<u8>)> {
    let pieces: Vec<_> = package.archive().try_collect().await.unwrap();
    let bytes = pieces.concat();
    assert_eq!(bytes.len() as u64, package.archive_bytes());
    let mut archive = tar::Archive::new(bytes.as_slice());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut contents = Vec::new();
        entry.read_to_end(&mut contents).unwrap();
        (name, contents)
    });
    entries.collect()
}

#[tokio::test]
async fn missing_checksums_are_filled_in_and_the_archive_has_everything() {
    let weights = vec![7; 700_001];
    let dir = model(&[("model.pt", &weights), ("vocabulary.txt", b"test"), ("notes.md", b"for me")]);
    let mut told = (0, 0);
    let package = Package::read(dir.path(), |read, total| told = (read, total)).unwrap();
    assert_eq!(told, (700_005, 700_005));
    assert_eq!(package.filled_in, ["model.pt"]);
    assert_eq!(package.left_out, ["notes.md"]);

    let entries = unpacked(&package).await;
    let names: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, [MANIFEST, "model.pt", "vocabulary.txt"]);
    assert_eq!(entries[1].1, weights);
    let sent = Manifest::parse(std::str::from_utf8(&entries[0].1).unwrap()).unwrap();
    sent.check_complete().unwrap();
    assert_eq!(sent, package.manifest);
    assert!(sent.files["model.pt"].starts_with("sha256:"));
}

#[tokio::test]
async fn a_complete_manifest_is_sent_as_it_is_written() {
    let dir = model(&[("model.pt", b""), ("vocabulary.txt", b"test")]);
    let sum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let text =
        MANIFEST_TEXT.replace("[files]", &format!("[files] # all of them\n\"model.pt\" = \"sha256:{sum}\""));
    std::fs::write(dir.path().join(MANIFEST), &text).unwrap();
    let package = Package::read(dir.path(), |_, _| {}).unwrap();
    assert!(package.filled_in.is_empty());
    assert_eq!(unpacked(&package).await[0].1, text.as_bytes());
}

#[tokio::test]
async fn a_file_that_shrinks_while_it_is_sent_is_named() {
    let dir = model(&[("model.pt", &[1; 3000]), ("vocabulary.txt", b"test")]);
    let package = Package::read(dir.path(), |_, _| {}).unwrap();
    std::fs::write(dir.path().join("model.pt"), b"short").unwrap();
    let error = package.archive().try_collect::<Vec<_>>().await.unwrap_err();
    assert!(error.to_string().contains("model.pt became shorter"), "{error}");
}

#[test]
fn what_is_wrong_is_named() {
    let empty = tempfile::tempdir().unwrap();
    assert!(message(empty.path()).contains("has no model.toml"));

    let both = message(model(&[]).path());
    assert!(both.contains("model.pt (`entry`), vocabulary.txt (`files`)"), "{both}");

    let changed = model(&[("model.pt", b""), ("vocabulary.txt", b"other")]);
    let text = message(changed.path());
    assert!(text.contains("vocabulary.txt is not the file") && text.contains("sha256:9f86"), "{text}");

    let dir = model(&[]);
    std::fs::write(dir.path().join(MANIFEST), MANIFEST_TEXT.replace("entry", "entri")).unwrap();
    let text = message(dir.path());
    assert!(text.contains("entri"), "{text}");
}

#[tokio::test]
async fn the_longest_name_fits_and_a_longer_one_is_refused() {
    let dir = model(&[("model.pt", b"m"), ("vocabulary.txt", b"test")]);
    let name = |length| format!("{}.bin", "x".repeat(length - 4));
    let with = |name: &str| {
        std::fs::write(dir.path().join(name), b"long").unwrap();
        let sum = format!("\"{name}\" = \"{}\"", checksum(&dir.path().join(name), |_| {}).unwrap());
        let text = MANIFEST_TEXT.replace("[files]", &format!("[files]\n{sum}"));
        std::fs::write(dir.path().join(MANIFEST), text).unwrap();
        Package::read(dir.path(), |_, _| {})
    };
    let package = with(&name(MAX_FILE_NAME_BYTES)).unwrap();
    assert!(unpacked(&package).await.contains(&(name(MAX_FILE_NAME_BYTES), b"long".to_vec())));
    let error = with(&name(MAX_FILE_NAME_BYTES + 1)).unwrap_err().to_string();
    assert!(error.contains("model.toml"), "{error}");
}
