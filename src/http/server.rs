//! Connections: HTTP/1.1 and HTTP/2 with and without TLS, bounded in number and in time, drained at
//! the end.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, header};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::places::Places;
use crate::config::ConnectionSettings;

/// Pause after the system refuses a connection, for want of file descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a client that speaks HTTP/2 sends first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bounds on what clients can take.
///
/// An HTTP/1.1 request may have 100 headers: hyper's own bound, which costs least.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// Connections open at a time; a further one is closed at once.
    pub connections: usize,
    /// Those of them from one IPv4 address or one IPv6 /64, the least that a subscriber gets.
    pub connections_per_address: usize,
    /// Time for a TLS handshake, for the first bytes after it, for each header of HTTP/1.1, and for
    /// an idle HTTP/1.1 connection to send its next request.
    pub header_timeout: Duration,
    /// Bytes of a request's line and headers; more are answered 431.
    pub header_bytes: u32,
    /// Requests at a time on one HTTP/2 connection.
    pub streams: u32,
    /// Silence on an HTTP/2 connection after which the client is asked for a sign of life.
    pub ping_interval: Duration,
    /// Time for that sign; without it the connection is closed.
    pub ping_timeout: Duration,
    /// HTTP/2 requests that the client took back before they were begun; more of them close the
    /// connection (rapid reset, CVE-2023-44487).
    pub pending_resets: usize,
    /// Age at which a connection takes no further request, so that neither pings nor answers that
    /// are never read hold a place for ever.
    pub longest_life: Duration,
    /// Time between the wish to stop and the end of new connections: whoever sends requests here gets
    /// to know, by the readiness probe or by `connection: close`, and goes elsewhere.
    pub notice: Duration,
    /// Time for open requests to finish, once the server is told to stop or the connection is old.
    pub drain_timeout: Duration,
}

impl From<&ConnectionSettings> for ConnectionLimits {
    fn from(settings: &ConnectionSettings) -> Self {
        Self {
            connections: settings.max_connections,
            connections_per_address: settings.connections_per_address,
            header_timeout: Duration::from_secs(settings.header_timeout_seconds),
            header_bytes: settings.max_header_bytes,
            streams: 32,
            ping_interval: Duration::from_secs(20),
            ping_timeout: Duration::from_secs(10),
            pending_resets: 20,
            longest_life: Duration::from_secs(600),
            notice: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(20),
        }
    }
}

/// The client's end of the connection: an extension of each request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub SocketAddr);

impl Peer {
    /// What counts as one client: an IPv4 address, or the first address of an IPv6 /64.
    pub fn network(self) -> IpAddr {
        match self.0.ip().to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
            address => address,
        }
    }
}

/// How near the end a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    /// It answers all that comes, and asks clients to go elsewhere.
    Leaving,
    /// It answers what has begun.
    Closing,
}

