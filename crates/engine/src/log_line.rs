//! Lines of the error log about a request: nginx's words, with client, server, request, upstream and host after them.

use crate::exchange::Exchange;
use crate::host::{Env, Level};

/// Writes a line about this request to the error logs of its location that want its level.
pub fn error(_exchange: &Exchange, _env: &mut Env<'_>, _level: Level, _text: &[u8]) {}
