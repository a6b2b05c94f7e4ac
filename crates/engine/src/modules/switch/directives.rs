//! The block `switch` and its directives.
//!
//! Owns the grammar. What needs the whole text (are the targets upstreams?) is [`super::check`]'s.

use super::check::{LineSettings, Named, SwitchDraft, Targets, WrittenState};
use super::fleet;
use super::sticky::{self, Salt, Sticky, StickySource};
use super::{OnDamage, RevertIfDead, StatePath, StreamsPolicy, gate, kind_of};
use crate::config::{Builder, invalid_choice, invalid_parameter, number, once, variable_name};
use crate::directive::{Args, Contexts, Directive};
use crate::modules::map::Computed;
use crate::setting::Setting;
use conf::{Diagnostic, Word};
use switch::DYNAMIC;

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive::new(
        "switch",
        Contexts::HTTP,
        Args::Block(2, 4),
        "key $variable [from=name] [watch=time] { … }",
        block,
    )
    .doc(
        "pointsman's own: defines a variable whose value is the upstream group of a key, which operators change \
         while traffic runs: `pointsman switch shop.example.com green`. Where the key \
         is $host, $http_host or $server_name, keys are hosts: without case, port and \
         trailing dot, and *.example.com is a wildcard. A renamed switch keeps its entries with from=OLDNAME: \
         without `state`, it uses the store of the old name. watch= is how long the responses after a commit are \
         counted for its receipt, by default 5 minutes, at most an hour.",
    )
    .example("switch $host $live { default blue; targets blue green; }"),
    Directive::new("switch_retired", Contexts::HTTP, Args::AtLeast(1), "name ...", retired)
        .doc(
            "Names switches that were removed from the configuration although they have entries. Removing or \
             renaming such a switch without this line, or `from=`, is refused at a reload and at a start, because \
             all of its keys would get another default.",
        )
        .example("switch_retired live;"),
    Directive::new(
        "fleet",
        Contexts::HTTP,
        Args::AtLeast(3),
        "etcd URL ... [prefix=path] node=name [user=name password_file=file]",
        fleet::directive,
    )
    .doc(
        "The etcd in which several nodes keep the tables of their switches with `state fleet`, so that all of them \
         switch together. Each node has a name of its own. All keys begin with prefix=, by default /pointsman. \
         Without this directive there is no connection to etcd. A change takes effect at a restart.",
    )
    .example("fleet etcd http://10.0.0.1:2379 http://10.0.0.2:2379 prefix=/pointsman/shop node=a;"),
    Directive::new("default", Contexts::SWITCH, Args::Exactly(1), "target", |b, d| {
        let name = named(&d.args[0])?;
        once(draft(b).default.write(Some(name)), d)
    })
    .doc(
        "The target of keys without an entry; every switch needs one. A reload that changes it checks the gate and \
         makes a commit, which can be undone: then the table's default differs from the file's.",
    )
    .example("default blue;"),
    Directive::new("targets", Contexts::SWITCH, Args::AtLeast(1), "target ... [dynamic]", targets)
        .doc(
            "The upstream groups that a key may lead to; all of them by default. With `dynamic`, also every group \
             that is created at run time: `pointsman group create`.",
        )
        .example("targets blue green dynamic;"),
    Directive::new("state", Contexts::SWITCH, Args::Exactly(1), "file | memory | fleet", state)
        .doc(
            "The file that stores the entries and their history, below the prefix unless the path is absolute; \
             `memory` loses them when the process ends; `fleet` keeps them in the etcd of the directive fleet, with \
             a copy in state/fleet/NAME.db. The default is state/NAME.db.",
        )
        .example("state state/live.db;"),
    Directive::new("keys", Contexts::SWITCH, Args::Between(1, 2), "[max=number] [length=number]", keys)
        .default("max=100000 length=255")
        .doc(
            "The maximum number of keys with an entry (max=, by default 100000), and the maximum length of a key in \
             bytes (length=, by default 255).",
        )
        .example("keys max=1000000 length=255;"),
    Directive::new(
        "sticky",
        Contexts::SWITCH,
        Args::AtLeast(1),
        "string [salt=key|switch|none] | salt=key|switch|none | cookie=name [issue [ttl=time] \
         [path=path] [domain=domain] [samesite=strict|lax|none] [secure]] [salt=key|switch|none]",
        |b, d| {
            let sticky = sticky::parse(b, d)?;
            once(draft(b).sticky.write(sticky), d)
        },
    )
    .doc(
        "How a client is identified when its key is split between targets: by a text with variables or by a cookie \
         (cookie=); by default, and where the value is empty, by its address. With `issue`, a client in a split \
         without the cookie gets one: 128 random bits, HttpOnly, Path=/ (path=), SameSite=Lax (samesite=), until the \
         browser is closed (ttl=), and Secure with `secure`. With a salt, different clients come first in each \
         switch (`switch`), or for each key of each switch (`key`).",
    )
    .example("sticky cookie=side issue ttl=30d secure salt=key;"),
    Directive::template("testers", Contexts::SWITCH, "string", |b| &mut draft(b).testers)
        .doc(
            "A text that, if it is the name of a target, selects that target for this request only, so that testers \
             see the new side before anyone else.",
        )
        .example("testers $cookie_side;"),
    Directive::new(
        "gate",
        Contexts::SWITCH,
        Args::AtLeast(1),
        "[healthy=number] [fraction=percent] [passes=number] [interval=time] [timeout=time] \
         [scheme=http|https] [uri=uri [status=code[-code]] [host=name] [header=field:value] ... [match=text] \
         | type=grpc [grpc_service=name] [grpc_status=status] [host=name]]",
        gate,
    )
    .doc(
        "The check that a target must pass before keys are switched to it: healthy= of its servers (by default 1), \
         and at least fraction= of them, must accept a connection or, with uri=, answer a GET with a status= (by \
         default 200-399), each within timeout= (by default 3s). With passes= (by default 1), each must do so that \
         many times in a row, with interval= in between (by default 200ms): a server that fails every other time is \
         caught by passes=3. The default is one probe because each further one delays every order by an interval. \
         The request's Host is the target's name, or host= ($key is the key that is switched, if it is a single \
         one), and header= adds fields. match= requires a text in the first 64 KiB of the body, match=~ a match of a \
         regular expression. With type=grpc, gRPC's health service must report SERVING, for grpc_service= or the \
         whole server; with grpc_status=, the call must end with this status. Probes use HTTP/2 if all locations \
         that lead to the target do, and TLS if all locations that lead to the target have proxy_pass https:// (or \
         grpcs://), with the proxy_ssl_ directives of the first; scheme= overrides this (https without such a \
         location takes those of http).",
    )
    .example("gate healthy=2 passes=3 timeout=2s uri=/health status=200 host=$key match=ready;"),
    Directive::new(
        "streams",
        Contexts::SWITCH,
        Args::Between(1, 2),
        "keep | close after=time | close spread=time",
        streams,
    )
    .default("keep")
    .doc(
        "What happens to WebSockets and long responses of the old side: keep leaves them, close after= closes them \
         after that time, close spread= closes them one by one over that time.",
    )
    .example("streams close spread=60s;"),
    Directive::new("on-damage", Contexts::SWITCH, Args::Exactly(1), "refuse | default", on_damage)
        .default("refuse")
        .doc(
            "What happens to requests that use the switch when its store and the store's second file are both \
             damaged: refuse answers 503, default sends them to the default target.",
        )
        .example("on-damage default;"),
    Directive::new("revert-if-dead", Contexts::SWITCH, Args::Exactly(1), "stay | go", revert_if_dead)
        .default("stay")
        .doc(
            "What happens to a commit that was not confirmed in time while the targets it would revert to fail their \
             gate (without a gate: accept no connection) and the present ones pass: stay keeps it and checks again \
             every 10 seconds; go reverts it all the same.",
        )
        .example("revert-if-dead go;"),
    Directive::new("dict", Contexts::SWITCH, Args::Exactly(1), "name", |b, d| {
        let name = named(&d.args[0])?;
        once(draft(b).dict.write(Some(name)), d)
    })
    .doc(
        "The lua_shared_dict through which Lua uses the switch: get reads the table, and set of a string is an \
         order.",
    )
    .example("dict routes;"),
];

