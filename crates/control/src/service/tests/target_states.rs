//! What orders say of targets that cannot serve.

use super::*;
use engine::modules::switch::GROUPS_NAME;
use switch::{ServerOrder, ServerVerb};

const DOWN: &str = "green is down: 127.0.0.1:2 is left alone since requests have failed there (max_fails)";

/// Returns a control plane whose workers leave the only server of green alone.
fn start_ill(prefix: &Path, switch: &str) -> ControlHandle {
    let (control, data_plane) = start(prefix, switch);
    data_plane.tell(|workers| workers.failed = vec![("green", "127.0.0.1:2".to_owned())]);
    control
}

#[tokio::test]
async fn an_order_that_leads_to_a_group_which_is_down_says_so() {
    let folder = folder();
    let control = start_ill(folder.path(), "state memory;");
    let planned = Options { dry_run: true, ..Options::default() };
    let dry = control.order("live", to(&[("a.example", "green")], meta()), planned.clone()).await.unwrap();
    assert_eq!(dry.notes, [DOWN]);
    for route in ["green", "green=10 blue=90"] {
        let receipt = set(&control, "a.example", route).await.unwrap();
        assert_eq!((receipt.outcome, &receipt.notes[..]), (Outcome::Committed, &[DOWN.to_owned()][..]));
    }
    // Away from there nothing is said, nor of a share that gets no request.
    for route in ["green=0 blue=100", "blue"] {
        let receipt = set(&control, "a.example", route).await.unwrap();
        assert_eq!(receipt.notes, Vec::<String>::new(), "{route}");
    }
    let undone = control.undo("live", UndoWhat::Commit(4), meta(), planned).await.unwrap();
    assert_eq!(undone.notes, Vec::<String>::new());
    control.stop();
}

#[tokio::test]
async fn a_hold_says_that_its_requests_would_go_to_a_group_which_is_down() {
    let folder = folder();
    let control = start_ill(folder.path(), "state memory;");
    set(&control, "a.example", "green").await.unwrap();
    let hold = |name: &str| HoldOrder {
        key: key(name),
        options: HoldOptions::default(),
        end: None,
        actor: "tester".into(),
        reason: None,
    };
    assert_eq!(control.hold("live", hold("a.example")).await.unwrap().notes, [DOWN]);
    let notes = control.hold("live", hold("b.example")).await.unwrap().notes;
    assert!(!notes.iter().any(|note| note.contains("down")), "{notes:?}");
    control.stop();
}

#[tokio::test]
async fn a_gate_that_has_asked_a_target_has_said_it() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let well = listener.local_addr().unwrap();
    let folder = folder();
    let http = format!(
        "upstream blue {{ server 127.0.0.1:1; }} upstream green {{ server {well}; }}
         switch $host $live {{ default blue; state memory; gate healthy=1 timeout=2s; }}"
    );
    let data_plane = FakeDataPlane::new();
    let (control, _) = open(&config(folder.path(), &http), &data_plane).unwrap();
    data_plane.tell(|workers| workers.failed = vec![("green", well.to_string())]);
    let receipt = set(&control, "a.example", "green").await.unwrap();
    assert_eq!((receipt.gate[0].passed, &receipt.notes[..]), (true, &[][..]));
    control.stop();
}

#[tokio::test]
async fn a_group_whose_servers_orders_have_taken_out_is_down_too() {
    let folder = folder();
    let (control, _) = start(folder.path(), "state memory;");
    let drain = |server: &str| {
        Action::Servers(vec![ServerOrder {
            group: "green".into(),
            server: server.into(),
            verb: ServerVerb::Drain,
        }])
    };
    let forced = Meta { force: true, ..meta() };
    let order = Order { action: drain("127.0.0.1:2"), meta: forced.clone() };
    let drained = control.order(GROUPS_NAME, order, Options::default()).await.unwrap();
    assert_eq!(drained.notes, ["green is down: 127.0.0.1:2 is draining"], "the order itself says so");
    let receipt =
        control.order("live", to(&[("a.example", "green")], forced), Options::default()).await.unwrap();
    assert_eq!(receipt.notes, ["green is down: 127.0.0.1:2 is draining"]);
    control.stop();
}
