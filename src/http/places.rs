//! Places for connections: so many in all, and so many for one client.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts what is open, in all and by client.
pub(super) struct Places {
    limit: usize,
    limit_per_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    /// Without clients that have none.
    by_address: HashMap<IpAddr, usize>,
}

/// One open connection's, given back when it goes out of scope.
pub(super) struct Place {
    places: Arc<Places>,
    client: IpAddr,
}

impl Places {
    pub fn new(limit: usize, limit_per_address: usize) -> Arc<Self> {
        Arc::new(Self { limit, limit_per_address, taken: Mutex::default() })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None where all are taken, or all that one client may have.
    pub fn take(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let mut taken = self.taken();
        let of_client = taken.by_address.get(&client).copied().unwrap_or_default();
        if taken.all >= self.limit || of_client >= self.limit_per_address {
            tracing::debug!(%client, of_client, all = taken.all, "no place for a connection");
            return None;
        }
        taken.all += 1;
        taken.by_address.insert(client, of_client + 1);
        Some(Place { places: Arc::clone(self), client })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= 1;
        if let Entry::Occupied(mut of_client) = taken.by_address.entry(self.client) {
            *of_client.get_mut() -= 1;
            if *of_client.get() == 0 {
                of_client.remove();
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
        fn places_are_taken_up_to_both_limits_and_given_back(
            limit in 0..12_usize,
            limit_per_address in 0..6_usize,
            // A client that comes, or a place that is left.
            steps in prop::collection::vec((any::<bool>(), 0..4_u8), 0..64),
        ) {
            let places = Places::new(limit, limit_per_address);
            let mut held: Vec<Place> = Vec::new();
            for (comes, number) in steps {
                let client = IpAddr::from([192, 0, 2, number]);
                if comes {
                    let of_client = held.iter().filter(|place| place.client == client).count();
                    let free = held.len() < limit && of_client < limit_per_address;
                    let place = places.take(client);
                    prop_assert_eq!(place.is_some(), free);
                    held.extend(place);
                } else if !held.is_empty() {
                    held.swap_remove(usize::from(number) % held.len());
                }
            }
            held.clear();
            prop_assert_eq!(places.taken().all, 0);
            prop_assert!(places.taken().by_address.is_empty());
        }
    }
}