/// How long answers are counted unless `watch=` says otherwise, and the longest time that it may say.
pub const WATCH_MS: (u64, u64) = (300_000, 3_600_000);

/// Parses what follows the variable: `from=NAME`, `watch=TIME`.
fn line_settings(words: &[Word]) -> Result<LineSettings, Diagnostic> {
    let (mut from, mut watch_ms) = (None, None);
    for word in words {
        match word.str()?.split_once('=') {
            Some(("from", name)) if from.is_none() => from = Some(switch_name(name, word)?),
            Some(("watch", time)) if watch_ms.is_none() => {
                let ms = conf::value::parse_time_ms(time.as_bytes());
                let ms = ms.filter(|ms| (1..=WATCH_MS.1).contains(ms));
                watch_ms = Some(ms.ok_or_else(|| {
                    invalid_parameter(word).help("how long a receipt is completed: watch=5m, at most 1h")
                })?);
            }
            _ => {
                return Err(invalid_parameter(word).help(
                    "a switch takes a key, a variable, from= with the name it had before, and watch= with a time",
                ));
            }
        }
    }
    Ok(LineSettings { from, watch_ms: watch_ms.unwrap_or(WATCH_MS.0) })
}

/// Parses the name of a switch, with or without its `$`.
fn switch_name(name: &str, word: &Word) -> Result<Named, Diagnostic> {
    let name = name.strip_prefix('$').unwrap_or(name);
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err(Diagnostic::error(word.span, format!("invalid name \"{name}\" of a switch"))
            .help("a switch is called what its variable is called: letters, digits and _"));
    }
    Ok(Named { name: name.to_ascii_lowercase(), span: word.span })
}