/// Serves HTTP/1.1 and HTTP/2, over TLS where `tls` is given, until `stop` is done; then gives notice
/// for as long as there are connections, and lets open requests finish. A client may begin HTTP/2 without TLS if it knows that it may (RFC 9113,
/// section 3.3).
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    tls: Option<Arc<rustls::ServerConfig>>,
    stop: impl Future<Output = ()>,
) {
    let ConnectionLimits { notice, drain_timeout, .. } = limits;
    let server = Arc::new(Server::new(router, limits, tls));
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
    // What the system has accepted meanwhile may hold requests.
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

/// What all connections share.
struct Server {
    router: Router,
    limits: ConnectionLimits,
    tls: Option<TlsAcceptor>,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    places: Arc<Places>,
}

/// Why a connection broke off.
type Broken = Box<dyn Error + Send + Sync>;

impl Server {
    fn new(
        router: Router,
        limits: ConnectionLimits,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .max_header_size(limits.header_bytes as usize);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_header_list_size(limits.header_bytes)
            .max_concurrent_streams(limits.streams)
            .keep_alive_interval(limits.ping_interval)
            .keep_alive_timeout(limits.ping_timeout)
            .max_pending_accept_reset_streams(limits.pending_resets);
        let places = Places::new(limits.connections, limits.connections_per_address);
        Self { router, limits, tls: tls.map(TlsAcceptor::from), http1, http2, places }
    }

    /// Takes connections, for as long as it is let.
    async fn accept(self: &Arc<Self>, listener: &TcpListener, phase: &watch::Sender<Phase>) {
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok((stream, address)) => (stream, Peer(address)),
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(place) = self.places.take(peer.network()) else {
                continue;
            };
            let (server, phase) = (Arc::clone(self), phase.subscribe());
            tokio::spawn(async move {
                let _place = place;
                if let Err(error) = server.open(stream, peer, phase).await {
                    // Clients on bad networks vanish all the time.
                    tracing::debug!(error, "a connection broke off");
                }
            });
        }
    }

    async fn open(
        &self,
        stream: TcpStream,
        peer: Peer,
        mut phase: watch::Receiver<Phase>,
    ) -> Result<(), Broken> {
        // Answers are small: waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        match &self.tls {
            Some(tls) => {
                let stream = self.promptly(tls.accept(stream), &mut phase).await?;
                self.speak(stream, peer, phase).await
            }
            None => self.speak(stream, peer, phase).await,
        }
    }

    /// Waits for a step before the first request, which may be given up at any time.
    async fn promptly<T>(
        &self,
        step: impl Future<Output = io::Result<T>>,
        phase: &mut watch::Receiver<Phase>,
    ) -> io::Result<T> {
        tokio::select! {
            // What is there already is taken.
            biased;
            done = tokio::time::timeout(self.limits.header_timeout, step) => done?,
            () = is(phase, Phase::Closing) => Err(io::Error::other("the server stops")),
        }
    }

    /// Tells the protocol by the first bytes, with TLS too: ALPN is only what the client said.
    async fn speak<S>(
        &self,
        mut stream: S,
        peer: Peer,
        mut phase: watch::Receiver<Phase>,
    ) -> Result<(), Broken>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let first = self.promptly(first_bytes(&mut stream), &mut phase).await?;
        let is_http2 = first == PREFACE;
        let (read, write) = tokio::io::split(stream);
        let stream = TokioIo::new(tokio::io::join(io::Cursor::new(first).chain(read), write));
        let routes = TowerToHyperService::new(self.router.clone());
        let now = phase.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            let (answer, now) = (routes.call(request), now.clone());
            async move {
                let mut response = answer.await?;
                if !is_http2 && *now.borrow() > Phase::Serving {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(header::CONNECTION, close);
                }
                Ok::<_, Infallible>(response)
            }
        });
        if is_http2 {
            // HTTP/2 tells the client which requests are still answered.
            let connection = self.http2.serve_connection(stream, service);
            return self.drive(connection, is(&mut phase, Phase::Leaving)).await;
        }
        let connection = self.http1.serve_connection(stream, service);
        if *phase.borrow() == Phase::Closing {
            // To shut it down would drop the request whose first bytes are there.
            return self.drive(connection, std::future::pending()).await;
        }
        self.drive(connection, is(&mut phase, Phase::Closing)).await
    }

    /// Answers requests until the client or the server has enough.
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

/// Waits for a phase, or for the end of the server.
async fn is(phase: &mut watch::Receiver<Phase>, wanted: Phase) {
    let _ = phase.wait_for(|phase| *phase >= wanted).await;
}

/// Reads the preface of HTTP/2, or as much as it takes to see that this is none.
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
mod tests {
    use axum::routing::get;
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;

    use super::*;
    use std::path::Path;

    use crate::config::Config;

    fn network(address: &str) -> IpAddr {
        Peer(SocketAddr::new(address.parse().unwrap(), 1)).network()
    }

