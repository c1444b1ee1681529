//! The byte stream between a client and hyper, for HTTP/1.1: what is not clear does not get through, and the end of a
//! connection does not cut off the last answer.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::framing::Framing;
use crate::meter;

/// What hyper gets in place of what is not clear. Nothing that it may be reading at that point has a NUL in it, so it
/// answers 400 and closes, after the answers to what came before.
const REFUSAL: &[u8] = b"\0\r\n\r\n";
/// How long, and how much, is read of a request after it has been answered.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// A stream whose incoming bytes are watched.
pub(super) struct Wire<S> {
    stream: S,
    peer: SocketAddr,
    framing: Framing,
    /// What is left to be given to hyper of the refusal, once there is one.
    refusal: Option<&'static [u8]>,
    /// The client has sent all it will.
    ended: bool,
    closing: Option<Closing>,
}

struct Closing {
    until: Pin<Box<Sleep>>,
    read: usize,
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S, peer: SocketAddr) -> Self {
        Self { stream, peer, framing: Framing::default(), refusal: None, ended: false, closing: None }
    }

    /// Looks at what was read behind `before`; cuts off what is not clear.
    fn watch(&mut self, buffer: &mut ReadBuf<'_>, before: usize) {
        let read = buffer.filled().get(before..).unwrap_or_default();
        self.ended |= read.is_empty();
        if let Err(unclear) = self.framing.advance(read) {
            tracing::info!(source = %self.peer.ip(), why = unclear.why, "a request was refused: its framing is not clear");
            meter::UNCLEAR_REQUESTS.increment();
            buffer.set_filled(before + unclear.at);
            self.refusal = Some(REFUSAL);
            self.refuse(buffer);
        }
    }

    /// Gives hyper the refusal, then the end of the stream.
    fn refuse(&mut self, buffer: &mut ReadBuf<'_>) {
        let left = self.refusal.unwrap_or_default();
        let (now, later) = left.split_at(left.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.refusal = Some(later);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.refusal.is_some() {
            this.refuse(buffer);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        this.watch(buffer, before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    /// Says that no more will be sent, then reads on for a while if the client is in the middle of a request.
    ///
    /// RFC 9112 §9.6: a server that closes while data arrives makes the system reset the connection, and the reset "can
    /// erase the client's unacknowledged input buffers before they can be read": the client would not see why.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let closing = match &mut this.closing {
            Some(closing) => closing,
            None => {
                ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
                if this.ended || (this.refusal.is_none() && this.framing.is_between_messages()) {
                    return Poll::Ready(Ok(()));
                }
                this.closing.insert(Closing { until: Box::pin(tokio::time::sleep(LINGER)), read: 0 })
            }
        };
        let mut space = [std::mem::MaybeUninit::uninit(); 4096];
        while closing.read < LINGER_BYTES && closing.until.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::uninit(&mut space);
            match ready!(Pin::new(&mut this.stream).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => closing.read += buffer.filled().len(),
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
