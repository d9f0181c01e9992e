//! Client of the module's socket. One connection does one job: collector, control, singles, or one batch each.

use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use wire::cbor::{Cbor, Empty};
use wire::error::{Refusal, Refused};
use wire::frame::{self, FrameError, KeydRequest, KeydResponse, Keys, ModuleStatus};

use crate::fatal::Fatal;
use crate::rope::Rope;

/// A module that does not answer in this time counts as lost. Its longest answer, to a frame of 8192 records behind
/// three others, takes a few milliseconds; a replayed chunk some hundred.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// What operators read when the module is lost.
pub const GONE: &str =
    "the module is gone; start it, unseal, start keyd / 密码模块已断开:请启动模块、解封后再启动 keyd";

/// Why the module gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModuleError {
    /// The connection failed.
    #[error("the module is gone: {0}")]
    Gone(String),
    /// It said no.
    #[error(transparent)]
    Refused(#[from] Refused),
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn gone(error: impl ToString) -> ModuleError {
    ModuleError::Gone(error.to_string())
}

/// An answer of another kind than the question asks for: the peer is not our module.
pub(crate) fn unexpected() -> ModuleError {
    gone("it answered something else than it was asked")
}

/// Where the module listens.
#[derive(Clone, Debug)]
pub struct Module {
    socket: PathBuf,
}

impl Module {
    /// The module behind this socket.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Opens a connection.
    pub async fn connect(&self) -> Result<Link, ModuleError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(gone)?;
        Ok(Link { stream, inbox: BytesMut::new(), skip: 0 })
    }

    /// Opens a connection for a thread of its own.
    pub fn connect_blocking(&self) -> Result<BlockingLink, ModuleError> {
        let stream = BlockingStream::connect(&self.socket).map_err(gone)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(gone)?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT)).map_err(gone)?;
        Ok(BlockingLink { stream })
    }
}

/// One connection, used by one task.
#[derive(Debug)]
pub struct Link {
    stream: UnixStream,
    inbox: BytesMut,
    /// Bytes of an answer that is too long, still to be thrown away.
    skip: usize,
}

impl Link {
    /// Asks and waits for the answer.
    pub async fn ask(&mut self, request: &KeydRequest) -> Result<KeydResponse, ModuleError> {
        self.send(request).await?;
        self.receive().await
    }

    /// Sends a request; its answer comes in turn.
    pub async fn send(&mut self, request: &KeydRequest) -> Result<(), ModuleError> {
        self.write(&mut frame::to_frame(request).as_slice()).await
    }

    /// Sends a frame of records without copying them.
    pub(crate) async fn send_records(&mut self, mut records: Rope) -> Result<(), ModuleError> {
        let prefix = frame::records_prefix(records.len());
        self.write(&mut Buf::chain(prefix.as_slice(), &mut records)).await
    }

    async fn write(&mut self, bytes: &mut impl Buf) -> Result<(), ModuleError> {
        match timeout(ANSWER_TIMEOUT, self.stream.write_all_buf(bytes)).await {
            Ok(sent) => sent.map_err(gone),
            Err(_) => Err(gone("it takes nothing any more")),
        }
    }

    /// The next answer. May be dropped and called again: what has come stays in the inbox.
    pub async fn receive(&mut self) -> Result<KeydResponse, ModuleError> {
        match timeout(ANSWER_TIMEOUT, self.receive_body()).await {
            Ok(Ok(KeydResponse::Refused(refused))) => Err(refused.into()),
            Ok(answer) => answer,
            Err(_) => Err(gone("it does not answer")),
        }
    }

    async fn receive_body(&mut self) -> Result<KeydResponse, ModuleError> {
        loop {
            if self.skip > 0 {
                let gone_by = self.skip.min(self.inbox.len());
                self.inbox.advance(gone_by);
                self.skip -= gone_by;
                if self.skip == 0 {
                    let why = "the module's answer is longer than a frame; ask for less at once";
                    return Err(Refused::new(Refusal::TooLarge, why).into());
                }
            } else if let Some(prefix) = self.inbox.first_chunk::<4>() {
                let len = match frame::body_len(*prefix) {
                    Ok(len) => len,
                    // One answer is lost; what the others on this connection wait for is not.
                    Err(FrameError::TooLarge(len)) => {
                        self.inbox.advance(4);
                        self.skip = len;
                        continue;
                    }
                    Err(error) => return Err(gone(error)),
                };
                if let Some(body) = self.inbox.get(4..4 + len) {
                    let answer = KeydResponse::from_cbor(body).map_err(gone);
                    self.inbox.advance(4 + len);
                    return answer;
                }
            }
            if self.stream.read_buf(&mut self.inbox).await.map_err(gone)? == 0 {
                return Err(gone("it closed the connection"));
            }
        }
    }
}

