//! Checks of a `switch` that need the whole text: targets are upstreams, dicts are declared, no two
//! switches keep their entries in one file.
//!
//! Owns these checks and the settings that come out of them. Must never name the first fault alone.

use super::groups::{GROUPS_NAME, groups_file};
use super::sticky::Sticky;
use super::{GateSpec, OnDamage, RevertIfDead, StatePath, StreamsPolicy, SwitchSpec};
use crate::config::Builder;
use crate::modules::upstream::Origin;
use crate::setting::Setting;
use crate::template::{Part, Template};
use crate::variables::Definition;
use conf::{Diagnostic, Span};
use std::path::PathBuf;
use std::sync::Arc;
use switch::{DYNAMIC, KeyKind, Route, Rules, RunTimeRules};

/// A name and its span.
#[derive(Clone, Debug)]
pub struct Named {
    /// The name.
    pub name: String,
    pub(super) span: Span,
}

/// The line `targets`.
#[derive(Clone, Debug, Default)]
pub(super) struct Targets {
    pub(super) names: Vec<Named>,
    /// `dynamic`: groups made at run time too.
    pub(super) dynamic: Option<Span>,
}

/// The line `state`.
#[derive(Clone, Debug)]
pub(super) struct WrittenState {
    pub(super) state: StatePath,
    /// `state fleet`: the file is this node's copy.
    pub(super) in_fleet: bool,
    pub(super) span: Span,
}

/// What the line of a `switch` says behind its variable.
#[derive(Clone, Debug)]
pub(super) struct LineSettings {
    pub(super) from: Option<Named>,
    pub(super) watch_ms: u64,
}

/// A `switch {}` while the text is read.
#[derive(Clone, Debug)]
pub struct SwitchDraft {
    pub(super) name: Named,
    pub(super) line: LineSettings,
    pub(super) key: (KeyKind, Template),
    pub(super) slot: u32,
    pub(super) place: String,
    pub(super) default: Setting<Option<Named>>,
    pub(super) targets: Setting<Targets>,
    pub(super) state: Setting<Option<WrittenState>>,
    pub(super) keys: Setting<(usize, usize)>,
    pub(super) sticky: Setting<Sticky>,
    pub(super) testers: Setting<Option<Template>>,
    /// With its span.
    pub(super) gate: Setting<Option<(GateSpec, Span)>>,
    pub(super) streams: Setting<StreamsPolicy>,
    pub(super) on_damage: Setting<OnDamage>,
    pub(super) revert_if_dead: Setting<RevertIfDead>,
    pub(super) dict: Setting<Option<Named>>,
}

impl SwitchDraft {
    /// Returns its variable without the `$`, and the kind of its keys.
    pub(crate) fn identity(&self) -> (&str, KeyKind) {
        (&self.name.name, self.key.0)
    }
}

/// An `upstream {}` block, as a target.
struct Group {
    name: String,
    servers: usize,
}

pub(super) fn finish(b: &mut Builder<'_>) {
    let drafts = std::mem::take(&mut b.draft.switch_blocks);
    check_former_names(b, &drafts);
    if drafts.is_empty() {
        return;
    }
    let blocks = b.draft.groups.iter().filter(|entry| entry.origin == Origin::Block);
    let groups: Vec<Group> = blocks
        .map(|entry| {
            // How many are looked up is not known.
            let servers = if entry.is_discovered() { 0 } else { entry.spec.peers.len() };
            Group { name: entry.spec.name.clone(), servers }
        })
        .collect();
    let (mut files, mut dicts): (Vec<(PathBuf, Span)>, Vec<Named>) = (Vec::new(), Vec::new());
    for draft in &drafts {
        let rules = rules(b, draft, &groups);
        check_gate(b, draft, rules.as_ref(), &groups);
        check_fleet(b, draft);
        let state = state(b, draft, &mut files);
        check_dict(b, draft, &mut dicts);
        let Some(rules) = rules else { continue };
        let spec = SwitchSpec {
            rules: Arc::new(rules),
            key: draft.key.1.clone(),
            sticky: draft.sticky.get().clone(),
            testers: draft.testers.get().clone(),
            state,
            in_fleet: draft.state.get().as_ref().is_some_and(|written| written.in_fleet),
            from: draft.line.from.as_ref().map(|from| from.name.as_str().into()),
            watch_ms: draft.line.watch_ms,
            gate: draft.gate.get().as_ref().map(|(gate, _)| gate.clone()),
            streams: *draft.streams.get(),
            on_damage: *draft.on_damage.get(),
            revert_if_dead: *draft.revert_if_dead.get(),
            dict: draft.dict.get().as_ref().map(|dict| dict.name.as_str().into()),
            slot: draft.slot,
            key_is_early: is_early(b, &draft.key.1),
            place: draft.place.as_str().into(),
        };
        b.draft.switches.push(spec);
    }
}

