//! A request and its response. Counts each byte of the response until the client takes it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use hyper::body::{Body as HttpBody, Buf, Bytes, Frame, SizeHint};
use tokio::time::Instant;

use super::connection::{Connection, Progress, REQUEST_BYTES};
use super::connections::Connections;

/// An open request. Its response and the pieces of it keep it open.
pub(super) struct Exchange {
    connections: Arc<Connections>,
    connection: Arc<Connection>,
    number: u64,
}

impl Exchange {
    pub fn begin(connections: &Arc<Connections>, connection: &Arc<Connection>) -> Self {
        let number = connection.begin();
        let exchange = Self {
            connections: Arc::clone(connections),
            connection: Arc::clone(connection),
            number,
        };
        exchange.add(REQUEST_BYTES as i64);
        exchange
    }

    pub fn answer(self, body: Body) -> Answer {
        let length = body.size_hint().exact();
        let answer = Answer { body, exchange: Arc::new(self), is_counted: length.is_some() };
        answer.exchange.update(|progress| {
            progress.unread = length.unwrap_or_default() as usize;
            progress.server_works = false;
            progress.last = Instant::now();
        });
        answer
    }

    fn update(&self, change: impl FnOnce(&mut Progress)) {
        self.add(self.connection.update(self.number, change));
    }

    fn add(&self, bytes: i64) {
        if bytes != 0 {
            self.connections.metrics.unread_bytes.add(bytes);
        }
        if bytes > 0 {
            self.connections.relieve(&self.connection);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let unread = self.connection.end(self.number);
        self.add(-((REQUEST_BYTES + unread) as i64));
    }
}

/// The body of a response.
pub(super) struct Answer {
    body: Body,
    exchange: Arc<Exchange>,
    /// Whether all of it was counted at the beginning.
    is_counted: bool,
}

impl HttpBody for Answer {
    type Data = Unread;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Unread>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let length = match &polled {
            Poll::Ready(Some(Ok(frame))) if !self.is_counted => {
                frame.data_ref().map_or(0, Bytes::len)
            }
            _ => 0,
        };
        self.exchange.update(|progress| {
            if progress.unread == 0 {
                progress.last = Instant::now();
            }
            progress.server_works = polled.is_pending();
            progress.unread += length;
        });
        polled.map(|frame| {
            let wrap = |bytes| Unread { bytes, exchange: Arc::clone(&self.exchange) };
            frame.map(|frame| frame.map(|frame| frame.map_data(wrap)))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // Only the pieces that were given out still wait for the client.
        self.exchange.update(|progress| progress.server_works = true);
    }
}

/// A piece of a response.
pub(super) struct Unread {
    bytes: Bytes,
    exchange: Arc<Exchange>,
}

impl Buf for Unread {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.exchange.update(|progress| {
            progress.unread = progress.unread.saturating_sub(count);
            progress.last = Instant::now();
        });
    }
}
