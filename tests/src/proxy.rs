//! A wire between a client and a server that can be cut, held up and slowed down.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

/// What is moved at once.
const CHUNK: usize = 64 << 10;

/// What the wire does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing: bytes pass.
    Pass,
    /// All connections are closed, and new ones are as soon as they are made.
    Cut,
    /// Nothing passes, not even the end of a connection; all of it comes later. As when a cable is out.
    Stall,
    /// Bytes take so long.
    Slow(Duration),
}

/// A listener that hands on what it is told to a server.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    serving: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port for a server at `HOST:PORT`, which need not be there yet.
    pub async fn start(server: String, mode: Mode) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("a proxy can't listen")?;
        let address = listener.local_addr()?;
        let (mode, watch) = watch::channel(mode);
        let serving = tokio::spawn(serve(listener, server, watch));
        Ok(Self { address, mode, serving })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what it does, for connections that are there and for new ones.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// `HOST:PORT` of a URL's server, and the URL with that of a proxy in its place.
pub fn through(url: &str, proxy: SocketAddr) -> String {
    url.replacen(authority(url), &proxy.to_string(), 1)
}

/// `HOST:PORT` of a URL.
pub fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default()
}

async fn serve(listener: TcpListener, server: String, mut mode: watch::Receiver<Mode>) {
    let mut wires = JoinSet::new();
    loop {
        tokio::select! {
            changed = mode.changed() => {
                if changed.is_err() {
                    return;
                }
                if *mode.borrow_and_update() == Mode::Cut {
                    wires.shutdown().await;
                }
            }
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                if *mode.borrow() != Mode::Cut {
                    wires.spawn(connect(client, server.clone(), mode.clone()));
                }
            }
            Some(_) = wires.join_next() => {}
        }
    }
}

async fn connect(client: TcpStream, server: String, mut mode: watch::Receiver<Mode>) {
    if wait_until_open(&mut mode).await.is_err() {
        return;
    }
    let Ok(server) = TcpStream::connect(&server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::join!(pump(from_client, to_server, mode.clone()), pump(from_server, to_client, mode));
}

/// Hands on what is read, and then its end.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut mode: watch::Receiver<Mode>) {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = from.read(&mut chunk).await.unwrap_or(0);
        if wait_until_open(&mut mode).await.is_err() || read == 0 {
            break;
        }
        if to.write_all(&chunk[..read]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

/// Returns when bytes may pass; an error when the proxy is gone.
async fn wait_until_open(mode: &mut watch::Receiver<Mode>) -> Result<(), watch::error::RecvError> {
    let now = *mode.borrow();
    if let Mode::Slow(by) = now {
        sleep(by).await;
    }
    mode.wait_for(|mode| *mode != Mode::Stall).await.map(drop)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    /// A server that sends back what it gets, and a wire to it.
    async fn echo() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap().to_string(), Mode::Pass).await.unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.into_split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        proxy
    }

    async fn say(stream: &mut TcpStream, word: &[u8; 4]) -> std::io::Result<[u8; 4]> {
        stream.write_all(word).await?;
        let mut answer = [0; 4];
        timeout(SOON, stream.read_exact(&mut answer)).await.expect("an answer")?;
        Ok(answer)
    }

    #[tokio::test]
    async fn bytes_pass_and_so_does_the_end() {
        let proxy = echo().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(say(&mut stream, b"ping").await.unwrap(), *b"ping");
        stream.shutdown().await.unwrap();
        assert_eq!(timeout(SOON, stream.read(&mut [0])).await.unwrap().unwrap(), 0);
    }

    #[tokio::test]
    async fn a_cut_ends_what_is_connected_and_what_connects_until_it_is_over() {
        let proxy = echo().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        say(&mut stream, b"ping").await.unwrap();
        proxy.set(Mode::Cut);
        let ended = timeout(SOON, stream.read(&mut [0])).await.unwrap();
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
        let ended = timeout(SOON, refused.read(&mut [0])).await.unwrap();
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        proxy.set(Mode::Pass);
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(say(&mut stream, b"pong").await.unwrap(), *b"pong");
    }

    #[tokio::test]
    async fn what_is_held_up_comes_later_in_full() {
        let proxy = echo().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        say(&mut stream, b"ping").await.unwrap();
        proxy.set(Mode::Stall);
        stream.write_all(b"held").await.unwrap();
        let mut answer = [0; 4];
        assert!(timeout(Duration::from_millis(100), stream.read_exact(&mut answer)).await.is_err());
        proxy.set(Mode::Pass);
        timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer, *b"held");
    }

    #[tokio::test]
    async fn a_slow_wire_takes_its_time_both_ways() {
        let proxy = echo().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        say(&mut stream, b"ping").await.unwrap();
        let by = Duration::from_millis(50);
        proxy.set(Mode::Slow(by));
        let start = Instant::now();
        say(&mut stream, b"slow").await.unwrap();
        assert!(start.elapsed() >= 2 * by, "{:?}", start.elapsed());
    }

    #[test]
    fn a_url_goes_through_a_proxy() {
        let proxy = "127.0.0.1:9".parse().unwrap();
        assert_eq!(through("amqp://a:b@host:5672/%2f", proxy), "amqp://a:b@127.0.0.1:9/%2f");
        assert_eq!(through("postgres://u@127.0.0.1:5/db?x=1", proxy), "postgres://u@127.0.0.1:9/db?x=1");
        assert_eq!(through("http://127.0.0.1:7860", proxy), "http://127.0.0.1:9");
    }
}
