//! Deterministic simulation of a worker thread: its real code from a connection's first byte to its last (heads, phases,
//! peers, tries, uploads, the relay and its spool, idle connections, deadlines), between arbitrary clients and origins, over
//! connections whose pieces, delays, resets and ends come from the seed.
//!
//! Owns the world, and what the product asks of it instead of the system: a connection ([`connect`]), the time of day
//! ([`system_us`]), room on the disk ([`ask_disk`]). Must never take a decision of the product.
//!
//! Nothing waits in real time: tokio's clock is paused, and jumps when no task can run.

mod clients;
mod end;
mod harness;
mod message;
mod origins;
mod settings;
mod switching;
mod wire;

use engine::host::Level;
use harness::Harness;
use settings::Settings;
use sim::{Scenario, Seeded, explore, tell, violated};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::rc::{Rc, Weak};
use std::time::Duration;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout};
use transport::simulated;
use transport::stream::{Socket, Stream};
use upstream::Address;

#[test]
fn simulation_relay() {
    explore(&Scenario {
        name: "relay",
        invariants: &[
            "own-answer",
            "well-framed",
            "whole-is-whole",
            "what-came-goes",
            "no-false-alarm",
            "reuse-safe",
            "sent-once",
            "request-whole",
            "memory-bounded",
            "timer-never-early",
            "timer-in-time",
            "cut-at-once",
            "blames-no-peer",
            "relay-ends",
            "idle-bound",
            "nothing-left",
            "undecided-goes-new",
            "drained-gets-none",
        ],
        usual: 150,
        kept: &[20_826],
        run: |mut seeded| {
            let fate = Fate::draw(&mut seeded);
            let settings = Settings::draw(&mut seeded);
            run(fate, settings, seeded);
        },
    });
}

/// Requests that have not asked their switch yet, one publication after the other: clients send a head and think about the body,
/// and nothing else goes wrong.
#[test]
fn simulation_undecided() {
    explore(&Scenario {
        name: "undecided",
        invariants: &[
            "own-answer",
            "well-framed",
            "whole-is-whole",
            "no-false-alarm",
            "reuse-safe",
            "sent-once",
            "request-whole",
            "memory-bounded",
            "timer-never-early",
            "timer-in-time",
            "blames-no-peer",
            "relay-ends",
            "idle-bound",
            "nothing-left",
            "undecided-goes-new",
            "drained-gets-none",
        ],
        usual: 150,
        kept: &[],
        run: |mut seeded| {
            let fate = Fate::mild(&mut seeded);
            let settings = Settings::undecided(&mut seeded);
            run(fate, settings, seeded);
        },
    });
}

/// Runs a world on a clock of its own.
fn run(fate: Fate, settings: Settings, seeded: Seeded) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .on_thread_unpark(transport::clock::turn)
        .build_local(tokio::runtime::LocalOptions::default());
    simulated::enter(Some(simulated::World { epoch_us: system_us, ask_disk }));
    runtime.unwrap().block_on(live(fate, settings, seeded));
    WORLD.take();
    JUMPED_US.set(None);
    simulated::enter(None);
}

thread_local! {
    static WORLD: RefCell<Weak<World>> = const { RefCell::new(Weak::new()) };
    /// How far the time of day is off the one it began with; `None` outside of a world.
    static JUMPED_US: Cell<Option<(Instant, i64)>> = const { Cell::new(None) };
}

fn world() -> Option<Rc<World>> {
    WORLD.with_borrow(Weak::upgrade)
}

/// Returns the time of day in this thread's world, in microseconds.
fn system_us() -> Option<u64> {
    let (began, off) = JUMPED_US.get()?;
    Some((1_800_000_000_000_000 + began.elapsed().as_micros() as i64 + off) as u64)
}

/// Connects to an origin of this thread's world.
pub(crate) fn connect(address: &Address) -> Option<impl Future<Output = io::Result<Stream>>> {
    let world = world()?;
    let address = address.clone();
    Some(async move {
        origins::connect(&world, &address).await.map(|wire| Stream::Plain(Socket::Simulated(Box::new(wire))))
    })
}

/// Fails if this world's disk has no room for a new file.
fn ask_disk() -> io::Result<()> {
    match world() {
        Some(world) if world.seeded.borrow_mut().chance(world.fate.full_disk) => {
            tell!("the disk is full");
            Err(nix::errno::Errno::ENOSPC.into())
        }
        _ => Ok(()),
    }
}

/// Records a line of the product's error log.
pub(crate) fn heard(level: Level, connection: u64, text: &[u8]) {
    tell!("[{}] *{connection} {}", level.name(), String::from_utf8_lossy(text));
}

/// How much goes wrong in a world.
struct Fate {
    /// Percentage of responses that are broken.
    faulty: u64,
    /// Percentage of connections that are refused, or never established.
    unreachable: u64,
    /// Percentage of temporary files that find no room.
    full_disk: u64,
    /// Origins may be silent for longer than the timeout.
    silent: bool,
    /// Clients leave, stop reading, or never send the rest.
    rude: bool,
    /// All requests under way are cut at some time.
    cuts: bool,
    /// The clock on the wall is set.
    jumps: bool,
}

