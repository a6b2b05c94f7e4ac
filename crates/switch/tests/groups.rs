//! Groups that are made and removed at run time: what their orders change, and when they are refused.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use pointsman_switch::{
    Action, BaseGroup, Code, Commit, CommitKind, GroupOrder, GroupUse, GroupVerb, KeyKind, MemoryStore, Meta,
    Order, Refusal, Rules, RunTimeRules, ServerOrder, ServerParams, ServerVerb, Store, SubjectChange,
    Undoing, all_groups, apply_overlay, check_made, find_group, overlay_of, plan,
};

struct Groups(MemoryStore, Rules);

fn block(name: &str) -> BaseGroup {
    BaseGroup {
        name: name.into(),
        servers: Vec::new(),
        allows_backup: name != "ring",
        max_weights: (name == "ring").then_some(10),
        users: Vec::new(),
        adopts: false,
    }
}

fn params(words: &str) -> ServerParams {
    let mut params = ServerParams::default();
    words.split(' ').filter(|word| !word.is_empty()).for_each(|word| params.read(word).unwrap());
    params
}

fn make(name: &str, like: Option<&str>, servers: &[&str]) -> Action {
    let server = |text: &&str| {
        let (server, words) = text.split_once(' ').unwrap_or((text, ""));
        (server.to_owned(), params(words))
    };
    let verb =
        GroupVerb::Make { like: like.map(str::to_owned), servers: servers.iter().map(server).collect() };
    Action::Group(GroupOrder { group: name.to_owned(), verb })
}

fn remove(name: &str) -> Action {
    Action::Group(GroupOrder { group: name.to_owned(), verb: GroupVerb::Remove })
}

fn server(group: &str, server: &str, verb: ServerVerb) -> Action {
    Action::Servers(vec![ServerOrder { group: group.to_owned(), server: server.to_owned(), verb }])
}

impl Groups {
    /// Makes a configuration with `Blue` and `ring`, and a switch that admits groups made at run time.
    fn new() -> Groups {
        let run_time =
            RunTimeRules { users: ["switch \"live\"".to_owned()].into(), ..RunTimeRules::default() };
        let rules = Rules {
            name: "groups".into(),
            default: "".into(),
            targets: Box::default(),
            kind: KeyKind::Text,
            max_keys: 0,
            max_key_len: 0,
            groups: [block("Blue"), block("ring")].into(),
            run_time,
        };
        Groups(MemoryStore::new(), rules)
    }

    fn order(&mut self, action: Action, meta: Meta) -> Result<Commit, Refusal> {
        let loaded = self.0.load()?;
        let order = Order { action, meta: Meta { actor: "anna".into(), ..meta } };
        let plan = plan(&loaded.table, &self.1, &order, &loaded.pending)?;
        let commit = plan.commit(loaded.last_hash, 1, Vec::new());
        assert!(matches!(order.action, Action::Revert(_)) || order.may_have_made(&commit), "{commit:?}");
        self.0.commit(&commit)?;
        Ok(commit)
    }

    fn done(&mut self, action: Action) -> Commit {
        self.order(action, Meta::default()).unwrap()
    }

    fn code(&mut self, action: Action) -> Code {
        self.order(action, Meta::default()).unwrap_err().code
    }

    fn undo(&mut self, revision: u64, force: bool) -> Result<Commit, Refusal> {
        let undoing = Undoing::of_commit(&mut self.0, revision)?.unwrap();
        self.order(Action::Undo(undoing), Meta { force, ..Meta::default() })
    }

    fn revert(&mut self, revision: u64) -> Result<Commit, Refusal> {
        let undoing = Undoing::of_commit(&mut self.0, revision)?.unwrap();
        self.order(Action::Revert(undoing), Meta::default())
    }

    /// Something leads to this group now, or nothing.
    fn leads(&mut self, group: &str) {
        let by = "key \"a\" of switch \"live\"".to_owned();
        let uses = if group.is_empty() { Vec::new() } else { vec![GroupUse { group: group.into(), by }] };
        self.1.run_time.uses = uses.into();
    }

    /// Returns the groups made at run time and their servers: `teal(Blue): 10.0.0.1:80 weight=2`.
    fn made(&mut self) -> String {
        let table = self.0.load().unwrap().table;
        let made = pointsman_switch::made_groups(table.subjects());
        let line = |(name, made): (&str, pointsman_switch::MadeGroup)| {
            let found = apply_overlay(&[], &overlay_of(table.subjects(), name));
            let servers: Vec<String> = found
                .servers
                .iter()
                .map(|one| format!("{} {}", one.name, one.params).trim_end().to_owned())
                .collect();
            format!("{name}({}): {}", made.like.unwrap_or_default(), servers.join(", "))
        };
        made.map(line).collect::<Vec<_>>().join("; ")
    }
}