    #[test]
    fn a_client_is_an_ipv4_address_or_an_ipv6_64() {
        assert_eq!(network("192.0.2.1"), network("::ffff:192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_ne!(network("::ffff:192.0.2.1"), network("::ffff:192.0.2.2"));
        assert_eq!(network("2001:db8:0:1::1"), network("2001:db8:0:1:ffff::2"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8:0:2::1"));
    }

    proptest! {
        #[test]
        fn only_the_whole_preface_is_http2_and_no_more_than_it_is_read(
            sent in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..64),
                (0..=PREFACE.len(), prop::collection::vec(any::<u8>(), 0..64))
                    .prop_map(|(length, rest)| [&PREFACE[..length], &rest].concat()),
            ],
            piece in 1..30_usize,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (first, rest) = runtime.block_on(async {
                let (mut client, mut server) = tokio::io::duplex(piece);
                let write = async {
                    client.write_all(&sent).await.unwrap();
                    drop(client);
                };
                let read = async {
                    let first = first_bytes(&mut server).await.unwrap();
                    let mut rest = Vec::new();
                    server.read_to_end(&mut rest).await.unwrap();
                    (first, rest)
                };
                tokio::join!(write, read).1
            });
            prop_assert_eq!(first == PREFACE, sent.starts_with(PREFACE));
            prop_assert_eq!([first, rest].concat(), sent);
        }
    }

    /// Long enough to fail a test that waits for it.
    const NEVER: Duration = Duration::from_secs(3600);

    const PATIENCE: Duration = Duration::from_secs(60);

    const SOON: Duration = Duration::from_millis(100);

    /// Without any limit in time.
    fn patient() -> ConnectionLimits {
        ConnectionLimits {
            header_timeout: NEVER,
            ping_interval: NEVER,
            ping_timeout: NEVER,
            longest_life: NEVER,
            notice: NEVER,
            drain_timeout: NEVER,
            ..ConnectionLimits::from(&Config::throwaway(Path::new("none")).connections)
        }
    }

    /// More than the buffers of a connection hold.
    const LARGE_BYTES: usize = 64 << 20;

    async fn start(limits: ConnectionLimits) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/small", get(|| async { "small" }))
            .route("/large", get(|| async { vec![0_u8; LARGE_BYTES] }));
        tokio::spawn(serve(listener, router, limits, None, std::future::pending()));
        address
    }

    async fn send(server: SocketAddr, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(server).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    /// All that the server sends before it closes the connection.
    async fn until_closed(mut stream: TcpStream) -> Vec<u8> {
        let mut received = Vec::new();
        let read = stream.read_to_end(&mut received);
        match tokio::time::timeout(PATIENCE, read).await.expect("still open") {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
        received
    }

    /// A request after which the server closes the connection.
    const LAST_REQUEST: &[u8] = b"GET /small HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

    async fn is_served(server: SocketAddr) -> bool {
        until_closed(send(server, LAST_REQUEST).await).await.ends_with(b"small")
    }

    #[tokio::test]
    async fn an_http2_client_that_shows_no_sign_of_life_is_closed() {
        let settings: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
        // Of a block of 16 bytes, and without the end of the headers.
        let half_a_header: &[u8] = &[0, 0, 16, 1, 0, 0, 0, 0, 1, 0x82];
        let server =
            start(ConnectionLimits { ping_interval: SOON, ping_timeout: SOON, ..patient() }).await;
        for sent in [vec![], settings.to_vec(), [settings, half_a_header].concat()] {
            let received = until_closed(send(server, &[PREFACE, &sent].concat()).await).await;
            // The server's own settings.
            assert!(received.len() > 9 && received[3] == 4, "{received:?}");
        }
        assert!(is_served(server).await);
    }

    #[tokio::test]
    async fn old_connections_are_closed() {
        let server =
            start(ConnectionLimits { longest_life: SOON, drain_timeout: SOON, ..patient() }).await;
        let http1 = send(server, b"GET /small HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let http2 = send(server, PREFACE).await;
        assert!(until_closed(http1).await.ends_with(b"small"));
        until_closed(http2).await;
    }

    #[tokio::test]
    async fn a_client_that_never_reads_its_answer_loses_its_place() {
        let limits = ConnectionLimits {
            connections: 1,
            longest_life: SOON,
            drain_timeout: SOON,
            ..patient()
        };
        let server = start(limits).await;
        let deaf = send(server, b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let waiting = async { while !is_served(server).await {} };
        tokio::time::timeout(PATIENCE, waiting).await.expect("the place was never left");
        assert!(until_closed(deaf).await.len() < LARGE_BYTES);
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_are_closed() {
        let server = start(ConnectionLimits { connections: 2, ..patient() }).await;
        let mut held = send(server, b"").await;
        let other = send(server, b"").await;
        assert!(until_closed(send(server, b"").await).await.is_empty());
        held.write_all(LAST_REQUEST).await.unwrap();
        assert!(until_closed(held).await.ends_with(b"small"));
        drop(other);
    }
}
