//! Reports on the server: `stub_status`, `upstream_status` and `metrics`.
//!
//! Owns the directives, nginx's few lines, and which form of a report the client wants. The reports are made of the
//! statistics, which are the server's.

use super::Module;
use crate::directive::{Args, Contexts, Directive};
use crate::exchange::Exchange;
use crate::host::Env;
use crate::phase::{Content, Report, ReportForm, Verdict};
use crate::variables::write;
use http::Known;

/// The module.
pub static MODULE: Module = Module::new("status", &[DIRECTIVES]);

const DIRECTIVES: &[Directive] = &[
    Directive::new(
        "stub_status",
        Contexts::SERVER.or(Contexts::LOCATION),
        Args::Between(0, 1),
        "",
        |b, _| {
            b.settings().core.content.replace(Some(stub_status));
            Ok(())
        },
    )
    .doc("Serves a few lines with the numbers of connections and requests.")
    .example("stub_status;"),
    Directive::new("upstream_status", Contexts::LOCATION, Args::Exactly(0), "", |b, _| {
        b.settings().core.content.replace(Some(upstream_status));
        Ok(())
    })
    .doc(
        "Serves the response times of every upstream group and its servers, as text, HTML or JSON: what the client \
         accepts, or ?format=text, html or json.",
    )
    .example("upstream_status;"),
    Directive::new("metrics", Contexts::LOCATION, Args::Exactly(0), "", |b, _| {
        b.settings().core.content.replace(Some(metrics));
        Ok(())
    })
    .doc(
        "Serves all counters and response times in the OpenMetrics text format, for Prometheus and similar programs.",
    )
    .example("metrics;"),
];

/// Answers a GET or HEAD that has no need of its body; anything else is 405, as in nginx.
fn looking(exchange: &mut Exchange, content_type: &[u8]) -> Result<(), Verdict> {
    if !matches!(exchange.method(), b"GET" | b"HEAD") {
        return Err(Verdict::Refuse(405));
    }
    if !exchange.request.body_settled() {
        exchange.request.discard_wanted = true;
    }
    exchange.response.status = 200;
    exchange.response.content_type = Some(content_type.to_vec());
    Ok(())
}

/// ngx_http_stub_status_handler.
fn stub_status(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    if let Err(verdict) = looking(exchange, b"text/plain") {
        return verdict;
    }
    let counters = env.host.counters();
    let mut body = Vec::with_capacity(160);
    let mut line = |pairs: &[(&str, u64)]| {
        for (words, value) in pairs {
            body.extend_from_slice(words.as_bytes());
            write::number(&mut body, *value);
        }
        body.extend_from_slice(b" \n");
    };
    line(&[("Active connections: ", counters.active)]);
    line(&[
        ("server accepts handled requests\n ", counters.accepted),
        (" ", counters.handled),
        (" ", counters.requests),
    ]);
    line(&[
        ("Reading: ", counters.reading),
        (" Writing: ", counters.writing),
        (" Waiting: ", counters.waiting),
    ]);
    exchange.response.content_length = Some(body.len() as u64);
    Verdict::Serve(Content::Bytes(body))
}

fn upstream_status(exchange: &mut Exchange, _: &mut Env<'_>) -> Verdict {
    let form = match http::args::find(&exchange.request.args, b"format") {
        None => accepted(exchange),
        Some(b"text") => ReportForm::Text,
        Some(b"html") => ReportForm::Html,
        Some(b"json") => ReportForm::Json,
        Some(_) => return Verdict::Refuse(400),
    };
    let content_type: &[u8] = match form {
        ReportForm::Text => b"text/plain; charset=utf-8",
        ReportForm::Html => b"text/html; charset=utf-8",
        ReportForm::Json => b"application/json",
    };
    match looking(exchange, content_type) {
        Ok(()) => Verdict::Serve(Content::Report(Report::UpstreamStatus(form))),
        Err(verdict) => verdict,
    }
}

fn metrics(exchange: &mut Exchange, _: &mut Env<'_>) -> Verdict {
    // The type that the OpenMetrics specification has for its text format.
    match looking(exchange, b"application/openmetrics-text; version=1.0.0; charset=utf-8") {
        Ok(()) => Verdict::Serve(Content::Report(Report::Metrics)),
        Err(verdict) => verdict,
    }
}

