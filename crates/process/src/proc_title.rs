//! The process title that `ps` shows: `pointsman: master process …`, `pointsman: worker process`.
//!
//! Owns the memory that the kernel shows as the command line of this process. Must never be called in a process that has
//! started a thread.

use crate::process_log::PROGRAM;
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;

/// First byte and length of the memory for the title: from the start of the arguments to the end of the environment.
static ROOM: OnceLock<Option<(usize, usize)>> = OnceLock::new();

/// Sets the title of the master, which ends with its command line, as nginx's.
pub(crate) fn set_master() {
    let mut text = b"master process".to_vec();
    for argument in std::env::args_os() {
        text.push(b' ');
        text.extend_from_slice(argument.as_bytes());
    }
    set(text);
}

/// Sets the title of this process; without effect if `/proc` cannot be read.
pub(crate) fn set(text: impl AsRef<[u8]>) {
    let Some((start, length)) = *ROOM.get_or_init(make_room) else { return };
    let mut title = format!("{PROGRAM}: ").into_bytes();
    title.extend_from_slice(text.as_ref());
    title.truncate(length - 1);
    // The kernel takes a byte other than zero at the end of the old arguments for a title that continues beyond them;
    // zeroes end it.
    title.resize(length, 0);
    // SAFETY: the kernel names this range as the strings of the arguments and the environment that it put on the
    // stack: it is writable, belongs to this process alone and lives as long as it does. make_room has moved the
    // environment away, the standard library reads arguments only when asked and finds C strings still, because the
    // last byte written is zero.
    #[allow(unsafe_code)]
    unsafe {
        std::ptr::copy_nonoverlapping(title.as_ptr(), std::ptr::with_exposed_provenance_mut(start), length);
    }
}

fn make_room() -> Option<(usize, usize)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // proc(5): the name may contain anything; the fields after it begin with field 3.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<usize>().ok();
    let (arg_start, arg_end, env_start, env_end) = (field(48)?, field(49)?, field(50)?, field(51)?);
    if arg_start == 0 || arg_end <= arg_start {
        return None;
    }
    let end = if env_start == arg_end && env_end > env_start { env_end } else { arg_end };
    move_environment();
    Some((arg_start, end - arg_start))
}

/// Moves the environment to the heap, because the title overwrites its memory.
fn move_environment() {
    let all: Vec<_> = std::env::vars_os().collect();
    for (name, value) in all {
        // SAFETY: this process has a single thread (the module's rule), so that nothing reads the environment meanwhile.
        #[allow(unsafe_code)]
        unsafe {
            std::env::remove_var(&name);
            std::env::set_var(&name, &value);
        }
    }
}
