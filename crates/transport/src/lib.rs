//! Bytes, files, names and time, as the server's requests need them from the operating system.
//!
//! Owns streams over TCP and unix sockets, with TLS or in clear, and those in memory, the buffers that they are read into and
//! their reuse, the framing of bodies on their way in, temporary files, host names at run time, and the clock of a thread. Must never know what a request means,
//! nor write to a log.
//!
//! Reading order: [`stream`], [`read_buffer`], [`body_reader`], [`resolver`].

pub mod body_reader;
pub mod buffers;
pub mod clock;
pub mod files;
pub mod held_file;
pub mod open_files;
pub mod pipe;
pub mod read_buffer;
pub mod resolver;
#[cfg(feature = "simulation")]
pub mod simulated;
mod socket;
pub mod stream;
pub mod tls_stream;
mod tls_wire;
