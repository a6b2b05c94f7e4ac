//! A server behind the gateway in this process: a thread for each connection.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use crate::connection::{Connection, Fault};
use crate::frames::Frame;

const STACK_BYTES: usize = 256 << 10;

/// A server that listens until it is dropped.
pub(crate) struct Origin {
    pub(crate) port: u16,
    stop: Arc<AtomicBool>,
}

impl Origin {
    /// Listens, and serves each connection with `serve` on a thread of its own.
    pub(crate) fn start(
        serve: impl Fn(TcpStream, &Arc<AtomicBool>) + Send + Sync + 'static,
    ) -> Result<Origin, String> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| format!("bind: {e}"))?;
        let port = listener.local_addr().map_err(|e| format!("bind: {e}"))?.port();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (serve, stopped) = (Arc::clone(&serve), Arc::clone(&stopped));
                let connection = thread::Builder::new().stack_size(STACK_BYTES);
                // Without a thread the connection is dropped, which counts as a failure.
                let _ = connection.spawn(move || serve(stream, &stopped));
            }
        });
        Ok(Origin { port, stop })
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

/// Makes a connection a WebSocket that sends every frame back.
pub(crate) fn echo(mut connection: Connection, name: &str) -> Result<(), Fault> {
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nX-Origin: {name}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    );
    connection.send(head.as_bytes())?;
    loop {
        let frame = Frame::read(&mut connection)?;
        connection.send(&frame.bytes(false))?;
        if frame == Frame::Close {
            return Ok(());
        }
    }
}
