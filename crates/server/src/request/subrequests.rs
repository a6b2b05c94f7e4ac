//! Requests inside a request: each is served as any other, into a pipe in memory, and its answer is kept or dropped.
//!
//! Must never know how a request is answered: what does that comes as an argument, since it is what asks for these.

use crate::context::conn_guard::ConnGuard;
use crate::context::generation::Pinned;
use crate::context::thread_context::ThreadContext;
use crate::request::client::Client;
use crate::request::cx::{RequestCx, Run};
use crate::request::host::{BeginInner, with_env};
use crate::request::respond::Unfinished;
use crate::switching::in_flight_guard::InFlightGuard;
use engine::Exchange;
use engine::exchange::Subresponse;
use engine::host::{Level, RunningRequests};
use engine::modules::proxy::cache::CacheRecord;
use engine::output::{self, Included};
use engine::phase::Wake;
use engine::subrequest::{self, Subrequest, TooDeep, Variables};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::task::spawn_local;
use tracing::Span;
use transport::pipe::{Pipe, PipeBudget};
use transport::stream::Stream;

/// How much of an answer is read whose body is not wanted: a little, so that the upstream's connection can be kept.
const DROPPED: usize = 64 << 10;
/// How much of an answer may be on its way.
const ON_THE_WAY: usize = 64 << 10;
/// For how long requests inside one are run at a time.
const AT_ONCE: Duration = Duration::from_millis(10);

/// The exchange of a request inside another one, while it is served. However that ends, it comes back: it may have what the
/// one around it shares with it.
struct Lent {
    exchange: Option<Box<Exchange>>,
    back: Back,
}

/// Where it comes back.
type Back = Rc<Cell<Option<Box<Exchange>>>>;

impl Drop for Lent {
    fn drop(&mut self) {
        self.back.set(self.exchange.take());
    }
}

/// How the serving of a request inside another one has ended.
struct Served {
    is_whole: bool,
    /// Its end of the pipe: dropping it drops what was not read.
    _stream: Stream,
    /// What switches have led of it, until the request around it has taken that over.
    _in_flight: Option<InFlightGuard>,
}

/// A request inside another one, while it is served.
struct Inner {
    serving: Option<Pin<Box<dyn Future<Output = Served>>>>,
    back: Back,
    pipe: Rc<Pipe>,
    /// How many bytes more are kept of all answers that are wanted together.
    room: Rc<Cell<usize>>,
    /// Whether its body is wanted.
    is_kept: bool,
    body: Vec<u8>,
    /// Bytes that were read and not kept.
    dropped: usize,
    variables: Variables,
    ended: Option<Served>,
}

impl Inner {
    /// Makes it ready; nothing has run yet.
    fn begin(
        cx: &mut RequestCx<'_>,
        wanted: Subrequest,
        guard: ConnGuard,
        room: Rc<Cell<usize>>,
    ) -> Result<Inner, TooDeep> {
        let how = (cx.run_inner, cx.begin_inner);
        let (thread, generation) = (Rc::clone(&cx.client.thread), cx.generation);
        Inner::begin_in(&thread, generation, how, cx.exchange, wanted, guard, room)
    }

    /// Does the same for a request that this thread serves under a generation.
    fn begin_in(
        thread: &Rc<ThreadContext>,
        generation: &Pinned,
        how: (Run, BeginInner),
        outer: &mut Exchange,
        wanted: Subrequest,
        guard: ConnGuard,
        room: Rc<Cell<usize>>,
    ) -> Result<Inner, TooDeep> {
        let mut exchange = thread.buffers.lease_exchange();
        let (is_kept, variables) = (wanted.kept > 0, wanted.variables);
        with_env(thread, generation, |env| subrequest::begin(&mut exchange, outer, env, wanted))?;
        Ok(Inner { is_kept, ..Inner::of(generation, how, exchange, guard, (room, variables)) })
    }

    /// Makes one of an exchange that has begun; its answer is dropped.
    fn of(
        generation: &Pinned,
        how: (Run, BeginInner),
        exchange: Box<Exchange>,
        guard: ConnGuard,
        (room, variables): (Rc<Cell<usize>>, Variables),
    ) -> Inner {
        let (pipe, end) = Pipe::new(&PipeBudget::new(ON_THE_WAY));
        pipe.end();
        let back = Back::default();
        let lent = Lent { exchange: Some(exchange), back: Rc::clone(&back) };
        let serving = serve(guard, Stream::Piped(end), lent, Rc::clone(generation), (how, variables));
        Inner {
            serving: Some(Box::pin(serving)),
            back,
            pipe,
            room,
            is_kept: false,
            body: Vec::new(),
            dropped: 0,
            variables,
            ended: None,
        }
    }