fn retired(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    for word in &d.args {
        let name = switch_name(word.str()?, word)?;
        b.draft.control.retired_switches.push(name);
    }
    Ok(())
}

/// Returns the draft of the block that is being read: the last one.
fn draft<'d>(b: &'d mut Builder<'_>) -> &'d mut SwitchDraft {
    let last = b.draft.switch_blocks.len() - 1;
    &mut b.draft.switch_blocks[last]
}

fn named(word: &Word) -> Result<Named, Diagnostic> {
    Ok(Named { name: word.str()?.to_owned(), span: word.span })
}

fn block(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let (key, variable) = (&d.args[0], &d.args[1]);
    let name = variable_name(variable)?;
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err(Diagnostic::error(variable.span, format!("invalid variable name \"${name}\""))
            .help("a switch is called what its variable is called: letters, digits and _"));
    }
    let line = line_settings(&d.args[2..])?;
    let template = b.template(key)?;
    let (number, span) = (b.draft.switch_blocks.len(), variable.span);
    let slot = b.draft.variables.define_switch(name, b.draft.computed.len(), span).map_err(|fault| {
        let diagnostic = Diagnostic::error(span, fault.text).label("a switch takes a name of its own");
        match fault.other {
            Some(other) if other != span => diagnostic.also(other, "the other one"),
            _ => diagnostic,
        }
    })?;
    b.draft.computed.push(Computed::Switch(number));
    let place = format!(
        "{}:{}",
        b.sources.path(d.span.source).display(),
        b.sources.line(d.span.source, d.span.start)
    );
    b.draft.switch_blocks.push(SwitchDraft {
        name: Named { name: name.to_ascii_lowercase(), span },
        line,
        key: (kind_of(key.text()), template),
        slot,
        place,
        default: Setting::new(None),
        targets: Setting::new(Targets::default()),
        state: Setting::new(None),
        keys: Setting::new((100_000, 255)),
        sticky: Setting::new(Sticky { source: StickySource::Address, salt: Salt::None }),
        testers: Setting::new(None),
        gate: Setting::new(None),
        streams: Setting::new(StreamsPolicy::Keep),
        on_damage: Setting::new(OnDamage::Refuse),
        revert_if_dead: Setting::new(RevertIfDead::Stay),
        dict: Setting::new(None),
    });
    for inner in d.children() {
        match unknown(inner) {
            Some(fault) => b.diagnostics.push(fault),
            None => b.within(Contexts::SWITCH, inner),
        }
    }
    Ok(())
}

/// Returns the diagnostic for a word that is not a parameter of a switch: a typo, or an entry as in `map`.
fn unknown(d: &conf::Directive) -> Option<Diagnostic> {
    let parameters =
        || DIRECTIVES.iter().filter(|entry| entry.contexts == Contexts::SWITCH).map(|entry| entry.name);
    let name = d.name.text().to_string();
    if parameters().any(|known| known == name) {
        return None;
    }
    let fault = Diagnostic::error(d.name.span, format!("unknown parameter \"{name}\" in \"switch\""));
    Some(match conf::nearest(&name, parameters()) {
        Some(near) => fault.help(format!("did you mean \"{near}\"?")),
        None if d.args.len() == 1 => fault.label("a switch has no entries in the configuration").help(
            format!("entries are made while the server runs: pointsman switch {name} {}", d.args[0].text()),
        ),
        None => fault.help(format!("one of {}", parameters().collect::<Vec<_>>().join(", "))),
    })
}

