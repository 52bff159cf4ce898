//! Connections: HTTP/1.1 and HTTP/2, with and without TLS, limited in number, time and memory.
//!
//! | file | what it holds |
//! |---|---|
//! | `mod.rs` | a connection from its acceptance to its end |
//! | `limits.rs` | the limits |
//! | `peer.rs` | the client's address and network |
//! | `connections.rs` | all open connections; which one gives way if there are too many |
//! | `connection.rs` | one connection's requests, and how far the client has read the responses |
//! | `watched.rs` | notes when bytes of a client arrive |
//! | `exchange.rs` | counts the bytes of a response until the client takes them |
//! | `linger.rs` | closes a connection so that the client sees the last response |
//! | `tls` | certificate and key, which are exchanged while the server runs |

mod connection;
mod connections;
mod exchange;
mod limits;
mod linger;
mod peer;
mod tls;
mod watched;

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, header};
use connection::Connection;
use connections::{Connections, Place};
use exchange::Exchange;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use hyper_util::service::TowerToHyperService;
pub use limits::ConnectionLimits;
use linger::Lingering;
pub(super) use peer::Peer;
pub use tls::{Tls, TlsFiles};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use watched::Watched;

use crate::telemetry::ConnectionMetrics;

/// Pause after the system refuses a connection, for example because file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The first bytes from an HTTP/2 client (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How far a server is with stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    /// It answers all requests, and asks clients to go elsewhere.
    Leaving,
    /// It answers open requests.
    Closing,
}

/// Serves HTTP/1.1 and HTTP/2 until `stop` completes, over TLS if `tls` is given.
///
/// Then it gives notice while there are connections, and lets open requests finish. Without TLS, a
/// client may start with HTTP/2 if it knows that the server supports it (RFC 9113, section 3.3).
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    tls: Option<Arc<Tls>>,
    metrics: ConnectionMetrics,
    stop: impl Future<Output = ()>,
) {
    let ConnectionLimits { notice, drain_timeout, .. } = limits;
    let server = Arc::new(Server::new(router, limits, tls, metrics));
    // Each connection holds a receiver until it ends.
    let (phase, _) = watch::channel(Phase::Serving);
    tokio::select! {
        () = server.accept(&listener, &phase) => {}
        () = stop => {}
    }
    phase.send_replace(Phase::Leaving);
    tokio::select! {
        () = server.accept(&listener, &phase) => {}
        () = tokio::time::sleep(notice) => {}
        () = phase.closed() => {}
    }
    phase.send_replace(Phase::Closing);
    // Connections that the system accepted meanwhile may have sent requests.
    tokio::select! {
        biased;
        () = server.accept(&listener, &phase) => {}
        () = std::future::ready(()) => {}
    }
    drop(listener);
    if tokio::time::timeout(drain_timeout, phase.closed()).await.is_err() {
        tracing::warn!("open requests did not finish in time");
    }
}

struct Server {
    router: Router,
    limits: ConnectionLimits,
    tls: Option<Arc<Tls>>,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    connections: Arc<Connections>,
}

/// Why a connection broke.
type Broken = Box<dyn Error + Send + Sync>;