    /// Runs it on, and takes what has come of its answer. Returns true when it has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(serving) = &mut self.serving else { return true };
        let polled = serving.as_mut().poll(cx);
        self.take_answer();
        let Poll::Ready(ended) = polled else { return false };
        self.ended = Some(ended);
        self.serving = None;
        true
    }

    fn take_answer(&mut self) {
        let outgoing = self.pipe.outgoing();
        let count = outgoing.len();
        if count == 0 {
            return;
        }
        let wanted = if self.is_kept { count.min(self.room.get()) } else { 0 };
        self.room.set(self.room.get() - wanted);
        self.body.extend_from_slice(&outgoing[..wanted]);
        drop(outgoing);
        self.dropped += count - wanted;
        // Too much of what is kept cannot be used; of what is not, the end need not be waited for.
        match self.dropped > if self.is_kept { 0 } else { DROPPED } {
            true => self.pipe.break_off(),
            false => self.pipe.consume(count),
        }
    }

    /// Runs it on to the next piece of its answer; `None` is its end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        let is_ended = match &mut self.serving {
            None => true,
            Some(serving) => match serving.as_mut().poll(cx) {
                Poll::Pending => false,
                Poll::Ready(ended) => {
                    self.ended = Some(ended);
                    self.serving = None;
                    true
                }
            },
        };
        let piece = self.pipe.outgoing().to_vec();
        if !piece.is_empty() {
            self.pipe.consume(piece.len());
            return Poll::Ready(Some(piece));
        }
        if is_ended { Poll::Ready(None) } else { Poll::Pending }
    }

    /// Waits for its end, whatever its client does.
    async fn finish(mut self) {
        poll_fn(|cx| if self.poll(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// Ends it, and gives the request around it back what both have shared.
    fn give_back(&mut self, outer: &mut Exchange) -> Option<Box<Exchange>> {
        self.serving = None;
        let mut exchange = self.back.take()?;
        subrequest::end(&mut exchange, outer, self.variables);
        Some(exchange)
    }

    fn into_response(mut self, outer: &mut Exchange) -> Option<Subresponse> {
        let Served { is_whole, .. } = self.ended.take()?;
        let exchange = self.give_back(outer)?;
        let is_refused = exchange.subrequests.is_refused();
        Some(Subresponse {
            exchange,
            body: self.body,
            is_whole: is_whole && self.dropped == 0 && !is_refused,
        })
    }
}

async fn serve(
    guard: ConnGuard,
    stream: Stream,
    mut lent: Lent,
    generation: Pinned,
    ((run, begin_inner), variables): ((Run, BeginInner), Variables),
) -> Served {
    let Some(exchange) = lent.exchange.as_deref_mut() else {
        return Served { is_whole: false, _stream: stream, _in_flight: None };
    };
    let ConnGuard { thread, conn_state, .. } = &guard;
    conn_state.serve(generation.number);
    let mut client = Client::new(stream, thread, conn_state);
    if variables == Variables::Shared {
        client.in_flight.make_part(exchange);
    }
    let mut cx = RequestCx {
        client: &mut client,
        exchange,
        generation: &generation,
        run_inner: run,
        begin_inner,
        span: Span::none(),
    };
    let is_whole = run(&mut cx).await;
    client.read_buffer.release(&thread.buffers);
    Served { is_whole, _stream: client.stream, _in_flight: Some(client.in_flight) }
}

/// A request that waits for others inside it. However that ends, it has back what it shares with them.
struct Waited<'c, 'x> {
    cx: &'c mut RequestCx<'x>,
    inner: Vec<Inner>,
    /// A poll has found them unfinished: others were served meanwhile.
    has_waited: bool,
    /// The client is watched: they end if it leaves.
    watches: bool,
    /// The one that is polled first.
    next: usize,
}

/// Polls requests that are served side by side, from the one on whose turn it is. Returns true when all have ended. After so
/// much time the rest is polled later: each may take long, and there may be many inside each of them.
fn poll_in_turns(all: &mut [Inner], next: &mut usize, cx: &mut Context<'_>) -> bool {
    let began = Instant::now();
    let mut has_ended = true;
    for _ in 0..all.len() {
        let at = *next % all.len();
        *next = at + 1;
        has_ended &= all[at].poll(cx);
        if began.elapsed() > AT_ONCE {
            cx.waker().wake_by_ref();
            return false;
        }
    }
    has_ended
}

impl<'c, 'x> Waited<'c, 'x> {
    fn new(cx: &'c mut RequestCx<'x>) -> Self {
        Waited { cx, inner: Vec::new(), has_waited: false, watches: true, next: 0 }
    }

    fn begin(&mut self, wanted: Subrequest, room: Rc<Cell<usize>>) -> Result<(), TooDeep> {
        let guard = ConnGuard::without_connection(Rc::clone(&self.cx.client.thread));
        self.inner.push(Inner::begin(self.cx, wanted, guard, room)?);
        Ok(())
    }

    /// Waits for more of the only one's answer; `None` is its end.
    async fn piece(&mut self) -> Result<Option<Vec<u8>>, Unfinished> {
        poll_fn(|cx| {
            let polled = self.inner.first_mut().map_or(Poll::Ready(None), |inner| inner.poll_piece(cx));
            match polled {
                Poll::Ready(piece) => Poll::Ready(Ok(piece)),
                Poll::Pending => self.poll_gone(cx).map(|()| Err(Unfinished::Broken)),
            }
        })
        .await
    }

    /// Runs them until all have ended. Returns false if the client is gone before.
    async fn run_to_end(&mut self) -> bool {
        poll_fn(|cx| {
            let has_ended = poll_in_turns(&mut self.inner, &mut self.next, cx);
            if has_ended { Poll::Ready(true) } else { self.poll_gone(cx).map(|()| false) }
        })
        .await
    }

    /// Becomes ready if the client is watched, and gone.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.has_waited = true;
        if self.watches {
            match self.cx.client.stream.poll_closed(cx) {
                Poll::Ready(true) => return Poll::Ready(()),
                Poll::Ready(false) => self.watches = false,
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }

    /// Lets others be served after requests that have waited for nothing: there may be thousands of them.
    async fn take_turns(&self) {
        if !self.has_waited {
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Waited<'_, '_> {
    fn drop(&mut self) {
        for inner in &mut self.inner {
            inner.give_back(self.cx.exchange);
        }
    }
}

/// Requests inside one whose script goes on meanwhile.
struct RunningInner {
    inner: Vec<Inner>,
    next: usize,
}

impl RunningRequests for RunningInner {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match poll_in_turns(&mut self.inner, &mut self.next, cx) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    fn finish(self: Box<Self>, outer: &mut Exchange) {
        outer.subrequests.ended.clear();
        for inner in self.inner {
            let ended = inner.into_response(outer);
            outer.subrequests.ended.extend(ended);
        }
    }
}

/// Begins requests inside another one; `None` if they are too deep inside each other. `how` they are served comes as an
/// argument, as for all of them.
pub(crate) fn begin(
    thread: &Rc<ThreadContext>,
    generation: &Pinned,
    how: (Run, BeginInner),
    outer: &mut Exchange,
    wanted: Vec<Subrequest>,
) -> Option<Box<dyn RunningRequests>> {
    let room = room_for(&wanted);
    let mut running = Vec::new();
    for wanted in wanted {
        let guard = ConnGuard::without_connection(Rc::clone(thread));
        running.push(Inner::begin_in(thread, generation, how, outer, wanted, guard, Rc::clone(&room)).ok()?);
    }
    Some(Box::new(RunningInner { inner: running, next: 0 }))
}

/// Returns how many bytes are kept of all answers together: each request was given all the room that there was.
fn room_for(wanted: &[Subrequest]) -> Rc<Cell<usize>> {
    let room = wanted.iter().map(|wanted| wanted.kept).filter(|kept| *kept > 0).min();
    Rc::new(Cell::new(room.unwrap_or(0)))
}

impl RequestCx<'_> {
    /// Serves requests inside this one, and keeps their answers in the order in which they are wanted.
    pub(super) async fn subrequests(&mut self, wanted: Vec<Subrequest>) -> Wake {
        self.exchange.subrequests.ended.clear();
        // Those that share variables run one after another.
        let at_once = match wanted.iter().any(|wanted| wanted.variables == Variables::Shared) {
            true => 1,
            false => wanted.len(),
        };
        let room = room_for(&wanted);
        let mut wanted = wanted.into_iter();
        // As all waits of a script, this one ends with the client only if the script is to know that it has left.
        let watches = if self.exchange.script.waiting { self.watches_client() } else { true };
        while wanted.len() > 0 {
            let mut waited = Waited::new(self);
            waited.watches = watches;
            for wanted in wanted.by_ref().take(at_once) {
                if waited.begin(wanted, Rc::clone(&room)).is_err() {
                    return Wake::Failed(500);
                }
            }
            if !waited.run_to_end().await {
                waited.cx.log(Level::Info, "client prematurely closed connection");
                return Wake::Failed(499);
            }
            waited.take_turns().await;
            for inner in std::mem::take(&mut waited.inner) {
                let ended = inner.into_response(waited.cx.exchange);
                waited.cx.exchange.subrequests.ended.extend(ended);
            }
            waited.cx.track_choices();
        }
        Wake::Done
    }

    /// Serves the request that a filter of the body has asked for. What is shown of its answer goes to the client as it comes;
    /// no more than a pipe holds waits for that.
    pub(crate) async fn include(&mut self) -> Result<(), Unfinished> {
        let Some(include) = self.exchange.output.take_include() else { return Ok(()) };
        let (is_shown, kept) = (include.is_shown, include.request.kept);
        let mut waited = Waited::new(self);
        if waited.begin(include.request, Rc::default()).is_err() {
            let ended = Included { too_deep: true, ..Included::default() };
            waited.cx.engine(|exchange, env| output::included(exchange, env, ended));
            return Ok(());
        }
        let mut ended = Included::default();
        while let Some(piece) = waited.piece().await? {
            let cx = &mut *waited.cx;
            if is_shown {
                cx.engine(|exchange, env| output::insert(exchange, env, &piece));
                cx.send_wire().await?;
            } else if ended.body.len() + piece.len() > kept {
                let text = format!("too big subrequest response: {}", ended.body.len() + piece.len());
                cx.log(Level::Error, text);
                return Err(Unfinished::Short);
            } else {
                ended.body.extend_from_slice(&piece);
            }
        }
        waited.take_turns().await;
        let Some(mut inner) = waited.inner.pop() else { return Ok(()) };
        let exchange = inner.give_back(waited.cx.exchange);
        waited.cx.track_choices();
        let (Some(Served { is_whole, .. }), Some(exchange)) = (inner.ended, exchange) else { return Ok(()) };
        ended.status = exchange.response.status;
        ended.failed = exchange.subrequests.is_refused();
        if !is_whole && !ended.failed {
            // What belongs here is not all here.
            return Err(Unfinished::Short);
        }
        waited.cx.engine(|exchange, env| output::included(exchange, env, ended));
        Ok(())
    }

    /// Sends the request once more, for a response that is kept in the place of one that is too old; nothing waits for it. If
    /// too many such requests are under way, the next one that asks for it tries again.
    pub(crate) fn update_kept(&mut self, record: CacheRecord) {
        let limit = *self.generation.config.main.worker_connections;
        let thread = &self.client.thread;
        let Some(copy) = thread.registry.begin_copy(limit) else { return };
        let guard = ConnGuard::new(Rc::clone(thread), thread.registry.open());
        let mut exchange = thread.buffers.lease_exchange();
        if self.engine(|outer, env| subrequest::begin_again(&mut exchange, outer, env)).is_err() {
            return;
        }
        exchange.upstream.cache = Some(Box::new(record));
        let how = (self.run_inner, self.begin_inner);
        let inner = Inner::of(self.generation, how, exchange, guard, (Rc::default(), Variables::Copied));
        drop(spawn_local(async move {
            inner.finish().await;
            drop(copy);
        }));
    }

    /// Serves requests inside this one that nothing waits for but the end of the process. There are so many at a time and no
    /// more: further ones are dropped, since what they are copies of must not suffer from where they go.
    pub(super) fn background(&mut self, wanted: Vec<Subrequest>) -> Wake {
        let limit = *self.generation.config.main.worker_connections;
        for wanted in wanted {
            let thread = &self.client.thread;
            let Some(copy) = thread.registry.begin_copy(limit) else {
                if thread.registry.may_log_dropped(thread.clock.now().monotonic_ms() / 1000) {
                    self.log(Level::Warn, "requests of \"mirror\" are dropped: too many are under way");
                }
                continue;
            };
            let guard = ConnGuard::new(Rc::clone(thread), thread.registry.open());
            match Inner::begin(self, wanted, guard, Rc::default()) {
                Ok(inner) => drop(spawn_local(async move {
                    inner.finish().await;
                    drop(copy);
                })),
                Err(TooDeep) => return Wake::Failed(500),
            }
        }
        Wake::Done
    }
}
