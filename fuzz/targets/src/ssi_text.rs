//! SSI commands in bodies: `ssi` of the engine, run through its output.
//!
//! A body comes out the same in whatever pieces it comes in, and comes to an end; a request that it includes is answered with
//! its own URI. Without a command in it, it comes out as it is, but for the beginning of one at its end: nginx drops that, too.

use crate::dice::cuts;
use crate::world::{World, config_of, exchange};
use engine::host::Env;
use engine::output::{self, BodyStep, FilterFailed, Included};
use std::sync::LazyLock;

static CONFIG: LazyLock<engine::Config> = LazyLock::new(|| {
    config_of(
        "events {} http { server { listen 80; location / { ssi on; ssi_silent_errors off; set $a b; return 204; } } }",
    )
});

/// No input asks for more requests than this.
const MOST_INCLUDES: usize = 5000;

pub(crate) fn check(data: &[u8]) {
    let whole = body(data, &[data.len()]);
    for ends in cuts(data) {
        assert!(body(data, &ends) == whole, "cut at {ends:?}");
    }
    if !data.windows(5).any(|window| window == b"<!--#") {
        let begun = (1..5).rev().find(|len| data.ends_with(&b"<!--#"[..*len])).unwrap_or(0);
        assert!(whole.as_deref() == Ok(&data[..data.len() - begun]), "there is no command");
    }
}

/// Returns what comes of a body in these pieces.
fn body(data: &[u8], ends: &[usize]) -> Result<Vec<u8>, FilterFailed> {
    let config = &*CONFIG;
    let mut world = World::new();
    let request = b"GET /a?b=c HTTP/1.0\r\nHost: one.example\r\nUser-Agent: x\r\n\r\n";
    let mut exchange = exchange(config, &mut world, request).expect("a request");
    // The location's own settings: it is the last one.
    exchange.route.location = engine::LocationId(config.locations.len() as u32 - 1);
    exchange.response.status = 200;
    exchange.response.set_content_type(b"text/html");
    let mut env = Env { config, host: &mut world };
    output::write_head(&mut exchange, &mut env).map_err(|_| FilterFailed)?;
    exchange.output.wire.clear();
    let (mut all, mut start, mut includes) = (Vec::new(), 0, 0);
    for end in ends {
        output::write_body(&mut exchange, &mut env, &data[start..*end], *end == data.len())?;
        start = *end;
        loop {
            let step = output::pump(&mut exchange, &mut env)?;
            all.append(&mut exchange.output.wire);
            match step {
                BodyStep::Nothing => break,
                BodyStep::More => {}
                BodyStep::Include => {
                    includes += 1;
                    assert!(includes < MOST_INCLUDES, "it asks without end");
                    let include = exchange.output.take_include().expect("what is to be served");
                    let mut ended = Included { status: 200, ..Included::default() };
                    match include.is_shown {
                        true => output::insert(&mut exchange, &mut env, &include.request.uri),
                        false => ended.body.clone_from(&include.request.uri),
                    }
                    output::included(&mut exchange, &mut env, ended);
                }
            }
        }
    }
    all.append(&mut exchange.output.wire);
    assert!(exchange.output.ended(), "it has no end");
    Ok(all)
}
