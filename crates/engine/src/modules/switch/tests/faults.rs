//! Faults of a switch block: each with its cause, its place and its help.

use super::*;
use crate::testing::faults_of;

/// Returns the faults of a text beside the three groups; the lines are counted from the text.
fn faults(http: &str) -> Vec<String> {
    let groups = GROUPS.replace('\n', " ");
    let cut = |fault: &String| fault.replace(" in /etc/pointsman/nginx.conf:1", "");
    faults_of(&format!("http {{ {groups} {http} }}")).iter().map(cut).collect()
}

#[test]
fn faults_are_named_with_their_cause() {
    for (text, wanted) in [
        ("switch $host $a { }", "no default in \"switch\" $a"),
        ("switch $host $a { default blu; }", "default \"blu\" is no upstream"),
        ("switch $host $a { default blue; targets blue gren; }", "target \"gren\" is no upstream"),
        ("switch $host $a { default red; targets blue green; }", "default \"red\" is none of the targets"),
        ("switch $host $a { default blue; targets blue Blue; }", "duplicate target \"Blue\""),
        ("switch $host $a { default blue; default green; }", "\"default\" directive is duplicate"),
        ("switch $host $a { default blue; tragets blue; }", "unknown parameter \"tragets\" in \"switch\""),
        (
            "switch $host $a { default blue; shop.test green; }",
            "unknown parameter \"shop.test\" in \"switch\"",
        ),
        ("switch $host $a { default blue; one two three; }", "unknown parameter \"one\" in \"switch\""),
        ("switch $host a { default blue; }", "invalid variable name \"a\""),
        ("switch $host $a-b { default blue; }", "invalid variable name \"$a-b\""),
        ("switch $host $uri { default blue; }", "the duplicate \"uri\" variable"),
        ("switch $host $arg_x { default blue; }", "the duplicate \"arg_x\" variable"),
        ("map $host $a { } switch $host $a { default blue; }", "the duplicate \"a\" variable"),
        ("switch $host $a { default blue; } map $host $a { }", "the duplicate \"a\" variable"),
        (
            "switch $host $a { default blue; } server { listen 80; set $a green; }",
            "the duplicate \"a\" variable",
        ),
        (
            "switch $host $a { default blue; } switch $uri $A { default blue; }",
            "the duplicate \"A\" variable",
        ),
        ("switch $host $a { default blue; state s/; }", "no file in the state \"s/\""),
        ("switch $host $a frm=b { default blue; }", "invalid parameter \"frm=b\""),
        ("switch $host $a watch=0 { default blue; }", "invalid parameter \"watch=0\""),
        ("switch $host $a watch=2h { default blue; }", "invalid parameter \"watch=2h\""),
        ("switch $host $a watch=1m watch=1m { default blue; }", "invalid parameter \"watch=1m\""),
        ("switch $host $a from= { default blue; }", "invalid name \"\" of a switch"),
        ("switch $host $a from=a { default blue; }", "switch \"a\" is in force, and so is no former name"),
        (
            "switch_retired a; switch $host $a { default blue; }",
            "switch \"a\" is in force, and so is no former name",
        ),
        ("switch_retired b B;", "switch \"b\" is named as a former one twice"),
        (
            "switch $host $a from=b { default blue; } switch_retired b;",
            "switch \"b\" is named as a former one twice",
        ),
        ("switch $host $a { default blue; state etcd://h/; }", "a state names no etcd"),
        (
            "switch $host $a { default blue; state state/b.db; } switch $host $b { default blue; }",
            "the state \"/prefix/state/b.db\" is another switch's",
        ),
        ("switch $host $a { default blue; keys max=0; }", "invalid number of keys \"0\""),
        ("switch $host $a { default blue; keys length=x; }", "invalid length of keys \"x\""),
        ("switch $host $a { default blue; keys count=1; }", "invalid parameter \"count=1\""),
        ("switch $host $a { default blue; sticky $nope; }", "unknown \"nope\" variable"),
        ("switch $host $a { default blue; gate healty=1; }", "invalid parameter \"healty=1\""),
        ("switch $host $a { default blue; gate healthy=0; }", "invalid number of healthy servers \"0\""),
        ("switch $host $a { default blue; gate timeout=0; }", "invalid timeout \"0\""),
        ("switch $host $a { default blue; gate uri=health; }", "invalid URI \"health\" of the gate"),
        ("switch $host $a { default blue; gate status=200; }", "status= of a gate needs uri="),
        (
            "switch $host $a { default blue; gate uri=/ status=299-200; }",
            "invalid status \"299-200\" of the gate",
        ),
        ("switch $host $a { default blue; gate fraction=0%; }", "invalid fraction of healthy servers \"0%\""),
        ("switch $host $a { default blue; gate fraction=1; }", "invalid fraction of healthy servers \"1\""),
        ("switch $host $a { default blue; gate passes=0; }", "invalid number of passes \"0\""),
        ("switch $host $a { default blue; gate interval=0; }", "invalid interval \"0\""),
        ("switch $host $a { default blue; gate match=up; }", "match= of a gate needs uri="),
        ("switch $host $a { default blue; gate type=tcp; }", "invalid parameter \"type=tcp\""),
        ("switch $host $a { default blue; gate grpc_status=0; }", "grpc_status=0 of a gate needs type=grpc"),
        (
            "switch $host $a { default blue; gate type=grpc uri=/x; }",
            "uri= of a gate has no meaning with type=grpc: its health service is asked",
        ),
        (
            "switch $host $a { default blue; gate type=grpc grpc_status=x; }",
            "invalid parameter \"grpc_status=x\"",
        ),
        ("switch $host $a { default blue; gate uri=/ host=$x; }", "invalid host \"$x\" of the gate"),
        ("switch $host $a { default blue; gate uri=/ header=a; }", "invalid header \"a\" of the gate"),
        ("switch $host $a { default blue; gate uri=/ match=; }", "invalid match \"\" of the gate"),
        (
            "switch $host $a { default blue; gate uri=/ match=~(; }",
            "pcre2_compile() failed: missing closing parenthesis in \"(\"",
        ),
        ("switch $host $a { default blue; gate healthy=2; }", "the gate can never open for \"green\""),
        ("switch $host $a { default blue; streams cut; }", "invalid value \"cut\""),
        ("switch $host $a { default blue; streams close in=1s; }", "invalid parameter \"in=1s\""),
        ("switch $host $a { default blue; streams keep after=1s; }", "invalid parameter \"after=1s\""),
        ("switch $host $a { default blue; dict routes; }", "no lua_shared_dict \"routes\""),
        (
            "lua_shared_dict r 1m; switch $host $a { default blue; dict r; } switch $host $b { default blue; dict r; }",
            "the dict \"r\" is another switch's",
        ),
        ("server { switch $host $a { default blue; } }", "\"switch\" directive is not allowed here"),
        (
            "upstream a { server 127.0.0.1:1; sticky cookie a; }",
            "directive \"sticky\" is known to nginx (ngx_http_upstream_sticky_module), not supported by pointsman",
        ),
        ("targets blue;", "\"targets\" directive is not allowed here"),
    ] {
        assert_eq!(faults(text), [wanted], "{text}");
    }
    // A gate is good if each target can pass it.
    assert_eq!(faults("switch $host $a { default blue; targets blue red; gate healthy=2; }"), [""; 0]);
    // All faults are named at once.
    let all = faults("switch $host $a { default blu; targets gren; state s/; nope; }");
    assert_eq!(all.len(), 4, "{all:?}");
}