/// Returns the form that the client likes best (RFC 9110 §12.5.1): the greatest weight, of several the first. Text if
/// it
/// likes none of ours, for who asks wants to see something.
fn accepted(exchange: &Exchange) -> ReportForm {
    let mut best = (0, ReportForm::Text);
    for item in exchange
        .request
        .head
        .headers
        .get_all(Known::Accept)
        .flat_map(|field| field.split(|byte| *byte == b','))
    {
        let mut parts = item.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let form = match parts.next().unwrap_or_default().to_ascii_lowercase().as_slice() {
            b"text/html" | b"application/xhtml+xml" => ReportForm::Html,
            b"application/json" | b"application/*" => ReportForm::Json,
            b"text/plain" | b"text/*" | b"*/*" => ReportForm::Text,
            _ => continue,
        };
        let weight = parts.find_map(|parameter| parameter.strip_prefix(b"q=")).map_or(1000, thousandths);
        if weight > best.0 {
            best = (weight, form);
        }
    }
    best.1
}

/// Returns a weight from 0 to 1 with at most three decimals, times a thousand; 0 if it is none.
fn thousandths(text: &[u8]) -> u32 {
    let weight = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f32>().ok());
    weight.filter(|weight| (0.0..=1.0).contains(weight)).map_or(0, |weight| (weight * 1000.0) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Counters;
    use crate::phase::{self, Step};
    use crate::testing::{TestHost, answer, exchange, server_of};

    #[test]
    fn the_lines_of_stub_status_are_nginx_s() {
        let config = server_of("location /s { stub_status; }");
        let mut host = TestHost::new();
        host.counters = Counters {
            active: 3,
            accepted: 10,
            handled: 9,
            requests: 20,
            reading: 1,
            writing: 2,
            waiting: 4,
            log_lines_lost: 5,
        };
        let shown = answer(&config, &mut host, "GET /s HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(shown.contains("\r\nContent-Type: text/plain\r\nContent-Length: 99\r\n"), "{shown}");
        assert!(
            shown.ends_with(
                "\r\n\r\nActive connections: 3 \nserver accepts handled requests\n 10 9 20 \n\
         Reading: 1 Writing: 2 Waiting: 4 \n"
            ),
            "{shown}"
        );
        for status in ["s", "u", "m"] {
            let config = server_of(
                "location /s { stub_status on; } location /u { upstream_status; } location /m { metrics; }",
            );
            let shown = answer(&config, &mut host, &format!("POST /{status} HTTP/1.1\r\nHost: x\r\n\r\n"));
            assert!(shown.starts_with("HTTP/1.1 405 "), "{shown}");
        }
    }

    #[test]
    fn the_report_format_follows_accept() {
        use ReportForm::{Html, Json, Text};
        let config = server_of("location / { upstream_status; } location /m { metrics; }");
        let served = |target: &str, accept: &str| {
            let mut host = TestHost::new();
            let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\n{accept}\r\n");
            let mut exchange = exchange(&config, &mut host, &request);
            match phase::advance(&mut exchange, &mut Env { config: &config, host: &mut host }) {
                Step::Serve(Content::Report(report)) => (Some(report), exchange.response.content_type),
                _ => (None, None),
            }
        };
        let form = |target: &str, accept: &str| match served(target, accept).0 {
            Some(Report::UpstreamStatus(form)) => Some(form),
            _ => None,
        };
        for (accept, wanted) in [
            ("", Text),
            ("Accept: */*\r\n", Text),
            ("Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n", Html),
            ("Accept: application/json\r\n", Json),
            ("Accept: text/plain; q=0.5, Application/JSON ;q=0.7\r\n", Json),
            ("Accept: application/json, text/plain, */*\r\n", Json),
            ("Accept: image/png\r\n", Text),
            ("Accept: text/html;q=0, text/plain\r\n", Text),
            ("Accept: text/html;q=0.1\r\nAccept: application/json;q=0.2\r\n", Json),
        ] {
            assert_eq!(form("/", accept), Some(wanted), "{accept}");
        }
        assert_eq!(form("/?format=json", "Accept: text/html\r\n"), Some(Json));
        assert_eq!(form("/?a=b&format=html", ""), Some(Html));
        assert_eq!(form("/?format=text", "Accept: text/html\r\n"), Some(Text));
        assert_eq!(form("/?format=yaml", ""), None);
        let (report, content_type) = served("/m", "");
        assert_eq!(report, Some(Report::Metrics));
        assert!(content_type.unwrap().starts_with(b"application/openmetrics-text; version=1.0.0"));
    }
}