#[test]
fn a_group_is_made_with_its_servers_and_goes_with_them() {
    let mut groups = Groups::new();
    let commit = groups.done(make("teal", Some("BLUE"), &["10.0.0.1 weight=2", "unix:/a.sock backup"]));
    assert_eq!((&commit.kind, commit.form()), (&CommitKind::Group, 2));
    let texts: Vec<String> = commit.subjects.iter().filter_map(SubjectChange::server_text).collect();
    assert_eq!(
        texts,
        ["teal: made, like Blue", "teal: 10.0.0.1:80 added, weight=2", "teal: unix:/a.sock added, backup"]
    );
    // One that is like it has the settings of the same block.
    groups.done(make("pink", Some("teal"), &[]));
    groups.done(server("PINK", "10.0.0.3", ServerVerb::Add(params("weight=4"))));
    assert_eq!(
        groups.made(),
        "pink(Blue): 10.0.0.3:80 weight=4; teal(Blue): 10.0.0.1:80 weight=2, unix:/a.sock backup"
    );
    let table = groups.0.load().unwrap().table;
    let names: Vec<String> =
        all_groups(&groups.1, table.subjects()).iter().map(|group| group.name.to_string()).collect();
    assert_eq!(names, ["Blue", "ring", "pink", "teal"]);
    let found = find_group(&groups.1, table.subjects(), "Teal").unwrap();
    assert_eq!((&*found.name, &found.users[..]), ("teal", &["switch \"live\"".to_owned()][..]));

    let commit = groups.done(remove("Teal"));
    let texts: Vec<String> = commit.subjects.iter().filter_map(SubjectChange::server_text).collect();
    assert_eq!(
        texts,
        [
            "teal: removed",
            "teal: forgotten, with what was said of its servers",
            "teal: 10.0.0.1:80 no longer added",
            "teal: unix:/a.sock no longer added"
        ]
    );
    assert_eq!(groups.made(), "pink(Blue): 10.0.0.3:80 weight=4");
    assert_eq!(groups.code(server("teal", "10.0.0.1", ServerVerb::Drain)), Code::UnknownGroup);
}

#[test]
fn impossible_orders_on_groups_are_refused() {
    let mut groups = Groups::new();
    groups.done(make("teal", None, &["10.0.0.1"]));
    for (action, code) in [
        (make("teal", None, &[]), Code::GroupExists),
        (make("blue", None, &[]), Code::GroupExists),
        (make("Pink", None, &[]), Code::BadGroup),
        (make("dynamic", None, &[]), Code::BadGroup),
        (make("pink", Some("red"), &[]), Code::UnknownGroup),
        (make("pink", None, &["backend"]), Code::BadServer),
        (make("pink", None, &["10.0.0.1", "10.0.0.1:80"]), Code::BadOrder),
        (make("pink", Some("ring"), &["10.0.0.1 backup"]), Code::BadServer),
        (make("pink", Some("ring"), &["10.0.0.1 weight=11"]), Code::BadServer),
        (remove("pink"), Code::UnknownGroup),
        (remove("blue"), Code::BadOrder),
        (server("teal", "10.0.0.1", ServerVerb::Remove), Code::GroupEmptied),
        (server("teal", "10.0.0.1", ServerVerb::Add(params(""))), Code::ServerExists),
    ] {
        assert_eq!(groups.code(action.clone()), code, "{action:?}");
    }
    groups.leads("teal");
    let refusal = groups.order(remove("teal"), Meta { force: true, ..Meta::default() }).unwrap_err();
    assert_eq!(refusal.code, Code::GroupInUse, "whatever it is forced with");
    assert_eq!(refusal.text, "group \"teal\" is in use: key \"a\" of switch \"live\"");
    groups.leads("pink");
    groups.done(remove("teal"));
}

#[test]
fn making_and_removing_are_undone_with_the_servers() {
    let mut groups = Groups::new();
    groups.done(make("teal", Some("Blue"), &["10.0.0.1"]));
    groups.done(server("teal", "10.0.0.2", ServerVerb::Add(params("weight=5"))));
    // What was said of its servers since is a newer decision.
    let refusal = groups.undo(1, false).unwrap_err();
    assert_eq!(refusal.code, Code::ChangedSince, "{refusal}");
    assert!(refusal.text.contains("server 10.0.0.2:80 of group \"teal\" was changed"), "{refusal}");
    groups.leads("teal");
    assert_eq!(groups.undo(1, true).unwrap_err().code, Code::GroupInUse);
    groups.leads("");
    groups.done(remove("teal"));
    assert_eq!(groups.made(), "");
    groups.undo(3, false).unwrap();
    assert_eq!(groups.made(), "teal(Blue): 10.0.0.1:80, 10.0.0.2:80 weight=5");
    groups.undo(2, false).unwrap();
    groups.undo(1, false).unwrap();
    assert_eq!(groups.made(), "");
    // The undo is undone: but the name is taken, or what it was like is gone.
    groups.1.groups = [block("teal")].into();
    assert_eq!(groups.undo(6, false).unwrap_err().code, Code::GroupExists);
    groups.1.groups = [block("ring")].into();
    let refusal = groups.undo(6, false).unwrap_err();
    assert_eq!(refusal.text, "there is no group \"Blue\"");
    groups.1.groups = [block("Blue"), BaseGroup { adopts: true, ..block("teal") }].into();
    groups.undo(6, false).unwrap();
    assert_eq!(groups.made(), "teal(Blue): 10.0.0.1:80");
}

