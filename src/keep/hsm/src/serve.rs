//! Two sockets, fixed threads on secret stacks, frames bounded before anything else.

use std::io::Read;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::SendFlags;
use securemem::{MemoryError, Preference, peer, spawn_secret_stack};
use wire::cbor::Cbor;
use wire::error::{Refusal, Refused};
use wire::frame::{
    FRAME_MAX, KeydRequest, KeydResponse, OfficerRequest, OfficerResponse, body_len, to_frame,
};

use crate::answer::Connection;
use crate::module::Module;

/// Connections of keyd's that are served at once: four batches, and one each for entries, commands, single checks, prepared
/// calls and all else.
pub(crate) const KEYD_THREADS: usize = 9;

/// Officers' requests that are served at once: one that waits for keyd must not keep the others waiting.
pub(crate) const OFFICER_THREADS: usize = 3;

/// Secret stack of each thread.
pub(crate) const STACK_BYTES: usize = 256 * 1024;

/// A frame that has begun must be whole within this time, and an answer taken.
const FRAME_WAIT: Duration = Duration::from_secs(10);

/// Who may connect, by user id or group.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    /// User ids beside the module's own.
    pub uids: Vec<u32>,
    /// Groups whose members may.
    pub gids: Vec<u32>,
    /// The module's own.
    pub own: u32,
}

impl Peers {
    fn admit(&self, stream: &UnixStream) -> bool {
        peer::credentials(stream).is_ok_and(|peer| peer.uid == self.own || self.uids.contains(&peer.uid))
            || peer::is_in_group(stream, &self.gids).unwrap_or(false)
    }
}

/// Starts the threads that serve both sockets. They run for ever.
pub(crate) fn start(
    module: &Arc<Module>,
    keyd: UnixListener,
    officers: UnixListener,
    keyd_peers: Peers,
    officer_peers: Peers,
    preference: Preference,
) -> Result<(), MemoryError> {
    let keyd = Arc::new((keyd, keyd_peers));
    for number in 0..KEYD_THREADS {
        let (module, keyd) = (Arc::clone(module), Arc::clone(&keyd));
        spawn_secret_stack(&format!("keyd-{number}"), STACK_BYTES, preference, move || {
            accept(&keyd.0, &keyd.1, |stream| serve_keyd(&module, stream));
        })?;
    }
    let officers = Arc::new((officers, officer_peers));
    for number in 0..OFFICER_THREADS {
        let (module, officers) = (Arc::clone(module), Arc::clone(&officers));
        spawn_secret_stack(&format!("officers-{number}"), STACK_BYTES, preference, move || {
            accept(&officers.0, &officers.1, |stream| serve_officer(&module, stream));
        })?;
    }
    Ok(())
}

fn accept(listener: &UnixListener, peers: &Peers, serve: impl Fn(UnixStream)) {
    loop {
        // A failed accept (a peer that is gone already, too many descriptors) is no reason to stop.
        if let Ok((stream, _)) = listener.accept()
            && peers.admit(&stream)
        {
            serve(stream);
        }
    }
}

fn serve_keyd(module: &Module, mut stream: UnixStream) {
    let mut connection = Connection::default();
    loop {
        let body = match receive(&mut stream, None) {
            Ok(Some(body)) => body,
            Ok(None) => break,
            Err(refused) => {
                module.unreadable("keyd", &refused);
                let _ = send(&mut stream, &to_frame(&KeydResponse::Refused(refused)));
                break;
            }
        };
        let response = match KeydRequest::from_cbor(&body) {
            Ok(request) => module.keyd(&mut connection, request),
            Err(error) => {
                let refused = unreadable(&error);
                module.unreadable("keyd", &refused);
                KeydResponse::Refused(refused)
            }
        };
        if send(&mut stream, &bounded(&response, KeydResponse::Refused)).is_err() {
            break;
        }
    }
    connection.closed(module);
}

