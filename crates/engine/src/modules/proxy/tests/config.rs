//! Faults of configurations, in nginx's words.

use crate::testing::faults_of;

fn faults(server: &str) -> String {
    let text = format!("http {{ upstream backend {{ server 127.0.0.1:8081; }} server {{ {server} }} }}");
    let faults = faults_of(&text);
    faults.join("|").replace(" in /etc/pointsman/nginx.conf:1", "")
}

#[test]
fn proxy_pass_is_checked_at_load() {
    let cases = [
        ("location / { proxy_pass backend; }", "invalid URL prefix"),
        (
            "location / { proxy_pass https://backend; proxy_ssl_verify on; }",
            "no proxy_ssl_trusted_certificate for proxy_ssl_verify",
        ),
        (
            "location / { set $x 1; proxy_pass $x; proxy_ssl_verify on; }",
            "no proxy_ssl_trusted_certificate for proxy_ssl_verify",
        ),
        ("location / { set $x 1; proxy_pass http://$x; proxy_ssl_verify on; }", ""),
        (
            "location / { proxy_pass https://backend; proxy_ssl_certificate data:x; }",
            "no \"proxy_ssl_certificate_key\" is defined for certificate \"data:...\"",
        ),
        (
            "proxy_ssl_conf_command Options x;",
            "the command \"Options\" of \"proxy_ssl_conf_command\" is not supported by pointsman",
        ),
        ("location / { proxy_pass http://; }", "no host in upstream \"\""),
        ("location / { proxy_pass http://a:0/; }", "invalid port in upstream \"a:0/\""),
        (
            "location / { proxy_pass http://unix:; }",
            "no path in the unix domain socket in upstream \"unix:\"",
        ),
        ("location / { proxy_pass http://backend:81; }", "upstream \"backend\" may not have port 81"),
        (
            "location / { proxy_pass http://nosuch.example/; }",
            "host not found in upstream \"nosuch.example\"",
        ),
        (
            "location / { proxy_pass http://backend; proxy_pass http://backend; }",
            "\"proxy_pass\" directive is duplicate",
        ),
        ("proxy_pass http://backend;", "\"proxy_pass\" directive is not allowed here"),
        ("location / { proxy_pass http://localhost:81; } location /a { proxy_pass http://$host; }", ""),
    ];
    for (server, fault) in cases {
        assert_eq!(faults(server), fault, "{server}");
    }
    let no_uri = "\"proxy_pass\" cannot have URI part in location given by regular expression, or inside named \
                  location, or inside \"if\" statement, or inside \"limit_except\" block";
    for location in [
        "location ~ a { proxy_pass http://backend/; }",
        "location @a { proxy_pass http://backend/; }",
        "location / { if ($arg_a) { proxy_pass http://backend/; } }",
    ] {
        assert_eq!(faults(location), no_uri, "{location}");
    }
}

#[test]
fn sizes_are_checked_together() {
    let larger = "the maximum of the value of \"proxy_buffer_size\" and one of the \"proxy_buffers\"";
    let cases = [
        ("proxy_buffers 1 4k;", "there must be at least 2 \"proxy_buffers\"".to_owned()),
        (
            "proxy_buffer_size 128k;",
            "\"proxy_busy_buffers_size\" must be less than the size of all \"proxy_buffers\" minus one buffer".to_owned(),
        ),
        (
            "proxy_busy_buffers_size 2k;",
            format!("\"proxy_busy_buffers_size\" must be equal to or greater than {larger}"),
        ),
        (
            "proxy_temp_file_write_size 1k;",
            format!("\"proxy_temp_file_write_size\" must be equal to or greater than {larger}"),
        ),
        (
            "proxy_max_temp_file_size 1k;",
            "\"proxy_max_temp_file_size\" must be equal to zero to disable temporary files usage or must be equal to \
             or greater than the maximum of the value of \"proxy_buffer_size\" and one of the \"proxy_buffers\""
                .to_owned(),
        ),
        ("proxy_buffer_size 1g;", "invalid value".to_owned()),
        ("proxy_buffers 0 4k;", "invalid value".to_owned()),
        ("proxy_max_temp_file_size 0; proxy_buffers 8 16k; proxy_buffer_size 32k;", String::new()),
    ];
    for (directives, fault) in cases {
        assert_eq!(
            faults(&format!("{directives} location / {{ proxy_pass http://backend; }}")),
            fault,
            "{directives}"
        );
        // Inherited, a fault is still named once, where it is written.
        let both = format!("location / {{ {directives} }} location /b {{ location /b/c {{ root a; }} }}");
        assert_eq!(faults(&both), fault, "{both}");
    }
}

#[test]
fn the_other_directives_are_checked() {
    let cases = [
        ("proxy_next_upstream error tmeout;", "invalid value \"tmeout\""),
        ("proxy_next_upstream Error timeout error;", "duplicate value \"error\""),
        ("proxy_ignore_headers X-Accel-Foo;", "invalid value \"X-Accel-Foo\""),
        ("proxy_http_version 1.2;", "invalid value \"1.2\""),
        ("proxy_http_version 2;", ""),
        ("proxy_http_version 3;", "invalid value \"3\""),
        ("proxy_connect_timeout x;", "\"proxy_connect_timeout\" directive invalid value"),
        ("proxy_read_timeout 5s; proxy_read_timeout 6s;", "\"proxy_read_timeout\" directive is duplicate"),
        ("proxy_redirect on;", "invalid parameter \"on\""),
        ("proxy_redirect off; proxy_redirect a b;", "\"proxy_redirect\" directive is duplicate"),
        ("proxy_redirect a b; proxy_redirect off;", "\"proxy_redirect\" directive is duplicate"),
        ("proxy_cookie_path on;", "invalid parameter \"on\""),
        ("proxy_cookie_path off; proxy_cookie_path a b;", "\"proxy_cookie_path\" directive is duplicate"),
        ("proxy_cookie_flags a sekure;", "invalid proxy_cookie_flags flag \"sekure\""),
        ("proxy_limit_rate x;", "invalid value"),
        ("proxy_temp_path a 4;", "invalid value"),
        (
            "proxy_buffering yes;",
            "invalid value \"yes\" in \"proxy_buffering\" directive, it must be \"on\" or \"off\"",
        ),
        (
            "proxy_store on;",
            "directive \"proxy_store\" is known to nginx (ngx_http_proxy_module), not supported by pointsman",
        ),
        ("proxy_bind 127.0.0.1;", ""),
        ("proxy_headers_hash_max_size 1024; proxy_headers_hash_bucket_size 128;", ""),
    ];
    for (directives, fault) in cases {
        assert_eq!(
            faults(&format!("{directives} location / {{ proxy_pass http://backend; }}")),
            fault,
            "{directives}"
        );
    }
    let regex = faults("proxy_redirect ~( b;");
    assert!(regex.contains("missing closing parenthesis in \"(\""), "{regex}");
    let after = "location / { proxy_redirect default; proxy_pass http://backend; }";
    assert_eq!(
        faults(after),
        "\"proxy_redirect default\" should be placed after the \"proxy_pass\" directive"
    );
    let variables = "location / { proxy_pass http://$host; proxy_redirect default; }";
    assert_eq!(
        faults(variables),
        "\"proxy_redirect default\" cannot be used with \"proxy_pass\" directive with variables"
    );
}
