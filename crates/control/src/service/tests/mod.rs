//! The control plane over scripted workers, with real stores and real sockets.

mod commits;
mod confirmations;
mod defaults;
mod discovery;
mod families;
mod gates;
mod groups;
mod hold_lives;
mod holds;
mod horizons;
mod long_history;
mod made_groups;
mod registries;
mod reloads;
mod target_states;
mod unchanged;
mod waits;

use super::horizon::{MAX_WATCHED, reasons};
use super::{ControlHandle, UndoWhat, now_ms};
use crate::event::EventKind;
use crate::horizon::{Horizon, HorizonState};
use crate::options::{HoldOptions, HoldOrder, HoldStreams, Options, Wait};
use crate::receipt::{DrainState, Outcome, Receipt};
use crate::testing::{FakeDataPlane, config, open, two_groups};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use switch::{Action, Code, Key, KeyKind, Meta, Order, Refusal, Route, Tables};

/// Returns the folder of the files.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("state")).unwrap();
    folder
}

/// Returns a control plane with one switch, and its workers.
fn start(prefix: &Path, switch: &str) -> (ControlHandle, Arc<FakeDataPlane>) {
    let data_plane = FakeDataPlane::new();
    let (control, _) = open(&config(prefix, &two_groups(switch)), &data_plane).unwrap();
    (control, data_plane)
}

fn key(text: &str) -> Key {
    Key::parse(KeyKind::Host, text.as_bytes(), 255).unwrap()
}

fn meta() -> Meta {
    Meta { actor: "tester".into(), ..Meta::default() }
}

fn to(changes: &[(&str, &str)], meta: Meta) -> Order {
    let set = changes
        .iter()
        .map(|(name, route)| (key(name), (!route.is_empty()).then(|| Route::parse(route).unwrap())));
    Order { action: Action::Set(set.collect()), meta }
}

/// Switches one key.
async fn set(control: &ControlHandle, name: &str, route: &str) -> Result<Receipt, Refusal> {
    control.order("live", to(&[(name, route)], meta()), Options::default()).await
}

/// Waits until something is so.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