#[test]
fn a_new_group_has_nothing_of_an_older_one_of_its_name() {
    let mut groups = Groups::new();
    groups.done(server("ring", "10.0.0.9", ServerVerb::Add(params(""))));
    groups.1.groups = [block("Blue")].into();
    groups.done(make("ring", None, &["10.0.0.1"]));
    assert_eq!(groups.made(), "ring(): 10.0.0.1:80");
    groups.undo(2, false).unwrap();
    groups.1.groups = [block("ring")].into();
    let table = groups.0.load().unwrap().table;
    assert_eq!(overlay_of(table.subjects(), "ring").len(), 1, "what was said before is back");
}

#[test]
fn a_group_that_was_not_confirmed_goes_unless_something_leads_there() {
    let mut groups = Groups::new();
    let meta = || Meta { confirm_within_ms: Some(1000), ..Meta::default() };
    groups.order(make("teal", None, &["10.0.0.1"]), meta()).unwrap();
    groups.done(server("teal", "10.0.0.2", ServerVerb::Add(params(""))));
    groups.leads("teal");
    assert_eq!(groups.revert(1).unwrap_err().code, Code::GroupInUse);
    groups.leads("");
    groups.revert(1).unwrap();
    assert_eq!(groups.made(), "");
    assert_eq!(overlay_of(groups.0.load().unwrap().table.subjects(), "teal").len(), 0);

    // A removal that was not confirmed is taken back; one whose name is in use again is left.
    groups.done(make("teal", None, &["10.0.0.1"]));
    let removed = groups.order(remove("teal"), meta()).unwrap().revision;
    groups.revert(removed).unwrap();
    assert_eq!(groups.made(), "teal(): 10.0.0.1:80");
    let removed = groups.order(remove("teal"), meta()).unwrap().revision;
    groups.done(make("teal", None, &["10.0.0.7"]));
    groups.revert(removed).unwrap();
    assert_eq!(groups.made(), "teal(): 10.0.0.7:80");
}

#[test]
fn a_group_keeps_what_it_was_made_with_whatever_is_taken_back_of_an_older_one() {
    let mut groups = Groups::new();
    groups.1.groups = [block("Blue"), block("ring"), block("teal")].into();
    let within = Meta { confirm_within_ms: Some(1), ..Meta::default() };
    let add = server("teal", "10.0.0.1", ServerVerb::Add(ServerParams::default()));
    let added = groups.order(add, within.clone()).unwrap();
    groups.1.groups = [block("Blue"), block("ring")].into();
    // In the words in which it was said before.
    groups.done(make("teal", None, &["10.0.0.1"]));
    groups.revert(added.revision).unwrap();
    assert_eq!(groups.made(), "teal(): 10.0.0.1:80");
    groups.done(remove("teal"));

    // A block takes a group over: that it was made is forgotten, its servers are not.
    let made = groups.order(make("teal", None, &["10.0.0.2"]), within).unwrap();
    groups.1.groups = [block("Blue"), BaseGroup { adopts: true, ..block("teal") }].into();
    groups.done(remove("teal"));
    let said = |groups: &mut Groups| overlay_of(groups.0.load().unwrap().table.subjects(), "teal").len();
    assert_eq!(said(&mut groups), 1);
    // But they were not confirmed.
    groups.revert(made.revision).unwrap();
    assert_eq!(said(&mut groups), 0);
}

#[test]
fn a_configuration_that_has_the_name_of_a_made_group_must_say_so() {
    let mut groups = Groups::new();
    groups.done(make("teal", Some("Blue"), &["10.0.0.1"]));
    let check = |groups: &mut Groups| check_made(&groups.1, groups.0.load().unwrap().table.subjects());
    assert!(check(&mut groups).is_empty());
    groups.1.groups = [block("Blue"), block("Teal")].into();
    let faults = check(&mut groups);
    assert!(faults[0].contains("the configuration has an upstream \"Teal\""), "{faults:?}");
    groups.1.groups = [block("ring")].into();
    let faults = check(&mut groups);
    assert!(
        faults[0].contains("with the settings of \"Blue\", which the configuration no longer has"),
        "{faults:?}"
    );
    groups.1.groups = [BaseGroup { adopts: true, ..block("Teal") }].into();
    assert!(check(&mut groups).is_empty());
    // Taken over, its making is forgotten without a question, and what was said of its servers stays.
    groups.done(remove("teal"));
    assert_eq!(overlay_of(groups.0.load().unwrap().table.subjects(), "teal").len(), 1);
}