fn targets(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let mut found = Targets::default();
    for word in &d.args {
        if word.text() == DYNAMIC && found.dynamic.replace(word.span).is_none() {
            continue;
        }
        let target = named(word)?;
        let names = &mut found.names;
        if let Some(first) = names.iter().find(|known| known.name.eq_ignore_ascii_case(&target.name)) {
            let fault = format!("duplicate target \"{}\"", target.name);
            return Err(Diagnostic::error(word.span, fault).also(first.span, "the first one"));
        }
        names.push(target);
    }
    once(draft(b).targets.write(found), d)
}

fn state(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let word = &d.args[0];
    let mut in_fleet = false;
    let state = match word.str()? {
        "memory" => StatePath::Memory,
        "fleet" => {
            in_fleet = true;
            StatePath::File(fleet::copy_file(&b.inputs.prefix, &draft(b).name.name.clone()))
        }
        text if text.starts_with("etcd:") => {
            return Err(Diagnostic::error(word.span, "a state names no etcd").help(
                "write in http: fleet etcd http://10.0.0.1:2379 node=a; and in the switch: state fleet;",
            ));
        }
        text if text.is_empty() || text.ends_with('/') => {
            return Err(Diagnostic::error(word.span, format!("no file in the state \"{text}\""))
                .help("for example: state state/live.db;"));
        }
        _ => StatePath::File(b.path(word)?),
    };
    once(draft(b).state.write(Some(WrittenState { state, in_fleet, span: word.span })), d)
}

/// No store and no memory takes more; and lengths are bounded by what a request's head may hold.
const MOST_KEYS: u64 = 10_000_000;
const LONGEST_KEY: u64 = 4096;

fn keys(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let (mut max, mut length) = *draft(b).keys.get();
    for word in &d.args {
        let text: &[u8] = word.text();
        let bounded = |digits: &[u8], most: u64, what: &str| {
            number(digits).filter(|count| (1..=most).contains(count)).map(|count| count as usize).ok_or_else(
                || {
                    Diagnostic::error(
                        word.span,
                        format!("invalid {what} of keys \"{}\"", String::from_utf8_lossy(digits)),
                    )
                    .help(format!("a number from 1 to {most}"))
                },
            )
        };
        if let Some(digits) = text.strip_prefix(b"max=") {
            max = bounded(digits, MOST_KEYS, "number")?;
        } else if let Some(digits) = text.strip_prefix(b"length=") {
            length = bounded(digits, LONGEST_KEY, "length")?;
        } else {
            return Err(invalid_parameter(word).help("one of max= and length="));
        }
    }
    once(draft(b).keys.write((max, length)), d)
}

fn gate(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let gate = gate::parse(d)?;
    once(draft(b).gate.write(Some((gate, d.span))), d)
}

fn on_damage(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let word = &d.args[0];
    let policy = match word.str()? {
        "refuse" => OnDamage::Refuse,
        "default" => OnDamage::Default,
        _ => return Err(invalid_choice(word).help("refuse or default")),
    };
    once(draft(b).on_damage.write(policy), d)
}

fn revert_if_dead(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let word = &d.args[0];
    let policy = match word.str()? {
        "stay" => RevertIfDead::Stay,
        "go" => RevertIfDead::Go,
        _ => return Err(invalid_choice(word).help("stay or go")),
    };
    once(draft(b).revert_if_dead.write(policy), d)
}

fn streams(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let word = &d.args[0];
    let policy = match (word.str()?, d.args.get(1)) {
        ("keep", None) => StreamsPolicy::Keep,
        ("keep", Some(more)) => return Err(invalid_parameter(more).help("streams keep; takes nothing else")),
        ("close", None) => StreamsPolicy::CloseAfter { ms: 0 },
        ("close", Some(how)) => {
            let wrong = || {
                invalid_parameter(how)
                    .help("when they are cut: close after=30s, or one by one: close spread=60s")
            };
            let (name, time) = how.str()?.split_once('=').ok_or_else(wrong)?;
            let ms = conf::value::parse_time_ms(time.as_bytes()).ok_or_else(wrong)?;
            match name {
                "after" => StreamsPolicy::CloseAfter { ms },
                "spread" => StreamsPolicy::CloseSpread { ms },
                _ => return Err(wrong()),
            }
        }
        _ => return Err(invalid_choice(word).help("keep, or close with after= or spread=")),
    };
    once(draft(b).streams.write(policy), d)
}
