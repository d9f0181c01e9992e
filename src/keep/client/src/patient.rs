//! A socket that still listens when the other side has stopped listening.
//!
//! A service that refuses a batch under way answers and closes; the records that it did not read then reset the
//! connection. The answer has arrived by then, but whoever takes the failed write for the end never reads it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Writes into a closed connection vanish; its end is learnt by reading.
#[derive(Debug)]
pub(crate) struct Patient {
    tcp: TcpStream,
    closed: bool,
}

impl Patient {
    pub(crate) fn new(tcp: TcpStream) -> Self {
        Self { tcp, closed: false }
    }

    fn outcome<T>(&mut self, result: Poll<io::Result<T>>, pretended: T) -> Poll<io::Result<T>> {
        match result {
            Poll::Ready(Err(_)) => {
                self.closed = true;
                Poll::Ready(Ok(pretended))
            }
            other => other,
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.closed {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.tcp).poll_write(context, bytes);
        self.outcome(written, bytes.len())
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.tcp).poll_flush(context);
        self.outcome(flushed, ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A connection whose other side answered and closed without reading what we had sent.
    async fn reset() -> TcpStream {
        let listener = TcpListener::bind("localhost:0").await.unwrap();
        let mut ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut theirs, _) = listener.accept().await.unwrap();
        ours.write_all(b"a record nobody reads").await.unwrap();
        theirs.readable().await.unwrap();
        theirs.write_all(b"no such key").await.unwrap();
        drop(theirs);
        ours
    }

    #[tokio::test]
    async fn the_answer_outlives_the_connection() {
        let mut hasty = reset().await;
        let written = async {
            loop {
                hasty.write_all(&[0; 1024]).await?;
            }
        };
        let failed: io::Result<()> = written.await;
        assert!(failed.is_err(), "writing fails although an answer is waiting");

        let mut patient = Patient::new(reset().await);
        while !patient.closed {
            patient.write_all(&[0; 1024]).await.unwrap();
        }
        patient.write_all(&[0; 1024]).await.unwrap();
        patient.flush().await.unwrap();
        let mut answer = [0; 11];
        patient.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"no such key");
        assert_eq!(patient.read(&mut answer).await.ok().filter(|read| *read > 0), None, "then the end");
    }
}
