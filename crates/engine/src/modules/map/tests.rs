//! Responses of nginx 1.22.1 for the same configurations (see `cases/variables/`), and its words for faults.

use crate::testing::{TestHost, answer, config_of, faults_of};

/// Returns the body of the answer to a request for a target, with more header lines.
fn body(http: &str, text: &str, target: &str, fields: &str) -> String {
    let config = config_of(&format!("http {{ {http} server {{ listen 80; return 200 \"{text}\"; }} }}"));
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
    let answer = answer(&config, &mut TestHost::new(), &request);
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

fn faults(http: &str) -> Vec<String> {
    faults_of(&format!("http {{ {http} }}"))
        .iter()
        .map(|fault| fault.replace(" in /etc/pointsman/nginx.conf:1", ""))
        .collect()
}

#[test]
fn map_prefers_texts_to_patterns_and_patterns_to_the_default() {
    let map = r#"map $arg_v $m { default d; a 1; "b%20c" 2; "" empty; ~^x(?<rest>.*)$ "x-$rest"; ~*^y "y-$arg_w"; \~t t; \default w; }"#;
    for (target, value) in [
        ("/?v=a", "1"),
        ("/?v=A", "1"),
        ("/?v=b%20c", "2"),
        ("/?v=B%20C", "2"),
        ("/", "empty"),
        ("/?v=", "empty"),
        ("/?v=xyz", "x-yz"),
        ("/?v=XYZ", "d"),
        ("/?v=Yes&w=7", "y-7"),
        ("/?v=~t", "t"),
        ("/?v=default", "w"),
        ("/?v=other", "d"),
    ] {
        assert_eq!(body(map, "$m", target, ""), value, "{target}");
    }
    let long = format!("/?v={}", "A".repeat(500));
    let map = format!("map $arg_v $m {{ {} long; }}", "a".repeat(500));
    assert_eq!(body(&map, "$m", &long, ""), "long");
}

#[test]
fn map_without_a_default_gives_an_empty_value() {
    assert_eq!(body("map $arg_v $m { a 1; }", "[$m]", "/?v=b", ""), "[]");
}

#[test]
fn map_takes_several_sources_and_chains() {
    let maps = r#"map "$arg_v-$arg_w" $both { a-b ab; default none; } map $both $next { ab "[$both]"; default $uri; }"#;
    assert_eq!(body(maps, "$both $next", "/?v=a&w=b", ""), "ab [ab]");
    assert_eq!(body(maps, "$both $next", "/p", ""), "none /p");
}

#[test]
fn map_with_hostnames() {
    let map = "map $arg_h $m { hostnames; default d; example.com exact; *.example.com front; example.* end; .dot.org dot; ~^re re; }";
    for (host, value) in [
        ("example.com", "exact"),
        ("Example.COM.", "exact"),
        ("www.example.com", "front"),
        ("example.org", "end"),
        ("dot.org", "dot"),
        ("a.dot.org", "dot"),
        ("re.x", "re"),
        ("other", "d"),
    ] {
        assert_eq!(body(map, "$m", &format!("/?h={host}"), ""), value, "{host}");
    }
    // Without the word, a star is a star.
    assert_eq!(body("map $arg_h $m { *.a star; }", "$m", "/?h=*.a", ""), "star");
    assert_eq!(body("map $arg_h $m { *.a star; }", "[$m]", "/?h=b.a", ""), "[]");
}

#[test]
fn a_value_is_computed_once_unless_volatile() {
    let maps = "map $arg_v $once { default $arg_v; } map $arg_v $anew { volatile; default $arg_v; }";
    let config = config_of(&format!(
        "http {{ {maps} server {{ listen 80; set $a \"$once$anew\"; set $args v=2; return 200 \"$once$anew\"; }} }}"
    ));
    let answer = answer(&config, &mut TestHost::new(), "GET /?v=1 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.ends_with("\r\n\r\n12"), "{answer}");
}

#[test]
fn a_recursive_map_is_logged_and_empty() {
    let config = config_of(
        "http { map $b $a { default $b; } map $a $b { default x$a; } server { listen 80; return 200 \"[$a]\"; } }",
    );
    let mut host = TestHost::new();
    let answer = answer(&config, &mut host, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.contains("\r\n\r\n["), "{answer}");
    assert!(
        host.error_lines[0].starts_with("[error] cycle while evaluating variable \"a\", client: 127.0.0.1")
    );
}

#[test]
fn all_faults_of_map_have_nginx_s_words() {
    let broken = faults("map $uri $m { ~( x; }");
    assert!(broken[0].contains("missing closing parenthesis") && broken.len() == 1, "{broken:?}");
    assert_eq!(
        faults(
            "map $uri $m { a 1; A 2; b; c d e; default 1; default 2; hostnames; *.b.* y; } map $uri n { }"
        ),
        [
            "conflicting parameter \"a\"",
            "invalid number of the map parameters",
            "invalid number of the map parameters",
            "duplicate default map parameter",
            "invalid hostname or wildcard \"*.b.*\"",
            "invalid variable name \"n\"",
        ]
    );
    assert_eq!(faults("map $uri $uri { }"), ["the duplicate \"uri\" variable"]);
    assert_eq!(faults("map $uri $m { a $; }"), ["invalid variable name in \"$\""]);
    assert_eq!(faults("map $nope $m { a $nope2; }").len(), 2);
}

#[test]
fn geo_finds_the_smallest_network_of_an_address() {
    let geo = "geo $arg_ip $g { default none; 10.0.0.0/8 ten; 10.1.0.0/16 ten-one; 10.1.2.3 host; 10.9.0.0/16 gone; \
               delete 10.9.0.0/16; 2001:db8::/32 doc; 255.255.255.255 last; }";
    for (ip, value) in [
        ("10.2.3.4", "ten"),
        ("10.1.9.9", "ten-one"),
        ("10.1.2.3", "host"),
        ("10.9.1.1", "ten"),
        ("11.0.0.0", "none"),
        ("2001:db8::1", "doc"),
        ("2001:db9::1", "none"),
        ("::ffff:10.1.2.3", "host"),
        ("nonsense", "last"),
        ("", "last"),
    ] {
        assert_eq!(body(geo, "$g", &format!("/?ip={ip}"), ""), value, "{ip}");
    }
    assert_eq!(body("geo $g { 127.0.0.0/8 loop; }", "$g", "/", ""), "loop");
    assert_eq!(body("geo $g { 10.0.0.0/8 ten; }", "[$g]", "/", ""), "[]");
    assert_eq!(body("geo $arg_ip $g { 255.255.255.255 n; default d; }", "$g", "/?ip=::2", ""), "d");
}

#[test]
fn geo_finds_the_narrowest_range_and_deletes_ranges() {
    let geo = "geo $arg_ip $g { ranges; default none; 10.0.0.0-10.2.255.255 low; 10.1.0.5-10.1.0.9 in; \
               10.1.0.7-10.1.0.7 one; 11.0.0.0-11.0.0.255 gone; delete 11.0.0.0-11.0.0.255; }";
    for (ip, value) in [
        ("9.255.255.255", "none"),
        ("10.0.0.0", "low"),
        ("10.1.0.4", "low"),
        ("10.1.0.5", "in"),
        ("10.1.0.7", "one"),
        ("10.1.0.9", "in"),
        ("10.1.0.10", "low"),
        ("10.2.255.255", "low"),
        ("10.3.0.0", "none"),
        ("11.0.0.1", "none"),
        ("::1", "none"),
    ] {
        assert_eq!(body(geo, "$g", &format!("/?ip={ip}"), ""), value, "{ip}");
    }
}

#[test]
fn geo_trusts_the_listed_proxies() {
    let geo = |more: &str| {
        format!(
            "geo $g {{ default none; proxy 127.0.0.0/8; proxy 10.0.0.0/8; {more} 10.0.0.0/8 ten; 1.2.3.0/24 far; }}"
        )
    };
    let near = geo("");
    let recursive = geo("proxy_recursive;");
    for (fields, once, again) in [
        ("", "none", "none"),
        ("X-Forwarded-For: 1.2.3.4\r\n", "far", "far"),
        ("X-Forwarded-For: 1.2.3.4, 10.0.0.1\r\n", "ten", "far"),
        ("X-Forwarded-For: 1.2.3.4,10.0.0.1:80 ,\r\n", "ten", "far"),
        ("X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 10.0.0.1\r\n", "ten", "far"),
        ("X-Forwarded-For: 1.2.3.4, 9.9.9.9, 10.0.0.1\r\n", "ten", "none"),
        ("X-Forwarded-For: unknown\r\n", "none", "none"),
        ("X-Forwarded-For: unknown, 10.0.0.1\r\n", "ten", "ten"),
    ] {
        assert_eq!(body(&near, "$g", "/", fields), once, "{fields}");
        assert_eq!(body(&recursive, "$g", "/", fields), again, "recursive {fields}");
    }
}

#[test]
fn faults_of_geo_have_nginx_s_words() {
    assert_eq!(
        faults("geo $g { 10.0.0.0/33 a; b; 10.0.0.0/8 a b; proxy x; 10.0.0.0/8 a; ranges; }"),
        [
            "invalid network \"10.0.0.0/33\"",
            "invalid number of the geo parameters",
            "invalid number of the geo parameters",
            "invalid network \"x\"",
            "the \"ranges\" directive must be the first directive inside \"geo\" block",
        ]
    );
    assert_eq!(
        faults(
            "geo $g { ranges; 10.0.0.0-10.0.0.255 a; 10.0.0.5-10.0.1.0 b; 10.0.0.5 c; 10.0.0.2-10.0.0.1 d; }"
        ),
        [
            "range \"10.0.0.5-10.0.1.0\" overlaps \"10.0.0.0-10.0.0.255\"",
            "invalid range \"10.0.0.5\"",
            "invalid range \"10.0.0.2-10.0.0.1\"",
        ]
    );
    assert_eq!(
        faults(
            "geo $g { 10.0.0.1/8 a; 10.0.0.0/8 b; delete 11.0.0.0/8; default x; default y; } server { listen 80; }"
        ),
        [
            "low address bits of 10.0.0.1/8 are meaningless",
            "duplicate network \"10.0.0.0/8\", value: \"b\", old value: \"a\"",
            "no network \"11.0.0.0/8\" to delete",
            "duplicate network \"default\", value: \"y\", old value: \"x\"",
        ]
    );
}

#[test]
fn split_clients_chooses_as_nginx_does() {
    let split = "split_clients $arg_v $half { 50% a; * b; } \
         split_clients $arg_v $tenths { 10% one; 20.5% two; 0.01% rare; * rest; } \
         split_clients $arg_v $all { 100% all; } split_clients $arg_v $none { 0.01% x; }";
    for (v, wanted) in [
        ("1", "a two all []"),
        ("2", "a two all []"),
        ("3", "b rest all []"),
        ("4", "a two all []"),
        ("user@example.com", "a rest all []"),
        ("0123456789", "a two all []"),
        ("", "a one all [x]"),
    ] {
        assert_eq!(body(split, "$half $tenths $all [$none]", &format!("/?v={v}"), ""), wanted, "{v}");
    }
    // `*` gets the rest even if nothing is left; values are no templates.
    assert_eq!(body("split_clients $uri $s { 100% $uri; * b; }", "$s", "/", ""), "$uri");
}

#[test]
fn faults_of_split_clients_have_nginx_s_words() {
    assert_eq!(
        faults("split_clients $uri $s { 50% a; 60% b; x c; 0% d; 1.234% e; 5% f g; }"),
        [
            "percent total is greater than 100%",
            "invalid percent value \"x\"",
            "invalid percent value \"0%\"",
            "invalid percent value \"1.234%\"",
            "invalid number of the split_clients parameters",
        ]
    );
    assert_eq!(faults("split_clients $uri $s { * a; 1% b; }"), ["percent total is greater than 100%"]);
}
