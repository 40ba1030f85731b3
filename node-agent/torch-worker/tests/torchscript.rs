//! TorchScript models through the real process.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where it stopped")]

#[path = "support/models.rs"]
mod models;
#[path = "support/worker.rs"]
mod worker;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use springtide_worker_protocol::{Class, Output};
use tempfile::TempDir;
use worker::{Worker, member};

const FP32: &str = "datatype = \"FP32\"\nshape = [-1, 2]";

/// A model directory of one of the files of `tests/scripts.py`.
fn model(file: &str, max: u32, rest: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(models::scripts().join(file), dir.path().join("model.pt")).unwrap();
    manifest(dir.path(), max, rest);
    dir
}

fn manifest(dir: &Path, max: u32, rest: &str) {
    let head = "name = \"m\"\nversion = \"1\"\nkind = \"torchscript\"\nentry = \"model.pt\"";
    let text = format!("{head}\n[batching]\nmax = {max}\n[[inputs]]\nname = \"x\"\n{FP32}\n{rest}");
    fs::write(dir.join("model.toml"), text).unwrap();
}

fn scale(max: u32) -> TempDir {
    let factor = "[[inputs]]\nname = \"factor\"\nscalar = \"int\"\ndefault = 10";
    model("scale.pt", max, &format!("{factor}\n[[outputs]]\nname = \"y\"\n{FP32}"))
}

fn x(rows: &[[f64; 2]]) -> Value {
    json!({"name": "x", "datatype": "FP32", "shape": [rows.len(), 2], "data": rows})
}

fn tensors(end: worker::End) -> Vec<Value> {
    let (done, body) = end.done();
    match &done.outputs[..] {
        [Output::Tensors { outputs }] => outputs.clone(),
        [Output::Blob { body: range, media_type, .. }] => {
            assert_eq!(media_type, "application/json");
            let document: Value = serde_json::from_slice(range.of(&body).unwrap()).unwrap();
            document["outputs"].as_array().unwrap().clone()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn takes_tensors_and_scalars() {
    let dir = scale(1);
    let mut worker = Worker::start();
    assert_eq!(worker.load("m@1", dir.path()).unwrap(), 4, "one parameter in fp32");
    let y = tensors(worker.run_alone("m@1", "default", json!({"inputs": [x(&[[1.0, 2.5]])]})));
    assert_eq!(y, [json!({"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [10.0, 25.0]})]);
    let factor = json!({"name": "factor", "datatype": "INT64", "shape": [1], "data": [3]});
    let y =
        tensors(worker.run_alone("m@1", "given", json!({"inputs": [factor, x(&[[1.0, 2.0], [3.0, 4.0]])]})));
    assert_eq!(y[0]["data"], json!([3.0, 6.0, 9.0, 12.0]));
    let (status, errors) = worker.close();
    assert!(status.success(), "{errors}");
}

#[test]
fn bad_input_names_its_field_and_hurts_nobody_else() {
    let dir = scale(16);
    let mut worker = Worker::start();
    worker.load("m@1", dir.path()).unwrap();
    let good = json!({"inputs": [x(&[[1.0, 2.0]])]});
    let cases = [
        (json!({"inputs": [{"name": "z", "value": 1}]}), "/inputs/0/name"),
        (json!({"inputs": []}), "/inputs"),
        (
            json!({"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 2], "data": [1, 2]}]}),
            "/inputs/0/datatype",
        ),
        (
            json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}),
            "/inputs/0/shape",
        ),
        (
            json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1]}]}),
            "/inputs/0/data",
        ),
        (
            json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, null]}]}),
            "/inputs/0/data/1",
        ),
        (json!("garbage"), ""),
    ];
    for (at, (input, pointer)) in cases.into_iter().enumerate() {
        worker.run("m@1", vec![member("bad", input), member("good", good.clone())], &[]);
        let failed = worker.end_of("bad").failed();
        assert_eq!((failed.class, failed.pointer.as_deref()), (Class::Invalid, Some(pointer)), "case {at}");
        assert_eq!(tensors(worker.end_of("good"))[0]["data"], json!([10.0, 20.0]));
    }
}

#[test]
fn a_batch_is_joined_and_split_again() {
    let dir = scale(16);
    let mut worker = Worker::start();
    worker.load("m@1", dir.path()).unwrap();
    let with_factor =
        |factor: i64, row: [f64; 2]| json!({"inputs": [x(&[row]), {"name": "factor", "value": factor}]});
    let members = vec![
        member("a", json!({"inputs": [x(&[[1.0, 2.0]])]})),
        member("b", json!({"inputs": [x(&[[3.0, 4.0], [5.0, 6.0]])]})),
        member("c", with_factor(2, [7.0, 8.0])),
        member("d", with_factor(10, [9.0, 0.5])),
    ];
    worker.run("m@1", members, &[]);
    for (run, shape, data) in [
        ("a", [1, 2], json!([10.0, 20.0])),
        ("b", [2, 2], json!([30.0, 40.0, 50.0, 60.0])),
        ("c", [1, 2], json!([14.0, 16.0])),
        ("d", [1, 2], json!([90.0, 5.0])),
    ] {
        let y = tensors(worker.end_of(run));
        assert_eq!((&y[0]["shape"], &y[0]["data"]), (&json!(shape), &data), "{run}");
    }
}

