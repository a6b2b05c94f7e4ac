//! A machine and the scripts loaded into it.
//!
//! Inline code is loaded when the machine is made, so that a fault is known at once; every request that needs
//! the script reports it again, as ngx_lua does. Files are loaded when they are first needed, and kept by path.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io::Read;
use std::rc::Rc;

use engine::config::LocationId;
use engine::host::{Level, OpenRequest, Symlinks};
use engine::log_line;
use engine::modules::lua::{Program, ScriptId, ScriptSource};
use engine::modules::static_files::confine;
use engine::variables::Definition;
use engine::{Config, Env};

use super::engine_call::EngineCall;
use super::threads::waits::Reply;
use super::timers::Timers;
use crate::machine::{Chunk, LoadError, Machine, MachineOptions, World, chunk_name};
use crate::socket::Pools;

/// A machine with its scripts; see the module.
pub(crate) struct Scripts {
    pub(crate) machine: Machine,
    inline: RefCell<Vec<Option<Result<Chunk, LoadError>>>>,
    files: RefCell<HashMap<Vec<u8>, Chunk>>,
    world: Rc<FrameWorld>,
    pub(super) timers: Timers,
    /// Idle connections of scripts' sockets.
    pub(crate) pools: Rc<Pools>,
    /// The outcomes of scripts' orders on servers, by their numbers.
    replies: RefCell<VecDeque<(u32, Rc<Reply>)>>,
    /// Variables that scripts have named, by their number in Lua.
    pub(crate) variables: RefCell<Vec<Definition>>,
}

/// Time and the log for the machine, as the innermost call of the engine has them.
pub(super) struct FrameWorld {
    call: Cell<*mut EngineCall>,
}

/// Why a script cannot run: the status to answer with, and the line for the log.
pub(super) struct NotLoaded {
    pub(super) status: u16,
    /// The compiler's or the system's message alone.
    pub(super) text: Vec<u8>,
    pub(super) line: Vec<u8>,
}

impl Scripts {
    /// Opens a machine and loads the program's inline scripts, whose faults are kept for [`Scripts::faults`].
    pub(super) fn open(
        program: &Program,
        options: impl FnOnce(Rc<FrameWorld>) -> MachineOptions,
    ) -> Result<Scripts, Vec<u8>> {
        let world = Rc::new(FrameWorld { call: Cell::new(std::ptr::null_mut()) });
        let machine = Machine::open(options(world.clone())).map_err(|error| error.text)?;
        let inline = program
            .scripts
            .iter()
            .map(|script| match &script.source {
                ScriptSource::Inline { code, file, line } => {
                    let directive = script.phase.directive().as_bytes();
                    let name = chunk_name(directive, file.as_bytes(), b"", *line as usize);
                    Some(machine.load_inline(code, &name))
                }
                ScriptSource::File(_) => None,
            })
            .collect();
        Ok(Scripts {
            machine,
            inline: RefCell::new(inline),
            files: RefCell::default(),
            world,
            timers: Timers::new(*program.max_pending_timers, *program.max_running_timers),
            pools: Rc::default(),
            replies: RefCell::default(),
            variables: RefCell::new(vec![Definition::Undefined]),
        })
    }

    /// Keeps what the outcome of an order comes to, and returns its number.
    pub(crate) fn keep_reply(&self, reply: Rc<Reply>) -> u32 {
        /// More wait for no outcome: their threads were killed.
        const MOST: usize = 1024;
        let mut replies = self.replies.borrow_mut();
        if replies.len() >= MOST {
            replies.pop_front();
        }
        let number = replies.back().map_or(0, |(last, _)| last.wrapping_add(1));
        replies.push_back((number, reply));
        number
    }

    /// Takes it back.
    pub(crate) fn take_reply(&self, number: u32) -> Option<Rc<Reply>> {
        let mut replies = self.replies.borrow_mut();
        let at = replies.iter().position(|(known, _)| *known == number)?;
        replies.remove(at).map(|(_, reply)| reply)
    }

    /// Returns the inline scripts that did not compile.
    pub(super) fn faults(&self) -> Vec<NotLoaded> {
        let inline = self.inline.borrow();
        let failed = inline.iter().filter_map(|loaded| loaded.as_ref()?.as_ref().err());
        failed.map(inline_fault).collect()
    }

    /// Makes the machine see the request and the host through this call; returns the call before it.
    pub(super) fn serve(&self, call: *mut EngineCall) -> *mut EngineCall {
        self.world.call.replace(call)
    }

