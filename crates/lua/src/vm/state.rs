//! The state of a request between its scripts.
//!
//! It lives in the exchange as a `dyn Any`, and is dropped with the request: then coroutines that wait are ended, and
//! Lua forgets the request's `ngx.ctx` and globals. Its fields change through shared references, because filters run
//! inside the call of the script whose output they filter.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use engine::Exchange;
use engine::output::HeadRefused;

use super::scripts::Scripts;
use super::threads::ThreadProgress;
use crate::socket::{OpenSockets, ScriptSocket};

/// The Lua state of one request; see the module.
pub(crate) struct RequestState {
    /// The machine and its scripts; with `lua_code_cache off` the request's own.
    pub(super) scripts: Rc<Scripts>,
    /// The request's number inside the machine.
    pub(crate) number: u32,
    /// The state of its scripts.
    pub(crate) progress: ThreadProgress,
    /// Lua keeps something under the request's number.
    pub(super) touched: Cell<bool>,
    /// A script has set the type, or `default_type` has been applied.
    pub(crate) type_set: Cell<bool>,
    /// A script has set a header: its Content-Length is kept.
    pub(crate) headers_set: Cell<bool>,
    /// The body is ended, as far as scripts are concerned.
    pub(crate) eof: Cell<bool>,
    /// Only the head is sent: HEAD.
    pub(crate) header_only: Cell<bool>,
    /// A script has written some of the body.
    pub(crate) seen_body: Cell<bool>,
    /// The status that a header filter has exited with. When the filter runs again for the page of that status and exits
    /// with the same, the page passes.
    pub(super) filter_exit: Cell<i32>,
    /// The outcome of the order to a switch that a timer's function waited for.
    pub(super) switched: Cell<Option<Result<u64, String>>>,
    /// The status that a header filter wants sent instead of the script's output.
    pub(crate) refused: Cell<Option<HeadRefused>>,
    /// The answer is held back until its length is known (`lua_http10_buffering`).
    pub(crate) held: RefCell<Option<Vec<u8>>>,
    /// What the server holds for its scripts.
    pub(super) held_outside: HeldOutside,
    /// The request body that `ngx.req.init_body` began.
    pub(crate) building: RefCell<Option<Vec<u8>>>,
}

/// What the server holds for a request's scripts outside of the machine; see the module `charge`.
#[derive(Default)]
pub(super) struct HeldOutside {
    /// The bytes that count towards the machine's limit.
    pub(super) counted: Cell<usize>,
    /// A script has given a variable a large value: values are counted.
    pub(super) large_values: Cell<bool>,
    /// Its sockets.
    sockets: OpenSockets,
}

/// The exchange's hold on the state.
struct Handle(Rc<RequestState>);

impl RequestState {
    pub(super) fn new(scripts: Rc<Scripts>, number: u32) -> Rc<RequestState> {
        Rc::new(RequestState {
            scripts,
            number,
            progress: ThreadProgress::default(),
            touched: Cell::new(false),
            type_set: Cell::new(false),
            headers_set: Cell::new(false),
            eof: Cell::new(false),
            header_only: Cell::new(false),
            seen_body: Cell::new(false),
            filter_exit: Cell::new(0),
            switched: Cell::new(None),
            refused: Cell::new(None),
            held: RefCell::new(None),
            held_outside: HeldOutside::default(),
            building: RefCell::new(None),
        })
    }

    /// Returns the machine and its scripts.
    pub(crate) fn scripts(&self) -> &Rc<Scripts> {
        &self.scripts
    }

    /// Takes over a socket whose request is over.
    pub(crate) fn adopt_socket(&self, socket: &Rc<ScriptSocket>) {
        socket.owner.set(self.number);
        self.held_outside.sockets.add(socket);
    }

    /// Makes a socket, which is closed with the request.
    pub(crate) fn new_socket(&self) -> Rc<ScriptSocket> {
        let socket = ScriptSocket::new(self.number, &self.scripts);
        self.held_outside.sockets.add(&socket);
        socket
    }

    /// Returns the state of an exchange, if it has one.
    pub(super) fn of(exchange: &Exchange) -> Option<Rc<RequestState>> {
        exchange.script.handle.as_ref()?.downcast_ref::<Handle>().map(|handle| handle.0.clone())
    }

    /// Stores the state in an exchange.
    pub(super) fn keep_in(self: &Rc<Self>, exchange: &mut Exchange) {
        exchange.script.handle = Some(Box::new(Handle(self.clone())));
    }
}

impl Drop for RequestState {
    fn drop(&mut self) {
        self.progress.end_all(&self.scripts.machine);
        self.scripts.machine.count_outside(self.held_outside.counted.take(), 0);
        if self.touched.get() {
            self.scripts.machine.forget_request(self.number);
        }
    }
}
