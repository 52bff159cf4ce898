//! What one client may use.

use std::time::Duration;

use crate::config::ConnectionSettings;

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
