//! The open connections of a port. Their number and the response bytes that they hold are limited.
//!
//! If a limit is reached, the network prefix that has most gives way.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Peer;
use super::connection::{Connection, Held};
use crate::telemetry::ConnectionMetrics;

pub(super) struct Connections {
    total: usize,
    per_address: usize,
    /// Most bytes of responses that wait for their clients, on one connection and on all.
    unread_bytes: usize,
    all_unread_bytes: usize,
    pub metrics: ConnectionMetrics,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// The oldest first.
    by_number: BTreeMap<u64, Arc<Connection>>,
    next: u64,
    by_network: Counts,
    by_prefix: Counts,
}

/// Open connections of each network or prefix.
#[derive(Default)]
struct Counts(HashMap<IpAddr, usize>);

impl Counts {
    fn of(&self, key: IpAddr) -> usize {
        self.0.get(&key).copied().unwrap_or_default()
    }

    fn add(&mut self, key: IpAddr) {
        *self.0.entry(key).or_default() += 1;
    }

    fn remove(&mut self, key: IpAddr) {
        if let Entry::Occupied(mut count) = self.0.entry(key) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

impl Open {
    fn insert(&mut self, peer: Peer) -> Arc<Connection> {
        let connection = Arc::new(Connection::new(self.next, peer));
        self.next += 1;
        self.by_number.insert(connection.number, Arc::clone(&connection));
        self.by_network.add(peer.network());
        self.by_prefix.add(peer.prefix());
        connection
    }

    fn remove(&mut self, number: u64) -> Option<Arc<Connection>> {
        let connection = self.by_number.remove(&number)?;
        self.by_network.remove(connection.peer.network());
        self.by_prefix.remove(connection.peer.prefix());
        Some(connection)
    }

    /// The connection that gives its place to a newcomer, if the newcomer's prefix has fewer
    /// connections than another, or its network has fewer than another of its prefix.
    ///
    /// An idle connection goes first.
    fn least_deserving(&self, newcomer: Peer) -> Option<u64> {
        let (heaviest, most) = self.by_prefix.0.iter().max_by_key(|(_, count)| **count)?;
        let of_prefix = self.by_prefix.of(newcomer.prefix());
        let of_network = self.by_network.of(newcomer.network());
        let is_heavier = |peer: Peer| {
            if *most > of_prefix + 1 {
                peer.prefix() == *heaviest
            } else {
                peer.prefix() == newcomer.prefix()
                    && self.by_network.of(peer.network()) > of_network + 1
            }
        };
        let heavier = self.by_number.values().filter(|other| is_heavier(other.peer)).rev();
        let found =
            heavier.max_by_key(|other| (other.is_idle(), self.by_network.of(other.peer.network())));
        found.map(|connection| connection.number)
    }
}

impl Connections {
    pub fn new(limits: &super::ConnectionLimits, metrics: ConnectionMetrics) -> Arc<Self> {
        Arc::new(Self {
            total: limits.connections,
            per_address: limits.connections_per_address,
            unread_bytes: limits.unread_bytes,
            all_unread_bytes: limits.all_unread_bytes,
            metrics,
            open: Mutex::default(),
        })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` if a limit is reached and no other connection gives way.
    pub fn admit(self: &Arc<Self>, peer: Peer) -> Option<Place> {
        let mut open = self.open();
        let mut is_full = open.by_network.of(peer.network()) >= self.per_address;
        if !is_full && open.by_number.len() >= self.total {
            let evicted = open.least_deserving(peer).and_then(|number| open.remove(number));
            is_full = evicted.is_none();
            if let Some(evicted) = evicted {
                self.metrics.evicted.inc();
                evicted.close();
            }
        }
        if is_full {
            tracing::debug!(client = %peer.network(), "connection limit reached");
            self.metrics.refused.inc();
            return None;
        }
        let connection = open.insert(peer);
        self.metrics.open.inc();
        Some(Place { connections: Arc::clone(self), connection })
    }

    /// Closes connections if they hold too many bytes for clients that do not read. First those of the
    /// prefix that holds most.
    pub fn relieve(&self, added_to: &Connection) {
        if added_to.held().bytes > self.unread_bytes {
            self.close(&mut self.open(), added_to.number);
        }
        if self.metrics.unread_bytes.get() <= self.all_unread_bytes as i64 {
            return;
        }
        let mut open = self.open();
        let connections = open.by_number.values();
        let mut holders: Vec<(Held, IpAddr, u64)> =
            connections.map(|one| (one.held(), one.peer.prefix(), one.number)).collect();
        // The longer it has been held, the worse.
        holders.sort_by_key(|(held, ..)| held.bytes as u128 * held.unchanged_for.as_nanos());
        let mut total: usize = holders.iter().map(|(held, ..)| held.bytes).sum();
        let mut by_prefix: HashMap<IpAddr, usize> = HashMap::new();
        for (held, prefix, _) in &holders {
            *by_prefix.entry(*prefix).or_default() += held.bytes;
        }
        while total > self.all_unread_bytes
            && let Some((worst, _)) = by_prefix.iter().max_by_key(|(_, bytes)| **bytes)
            && let Some(at) = holders.iter().rposition(|(_, prefix, _)| prefix == worst)
        {
            let (held, prefix, number) = holders.remove(at);
            total -= held.bytes;
            *by_prefix.entry(prefix).or_default() -= held.bytes;
            self.close(&mut open, number);
        }
    }

    fn close(&self, open: &mut Open, number: u64) {
        if let Some(connection) = open.remove(number) {
            self.metrics.unread.inc();
            connection.close();
        }
    }
}

/// A connection's place among the open ones, until it is dropped.
pub(super) struct Place {
    pub connections: Arc<Connections>,
    pub connection: Arc<Connection>,
}

impl Drop for Place {
    fn drop(&mut self) {
        // It is not there if it gave way.
        self.connections.open().remove(self.connection.number);
        self.connections.metrics.open.dec();
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::http::ConnectionLimits;
    use crate::http::server::tests::patient;

    /// The second-last byte is the prefix, the last one the address in it.
    fn peer([prefix, address]: [u8; 2]) -> Peer {
        Peer(SocketAddr::from(([192, 0, prefix, address], 1)))
    }

    fn connections(connections: usize, connections_per_address: usize) -> Arc<Connections> {
        let limits = ConnectionLimits { connections, connections_per_address, ..patient() };
        Connections::new(&limits, ConnectionMetrics::unregistered())
    }

    proptest! {
        #[test]
        fn places_are_given_up_to_both_limits_and_taken_back(
            total in 1..12_usize,
            per_address in 1..6_usize,
            // A client that connects, or a connection that closes.
            steps in prop::collection::vec((any::<bool>(), [0..3_u8, 0..3_u8]), 0..64),
        ) {
            let connections = connections(total, per_address);
            let mut held: Vec<Place> = Vec::new();
            for (connects, [prefix, address]) in steps {
                if connects {
                    let client = peer([prefix, address]);
                    let is_free = {
                        let open = connections.open();
                        open.by_number.len() < total
                            && open.by_network.of(client.network()) < per_address
                    };
                    let place = connections.admit(client);
                    prop_assert!(place.is_some() || !is_free);
                    held.extend(place);
                } else if !held.is_empty() {
                    held.swap_remove(usize::from(3 * prefix + address) % held.len());
                }
                let open = connections.open();
                prop_assert!(open.by_number.len() <= total);
                prop_assert!(open.by_network.0.values().all(|count| *count <= per_address));
                prop_assert_eq!(open.by_prefix.0.values().sum::<usize>(), open.by_number.len());
                prop_assert_eq!(open.by_network.0.values().sum::<usize>(), open.by_number.len());
            }
            held.clear();
            let open = connections.open();
            prop_assert!(open.by_number.is_empty());
            prop_assert!(open.by_network.0.is_empty() && open.by_prefix.0.is_empty());
            prop_assert_eq!(connections.metrics.open.get(), 0);
        }
    }

    /// Whether the connection gave way.
    fn is_evicted(connections: &Connections, place: &Place) -> bool {
        !connections.open().by_number.contains_key(&place.connection.number)
    }

    #[test]
    fn a_newcomer_takes_an_idle_place_of_the_prefix_that_has_most() {
        let connections = connections(6, 6);
        let admit = |client| connections.admit(peer(client));
        let of = |clients: [[u8; 2]; 6]| clients.map(|client| admit(client).unwrap());
        let held = of([[1, 1], [2, 1], [2, 2], [2, 1], [2, 1], [1, 1]]);
        // It is in the middle of a request.
        held[1].connection.begin();
        let newcomer = admit([3, 1]).unwrap();
        let evicted = held.each_ref().map(|place| is_evicted(&connections, place));
        assert_eq!(evicted, [false, false, false, true, false, false]);
        // Prefix 2 has three connections. That is one more than prefix 1 has.
        assert!(admit([1, 1]).is_none());
        // Within prefix 2, address 1 has two and address 3 none.
        let third = admit([2, 3]).unwrap();
        assert!(is_evicted(&connections, &held[4]));
        drop((newcomer, third));
    }

    #[test]
    fn a_busy_connection_gives_way_if_its_prefix_has_no_idle_one() {
        let connections = connections(3, 3);
        let held = [[1, 1], [1, 2], [1, 2]].map(|client| connections.admit(peer(client)).unwrap());
        for place in &held {
            place.connection.begin();
        }
        let newcomer = connections.admit(peer([2, 1]));
        assert!(newcomer.is_some() && is_evicted(&connections, &held[1]));
    }
}