#[test]
fn faults_of_groups_made_at_run_time_are_named() {
    for (text, wanted) in [
        (
            "switch $host $a { default blue; targets blue dynamic dynamic; }",
            "target \"dynamic\" is no upstream",
        ),
        ("switch $host $a { default blue; targets dynamic; }", "default \"blue\" is none of the targets"),
        (
            "upstream dynamic { } switch $host $a { default blue; targets blue dynamic; }",
            "\"dynamic\" is an upstream, and the word for groups made at run time",
        ),
        ("upstream x adopts { }", "invalid parameter \"adopts\""),
    ] {
        let found = faults(text);
        assert!(found.iter().any(|fault| fault.contains(wanted)), "{text}: {found:?}");
    }
}

#[test]
fn faults_show_their_place_and_help() {
    for (text, wanted) in [
        ("switch $host $a { default bleu; }", "did you mean blue?"),
        ("switch $host $a { default blue; targets blue grene; }", "did you mean green?"),
        ("switch $host $a { default red; targets blue green; }", "add it: targets blue green red;"),
        ("switch $host $a { default blue; tragets blue; }", "did you mean \"targets\"?"),
        (
            "switch $host $a { default blue; shop.test green; }",
            "entries are made while the server runs: pointsman switch shop.test green",
        ),
        ("lua_shared_dict routes 1m; switch $host $a { default blue; dict route; }", "did you mean routes?"),
        ("switch $host $a { default blue; gate healty=1; }", "did you mean \"healthy=\"?"),
        ("switch $host $a { default blue; gate healthy=2; }", "ask for no more than healthy=1"),
    ] {
        let shown = crate::testing::shown_to_people(&format!("http {{ {GROUPS}\n{text} }}"));
        assert!(shown.contains(wanted) && shown.contains("nginx.conf:3:"), "{text}: {shown}");
    }
}

#[test]
fn a_choice_takes_one_of_two_words() {
    assert_eq!(faults(&LIVE.replace("targets", "revert-if-dead no; targets")), ["invalid value \"no\""]);
    assert_eq!(faults(&LIVE.replace("targets", "on-damage 503; targets")), ["invalid value \"503\""]);
}
