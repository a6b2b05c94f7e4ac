//! Messages with descriptors between the master and the worker process, over a pair of unix sockets.
//!
//! Owns the encoding of a message. Both ends are the same program, so that it needs no version. Must never know what a
//! message means.
//!
//! A message is a header (kind, count of descriptors, generation, length of the body, in the machine's byte order),
//! then one byte for every [`FDS_AT_ONCE`] descriptors that are sent with it (the kernel passes at most 253 at once),
//! then the body.

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, send, sendmsg,
    socketpair,
};
use std::io::{self, IoSlice, IoSliceMut, Read};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

/// Descriptors that are sent with one byte.
const FDS_AT_ONCE: usize = 250;
/// Bytes of a message's header.
const HEADER: usize = 24;
/// Longest accepted body: far above any configuration, far below what would exhaust memory.
const MAX_BODY: u64 = 1 << 30;

/// A message.
#[derive(Debug)]
pub(crate) struct Message {
    /// Its kind, on which the two ends agree.
    pub(crate) kind: u32,
    /// The generation that it is about.
    pub(crate) generation: u64,
    /// Its content.
    pub(crate) body: Vec<u8>,
    /// The descriptors that came with it.
    pub(crate) fds: Vec<OwnedFd>,
}

/// Creates two connected ends.
pub(crate) fn pair() -> io::Result<(UnixStream, UnixStream)> {
    let (one, other) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
    Ok((one.into(), other.into()))
}

/// Sends a whole message; waits while the other end does not read, up to the write timeout of the socket.
pub(crate) fn send_message(
    socket: &UnixStream,
    kind: u32,
    generation: u64,
    body: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut header = [0; HEADER];
    header[0..4].copy_from_slice(&kind.to_ne_bytes());
    header[4..8].copy_from_slice(&(fds.len() as u32).to_ne_bytes());
    header[8..16].copy_from_slice(&generation.to_ne_bytes());
    header[16..24].copy_from_slice(&(body.len() as u64).to_ne_bytes());
    send_all(socket, &header)?;
    let numbers: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    for chunk in numbers.chunks(FDS_AT_ONCE) {
        let rights = [ControlMessage::ScmRights(chunk)];
        let byte = [IoSlice::new(b"d")];
        retry(|| sendmsg::<()>(socket.as_raw_fd(), &byte, &rights, MsgFlags::MSG_NOSIGNAL, None))?;
    }
    send_all(socket, body)
}

fn send_all(socket: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let sent = retry(|| send(socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL))?;
        bytes = &bytes[sent..];
    }
    Ok(())
}

/// Waits for a whole message; `None` if the other end is closed.
pub(crate) fn receive_message(mut socket: &UnixStream) -> io::Result<Option<Message>> {
    let mut header = [0; HEADER];
    match socket.read(&mut header[..1]) {
        Ok(0) => return Ok(None),
        Ok(_) => socket.read_exact(&mut header[1..])?,
        // The other end closed with unread data.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
        Err(error) => return Err(error),
    }
    let head = Head::parse(&header)?;
    let mut fds = Vec::with_capacity(head.fds);
    while fds.len() < head.fds {
        receive_fds(socket, &mut fds)?;
    }
    let mut body = vec![0; head.body];
    socket.read_exact(&mut body)?;
    Ok(Some(Message { kind: head.kind, generation: head.generation, body, fds }))
}

/// Receives one byte and the descriptors that come with it.
fn receive_fds(socket: &UnixStream, fds: &mut Vec<OwnedFd>) -> io::Result<()> {
    let mut byte = [0];
    let mut space = cmsg_space!([RawFd; FDS_AT_ONCE]);
    let before = fds.len();
    let mut lost = false;
    let read = retry(|| {
        let mut into = [IoSliceMut::new(&mut byte)];
        let received =
            recvmsg::<()>(socket.as_raw_fd(), &mut into, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
        for message in received.cmsgs()? {
            if let ControlMessageOwned::ScmRights(numbers) = message {
                // SAFETY: the kernel has just created these descriptors for this process, and nothing else knows their
                // numbers.
                #[allow(unsafe_code)]
                fds.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
            }
        }
        lost = received.flags.contains(MsgFlags::MSG_CTRUNC);
        Ok(received.bytes)
    })?;
    if lost {
        // The kernel drops descriptors beyond the limit of open files.
        return Err(Errno::EMFILE.into());
    }
    if read == 0 || fds.len() == before {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return Ok(other?),
        }
    }
}