#[test]
fn one_members_fault_is_its_own_even_inside_the_model() {
    let dir = model("picky.pt", 16, "");
    let mut worker = Worker::start();
    worker.load("m@1", dir.path()).unwrap();
    let input = |value: f64| json!({"inputs": [x(&[[value, 4.0]])]});
    worker.run(
        "m@1",
        vec![member("a", input(1.0)), member("bad", input(-1.0)), member("b", input(9.0))],
        &[],
    );
    let failed = worker.end_of("bad").failed();
    assert_eq!(failed.class, Class::Invalid);
    assert!(failed.message.contains("negative numbers are not taken"), "{}", failed.message);
    assert_eq!(tensors(worker.end_of("a"))[0]["data"], json!([1.0, 2.0]));
    assert_eq!(tensors(worker.end_of("b"))[0]["data"], json!([3.0, 2.0]));
}

#[test]
fn what_cannot_be_split_is_run_one_by_one() {
    let dir = model("whole.pt", 16, "");
    let mut worker = Worker::start();
    worker.load("m@1", dir.path()).unwrap();
    let input = |value: f64| json!({"inputs": [x(&[[value, 1.0]])]});
    worker.run("m@1", vec![member("a", input(1.0)), member("b", input(2.0))], &[]);
    let expect = |sum: f64| [json!({"name": "output_0", "datatype": "FP32", "shape": [], "data": [sum]})];
    assert_eq!(tensors(worker.end_of("a")), expect(2.0));
    assert_eq!(tensors(worker.end_of("b")), expect(3.0));
}

#[test]
fn tuples_lists_and_dictionaries_come_out() {
    let (tuple, dictionary) = (model("outputs.pt", 1, ""), model("named.pt", 1, ""));
    let mut worker = Worker::start();
    worker.load("tuple@1", tuple.path()).unwrap();
    worker.load("dict@1", dictionary.path()).unwrap();
    let input = json!({"inputs": [x(&[[1.0, -1.5]])]});
    let outputs = tensors(worker.run_alone("tuple@1", "t", input.clone()));
    let facts: Vec<_> = outputs.iter().map(|tensor| (&tensor["datatype"], &tensor["data"])).collect();
    let expected = [
        (json!("FP32"), json!([2.0, -0.5])),
        (json!("BOOL"), json!([true, false])),
        (json!("INT64"), json!([1, -1])),
    ];
    assert_eq!(facts, expected.iter().map(|(datatype, data)| (datatype, data)).collect::<Vec<_>>());
    let outputs = tensors(worker.run_alone("dict@1", "d", input));
    let mean = outputs.iter().find(|tensor| tensor["name"] == "mean").unwrap();
    assert_eq!(mean["data"], json!([-0.25]));
}

#[test]
fn large_results_come_as_a_blob() {
    let dir = scale(1);
    let mut worker = Worker::start();
    worker.load("m@1", dir.path()).unwrap();
    let rows = vec![[0.123_456, 1.0]; 10_000];
    let y = tensors(worker.run_alone("m@1", "large", json!({"inputs": [x(&rows)]})));
    assert_eq!(y[0]["shape"], json!([10_000, 2]));
    assert_eq!(y[0]["data"][19_999], json!(10.0));
}

#[test]
fn a_model_that_cannot_be_used_says_which_file_is_wrong() {
    let mut worker = Worker::start();
    let mut refused = |dir: &Path| {
        let failed = worker.load("m@1", dir).unwrap_err();
        assert_eq!(failed.class, Class::Invalid);
        failed.message
    };
    let dir = tempfile::tempdir().unwrap();
    assert!(refused(dir.path()).contains("model.toml cannot be read"));
    manifest(dir.path(), 1, "");
    assert!(refused(dir.path()).starts_with("model.pt cannot be read"));
    fs::write(dir.path().join("model.pt"), "no TorchScript at all").unwrap();
    assert!(refused(dir.path()).starts_with("model.pt is no TorchScript file"));
    fs::write(dir.path().join("model.toml"), "name = 7").unwrap();
    assert!(refused(dir.path()).starts_with("model.toml: "));

    // The service goes on.
    let good = scale(1);
    worker.load("m@1", good.path()).unwrap();
    let failed = worker.run_alone("other@1", "r", json!({})).failed();
    assert_eq!(failed.class, Class::Transient);
    assert!(failed.message.contains("other@1 is not loaded"));
}

#[test]
fn a_wrong_signature_is_told_at_the_first_run() {
    let dir = model("scale.pt", 1, "");
    let mut worker = Worker::start();
    worker.load("m@1", dir.path()).unwrap();
    let failed = worker.run_alone("m@1", "r", json!({"inputs": [x(&[[1.0, 2.0]])]})).failed();
    assert_eq!(failed.class, Class::Invalid);
    assert!(failed.message.starts_with("model.pt: "), "{}", failed.message);
}