impl Fate {
    fn draw(seeded: &mut Seeded) -> Fate {
        let calm = seeded.chance(30);
        let mut percent = |of: &[u64]| if calm { 0 } else { *seeded.one_of(of) };
        Fate {
            faulty: percent(&[0, 10, 25, 60]),
            unreachable: percent(&[0, 0, 10, 40]),
            full_disk: percent(&[0, 0, 0, 30]),
            silent: percent(&[0, 0, 1]) > 0,
            rude: percent(&[0, 0, 1]) > 0,
            cuts: percent(&[0, 0, 0, 1]) > 0,
            jumps: percent(&[0, 1]) > 0,
        }
    }

    /// Clients may be rude and the clock may jump; everything else goes well.
    fn mild(seeded: &mut Seeded) -> Fate {
        let (rude, jumps) = (seeded.chance(30), seeded.chance(30));
        Fate { faulty: 0, unreachable: 0, full_disk: 0, silent: false, rude, cuts: false, jumps }
    }

    /// Returns true if only the origins decide how long something takes.
    fn is_undisturbed(&self) -> bool {
        self.full_disk == 0 && !(self.rude || self.cuts)
    }

    /// Returns true if the origins do nothing wrong.
    fn is_innocent(&self) -> bool {
        self.faulty + self.unreachable == 0 && !self.silent
    }

    /// Returns true if a client that behaves gets its response: what goes wrong concerns others.
    fn is_even(&self) -> bool {
        self.full_disk == 0 && !(self.silent || self.cuts)
    }

    fn is_calm(&self) -> bool {
        let Fate { faulty, unreachable, full_disk, silent, rude, cuts, jumps: _ } = *self;
        faulty + unreachable + full_disk == 0 && !(silent || rude || cuts)
    }
}

/// The world.
struct World {
    settings: Settings,
    fate: Fate,
    harness: Harness,
    seeded: RefCell<Seeded>,
    /// All requests; number n is at n - 1.
    asked: RefCell<Vec<Rc<clients::Asked>>>,
    /// Connections to origins that are open.
    links: Cell<usize>,
    /// When everything was cut.
    cut: Cell<Option<Instant>>,
    moves: switching::Moves,
    drains: switching::Drains,
    /// How long each connection that was never established was waited for, in ms.
    waited_ms: RefCell<Vec<u64>>,
}

/// Returns the time between two instants, in ms.
fn between_ms(since: Instant, until: Instant) -> u64 {
    until.saturating_duration_since(since).as_millis() as u64
}

/// How late something may happen, in ms: the clock has whole milliseconds, and tasks take turns.
const LATE_MS: u64 = 10;

/// Runs a world: clients come and go, and fate strikes.
async fn live(fate: Fate, settings: Settings, mut seeded: Seeded) {
    JUMPED_US.set(Some((Instant::now(), 0)));
    tell!("{settings:?}");
    let harness = Harness::open(&settings.text());
    let world = Rc::new(World {
        settings,
        fate,
        harness,
        seeded: RefCell::new(seeded.fork()),
        asked: RefCell::default(),
        links: Cell::new(0),
        cut: Cell::new(None),
        moves: switching::Moves::new(),
        drains: switching::Drains::default(),
        waited_ms: RefCell::default(),
    });
    WORLD.set(Rc::downgrade(&world));
    let visits: Vec<_> = (0..seeded.within(1..=3))
        .map(|number| spawn_local(clients::visit(Rc::clone(&world), number, seeded.fork())))
        .collect();
    // Draws of its own, so that the worlds without a switch stay what they were.
    let aside = seeded.clone().fork();
    let moved = world.settings.switched.then(|| spawn_local(switching::move_about(Rc::clone(&world), aside)));
    let decided = spawn_local(decide(Rc::clone(&world), seeded));
    let all = async {
        for visit in visits {
            // Its panic was recorded.
            let _ = visit.await;
        }
    };
    if timeout(Duration::from_secs(3_600), all).await.is_err() {
        violated("relay-ends", "a client still waits after an hour".to_owned());
    }
    sim::note("relay-ends");
    decided.abort();
    moved.inspect(tokio::task::JoinHandle::abort);
    end::wait_and_see(&world).await;
}

/// Carries fate out.
async fn decide(world: Rc<World>, mut seeded: Seeded) {
    if world.fate.jumps {
        sleep(Duration::from_millis(seeded.within(0..=800))).await;
        let jump_ms = seeded.within(0..=200_000) as i64 - 100_000;
        tell!("the clock on the wall is set by {jump_ms} ms");
        JUMPED_US.set(JUMPED_US.get().map(|(began, off)| (began, off + jump_ms * 1000)));
    }
    if world.fate.cuts {
        sleep(Duration::from_millis(seeded.within(0..=600))).await;
        tell!("all requests under way are cut");
        world.cut.set(Some(Instant::now()));
        world.harness.thread.registry.cut_up_to(u64::MAX);
    }
}