struct Head {
    kind: u32,
    fds: usize,
    generation: u64,
    body: usize,
}

impl Head {
    fn parse(bytes: &[u8; HEADER]) -> io::Result<Head> {
        let four = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let eight = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at..at + 8]);
            u64::from_ne_bytes(number)
        };
        let body = eight(16);
        if body > MAX_BODY {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Head { kind: four(0), fds: four(4) as usize, generation: eight(8), body: body as usize })
    }
}

/// Receives messages without descriptors and without waiting.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
}

impl Inbox {
    /// Reads what has arrived. Returns the complete messages, and true if the other end is closed.
    pub(crate) fn collect(&mut self, socket: BorrowedFd<'_>) -> io::Result<(Vec<Message>, bool)> {
        let mut closed = false;
        let mut chunk = [0; 4096];
        loop {
            let flags = MsgFlags::MSG_DONTWAIT;
            match nix::sys::socket::recv(socket.as_raw_fd(), &mut chunk, flags) {
                Ok(0) | Err(Errno::ECONNRESET) => {
                    closed = true;
                    break;
                }
                Ok(read) => self.bytes.extend_from_slice(&chunk[..read]),
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut messages = Vec::new();
        while let Some((header, rest)) = self.bytes.split_first_chunk::<HEADER>() {
            let head = Head::parse(header)?;
            if head.fds != 0 {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let Some(body) = rest.get(..head.body) else { break };
            let body = body.to_vec();
            messages.push(Message { kind: head.kind, generation: head.generation, body, fds: Vec::new() });
            self.bytes.drain(..HEADER + head.body);
        }
        Ok((messages, closed))
    }
}

/// Sends messages without descriptors from any thread.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    socket: std::sync::Arc<std::sync::Mutex<UnixStream>>,
}

impl Outbox {
    pub(crate) fn new(socket: UnixStream) -> Outbox {
        Outbox { socket: std::sync::Arc::new(std::sync::Mutex::new(socket)) }
    }

    /// Sends one message; threads take turns so that messages stay whole.
    pub(crate) fn send(&self, kind: u32, generation: u64, body: &[u8]) -> io::Result<()> {
        let socket = self.socket.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        send_message(&socket, kind, generation, body, &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn many_descriptors_arrive_in_order() {
        let (one, other) = pair().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let files: Vec<File> =
            (0..300).map(|number| File::create(dir.path().join(number.to_string())).unwrap()).collect();
        let body = vec![b'b'; 1_000_000];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let fds: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
                send_message(&one, 7, 42, &body, &fds).unwrap();
                send_message(&one, 8, 43, b"", &[]).unwrap();
            });
            let first = receive_message(&other).unwrap().unwrap();
            assert_eq!((first.kind, first.generation, first.body.len()), (7, 42, 1_000_000));
            assert_eq!(first.fds.len(), 300);
            for (sent, received) in files.iter().zip(first.fds) {
                let received = File::from(received);
                assert_eq!(sent.metadata().unwrap().ino(), received.metadata().unwrap().ino());
            }
            assert_eq!(receive_message(&other).unwrap().unwrap().kind, 8);
        });
        drop(one);
        assert!(receive_message(&other).unwrap().is_none());
    }

    #[test]
    fn an_inbox_returns_complete_messages_only() {
        let (one, other) = pair().unwrap();
        let mut inbox = Inbox::default();
        let outbox = Outbox::new(one);
        outbox.send(3, 9, b"text").unwrap();
        outbox.send(4, 10, b"").unwrap();
        let (messages, closed) = inbox.collect(other.as_fd()).unwrap();
        assert_eq!(messages.iter().map(|message| message.kind).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(messages[0].body, b"text");
        assert!(!closed);
        {
            let mut socket = outbox.socket.lock().unwrap();
            io::Write::write_all(&mut *socket, &[0; 10]).unwrap();
        }
        drop(outbox);
        let (messages, closed) = inbox.collect(other.as_fd()).unwrap();
        assert!(messages.is_empty() && closed);
    }
}
