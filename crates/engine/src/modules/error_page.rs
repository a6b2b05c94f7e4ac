//! `error_page`, and nginx's built-in pages for statuses that nothing else answers.

use super::Module;
use crate::config::{Builder, invalid_value, number};
use crate::directive::{Args, Contexts, Directive};
use crate::exchange::Exchange;
use crate::host::Env;
use crate::phase::{self, Content};
use crate::setting::settings;
use crate::template::Template;
use conf::Diagnostic;

/// A page that is served instead of an error.
#[derive(Clone, Debug)]
pub struct ErrorPage {
    /// The statuses it is for.
    pub statuses: Vec<u16>,
    /// The status the client sees: `None` keeps the error's; `Some(0)` takes that of the page (`=`).
    pub replace: Option<u16>,
    /// A URI, a named location, or a URL to redirect to.
    pub target: Template,
}

settings! {
    /// Settings of one level.
    pub struct ErrorPageSettings {
        /// The pages.
        pub pages: Vec<ErrorPage> = Vec::new(),
        /// Error pages for errors of error pages.
        pub recursive: bool = false,
        /// Padding for old browsers that hide short error pages.
        pub msie_padding: bool = true,
    }
    not inherited {
        /// Makes the built-in pages of a location whose clients are programs: JSON.
        pub problem: Option<fn(u16) -> Vec<u8>> = None,
    }
}

impl ErrorPageSettings {
    /// Returns the page for a status, the first that names it.
    pub fn page_for(&self, status: u16) -> Option<&ErrorPage> {
        self.pages.iter().find(|page| page.statuses.contains(&status))
    }
}

/// The module.
pub static MODULE: Module = Module { page: Some(choose), ..Module::new("error_page", &[DIRECTIVES]) };

const DIRECTIVES: &[Directive] = &[
    Directive::new("error_page", Contexts::HSLI, Args::AtLeast(2), "code ... [=[response]] uri", error_page)
        .doc(
            "What is served instead of an error: a URI, a @name or a URL, optionally with another status (`=`).",
        )
        .example("error_page 502 503 =200 /sorry.html;"),
    Directive::flag("recursive_error_pages", Contexts::HSL, |b| &mut b.settings().error_page.recursive)
        .default("off")
        .doc("Whether an error while serving an error page gets an error page itself.")
        .example("recursive_error_pages on;"),
    Directive::flag("msie_padding", Contexts::HSL, |b| &mut b.settings().error_page.msie_padding)
        .default("on")
        .doc("Whether short error pages are padded for Internet Explorer, which hides them otherwise.")
        .example("msie_padding off;"),
];

fn error_page(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let Some((target, rest)) = d.args.split_last() else { return Err(invalid_value(&d.name)) };
    let (replace, codes) = match rest.split_last() {
        Some((word, codes)) if word.text().starts_with(b"=") => {
            if codes.is_empty() {
                return Err(invalid_value(word));
            }
            match &word.value[1..] {
                [] => (Some(0), codes),
                digits => {
                    let status = number(digits).filter(|status| (1..=999).contains(status));
                    (Some(status.ok_or_else(|| invalid_value(word))? as u16), codes)
                }
            }
        }
        _ => (None, rest),
    };
    let mut statuses = Vec::new();
    for word in codes {
        match number(word.text()) {
            Some(499) => {
                let fault = Diagnostic::error(word.span, "invalid value \"499\"");
                return Err(fault.help("499 is logged when the client is gone: no one is left to get a page"));
            }
            Some(status @ 300..=599) => statuses.push(status as u16),
            _ => {
                let fault = format!("value \"{}\" must be between 300 and 599", word.text());
                return Err(Diagnostic::error(word.span, fault));
            }
        }
    }
    let target = b.template(target)?;
    b.settings().error_page.pages.push(ErrorPage { statuses, replace, target });
    Ok(())
}

/// Chooses what answers an error (ngx_http_special_response_handler); `None` after an internal redirect.
fn choose(exchange: &mut Exchange, env: &mut Env<'_>, status: u16) -> Option<Content> {
    let config = env.config;
    let settings = &exchange.settings(config).error_page;
    exchange.response.error_status = status;
    exchange.response.filtered = false;
    exchange.response.forced_status = None;
    if closes_connection(status) {
        exchange.response.close = true;
    }
    let page = match settings.page_for(status) {
        Some(page) if !exchange.route.error_page || *settings.recursive => Some(page),
        _ => None,
    };
    if let Some(page) = page {
        exchange.route.error_page = true;
        match send_page(exchange, env, page) {
            Ok(true) => return None,
            Ok(false) => return Some(built_in(exchange, env)),
            Err(status) => exchange.response.error_status = status,
        }
    }
    exchange.response.status = exchange.response.error_status;
    Some(built_in(exchange, env))
}

/// Statuses after which nginx does not keep the connection.
fn closes_connection(status: u16) -> bool {
    matches!(status, 400 | 413 | 414 | 497 | 495 | 496 | 500 | 501)
}

