//! Notes when bytes of a client arrive.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::connection::Connection;

/// What a client sends. With HTTP/2, nothing is noted: its frames say little about requests.
pub(super) struct Watched<R> {
    pub reader: R,
    pub http1: Option<Arc<Connection>>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Watched<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.reader).poll_read(context, buffer));
        if let Some(connection) = &self.http1
            && buffer.filled().len() > before
        {
            connection.received();
        }
        Poll::Ready(read)
    }
}