    /// Returns a script ready to run, loading its file if need be.
    ///
    /// # Safety
    /// `call` must be the innermost call.
    pub(super) unsafe fn chunk(
        &self,
        call: *mut EngineCall,
        id: ScriptId,
        keep: bool,
    ) -> Result<Chunk, NotLoaded> {
        if let Some(Some(loaded)) = self.inline.borrow().get(id.0 as usize) {
            return loaded.as_ref().map(|chunk| *chunk).map_err(inline_fault);
        }
        // SAFETY: the caller vouches for the call; the parts are used up here, where no Lua runs.
        let (exchange, mut env) = unsafe { ((*call).exchange(), (*call).env()) };
        let source = env.config.lua.scripts.get(id.0 as usize).map(|script| &script.source);
        let Some(ScriptSource::File(template)) = source else {
            let text = b"no such script".to_vec();
            return Err(NotLoaded { status: 500, line: text.clone(), text });
        };
        let mut path = Vec::new();
        match exchange {
            Some(exchange) => confine::append(template, exchange, &mut env, &mut path).map_err(|_| {
                let line = [b"failed to load external Lua file \"", &path[..], b"\": refused"].concat();
                NotLoaded { status: 403, line: line.clone(), text: line }
            })?,
            None => path.extend_from_slice(template.constant().unwrap_or_default()),
        }
        let path = rebased(env.config, path);
        if let Some(chunk) = self.files.borrow().get(&path) {
            return Ok(*chunk);
        }
        let loaded = read(&mut env, &path).and_then(|code| self.machine.load_file(&path, &code));
        match loaded {
            Ok(chunk) => {
                if keep {
                    self.files.borrow_mut().insert(path, chunk);
                }
                Ok(chunk)
            }
            Err(LoadError { text, status }) => {
                let line = [b"failed to load external Lua file \"", &path[..], b"\": ", &text].concat();
                Err(NotLoaded { status, line, text })
            }
        }
    }
}

fn inline_fault(error: &LoadError) -> NotLoaded {
    let line = [b"failed to load inlined Lua code: ", &error.text[..]].concat();
    NotLoaded { status: 500, line, text: error.text.clone() }
}

/// Returns an absolute path as it is, any other below the prefix.
fn rebased(config: &Config, path: Vec<u8>) -> Vec<u8> {
    if path.starts_with(b"/") {
        return path;
    }
    let mut whole = config.prefix.as_os_str().as_encoded_bytes().to_vec();
    if !whole.ends_with(b"/") {
        whole.push(b'/');
    }
    whole.extend_from_slice(&path);
    whole
}

fn read(env: &mut Env<'_>, path: &[u8]) -> Result<Vec<u8>, LoadError> {
    const NO_SUCH_FILE: i32 = 2;
    const IS_A_DIRECTORY: i32 = 21;
    let cannot = |verb: &[u8], errno: i32| {
        // The system's message without the number that Rust appends.
        let words = std::io::Error::from_raw_os_error(errno).to_string();
        let words = words.split(" (os error").next().unwrap_or_default();
        LoadError {
            text: [b"cannot ", verb, b" ", path, b": ", words.as_bytes()].concat(),
            status: if errno == NO_SUCH_FILE { 404 } else { 503 },
        }
    };
    let request =
        OpenRequest { path, stat_only: false, symlinks: Symlinks::Follow, trusted_prefix: 0, kept: None };
    let opened = env.host.open(request).map_err(|error| cannot(b"open", error.errno))?;
    let file = opened.file.ok_or_else(|| cannot(b"read", IS_A_DIRECTORY))?;
    let mut code = Vec::new();
    (&*file).read_to_end(&mut code).map_err(|error| cannot(b"read", error.raw_os_error().unwrap_or(0)))?;
    Ok(code)
}

impl FrameWorld {
    /// Calls `act` with the request, if one runs, and the host; returns `absent` outside of calls.
    fn with<R>(&self, absent: R, act: impl FnOnce(Option<&mut engine::Exchange>, &mut Env<'_>) -> R) -> R {
        let call = self.call.get();
        if call.is_null() {
            return absent;
        }
        // SAFETY: it is the innermost call while it is here; the parts are used up in `act`, which runs no Lua.
        let (exchange, mut env) = unsafe { ((*call).exchange(), (*call).env()) };
        act(exchange, &mut env)
    }
}

impl World for FrameWorld {
    fn now_ms(&self) -> u64 {
        self.with(0, |_, env| env.host.now().epoch_ms())
    }

    fn refresh_time(&self) {
        self.with((), |_, env| env.host.refresh_time());
    }

    fn utc_offset_s(&self) -> i32 {
        self.with(0, |_, env| env.host.now().utc_offset_s)
    }

    fn logs(&self, level: u8) -> bool {
        let Some(level) = Level::from_number(i64::from(level)) else { return false };
        self.with(false, |exchange, env| match exchange {
            Some(exchange) => log_line::enabled(exchange, env.config, level),
            None => {
                let errors = &env.config.location(LocationId(0)).settings.log.errors;
                errors.iter().any(|(_, least)| level <= *least)
            }
        })
    }

    fn log(&self, level: u8, text: &[u8]) {
        let Some(level) = Level::from_number(i64::from(level)) else { return };
        let call = self.call.get();
        if !call.is_null() {
            // SAFETY: it is the innermost call while it is here.
            unsafe { (*call).log(level, text) };
        }
    }

    fn log_apart(&self, level: u8, text: &[u8]) {
        let Some(level) = Level::from_number(i64::from(level)) else { return };
        self.with((), |_, env| log_line::worker_error(env, level, text));
    }
}
