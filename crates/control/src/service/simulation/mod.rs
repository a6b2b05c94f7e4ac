//! The control plane under deterministic simulation: its real code, over a disk that fails, slow workers, servers that die and come back, operators who repeat
//! themselves, a clock on the wall that is set, and processes and machines that stop and begin again at any instant.
//!
//! Owns: the world, and its fate. Nothing here has a thread or waits for real: tokio's clock stands still until no task
//! has anything to do, and then jumps.

mod answers;
mod clocks;
mod damage;
mod disk;
mod end;
mod keepers;
mod operators;
mod process;
mod sides;
mod workers;

pub(super) use clocks::{now, now_us};
use disk::{Disk, SharedDisk};
use process::Process;
pub(super) use process::{is_alive, process_name};
pub(crate) use sides::probe;
use sim::{Scenario, Seeded, explore, tell};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Keys that requests have and orders change.
const KEYS: [&str; 4] = ["a.example", "b.example", "c.example", HELD_BY_ORDERS];
/// Changed by one person alone, who has it held meanwhile.
const HELD_BY_ORDERS: &str = "h.example";
/// Who that is.
const HOLDER: &str = "holder";

#[test]
fn simulation_control() {
    explore(&Scenario {
        name: "control",
        invariants: &[
            "durable-before-acknowledged",
            "acknowledged-is-durable",
            "acknowledged-everywhere",
            "revision-never-back",
            "refused-changes-nothing",
            "idempotent-once",
            "chain-verifies",
            "history-is-whole",
            "undo-restores",
            "settled-once",
            "never-early",
            "goes-back-in-time",
            "never-to-a-dead-side",
            "waits-for-a-first-answer",
            "nothing-pending-forever",
            "drained-is-empty",
            "answers-to-their-commit",
            "held-go-new",
            "hold-times-out",
            "holds-end",
            "converges",
            "unchanged-stays-unchanged",
        ],
        usual: 200,
        kept: &[537, 3170, 79_571],
        run: |seeded| {
            in_simulated_time(live(seeded));
            sides::end();
        },
    });
}

/// Runs a life whose time passes whenever everything waits.
fn in_simulated_time(life: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(life);
    clocks::end();
}

/// State shared by the processes and their workers, whichever of them is alive.
struct Shared {
    disk: SharedDisk,
    /// Workers may be stuck for longer than anybody waits.
    stuck: bool,
    /// How many processes may write to the store at a time.
    writers: usize,
}

/// How much goes wrong in this world.
struct Fate {
    faulty: u64,
    crashes: bool,
    jumps: bool,
    outages: bool,
}

/// The world.
struct World {
    shared: Arc<Shared>,
    fate: Fate,
    processes: RefCell<Vec<Rc<Process>>>,
    began: Instant,
    over: Cell<bool>,
    ids: Cell<u64>,
    /// The answers to operators' orders.
    told: RefCell<operators::Told>,
}

impl World {
    /// Returns a world in which as much goes wrong as the seed says.
    fn of(seeded: &mut Seeded) -> Rc<World> {
        let calm = seeded.chance(30);
        let fate = Fate {
            faulty: if calm { 0 } else { *seeded.one_of(&[0, 0, 3, 12]) },
            crashes: !calm && seeded.chance(60),
            jumps: !calm && seeded.chance(30),
            outages: !calm && seeded.chance(40),
        };
        let shared = Arc::new(Shared {
            disk: Disk::new(seeded.fork(), fate.faulty),
            stuck: !calm && seeded.chance(20),
            writers: if !calm && seeded.chance(30) { 2 } else { 1 },
        });
        Rc::new(World {
            shared,
            fate,
            processes: RefCell::default(),
            began: Instant::now(),
            over: Cell::new(false),
            ids: Cell::new(0),
            told: RefCell::default(),
        })
    }

    fn is_over(&self) -> bool {
        self.over.get()
    }

    fn next_id(&self) -> u64 {
        self.ids.set(self.ids.get() + 1);
        self.ids.get()
    }

    /// Returns the clock by which held requests wait.
    fn clock_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    fn any_process(&self, seeded: &mut Seeded) -> Option<Rc<Process>> {
        let processes = self.processes.borrow();
        (!processes.is_empty()).then(|| seeded.one_of(&processes).clone())
    }

    fn is_alive(&self, number: u64) -> bool {
        self.processes.borrow().iter().any(|process| process.number == number)
    }

    /// Is nothing in this world that could keep a process from doing something in time? A clock that is set does not, nor
    /// does the death of another process.
    fn is_calm(&self) -> bool {
        let Fate { faulty, outages, .. } = self.fate;
        faulty == 0 && !(outages || self.shared.stuck)
    }
}

/// A life: people and clients do as they like, and fate does what it likes with the processes.
async fn live(mut seeded: Seeded) {
    clocks::begin();
    sides::begin();
    let world = World::of(&mut seeded);
    let crowd = tokio::task::LocalSet::new();
    for _ in 0..2 {
        crowd.spawn_local(workers::visit(world.clone(), seeded.fork()));
    }
    for number in 0..2 {
        crowd.spawn_local(operators::give_orders(world.clone(), number, seeded.fork()));
    }
    crowd.spawn_local(operators::hold_and_switch(world.clone(), seeded.fork()));
    if seeded.chance(50) {
        crowd.spawn_local(operators::order_what_is_there(world.clone(), seeded.fork()));
    }
    // Drawn from a copy, so that no other choice of a seed moves.
    crowd.spawn_local(sides::live_and_die(world.clone(), seeded.clone().fork()));
    crowd.spawn_local(answers::read_receipts(world.clone(), seeded.clone().fork().fork()));
    process::drive(&world, crowd, decide(world.clone(), seeded)).await;
}

/// Fate.
async fn decide(world: Rc<World>, mut seeded: Seeded) {
    let Fate { crashes, jumps, outages, .. } = world.fate;
    process::begin(&world, &mut seeded).await;
    for _ in 0..seeded.within(3..=7) {
        sleep(Duration::from_millis(seeded.within(50..=2_500))).await;
        match seeded.below(10) {
            0..3 if crashes => {
                process::crash(&world, &mut seeded);
                sleep(Duration::from_millis(seeded.within(0..=15_000))).await;
                process::begin(&world, &mut seeded).await;
            }
            3..5 if world.shared.writers > 1 && world.processes.borrow().len() == 1 => {
                tell!("a second process begins, as in a binary upgrade");
                process::begin(&world, &mut seeded).await;
            }
            5 if world.processes.borrow().len() > 1 => process::crash(&world, &mut seeded),
            6..8 if jumps => {
                let change_ms = seeded.within(0..=40_000) as i64 - 15_000;
                tell!("the clock on the wall is set by {change_ms} ms");
                clocks::set_wall(change_ms);
            }
            8..10 if outages => {
                tell!("the disk is out of order for a while");
                world.shared.disk.lock().unwrap().out_of_order = true;
                sleep(Duration::from_millis(seeded.within(100..=5_000))).await;
                world.shared.disk.lock().unwrap().out_of_order = false;
            }
            _ => {}
        }
    }
    end::wait_and_see(&world, &mut seeded).await;
}