fn rules(b: &mut Builder<'_>, draft: &SwitchDraft, groups: &[Group]) -> Option<Rules> {
    let mut targets: Vec<Arc<str>> = Vec::new();
    let admits = draft.targets.get().dynamic;
    if let Some(span) = admits
        && let Some(odd) = groups.iter().find(|group| group.name.eq_ignore_ascii_case(DYNAMIC))
    {
        let fault = format!("\"{}\" is an upstream, and the word for groups made at run time", odd.name);
        b.diagnostics.push(Diagnostic::error(span, fault).help("give the upstream another name"));
    }
    for written in &draft.targets.get().names {
        if let Some(group) = group(b, written, "target", groups) {
            targets.push(group.name.as_str().into());
        }
    }
    if !draft.targets.written() {
        targets.extend(groups.iter().map(|group| Arc::from(group.name.as_str())));
    }
    let is_whole = !draft.targets.written() || targets.len() == draft.targets.get().names.len();
    let Some(default) = draft.default.get() else {
        let mut fault =
            Diagnostic::error(draft.name.span, format!("no default in \"switch\" ${}", draft.name.name))
                .label("where do unswitched keys go?");
        if let Some(first) = targets.first() {
            fault = fault.help(format!("for example: default {first};"));
        }
        b.diagnostics.push(fault);
        return None;
    };
    let default_group = group(b, default, "default", groups)?;
    let known = targets.iter().find(|target| ***target == *default_group.name).cloned();
    if known.is_none() && is_whole {
        let mut fault =
            Diagnostic::error(default.span, format!("default \"{}\" is none of the targets", default.name))
                .help(format!("add it: targets {} {};", targets.join(" "), default.name));
        if let Some(first) = draft.targets.get().names.first() {
            fault = fault.also(first.span, "the targets");
        }
        b.diagnostics.push(fault);
    }
    if let Some(odd) = targets.iter().find(|target| !Route::may_name(target)) {
        b.diagnostics.push(
            Diagnostic::error(
                draft.name.span,
                format!("the upstream \"{odd}\" cannot be a target of a switch"),
            )
            .label("there is white space or = in its name"),
        );
    }
    let (max_keys, max_key_len) = *draft.keys.get();
    Some(Rules {
        name: draft.name.name.as_str().into(),
        default: known?,
        targets: targets.into(),
        kind: draft.key.0,
        max_keys,
        max_key_len,
        groups: Box::default(),
        run_time: RunTimeRules { is_admitted: admits.is_some(), ..RunTimeRules::default() },
    })
}

/// A name is that of a switch in force, or of a former one, and of no more than one.
fn check_former_names(b: &mut Builder<'_>, drafts: &[SwitchDraft]) {
    let mut seen: Vec<&Named> = Vec::new();
    let retired = std::mem::take(&mut b.draft.control.retired_switches);
    for former in drafts.iter().filter_map(|draft| draft.line.from.as_ref()).chain(&retired) {
        let own = drafts.iter().find(|draft| draft.name.name == former.name);
        let fault = match (own, seen.iter().find(|known| known.name == former.name)) {
            (Some(own), _) => Some((
                format!("switch \"{}\" is in force, and so is no former name", former.name),
                own.name.span,
            )),
            (_, Some(first)) => {
                Some((format!("switch \"{}\" is named as a former one twice", former.name), first.span))
            }
            _ => None,
        };
        match fault {
            Some((text, other)) => {
                b.diagnostics.push(Diagnostic::error(former.span, text).also(other, "the other one"))
            }
            None => seen.push(former),
        }
    }
    b.draft.control.retired_switches = retired;
}

/// Returns the upstream that a name means; nginx compares these names without case.
fn group<'g>(b: &mut Builder<'_>, written: &Named, what: &str, groups: &'g [Group]) -> Option<&'g Group> {
    let found = groups.iter().find(|group| group.name.eq_ignore_ascii_case(&written.name));
    if found.is_none() {
        let fault = Diagnostic::error(written.span, format!("{what} \"{}\" is no upstream", written.name));
        let near = conf::nearest(&written.name, groups.iter().map(|group| group.name.as_str()));
        b.diagnostics.push(match near {
            Some(near) => fault.help(format!("did you mean {near}?")),
            None => fault.help(format!(
                "a target is the name of an upstream block: upstream {} {{ … }}",
                written.name
            )),
        });
    }
    found
}

