//! What a request shows of where it comes from.
//!
//! Owns the reading of `Cookie`, `Host`, `Origin` and `Sec-Fetch-Site`. A browser sends a cookie with whatever any page makes
//! it ask; these tell the dashboard's own page from others.

use super::door::Door;
use axum::http::{HeaderMap, header};
use subtle::ConstantTimeEq;
use switch::{Code, Refusal};

/// The header in which an act sends its session's CSRF token.
const CSRF: &str = "x-pointsman-csrf";

/// Fails if a request does not name the dashboard in `Host`, or a page of another site asked for it.
pub(super) fn of_place(door: &dyn Door, headers: &HeaderMap, is_page: bool) -> Result<(), Refusal> {
    let host = host(headers)?;
    if !door.admits(host) {
        let text = format!("Host \"{}\" is not a name of this dashboard", host.escape_ascii());
        return Err(Refusal::new(
            Code::HostNotAllowed,
            text,
            "use the address that pointsman dashboard has printed",
        ));
    }
    // A link on another page may lead here; it brings no session along (SameSite).
    if !is_page {
        for site in headers.get_all("sec-fetch-site") {
            if site != "same-origin" && site != "none" {
                return Err(foreign("a web page of another site sent the request"));
            }
        }
    }
    for origin in headers.get_all(header::ORIGIN) {
        if !door.is_own_page(origin.as_bytes(), host) {
            return Err(foreign(&format!(
                "a web page of {} sent the request",
                origin.as_bytes().escape_ascii()
            )));
        }
    }
    Ok(())
}

/// Fails unless the dashboard's own page sent the request: its Origin is there, and [`of_place`] has found it right.
pub(super) fn of_page(headers: &HeaderMap) -> Result<(), Refusal> {
    match headers.contains_key(header::ORIGIN) {
        true => Ok(()),
        false => Err(foreign("the request has no Origin")),
    }
}

/// Fails unless the request has the CSRF token of its session.
pub(super) fn of_csrf(headers: &HeaderMap, csrf: &str) -> Result<(), Refusal> {
    let sent = headers.get(CSRF).map_or(&b""[..], |value| value.as_bytes());
    match bool::from(sent.ct_eq(csrf.as_bytes())) {
        true => Ok(()),
        false => Err(foreign("the request has no CSRF token of its session")),
    }
}

/// Returns the cookies of this name: a browser may send one of another path or port before ours.
pub(super) fn cookies<'h>(headers: &'h HeaderMap, name: &str) -> impl Iterator<Item = &'h str> {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = pairs.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(move |(found, _)| *found == name).map(|(_, value)| value)
}

fn host(headers: &HeaderMap) -> Result<&[u8], Refusal> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => Ok(host.as_bytes()),
        _ => Err(Refusal::new(
            Code::HostNotAllowed,
            "the request has no Host, or more than one",
            "send one Host",
        )),
    }
}

fn foreign(text: &str) -> Refusal {
    Refusal::new(
        Code::CrossSite,
        text,
        "act on the dashboard's own page; programs use a location with control_api",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_among_others() {
        let mut headers = HeaderMap::new();
        headers
            .append(header::COOKIE, "a=1; pointsman=first;pointsman-2=x; pointsman=second".parse().unwrap());
        headers.append(header::COOKIE, "pointsman=third; pointsman".parse().unwrap());
        assert_eq!(cookies(&headers, "pointsman").collect::<Vec<_>>(), ["first", "second", "third"]);
        assert_eq!(cookies(&headers, "none").count(), 0);
    }

    #[test]
    fn csrf_token_is_compared_whole() {
        let mut headers = HeaderMap::new();
        assert!(of_csrf(&headers, "abc").is_err());
        for (sent, is_right) in [("abc", true), ("abcd", false), ("ab", false), ("", false)] {
            headers.insert(CSRF, sent.parse().unwrap());
            assert_eq!(of_csrf(&headers, "abc").is_ok(), is_right, "{sent}");
        }
    }
}
