//! Why an operation on a socket failed, in ngx_lua's words.

use std::borrow::Cow;
use std::io;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SocketFault {
    /// It took too long.
    Timeout,
    /// The connection is closed, by either side.
    Closed,
    /// The bytes it would hold are more than `lua_memory_limit` allows.
    NoMemory,
    /// The system's error.
    System(i32),
    /// Another reason.
    Other(Cow<'static, str>),
}

impl SocketFault {
    /// Returns the words that the script gets.
    pub(crate) fn text(&self) -> Cow<'static, str> {
        match self {
            SocketFault::Timeout => "timeout".into(),
            SocketFault::Closed => "closed".into(),
            SocketFault::NoMemory => "no memory".into(),
            SocketFault::System(errno) => system_words(*errno).to_ascii_lowercase().into(),
            SocketFault::Other(text) => text.clone(),
        }
    }
}

impl From<io::Error> for SocketFault {
    fn from(error: io::Error) -> SocketFault {
        match error.raw_os_error() {
            Some(errno) => SocketFault::System(errno),
            None if error.kind() == io::ErrorKind::ConnectionAborted => {
                SocketFault::Other("client aborted".into())
            }
            None => SocketFault::Other("error".into()),
        }
    }
}

/// Returns the system's words for an error number, as strerror(3) has them.
pub(crate) fn system_words(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_ngx_lua() {
        assert_eq!(SocketFault::System(111).text(), "connection refused");
        assert_eq!(SocketFault::from(io::Error::from_raw_os_error(104)).text(), "connection reset by peer");
        assert_eq!(SocketFault::from(io::Error::from(io::ErrorKind::UnexpectedEof)).text(), "error");
    }
}
