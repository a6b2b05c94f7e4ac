//! What application servers are told, and what their responses become.

use super::*;
use crate::testing::faults_of;
use http::CgiForm;

/// Returns the parameters that an SCGI server is told, with `|` behind each, and what follows them.
fn told(server: &str, request: &str) -> String {
    let sent = match send(&config(server), &mut TestHost::new(), request) {
        Ok(sent) => sent,
        Err(status) => return status.to_string(),
    };
    assert_eq!(sent.head_len, sent.head.len());
    let text = String::from_utf8(sent.head).unwrap();
    let (length, params) = text.split_once(':').unwrap();
    let params = params.strip_suffix(',').unwrap();
    assert_eq!(params.len().to_string(), length);
    let mut words = params.split_terminator('\0');
    let mut shown = String::new();
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        shown.push_str(&format!("{name}={value}|"));
    }
    shown
}

#[test]
fn the_length_is_that_of_the_body_whatever_the_field_was_changed_to() {
    let server = "location / { more_set_input_headers 'Content-Length: 1'; scgi_pass backend; scgi_param L $content_length; }";
    let of_three = "POST / HTTP/1.1\r\nHost: front\r\nContent-Length: 3\r\n\r\nabc";
    let expected = "CONTENT_LENGTH=3|L=3|HTTP_HOST=front|HTTP_CONTENT_LENGTH=3|";
    assert_eq!(told(server, of_three), expected);
    let of_none = "GET / HTTP/1.1\r\nHost: front\r\n\r\n";
    assert_eq!(told(server, of_none), expected.replace('3', "0"));
}

#[test]
fn parameters_come_first_and_then_the_client_s_fields() {
    let request = "POST /a?b=c HTTP/1.1\r\nHost: front\r\nX-Two: 1\r\nProxy: evil\r\nx-two: 2\r\nX_Under: no\r\n\
                   Cookie: a=b\r\nCookie: c=d\r\nContent-Length: 2\r\n\r\nhi";
    let server =
        "location / { scgi_pass backend; scgi_param A one; scgi_param B $request_method; scgi_param C '';
        scgi_param D $arg_no; scgi_param E $arg_no if_not_empty; scgi_param F '' if_not_empty;
        scgi_param HTTP_PROXY ''; scgi_param HTTP_HOST $host:80; }";
    assert_eq!(
        told(server, request),
        "CONTENT_LENGTH=2|A=one|B=POST|C=|D=|HTTP_HOST=front:80|HTTP_X_TWO=1, 2|HTTP_COOKIE=a=b; c=d|HTTP_CONTENT_LENGTH=2|"
    );
    let server = "scgi_param A outer; location / { scgi_pass backend; scgi_pass_request_headers off; }";
    assert_eq!(told(server, &get("/")), "CONTENT_LENGTH=0|A=outer|");
    let server = "scgi_param A outer; location / { scgi_pass backend; scgi_param B inner; scgi_pass_request_headers off; }";
    assert_eq!(told(server, &get("/")), "CONTENT_LENGTH=0|B=inner|");
}

#[test]
fn each_gateway_has_its_coding() {
    let bytes = |server: &str| send(&config(server), &mut TestHost::new(), &get("/")).map(|sent| sent.head);
    let fastcgi = "location / { fastcgi_pass backend; fastcgi_param A b; fastcgi_keep_conn on;
        fastcgi_pass_request_headers off; }";
    assert_eq!(
        bytes(fastcgi).unwrap(),
        b"\x01\x01\0\x01\0\x08\0\0\0\x01\x01\0\0\0\0\0\x01\x04\0\x01\0\x04\x04\0\x01\x01Ab\0\0\0\0\x01\x04\0\x01\0\0\0\0"
    );
    let uwsgi = "location / { uwsgi_pass backend; uwsgi_param A b; uwsgi_modifier1 5; uwsgi_modifier2 6; uwsgi_string zz;
        uwsgi_pass_request_headers off; }";
    assert_eq!(bytes(uwsgi).unwrap(), b"\x05\x08\0\x06\x01\0A\x01\0bzz");
    for kind in ["fastcgi", "uwsgi"] {
        let text = "x".repeat(4000);
        let params: String = (0..18).map(|n| format!("{kind}_param A{n} {text};")).collect();
        let long = format!("location / {{ {kind}_pass backend; {params} }}");
        assert_eq!(bytes(&long).err(), Some(500), "{kind}");
    }
}

#[test]
fn script_s_name_is_split_off() {
    let server = |inside: &str| {
        format!(
            "location / {{ scgi_pass backend; scgi_pass_request_headers off; {inside}
                scgi_param S $fastcgi_script_name; scgi_param P $fastcgi_path_info; }}"
        )
    };
    let split = "fastcgi_split_path_info ^(.+?\\.php)(/.*)$; fastcgi_index index.php;";
    for (inside, target, expected) in [
        ("", "/a%20b/", "S=/a b/|P=|"),
        ("fastcgi_index index.php;", "/a/", "S=/a/index.php|P=|"),
        (split, "/x.php/y/z", "S=/x.php|P=/y/z|"),
        (split, "/x.php", "S=/x.php|P=|"),
        (split, "/d/", "S=/d/index.php|P=|"),
    ] {
        assert_eq!(
            told(&server(inside), &get(target)),
            format!("CONTENT_LENGTH=0|{expected}"),
            "{inside} {target}"
        );
    }
}

