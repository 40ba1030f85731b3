//! Serves a router on a listener: bounded connections, bounded headers, an orderly stop.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{Request, Response};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use super::problem::{Kind, Refusal};

/// Connections at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 8192;
/// How long a client may take with the headers of a request, and keep a connection without any. Longer than clients
/// keep theirs, so that a request seldom meets a connection that is just being closed.
const HEADER_TIMEOUT: Duration = Duration::from_secs(120);
/// After accepting failed, for example for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The stop signal of the server that a request came through; one that nobody gives, in tests of a bare router.
#[derive(Clone, Default)]
pub struct Stopping(CancellationToken);

impl Stopping {
    /// Ends when the server stops.
    pub async fn requested(&self) {
        self.0.cancelled().await;
    }
}

impl<S: Sync> FromRequestParts<S> for Stopping {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}

/// Serves until `stop`, then ends what is under way: streams and waits end at once, the rest when it is done.
///
/// A request that was read is carried through even when its client leaves: what it began in the store is published,
/// told and cleaned up as if it had stayed.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> std::io::Result<()> {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let tasks = TaskTracker::new();
    let server = Server { router, tasks: tasks.clone(), stopping: Stopping(stop.clone()) };
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &connections) => accepted,
        };
        let Some((stream, permit)) = accepted else { continue };
        let server = server.clone();
        let service = service_fn(move |request| server.clone().answer(request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tasks.spawn(async move {
            if let Err(error) = connection.await {
                tracing::trace!(%error, "a connection broke");
            }
            drop(permit);
        });
    }
    drop(listener);
    graceful.shutdown().await;
    tasks.close();
    tasks.wait().await;
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            // Replies are small and whole; waiting for more to send with them only costs time.
            let _ = stream.set_nodelay(true);
            Some((stream, permit))
        }
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(PAUSE).await;
            None
        }
    }
}

#[derive(Clone)]
struct Server {
    router: Router,
    tasks: TaskTracker,
    stopping: Stopping,
}

impl Server {
    async fn answer(mut self, mut request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        request.extensions_mut().insert(self.stopping);
        let answer = self.tasks.spawn(self.router.call(request));
        Ok(match answer.await {
            Ok(Ok(response)) => response,
            Err(error) => {
                tracing::error!(%error, "a request ended in a bug");
                let detail = "a bug; the service's log says more";
                Refusal::new(Kind::Internal, detail).into_response()
            }
        })
    }
}