/// One connection, used by one thread.
#[derive(Debug)]
pub struct BlockingLink {
    stream: BlockingStream,
}

impl BlockingLink {
    /// Sends a request.
    pub fn send(&mut self, request: &KeydRequest) -> Result<(), ModuleError> {
        frame::write(&mut self.stream, request).map_err(gone)
    }

    /// Waits for the answer.
    pub fn receive(&mut self) -> Result<KeydResponse, ModuleError> {
        match frame::read(&mut self.stream).map_err(gone)? {
            KeydResponse::Refused(refused) => Err(refused.into()),
            answer => Ok(answer),
        }
    }
}

/// A connection that tasks share: one for what the module answers at once, one for commands. Losing it is fatal.
#[derive(Clone, Debug)]
pub struct Control {
    link: Arc<Mutex<Link>>,
    fatal: Fatal,
    last: Arc<RwLock<Option<ModuleStatus>>>,
}

impl Control {
    /// Takes the connection over.
    pub fn new(link: Link, fatal: Fatal) -> Self {
        Self { link: Arc::new(Mutex::new(link)), fatal, last: Arc::default() }
    }

    /// Asks in turn. A caller that goes away between question and answer must not leave the answer for the next one, so
    /// the exchange runs to its end on a task of its own.
    pub async fn ask(&self, request: KeydRequest) -> Result<KeydResponse, ModuleError> {
        let (link, fatal) = (Arc::clone(&self.link), self.fatal.clone());
        let exchange = tokio::spawn(async move {
            let answer = link.lock().await.ask(&request).await;
            if let Err(ModuleError::Gone(why)) = &answer {
                fatal.raise(format!("{GONE} ({why})"));
            }
            answer
        });
        exchange.await.map_err(gone)?
    }

    /// The module's state.
    pub async fn status(&self) -> Result<ModuleStatus, ModuleError> {
        match self.ask(KeydRequest::Status(Empty {})).await? {
            KeydResponse::Status(status) => {
                *self.last.write().unwrap_or_else(PoisonError::into_inner) = Some(status.clone());
                Ok(status)
            }
            _ => Err(unexpected()),
        }
    }

    /// What the module said last of its state, without asking it: metrics must not add to its work.
    pub fn last_status(&self) -> Option<ModuleStatus> {
        self.last.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All key versions.
    pub async fn keys(&self) -> Result<Keys, ModuleError> {
        match self.ask(KeydRequest::Keys(Empty {})).await? {
            KeydResponse::Keys(keys) => Ok(keys),
            _ => Err(unexpected()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::frame::{FRAME_MAX, Ticket, to_frame};

    #[tokio::test]
    async fn an_answer_that_is_too_long_is_one_answer_lost() {
        let (stream, mut peer) = UnixStream::pair().unwrap();
        let mut link = Link { stream, inbox: BytesMut::new(), skip: 0 };
        let module = tokio::spawn(async move {
            let len = FRAME_MAX + 1;
            peer.write_all(&u32::try_from(len).unwrap().to_be_bytes()).await.unwrap();
            peer.write_all(&vec![0; len]).await.unwrap();
            peer.write_all(&to_frame(&KeydResponse::Ticket(Ticket { ticket: 7 }))).await.unwrap();
        });
        match link.receive().await {
            Err(ModuleError::Refused(refused)) => assert_eq!(refused.code, Refusal::TooLarge),
            other => panic!("{other:?}"),
        }
        assert!(matches!(link.receive().await, Ok(KeydResponse::Ticket(ticket)) if ticket.ticket == 7));
        module.await.unwrap();
    }
}
