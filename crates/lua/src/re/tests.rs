//! Patterns, groups, templates and limits.

use super::*;

fn compile(pattern: &str, flags: u32) -> Regex {
    Regex::compile(pattern.as_bytes(), Flags(flags), 0).unwrap()
}

fn groups(pattern: &str, flags: u32, subject: &str, at: usize) -> Option<Vec<Option<String>>> {
    let mut regex = compile(pattern, flags);
    let found = regex.exec(subject.as_bytes(), at).unwrap()?;
    Some((0..found).map(|group| regex.group(group).map(|(from, to)| subject[from..to].to_owned())).collect())
}

fn replaced(subject: &str, pattern: &str, template: &str, global: bool) -> (String, u32) {
    let mut out = Vec::new();
    let template = Template::parse(template.as_bytes()).unwrap();
    let count =
        substitute(&mut compile(pattern, 0), &template, subject.as_bytes(), global, &mut out).unwrap();
    (String::from_utf8(out).unwrap(), count)
}

#[test]
fn groups_are_found() {
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(groups("([0-9]+)(x)?", 0, "ab12", 0), Some(vec![some("12"), some("12")]));
    assert_eq!(groups("(x)?([0-9]+)", 0, "ab12", 0), Some(vec![some("12"), None, some("12")]));
    assert_eq!(groups("[0-9]+", 0, "ab12cd34", 4), Some(vec![some("34")]));
    assert_eq!(groups("[0-9]+", 0, "abc", 0), None);
    assert_eq!(groups("[0-9]+", 0, "abc", 9), None);
}

#[test]
fn every_option_changes_the_match() {
    assert!(groups("b", Flags::ANCHORED.0, "ab", 0).is_none());
    assert!(groups("AB", Flags::CASELESS.0, "ab", 0).is_some());
    assert!(groups("^b", Flags::MULTILINE.0, "a\nb", 0).is_some());
    assert!(groups("a.b", Flags::DOTALL.0, "a\nb", 0).is_some());
    assert!(groups("a b # comment", Flags::EXTENDED.0, "ab", 0).is_some());
    assert!(groups("^.$", Flags::UTF8.0, "你", 0).is_some());
    assert!(groups("^.$", Flags::UTF8_UNCHECKED.0, "你", 0).is_some());
    assert!(groups("(?<n>a)|(?<n>b)", Flags::DUPLICATE_NAMES.0, "b", 0).is_some());
    assert!(groups(r"\u0061", Flags::JAVASCRIPT.0, "a", 0).is_some());
    assert!(groups("a+", Flags::JIT.0, "aaa", 0).is_some());
    let shortest = groups("ab|abc", 0, "abcd", 0).unwrap();
    let longest = groups("ab|abc", Flags::DFA.0, "abcd", 0).unwrap();
    assert_eq!((shortest[0].as_deref(), longest[0].as_deref()), (Some("ab"), Some("abc")));
}

#[test]
fn errors_are_those_of_pcre_1() {
    let fails = |pattern: &str| {
        String::from_utf8(Regex::compile(pattern.as_bytes(), Flags(0), 0).unwrap_err()).unwrap()
    };
    assert_eq!(fails("(abc"), "pcre_compile() failed: missing ) in \"(abc\"");
    assert_eq!(fails("abc)d"), "pcre_compile() failed: unmatched parentheses in \"abc)d\" at \")d\"");
    assert!(fails(&"(".repeat(300)).len() <= 127);
    let mut regex = compile(".", Flags::UTF8.0);
    assert_eq!(regex.exec(b"\xff", 0), Err(-10));
}

#[test]
fn the_match_limit_holds_with_and_without_machine_code() {
    for flags in [0, Flags::JIT.0] {
        let mut regex = Regex::compile(br"^(\w+\s?)*$", Flags(flags), 1000).unwrap();
        assert_eq!(regex.exec(b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", 0), Err(-8));
    }
}

#[test]
fn templates_are_filled_in_with_groups() {
    assert_eq!(replaced("hello, 1234", "([0-9])[0-9]", "[$0][$1]", false), ("hello, [12][1]34".into(), 1));
    assert_eq!(
        replaced("hello, 1234", "([0-9])[0-9]", "[$0,${1}0$$]", true),
        ("hello, [12,10$][34,30$]".into(), 2)
    );
    assert_eq!(replaced("abc", "x", "y", true), ("abc".into(), 0));
    assert_eq!(replaced("abc", "", "-", true), ("-a-b-c-".into(), 4));
    assert_eq!(replaced("abc", "b(x)?", "[$1$2$9]", true), ("a[]c".into(), 1));
    assert_eq!(replaced("a1", "[0-9]", "$0abc", false), ("a1abc".into(), 1));
}

#[test]
fn broken_templates_are_refused_in_ngx_luas_words() {
    let fails =
        |template: &str| String::from_utf8(Template::parse(template.as_bytes()).unwrap_err().text).unwrap();
    assert_eq!(fails("a$"), "lua script: invalid capturing variable name found in \"a$\"");
    assert_eq!(fails("a${1x}"), "the closing bracket in \"1\" variable is missing");
    assert_eq!(
        fails("a$name"),
        "attempt to use named capturing variable \"name\" (named captures not supported yet)"
    );
    assert_eq!(fails("a${"), "lua script: invalid capturing variable name found in \"a${\"");
}
