//! What the API is, as a snapshot: whoever changes the contract sees it here.

use std::fmt::Write;

use serde_json::Value;

use crate::api::Api;

#[tokio::test]
async fn the_contract() {
    let api = Api::new().await;
    let reply = api.get("/openapi.json").await;
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let document = reply.json();
    let mut text = String::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            writeln!(text, "{} {path}", method.to_uppercase()).unwrap();
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let word = |name: &str| parameter[name].as_str().unwrap_or_default().to_owned();
                writeln!(text, "  {}: {}", word("in"), word("name")).unwrap();
            }
            if let Some(content) = operation["requestBody"]["content"].as_object() {
                write_content(&mut text, "takes", content);
            }
            for (status, response) in operation["responses"].as_object().unwrap() {
                let empty = serde_json::Map::new();
                let content = response["content"].as_object().unwrap_or(&empty);
                write_content(&mut text, status, content);
            }
        }
    }
    insta::assert_snapshot!(text);
}

fn write_content(text: &mut String, what: &str, content: &serde_json::Map<String, Value>) {
    if content.is_empty() {
        writeln!(text, "  {what}").unwrap();
    }
    for (kind, of) in content {
        writeln!(text, "  {what}: {kind} {}", name(&of["schema"])).unwrap();
    }
}

fn name(schema: &Value) -> String {
    let one = schema["oneOf"].as_array().and_then(|all| all.iter().find(|one| one["$ref"].is_string()));
    let reference = one.unwrap_or(schema)["$ref"].as_str();
    reference.map_or_else(
        || schema["type"].to_string(),
        |reference| reference.replace("#/components/schemas/", ""),
    )
}

/// Every schema that is named is there.
#[tokio::test]
async fn the_document_is_whole() {
    let document = Api::new().await.get("/openapi.json").await.json();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let text = document.to_string();
    for part in text.split("#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name} is not described");
    }
}
