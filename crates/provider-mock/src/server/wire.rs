//! The socket under the HTTP connection, which can be told to break once everything before has been written.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::script::Cut;

const NONE: u8 = 0;
const FIN: u8 = 1;
const RESET: u8 = 2;

/// The order to break, shared between a connection and its answers.
#[derive(Default)]
pub(crate) struct Order(AtomicU8);

impl Order {
    /// Breaks the connection at its next flush: hyper flushes whenever the answer has nothing to say for the moment.
    pub(crate) fn cut(&self, cut: Cut) {
        self.0.store(if cut == Cut::Fin { FIN } else { RESET }, Ordering::Release);
    }
}

/// A TCP stream that obeys an [`Order`].
pub(crate) struct Wire {
    stream: TcpStream,
    order: std::sync::Arc<Order>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, order: std::sync::Arc<Order>) -> Self {
        Self { stream, order }
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the script broke the connection")
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        match self.order.0.load(Ordering::Acquire) {
            NONE => Poll::Ready(Ok(())),
            FIN => {
                std::task::ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
                Poll::Ready(Err(broken()))
            }
            _ => {
                // With no time to linger, the close that follows this error sends a reset instead of an orderly end.
                self.stream.set_zero_linger()?;
                Poll::Ready(Err(broken()))
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.order.0.load(Ordering::Acquire) == RESET {
            return Poll::Ready(Err(broken()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
