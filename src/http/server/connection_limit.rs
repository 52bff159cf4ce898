//! Limits open connections, in total and for each client.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(super) struct ConnectionLimit {
    total: usize,
    per_address: usize,
    open: Mutex<OpenConnections>,
}

#[derive(Default)]
struct OpenConnections {
    total: usize,
    /// Has no entry for a client without connections.
    by_address: HashMap<IpAddr, usize>,
}

/// Counts as one open connection until it is dropped.
pub(super) struct ConnectionPermit {
    limit: Arc<ConnectionLimit>,
    client: IpAddr,
}

impl ConnectionLimit {
    pub fn new(total: usize, per_address: usize) -> Arc<Self> {
        Arc::new(Self { total, per_address, open: Mutex::default() })
    }

    fn open(&self) -> MutexGuard<'_, OpenConnections> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` if a limit is reached.
    pub fn try_acquire(self: &Arc<Self>, client: IpAddr) -> Option<ConnectionPermit> {
        let mut open = self.open();
        let by_client = open.by_address.get(&client).copied().unwrap_or_default();
        if open.total >= self.total || by_client >= self.per_address {
            tracing::debug!(%client, by_client, total = open.total, "connection limit reached");
            return None;
        }
        open.total += 1;
        open.by_address.insert(client, by_client + 1);
        Some(ConnectionPermit { limit: Arc::clone(self), client })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut open = self.limit.open();
        open.total -= 1;
        if let Entry::Occupied(mut by_client) = open.by_address.entry(self.client) {
            *by_client.get_mut() -= 1;
            if *by_client.get() == 0 {
                by_client.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn permits_are_given_up_to_both_limits_and_taken_back(
            total in 0..12_usize,
            per_address in 0..6_usize,
            // A client that connects, or a connection that closes.
            steps in prop::collection::vec((any::<bool>(), 0..4_u8), 0..64),
        ) {
            let limit = ConnectionLimit::new(total, per_address);
            let mut held: Vec<ConnectionPermit> = Vec::new();
            for (connects, number) in steps {
                let client = IpAddr::from([192, 0, 2, number]);
                if connects {
                    let by_client = held.iter().filter(|permit| permit.client == client).count();
                    let is_free = held.len() < total && by_client < per_address;
                    let permit = limit.try_acquire(client);
                    prop_assert_eq!(permit.is_some(), is_free);
                    held.extend(permit);
                } else if !held.is_empty() {
                    held.swap_remove(usize::from(number) % held.len());
                }
            }
            held.clear();
            prop_assert_eq!(limit.open().total, 0);
            prop_assert!(limit.open().by_address.is_empty());
        }
    }
}
