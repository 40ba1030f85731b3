//! The server itself, over real connections: requests that outlive their clients, and an orderly stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use springtide_control_plane::http;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::api::Api;

const LIMIT: Duration = Duration::from_secs(20);

struct Server {
    api: Api,
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

async fn start() -> Server {
    let api = Api::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(http::serve(listener, api.router.clone(), stop.clone()));
    Server { api, address, stop, task }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn stops(self) {
        self.stop.cancel();
        timeout(LIMIT, self.task).await.expect("it stops in time").unwrap().unwrap();
    }
}

fn post_job(query: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /v1/jobs{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

/// Reads until what came holds `end`.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&text).contains(end) {
            let mut piece = [0; 4096];
            match stream.read(&mut piece).await.unwrap() {
                0 => break,
                count => text.extend_from_slice(&piece[..count]),
            }
        }
    };
    timeout(LIMIT, reading).await.expect("an answer in time");
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let server = start().await;
    let mut stream = server.connect().await;
    for _ in 0..3 {
        let request = post_job("", r#"{"model": "echo", "input": {}}"#);
        stream.write_all(request.as_bytes()).await.unwrap();
        let reply = read_until(&mut stream, "\"version\":1}").await;
        assert!(reply.starts_with("HTTP/1.1 202"), "{reply}");
    }
    assert_eq!(server.api.get("/v1/jobs").await.json()["items"].as_array().unwrap().len(), 3);
    server.stops().await;
}

#[tokio::test]
async fn a_request_is_carried_through_when_its_client_leaves() {
    let server = start().await;
    let mut stream = server.connect().await;
    let request = post_job("?wait_s=30", r#"{"model": "echo", "input": {}}"#);
    stream.write_all(request.as_bytes()).await.unwrap();
    let kept = async {
        loop {
            let items = server.api.get("/v1/jobs").await.json()["items"].clone();
            if let Some(job) = items[0]["id"].as_str() {
                return job.to_owned();
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, kept).await.expect("the job is kept");
    drop(stream);
    // A wait does not hold up the stop.
    server.stops().await;
}

#[tokio::test]
async fn streams_end_when_the_server_stops() {
    let server = start().await;
    let job = server.api.submit_echo().await;
    let mut stream = server.connect().await;
    let request = format!("GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let begun = read_until(&mut stream, "\"version\":1}").await;
    assert!(begun.contains("text/event-stream"), "{begun}");
    let streams = server.api.app.metrics.streams.clone();
    assert_eq!(streams.get(), 1);
    server.stops().await;
    assert_eq!(streams.get(), 0);
    let rest = read_until(&mut stream, "\r\n0\r\n\r\n").await;
    assert!(rest.ends_with("0\r\n\r\n"), "ended in good order: {rest:?}");
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let server = start().await;
    let archive = crate::models::tensors("6");
    let mut stream = server.connect().await;
    let head = format!(
        "POST /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-tar\r\nContent-Length: {}\r\n\r\n",
        archive.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&archive[..archive.len() / 2]).await.unwrap();
    stream.shutdown().await.unwrap();
    let reply = read_until(&mut stream, "}").await;
    assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 400"), "{reply}");
    let api = Arc::new(server.api.app.clone());
    server.api.assert_empty().await;
    assert!(api.store.models(None).await.unwrap().is_empty());
    server.stops().await;
}

#[tokio::test]
async fn nonsense_does_no_harm() {
    let server = start().await;
    for nonsense in [
        "GET\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "POST /v1/jobs HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ] {
        let mut stream = server.connect().await;
        stream.write_all(nonsense.as_bytes()).await.unwrap();
        let reply = read_until(&mut stream, "\r\n\r\n").await;
        assert!(reply.starts_with("HTTP/1.1 400") || reply.is_empty(), "{reply}");
    }
    let mut stream = server.connect().await;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert!(read_until(&mut stream, "ok\n").await.starts_with("HTTP/1.1 200"));
    server.stops().await;
}
