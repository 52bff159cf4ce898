//! Limits of connections.

use std::time::Duration;

use crate::config::ConnectionSettings;

/// What clients may use.
///
/// An HTTP/1.1 request may also have at most 100 headers: hyper's default, which is the fastest.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// Open connections. A further one takes the place of another if its network or address has fewer
    /// connections. Otherwise, it is closed at once.
    pub connections: usize,
    /// Open connections from one IPv4 address or one IPv6 /64, the smallest network that providers
    /// assign.
    pub connections_per_address: usize,
    /// Time for each of these: a TLS handshake, the first bytes after it, and the headers of an HTTP/1.1
    /// request.
    pub header_timeout: Duration,
    /// Wait for the next request.
    pub idle_timeout: Duration,
    /// Time in which the client must read something of each response.
    pub stall_timeout: Duration,
    /// Response bytes that one connection may hold for a client that does not read. More of them close
    /// the connection.
    pub unread_bytes: usize,
    /// The same for all connections together. The network that holds most loses connections.
    pub all_unread_bytes: usize,
    /// Bytes of a request's line and headers. A larger request gets 431.
    pub header_bytes: u32,
    /// Concurrent requests on one HTTP/2 connection.
    pub streams: u32,
    /// Silence on an HTTP/2 connection after which the server sends a ping.
    pub ping_interval: Duration,
    /// Time for the response to a ping. Without one, the connection is closed.
    pub ping_timeout: Duration,
    /// HTTP/2 requests that the client resets before the server starts them. More of them close the
    /// connection (rapid reset, CVE-2023-44487).
    pub pending_resets: usize,
    /// Age at which a connection takes no further request. Otherwise, a client could hold a connection
    /// for ever with pings, or by not reading a response.
    pub longest_life: Duration,
    /// How long a stopping server still takes connections. Meanwhile clients notice, by the readiness
    /// probe or `connection: close`, and send requests elsewhere.
    pub notice: Duration,
    /// Time for open requests to finish, after the server stops or the connection gets too old.
    pub drain_timeout: Duration,
}

impl ConnectionLimits {
    /// Connections to the metrics port.
    pub const OF_METRICS: usize = 32;

    /// The limits of the metrics port.
    pub fn of_metrics(&self) -> Self {
        let connections = Self::OF_METRICS;
        Self { connections, connections_per_address: connections, ..self.clone() }
    }
}

impl From<&ConnectionSettings> for ConnectionLimits {
    fn from(settings: &ConnectionSettings) -> Self {
        Self {
            connections: settings.max_connections,
            connections_per_address: settings.connections_per_address,
            header_timeout: Duration::from_secs(settings.header_timeout_seconds),
            idle_timeout: Duration::from_secs(settings.idle_timeout_seconds),
            stall_timeout: Duration::from_secs(2 * settings.header_timeout_seconds),
            unread_bytes: 32 << 20,
            all_unread_bytes: 128 << 20,
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