impl Server {
    fn new(
        router: Router,
        limits: ConnectionLimits,
        tls: Option<Arc<Tls>>,
        metrics: ConnectionMetrics,
    ) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            // It would end idle connections too. `Connection::late` does it instead.
            .header_read_timeout(None)
            .max_header_size(limits.header_bytes as usize);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_header_list_size(limits.header_bytes)
            .max_concurrent_streams(limits.streams)
            .keep_alive_interval(limits.ping_interval)
            .keep_alive_timeout(limits.ping_timeout)
            .max_pending_accept_reset_streams(limits.pending_resets);
        let connections = Connections::new(&limits, metrics);
        Self { router, limits, tls, http1, http2, connections }
    }

    /// Accepts connections. It never returns.
    async fn accept(self: &Arc<Self>, listener: &TcpListener, phase: &watch::Sender<Phase>) {
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok((stream, address)) => (stream, Peer(address)),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(place) = self.connections.admit(peer) else { continue };
            let (server, phase) = (Arc::clone(self), phase.subscribe());
            tokio::spawn(async move { server.hold(stream, &place, phase).await });
        }
    }

    /// Serves a connection until it ends, gives way to another, or its client stops reading.
    async fn hold(&self, stream: TcpStream, place: &Place, phase: watch::Receiver<Phase>) {
        let connection = &place.connection;
        tokio::select! {
            ended = self.open(stream, connection, phase) => {
                if let Err(error) = ended {
                    // Not a warning: on bad networks, this is normal.
                    tracing::debug!(error, "connection broken");
                }
            }
            () = connection.closed() => {
                tracing::debug!(client = %connection.peer.network(), "connection gave way");
            }
            () = connection.late(self.limits.header_timeout) => {
                tracing::debug!(client = %connection.peer.network(), "headers came too slowly");
            }
            () = connection.stalled(self.limits.stall_timeout) => {
                self.connections.metrics.stalled.inc();
                tracing::debug!(client = %connection.peer.network(), "the client stopped reading");
            }
        }
    }

    async fn open(
        &self,
        stream: TcpStream,
        connection: &Arc<Connection>,
        mut phase: watch::Receiver<Phase>,
    ) -> Result<(), Broken> {
        // Responses are small: waiting for a full packet only delays them.
        let _ = stream.set_nodelay(true);
        let stream = Lingering::new(stream);
        match &self.tls {
            Some(tls) => {
                let stream = self.promptly(tls.acceptor().accept(stream), &mut phase).await?;
                self.speak(stream, connection, phase).await
            }
            None => self.speak(stream, connection, phase).await,
        }
    }

    /// Waits for a step before the first request. Until then, the server may drop the connection.
    async fn promptly<T>(
        &self,
        step: impl Future<Output = io::Result<T>>,
        phase: &mut watch::Receiver<Phase>,
    ) -> io::Result<T> {
        tokio::select! {
            // A step that is done already counts.
            biased;
            done = tokio::time::timeout(self.limits.header_timeout, step) => done?,
            () = is(phase, Phase::Closing) => Err(io::Error::other("the server is stopping")),
        }
    }

    /// Detects the protocol by the first bytes, with TLS too: a client need not do as its ALPN says.
    async fn speak<S>(
        &self,
        mut stream: S,
        connection: &Arc<Connection>,
        mut phase: watch::Receiver<Phase>,
    ) -> Result<(), Broken>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let first = self.promptly(first_bytes(&mut stream), &mut phase).await?;
        let is_http2 = first == PREFACE;
        let (read, write) = tokio::io::split(stream);
        let reader = io::Cursor::new(first).chain(read);
        let read = Watched { reader, http1: (!is_http2).then(|| Arc::clone(connection)) };
        let stream = TokioIo::new(tokio::io::join(read, write));
        let routes = TowerToHyperService::new(self.router.clone());
        let now = phase.clone();
        let (connections, client) = (Arc::clone(&self.connections), Arc::clone(connection));
        let service = service_fn(move |mut request: Request<Incoming>| {
            let exchange = Exchange::begin(&connections, &client);
            request.extensions_mut().insert(client.peer);
            let (answer, now) = (routes.call(request), now.clone());
            async move {
                let mut response = answer.await?;
                if !is_http2 && *now.borrow() > Phase::Serving {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(header::CONNECTION, close);
                }
                Ok::<_, Infallible>(response.map(|body| exchange.answer(body)))
            }
        });
        if is_http2 {
            // HTTP/2 tells the client which requests will still be answered.
            let served = self.http2.serve_connection(stream, service);
            let end = async {
                tokio::select! {
                    () = is(&mut phase, Phase::Leaving) => {}
                    () = connection.idle(self.limits.idle_timeout) => {}
                }
            };
            return self.drive(served, end).await;
        }
        let served = self.http1.serve_connection(stream, service);
        if *phase.borrow() == Phase::Closing {
            // A shutdown would drop the request, although its first bytes have arrived.
            return self.drive(served, std::future::pending()).await;
        }
        let end = async {
            tokio::select! {
                () = is(&mut phase, Phase::Closing) => {}
                () = connection.idle(self.limits.idle_timeout) => {}
            }
        };
        self.drive(served, end).await
    }

    /// Answers requests until the client closes the connection, `end` completes, or it is too old.
    async fn drive<C>(&self, connection: C, end: impl Future<Output = ()>) -> Result<(), Broken>
    where
        C: GracefulConnection<Error = hyper::Error>,
    {
        let mut connection = pin!(connection);
        tokio::select! {
            ended = &mut connection => return Ok(ended?),
            () = end => {}
            () = tokio::time::sleep(self.limits.longest_life) => {}
        }
        connection.as_mut().graceful_shutdown();
        Ok(tokio::time::timeout(self.limits.drain_timeout, connection).await??)
    }
}

/// Waits until the server has reached a phase, or is gone.
async fn is(phase: &mut watch::Receiver<Phase>, wanted: Phase) {
    let _ = phase.wait_for(|phase| *phase >= wanted).await;
}

/// Reads the HTTP/2 preface, or enough bytes to see that it is something else.
async fn first_bytes(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut first = Vec::with_capacity(PREFACE.len());
    while first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
        let missing = (PREFACE.len() - first.len()) as u64;
        if (&mut *stream).take(missing).read_buf(&mut first).await? == 0 {
            break;
        }
    }
    Ok(first)
}

#[cfg(test)]
mod tests;