/// Redirects to the page: internally (`true`) or by telling the client (`false`).
fn send_page(exchange: &mut Exchange, env: &mut Env<'_>, page: &ErrorPage) -> Result<bool, u16> {
    let target = page.target.value(exchange, env);
    let error = exchange.response.error_status;
    let seen = page.replace.unwrap_or(error);
    if target.starts_with(b"/") || target.starts_with(b"@") {
        // Fields set before the error (WWW-Authenticate, a script's) go out with the page, as in nginx.
        let location = exchange.response.location.take();
        exchange.response.forget_content();
        exchange.response.location = location;
        exchange.response.status = seen;
        // nginx: the page is asked for with GET, whatever the request was, HEAD apart.
        if !target.starts_with(b"@") && !matches!(exchange.method(), b"GET" | b"HEAD") {
            exchange.request.method_override = Some(b"GET".to_vec());
        }
        let (uri, args) = match memchr::memchr(b'?', &target) {
            Some(mark) if !target.starts_with(b"@") => (&target[..mark], &target[mark + 1..]),
            _ => (&target[..], &b""[..]),
        };
        let (uri, args) = (uri.to_vec(), args.to_vec());
        if uri.starts_with(b"@") {
            let (own, own_args) = (uri, exchange.request.args.clone());
            phase::redirect_internally(exchange, env, &own, &own_args)?;
        } else {
            phase::redirect_internally(exchange, env, &uri, &args)?;
        }
        exchange.response.error_status = seen;
        exchange.response.forced_status = (seen != 0).then_some(seen);
        return Ok(true);
    }
    let redirect = if matches!(seen, 301 | 302 | 303 | 307 | 308) { seen } else { 302 };
    exchange.response.forget_content();
    exchange.response.location = Some(target);
    exchange.response.status = redirect;
    exchange.response.error_status = redirect;
    Ok(false)
}

/// Returns nginx's own page for the response's status, with the head fields that go with it.
fn built_in(exchange: &mut Exchange, env: &mut Env<'_>) -> Content {
    let config = env.config;
    let settings = exchange.settings(config);
    let response = &mut exchange.response;
    let status = response.status;
    let location = response.location.take();
    response.forget_content();
    response.location = location;
    response.headers.remove_known(http::Known::ETag);
    response.headers.remove_known(http::Known::AcceptRanges);
    if status == 204
        || status == 304
        || !(301..600).contains(&status)
        || PHRASES.iter().all(|(s, _)| *s != status)
    {
        if status != 204 && status != 304 {
            response.content_length = Some(0);
        }
        return Content::Empty;
    }
    let (kind, body) = match *settings.error_page.problem {
        Some(problem) if status >= 400 => (&b"application/problem+json"[..], problem(status)),
        _ => {
            let foot = config.server_header(*settings.core.server_tokens);
            (&b"text/html"[..], page(status, foot, *settings.error_page.msie_padding, exchange))
        }
    };
    exchange.response.content_type = Some(kind.to_vec());
    exchange.response.content_length = Some(body.len() as u64);
    Content::Bytes(body)
}

fn page(status: u16, foot: &str, padding: bool, exchange: &Exchange) -> Vec<u8> {
    let Some((_, phrase)) = PHRASES.iter().find(|(known, _)| *known == status) else { return Vec::new() };
    // nginx's own numbers; the client sees 400, and what is wrong.
    let (heading, note) = match status {
        494 => ("400 Bad Request", "<center>Request Header Or Cookie Too Large</center>\r\n"),
        495 => ("400 Bad Request", "<center>The SSL certificate error</center>\r\n"),
        496 => ("400 Bad Request", "<center>No required SSL certificate was sent</center>\r\n"),
        497 => ("400 Bad Request", "<center>The plain HTTP request was sent to HTTPS port</center>\r\n"),
        _ => (*phrase, ""),
    };
    let mut body = format!(
        "<html>\r\n<head><title>{phrase}</title></head>\r\n<body>\r\n<center><h1>{heading}</h1></center>\r\n{note}\
         <hr><center>{foot}</center>\r\n</body>\r\n</html>\r\n",
    );
    let agent = exchange.request.head.headers.get(http::Known::UserAgent).unwrap_or_default();
    let old_browser = |name: &[u8]| memchr::memmem::find(agent, name).is_some();
    if padding && status >= 400 && old_browser(b"MSIE ") && !old_browser(b"Opera") {
        for _ in 0..6 {
            body.push_str("<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n");
        }
    }
    body.into_bytes()
}

/// The titles of the pages (ngx_http_special_response.c).
const PHRASES: &[(u16, &str)] = &[
    (301, "301 Moved Permanently"),
    (302, "302 Found"),
    (303, "303 See Other"),
    (307, "307 Temporary Redirect"),
    (308, "308 Permanent Redirect"),
    (400, "400 Bad Request"),
    (401, "401 Authorization Required"),
    (402, "402 Payment Required"),
    (403, "403 Forbidden"),
    (404, "404 Not Found"),
    (405, "405 Not Allowed"),
    (406, "406 Not Acceptable"),
    (408, "408 Request Time-out"),
    (409, "409 Conflict"),
    (410, "410 Gone"),
    (411, "411 Length Required"),
    (412, "412 Precondition Failed"),
    (413, "413 Request Entity Too Large"),
    (414, "414 Request-URI Too Large"),
    (415, "415 Unsupported Media Type"),
    (416, "416 Requested Range Not Satisfiable"),
    (421, "421 Misdirected Request"),
    (429, "429 Too Many Requests"),
    (494, "400 Request Header Or Cookie Too Large"),
    (495, "400 The SSL certificate error"),
    (496, "400 No required SSL certificate was sent"),
    (497, "400 The plain HTTP request was sent to HTTPS port"),
    (500, "500 Internal Server Error"),
    (501, "501 Not Implemented"),
    (502, "502 Bad Gateway"),
    (503, "503 Service Temporarily Unavailable"),
    (504, "504 Gateway Time-out"),
    (505, "505 HTTP Version Not Supported"),
    (507, "507 Insufficient Storage"),
];
