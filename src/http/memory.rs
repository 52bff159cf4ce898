//! Memory for bodies of requests, as they are sent, decompressed and decoded. Bounded over all
//! requests: otherwise each connection and each HTTP/2 stream could fill its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bipedalnet_client::api::{
    ActivateDocument, BatchDocument, BatchItem, CollectionDocument, TokenDocument, TrainDocument,
    UserDocument, WalkDocument,
};

use crate::service::{self, PoolError, Sender, Service};

/// Most bytes of bodies in memory.
const MOST_BYTES: usize = 128 << 20;

/// What the allocator adds to each list of values.
const ALLOCATION_BYTES: usize = 16;

/// The memory of all bodies. Clones share it.
#[derive(Clone)]
pub(super) struct Bodies {
    service: Arc<Service>,
    held: Arc<Mutex<HashMap<Sender, usize>>>,
}

/// The memory of one request's body, until it is dropped.
pub(super) struct Held {
    bodies: Bodies,
    sender: Sender,
    bytes: usize,
}

impl Bodies {
    pub fn new(service: Arc<Service>) -> Self {
        Self { service, held: Arc::default() }
    }

    /// No memory yet, for the current request.
    pub fn hold(&self) -> Held {
        Held { bodies: self.clone(), sender: service::sender(), bytes: 0 }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Sender, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Takes memory for more bytes. Fails if less is left than the sender would have: so nobody takes
    /// all of it. A request that is alone may take any amount.
    pub fn grow(&mut self, bytes: usize) -> Result<(), PoolError> {
        let mut held = self.bodies.held();
        let others: usize = held.values().sum::<usize>() - self.bytes;
        let own = held.get(&self.sender).map_or(0, |own| *own) + bytes;
        let all = others + self.bytes + bytes;
        if others > 0 && all + own > MOST_BYTES {
            return Err(self.bodies.service.refuse_body());
        }
        held.insert(Arc::clone(&self.sender), own);
        drop(held);
        self.bytes += bytes;
        self.bodies.service.metrics.memory.bodies.add(bytes as i64);
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.bodies.held();
        if let Some(own) = held.get_mut(&self.sender) {
            *own -= self.bytes;
            if *own == 0 {
                held.remove(&self.sender);
            }
        }
        drop(held);
        self.bodies.service.metrics.memory.bodies.sub(self.bytes as i64);
    }
}

/// A document whose memory is counted.
pub(super) trait Decoded {
    /// Bytes of its lists.
    fn list_bytes(&self) -> usize {
        0
    }
}

impl<T: Decoded> Decoded for Option<T> {
    fn list_bytes(&self) -> usize {
        self.as_ref().map_or(0, Decoded::list_bytes)
    }
}

impl Decoded for ActivateDocument {}
impl Decoded for UserDocument {}
impl Decoded for CollectionDocument {}
impl Decoded for TokenDocument {}
impl Decoded for TrainDocument {}

impl Decoded for WalkDocument {
    fn list_bytes(&self) -> usize {
        let windows = self.features.iter().flatten().map(bytes).sum::<usize>();
        let axes = self.acceleration.iter().chain(&self.angular_rate).map(bytes).sum::<usize>();
        let times = self.time_seconds.iter().map(bytes).sum::<usize>();
        windows + axes + times + self.features.iter().map(bytes).sum::<usize>()
    }
}

impl Decoded for BatchDocument {
    fn list_bytes(&self) -> usize {
        let item = |item: &BatchItem| match item {
            BatchItem::Enroll(item) => item.walk.list_bytes(),
            BatchItem::Verify(item) => item.walk.list_bytes(),
            BatchItem::Identify(item) => {
                let named = item.among.iter().flatten().map(|user| user.len() + ALLOCATION_BYTES);
                item.walk.list_bytes()
                    + item.among.iter().map(bytes).sum::<usize>()
                    + named.sum::<usize>()
            }
        };
        bytes(&self.items) + self.items.iter().map(item).sum::<usize>()
    }
}

/// Bytes of a list, without what its values own.
#[allow(clippy::ptr_arg, reason = "the capacity counts")]
fn bytes<T>(list: &Vec<T>) -> usize {
    list.capacity() * size_of::<T>() + ALLOCATION_BYTES
}