/// One request a connection: an officer who thinks for an hour holds nothing.
fn serve_officer(module: &Module, mut stream: UnixStream) {
    let response = match receive(&mut stream, Some(FRAME_WAIT)) {
        Ok(Some(body)) => match OfficerRequest::from_cbor(&body) {
            Ok(request) => module.officers(request),
            Err(error) => {
                let refused = unreadable(&error);
                module.unreadable("officers", &refused);
                OfficerResponse::Refused(refused)
            }
        },
        Ok(None) => return,
        Err(refused) => {
            module.unreadable("officers", &refused);
            OfficerResponse::Refused(refused)
        }
    };
    let _ = send(&mut stream, &bounded(&response, OfficerResponse::Refused));
}

fn unreadable(error: &wire::cbor::CborError) -> Refused {
    Refused::new(Refusal::BadFrame, format!("the frame is not one of the protocol: {error}"))
}

/// Reads one frame into memory of its own. `None` when the peer closed between frames or too late.
fn receive(stream: &mut UnixStream, patience: Option<Duration>) -> Result<Option<Vec<u8>>, Refused> {
    if let Some(patience) = patience
        && !peer::wait_readable(&*stream, patience).unwrap_or(false)
    {
        return Ok(None);
    }
    let mut prefix = [0; 4];
    // The first byte may take as long as keyd likes; the rest of the frame may not.
    let Ok(1) = stream.read(prefix.split_at_mut(1).0) else {
        return Ok(None);
    };
    let deadline = Instant::now() + FRAME_WAIT;
    if !fill(stream, prefix.split_at_mut(1).1, deadline) {
        return Ok(None);
    }
    let len = body_len(prefix).map_err(|error| Refused::new(Refusal::TooLarge, error.to_string()))?;
    let mut body = vec![0; len];
    Ok(fill(stream, &mut body, deadline).then_some(body))
}

fn fill(stream: &mut UnixStream, mut rest: &mut [u8], deadline: Instant) -> bool {
    while !rest.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || !peer::wait_readable(&*stream, left).unwrap_or(false) {
            return false;
        }
        match stream.read(rest) {
            Ok(0) => return false,
            Ok(count) => rest = rest.split_at_mut(count).1,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
    true
}

/// The answer's frame. The peer gives up a connection on which a frame is longer than the protocol allows, and keyd stops with
/// it, so such an answer is not sent; there is none that the calls themselves do not refuse first.
fn bounded<R: Cbor>(response: &R, refuse: impl FnOnce(Refused) -> R) -> Vec<u8> {
    let frame = to_frame(response);
    if frame.len() <= 4 + FRAME_MAX {
        return frame;
    }
    to_frame(&refuse(Refused::new(
        Refusal::TooLarge,
        "the answer would be longer than a frame; ask for less at once",
    )))
}

fn send(stream: &mut UnixStream, frame: &[u8]) -> std::io::Result<()> {
    let deadline = Instant::now() + FRAME_WAIT;
    let mut rest = frame;
    while !rest.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || !peer::wait_writable(&*stream, left)? {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        // Never a blocking write: a peer that has stopped reading must not hold the thread past its time.
        match rustix::net::send(&*stream, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(written) => rest = rest.split_at(written).1,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::cbor::Bytes;
    use wire::frame::Prepared;

    #[test]
    fn no_frame_is_longer_than_the_protocol_allows() {
        let answer = |len: usize| KeydResponse::Prepared(Prepared::Script(Bytes(vec![7; len])));
        let around = to_frame(&answer(FRAME_MAX - 100)).len() - (FRAME_MAX - 100) - 4;
        let edge = FRAME_MAX - around;
        for (len, whole) in [(edge, true), (edge + 1, false)] {
            let frame = bounded(&answer(len), KeydResponse::Refused);
            let prefix = frame.first_chunk().copied().unwrap_or_default();
            assert_eq!(body_len(prefix).ok(), Some(frame.len() - 4), "{len}");
            let read = KeydResponse::from_cbor(frame.get(4..).unwrap_or_default());
            match read {
                Ok(KeydResponse::Prepared(_)) => assert!(whole, "{len}"),
                Ok(KeydResponse::Refused(refused)) => {
                    assert!(!whole && refused.code == Refusal::TooLarge, "{len}: {refused}");
                }
                other => assert!(other.is_ok(), "{other:?}"),
            }
        }
    }
}