/// A gate that no target could pass would refuse every switch.
fn check_gate(b: &mut Builder<'_>, draft: &SwitchDraft, rules: Option<&Rules>, groups: &[Group]) {
    let (Some((gate, span)), Some(rules)) = (draft.gate.get(), rules) else { return };
    // An empty group is to get servers at run time.
    let targets = groups.iter().filter(|group| group.servers > 0 && rules.target(&group.name).is_some());
    if let Some(small) = targets.min_by_key(|group| group.servers)
        && small.servers < gate.healthy
    {
        let fault = format!("the gate can never open for \"{}\"", small.name);
        let servers =
            if small.servers == 1 { "1 server".to_owned() } else { format!("{} servers", small.servers) };
        b.diagnostics.push(
            Diagnostic::error(*span, fault)
                .label(format!("{} must be healthy, and it has {servers}", gate.healthy))
                .help(format!("ask for no more than healthy={}", small.servers)),
        );
    }
}

fn state(b: &mut Builder<'_>, draft: &SwitchDraft, files: &mut Vec<(PathBuf, Span)>) -> StatePath {
    let former = draft.line.from.as_ref().map_or(&draft.name.name, |from| &from.name);
    let (state, span) = match draft.state.get() {
        Some(written) => (written.state.clone(), written.span),
        None => (StatePath::File(b.inputs.prefix.join(format!("state/{former}.db"))), draft.name.span),
    };
    if draft.name.name == GROUPS_NAME {
        b.diagnostics.push(
            Diagnostic::error(draft.name.span, format!("the name \"{GROUPS_NAME}\" is reserved"))
                .label("it is that of the orders on servers of groups")
                .help("give the switch another name, and its former file as its state"),
        );
    }
    if let StatePath::File(path) = &state {
        if *path == groups_file(&b.inputs.prefix) && draft.name.name != GROUPS_NAME {
            let fault = format!("the state \"{}\" is that of the groups", path.display());
            let help = format!("another file: state state/{}.db;", draft.name.name);
            b.diagnostics.push(Diagnostic::error(span, fault).help(help));
        }
        if let Some((_, first)) = files.iter().find(|(known, _)| known == path) {
            let fault = format!("the state \"{}\" is another switch's", path.display());
            b.diagnostics.push(
                Diagnostic::error(span, fault)
                    .also(*first, "of this one")
                    .help(format!("each switch has a file of its own: state state/{}.db;", draft.name.name)),
            );
        }
        files.push((path.clone(), span));
    }
    state
}

/// Refuses what a switch of a fleet must not have beside its state.
fn check_fleet(b: &mut Builder<'_>, draft: &SwitchDraft) {
    let Some(written) = draft.state.get().as_ref().filter(|written| written.in_fleet) else { return };
    let mut fault =
        |span, text: &str, help: &str| b.diagnostics.push(Diagnostic::error(span, text).help(help));
    if let Some(span) = draft.targets.get().dynamic {
        let text = "a switch of a fleet cannot lead to groups made at run time: another node has others";
        fault(span, text, "name the targets alone, and give each node the upstreams");
    }
    if let Some(from) = &draft.line.from {
        let text = "a switch of a fleet cannot have had another name";
        fault(from.span, text, "leave from= out: the switch keeps its name, as the other nodes have it");
    }
    if *draft.streams.get() != StreamsPolicy::Keep {
        let text = "a switch of a fleet cannot close streams: only the node that takes the order would";
        fault(written.span, text, "leave `streams` out: they end by themselves");
    }
    if b.draft.control.fleet.is_none() {
        let fault = Diagnostic::error(written.span, "`state fleet` without a fleet")
            .help("add to http: fleet etcd http://10.0.0.1:2379 node=a;");
        b.diagnostics.push(fault);
    }
}

fn check_dict(b: &mut Builder<'_>, draft: &SwitchDraft, taken: &mut Vec<Named>) {
    let Some(dict) = draft.dict.get() else { return };
    if let Some(first) = taken.iter().find(|known| known.name == dict.name) {
        let fault = format!("the dict \"{}\" is another switch's", dict.name);
        b.diagnostics.push(Diagnostic::error(dict.span, fault).also(first.span, "of this one"));
    }
    taken.push(dict.clone());
    let mut known = b.draft.lua.dicts.iter().map(|dict| dict.name.as_str());
    if known.clone().any(|name| name == dict.name) {
        return;
    }
    let near = conf::nearest(&dict.name, known.by_ref()).map(str::to_owned);
    let fault = Diagnostic::error(dict.span, format!("no lua_shared_dict \"{}\"", dict.name));
    b.diagnostics.push(match near {
        Some(near) => fault.help(format!("did you mean {near}?")),
        None => fault.help(format!("declare it in http: lua_shared_dict {} 1m;", dict.name)),
    });
}

/// Returns whether the key is known as soon as the request's head is. It is not if it may depend on `set`, on a
/// capture, or on a `map` of one.
fn is_early(b: &Builder<'_>, key: &Template) -> bool {
    key.parts().iter().all(|part| match part {
        Part::Text(_) => true,
        Part::Capture(_) => false,
        Part::Variable(id) => {
            matches!(
                b.draft.variables.entry(*id).definition,
                Definition::BuiltIn(_) | Definition::OfFamily(..)
            )
        }
    })
}