#[test]
fn directives_are_checked_at_load() {
    let faults = |inside: &str| {
        let text = format!(
            "http {{ upstream backend {{ server 127.0.0.1:8081; }} server {{ location / {{ {inside} }} }} }}"
        );
        faults_of(&text).join("|").replace(" in /etc/pointsman/nginx.conf:1", "")
    };
    for (inside, fault) in [
        ("fastcgi_pass backend;", ""),
        ("fastcgi_pass unix:/run/php.sock;", ""),
        ("set $x 1; fastcgi_pass $x;", ""),
        ("uwsgi_pass suwsgi://127.0.0.1:1;", ""),
        ("fastcgi_pass 127.0.0.1;", "no port in upstream \"127.0.0.1\""),
        ("fastcgi_pass fastcgi://127.0.0.1:1;", "invalid host in upstream \"fastcgi://127.0.0.1:1\""),
        ("fastcgi_pass backend; fastcgi_pass backend;", "\"fastcgi_pass\" directive is duplicate"),
        ("fastcgi_split_path_info ^(.*)$;", "pattern \"^(.*)$\" must have 2 captures"),
        ("fastcgi_param A b c;", "invalid parameter \"c\""),
        ("fastcgi_next_upstream http_502;", "invalid value \"http_502\""),
        ("uwsgi_modifier1 256;", "invalid value"),
        (
            "fastcgi_buffers 2 4k;",
            "\"fastcgi_busy_buffers_size\" must be less than the size of all \"fastcgi_buffers\" minus one buffer",
        ),
        ("fastcgi_cache one;", "\"fastcgi_cache\" zone \"one\" is unknown"),
        ("fastcgi_bind 127.0.0.1 transparent;", "invalid parameter \"transparent\""),
        ("proxy_bind localhost;", "invalid address \"localhost\""),
        ("fastcgi_cache off; uwsgi_store off; fastcgi_send_lowat 0;", ""),
        (
            "uwsgi_pass suwsgi://backend; uwsgi_ssl_verify on;",
            "no uwsgi_ssl_trusted_certificate for uwsgi_ssl_verify",
        ),
        (
            "fastcgi_store on;",
            "directive \"fastcgi_store\" is known to nginx (ngx_http_fastcgi_module), not supported by pointsman",
        ),
    ] {
        assert_eq!(faults(inside), fault, "{inside}");
    }
}

#[test]
fn the_last_content_handler_wins_and_is_not_inherited() {
    let server =
        "scgi_param K outer; location /a { proxy_pass http://backend; location /a/b { scgi_pass other; } }
        location / { scgi_pass backend; scgi_param K inner; scgi_pass_request_headers off;
            if ($arg_x) { scgi_pass other; } location /c { return 204; } }";
    let config = config(server);
    let host = &mut TestHost::new();
    let goes = |host: &mut TestHost, target: &str| {
        let sent = send(&config, host, &get(target)).map_err(|status| status.to_string())?;
        Ok::<_, String>(String::from_utf8_lossy(&sent.exchange.upstream.url).into_owned())
    };
    assert_eq!(goes(host, "/a"), Ok("http://127.0.0.1:8081/a".into()));
    assert_eq!(goes(host, "/a/b"), Ok("scgi://127.0.0.1:8081".into()));
    assert_eq!(goes(host, "/?x=1"), Ok("scgi://127.0.0.1:8081".into()));
    let head = send(&config, host, &get("/?x=1")).map(|sent| sent.head).unwrap();
    assert_eq!(head, b"25:CONTENT_LENGTH\x000\0K\0inner\0,", "an if block has what is around it");
}

/// Returns the client's head for that of an application server, and how its body ends.
fn became(server: &str, method: &str, response: &str) -> String {
    let config = config(server);
    let mut host = TestHost::new();
    let mut sent = send(&config, &mut host, &get("/x").replace("GET", method)).ok().unwrap();
    let env = &mut Env { config: &config, host: &mut host };
    let mut head = ResponseHead::new();
    head.decode_cgi(response.as_bytes(), 4096, CgiForm::LineOrFields).unwrap();
    let framed = match framing(&mut sent.exchange, env, &head) {
        Ok(framed) => framed,
        Err(failure) => return format!("{failure:?}"),
    };
    accept_head(&mut sent.exchange, env, &sent.plan, &mut head);
    output::write_head(&mut sent.exchange, env).unwrap();
    let text = String::from_utf8(std::mem::take(&mut sent.exchange.output.wire)).unwrap();
    let shown: Vec<&str> =
        text.split("\r\n").filter(|line| !line.is_empty() && !line.starts_with("Connection")).collect();
    format!("{} {:?} {}", shown.join("|"), framed.body, framed.keep_alive)
}

#[test]
fn responses_of_application_servers_are_cgi_s() {
    let fastcgi = "location / { fastcgi_pass backend; fastcgi_keep_conn on; }";
    let uwsgi = "location / { uwsgi_pass backend; }";
    let response = "Status: 404 Gone\r\nServer: php\r\nDate: today\r\nX-Accel-Expires: 1\r\nLocation: /y\r\n\
                    Content-Length: 3\r\n\r\n";
    assert_eq!(
        became(fastcgi, "GET", response),
        "HTTP/1.1 404 Gone|Content-Length: 3|Server: php|Date: today|Location: /y Length(3) true"
    );
    assert!(became(uwsgi, "GET", response).contains("|Status: 404 Gone|"), "nginx passes it on from uwsgi");
    let chunked = "Transfer-Encoding: chunked\r\nServer: a\r\nDate: b\r\n\r\n";
    assert_eq!(
        became(uwsgi, "GET", chunked),
        "HTTP/1.1 200 OK|Transfer-Encoding: chunked|Server: a|Date: b UntilClose false"
    );
    assert!(became(fastcgi, "HEAD", response).ends_with("None true"));
    assert_eq!(became(fastcgi, "GET", "Status: 101 Up\r\nUpgrade: a\r\n\r\n"), "InvalidHeader");
    assert_eq!(became(fastcgi, "GET", "Content-Length: x\r\n\r\n"), "InvalidHeader");
}
