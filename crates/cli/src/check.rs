//! The part of a configuration test (`-t`) that concerns the entries of switches, and orders on servers.
//!
//! Owns: whom to ask. A running server checks its open stores as a reload would; without one, copies of the stores are
//! checked as a start would. Must never: open a store in its place, which would create files beside it.

use crate::client::{ApiClient, Call};
use crate::endpoint::Endpoint;
use crate::tls_options::TlsOptions;
use control::api::types::{CheckOrder, Checked};
use control::{Declarations, StoreCheck};
use engine::Config;
use hyper::Method;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;

/// Returns the notes about a configuration, or what a reload or a start would refuse. With `strict`, a store that cannot be
/// checked is a fault.
pub(crate) fn check(config: &Config, strict: bool) -> Result<Vec<String>, Vec<String>> {
    let declared = Declarations::of(config);
    let StoreCheck { mut faults, mut unchecked, mut notes } = ask(config, &declared);
    // What orders say of servers is merged anew with any configuration: a copy is as good as the open store.
    let groups = control::check_groups(config);
    faults.extend(groups.faults);
    unchecked.extend(groups.unchecked);
    notes.extend(groups.notes);
    if strict {
        faults.append(&mut unchecked);
    }
    unchecked.extend(notes);
    if faults.is_empty() { Ok(unchecked) } else { Err(faults) }
}

fn ask(config: &Config, declared: &Declarations) -> StoreCheck {
    let unchecked = |why: String| match declared.switches.is_empty() {
        true => StoreCheck::default(),
        false => StoreCheck {
            unchecked: vec![format!("stores of switches not checked: {why}")],
            ..StoreCheck::default()
        },
    };
    let Some(socket) = config.control.socket.as_ref() else {
        return unchecked("the control socket is off, so that a running server cannot be asked".to_owned());
    };
    match UnixStream::connect(&socket.path) {
        Ok(_) => {}
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            return control::check_stores(declared);
        }
        Err(error) => return unchecked(format!("connect() to {} failed ({error})", socket.path.display())),
    }
    // A plain struct: there is nothing in it that JSON could not say.
    let body = serde_json::to_vec(&CheckOrder::from(declared)).unwrap_or_default();
    let call = Call { method: Method::POST, body: Some(body), ..Call::get("/v1/check") };
    let asked = ApiClient::new(Endpoint::Socket(socket.path.clone()), None, &TlsOptions::default())
        .and_then(|client| client.ask::<Checked>(&call));
    match asked {
        Ok((Checked { faults, unchecked, notes }, _)) => StoreCheck { faults, unchecked, notes },
        Err(error) => unchecked(format!("the running server did not answer: {}", error.problem.text)),
    }
}
