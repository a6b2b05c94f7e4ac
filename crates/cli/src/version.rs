//! `-v` and `-V`.
//!
//! Owns how the program describes itself to tools written for nginx: certbot, and the suites nginx-tests and
//! Test::Nginx, read `nginx version:` and the configure arguments of `-V` to decide what they can use. What is said is
//! worked out from the directives that are there, so it cannot claim too much. It must never say `=dynamic` (tools
//! would load a module) nor `built with OpenSSL` (it is not).

use engine::directive::Apply;
use engine::modules::MODULES;

/// The nginx whose behaviour the program shows where versions differ.
const NGINX: &str = "1.22.1";

/// Modules that a plain nginx has, and a directive that only this module has.
const USUAL: &[(&str, &str)] = &[
    ("http_charset_module", "charset"),
    ("http_gzip_module", "gzip"),
    ("http_ssi_module", "ssi"),
    ("http_userid_module", "userid"),
    ("http_access_module", "allow"),
    ("http_auth_basic_module", "auth_basic"),
    ("http_mirror_module", "mirror"),
    ("http_autoindex_module", "autoindex"),
    ("http_geo_module", "geo"),
    ("http_map_module", "map"),
    ("http_split_clients_module", "split_clients"),
    ("http_referer_module", "valid_referers"),
    ("http_rewrite_module", "rewrite"),
    ("http_proxy_module", "proxy_pass"),
    ("http_fastcgi_module", "fastcgi_pass"),
    ("http_uwsgi_module", "uwsgi_pass"),
    ("http_scgi_module", "scgi_pass"),
    ("http_grpc_module", "grpc_pass"),
    ("http_tunnel_module", "tunnel_pass"),
    ("http_memcached_module", "memcached_pass"),
    ("http_limit_conn_module", "limit_conn"),
    ("http_limit_req_module", "limit_req"),
    ("http_empty_gif_module", "empty_gif"),
    ("http_browser_module", "ancient_browser"),
    ("http_upstream_hash_module", "hash"),
    ("http_upstream_ip_hash_module", "ip_hash"),
    ("http_upstream_least_conn_module", "least_conn"),
    ("http_upstream_least_time_module", "least_time"),
    ("http_upstream_random_module", "random"),
    ("http_upstream_keepalive_module", "keepalive"),
    ("http_upstream_zone_module", "zone"),
    ("http_upstream_sticky_module", "sticky"),
    ("http-cache", "proxy_cache"),
];

/// Modules that nginx has when asked for while it is built.
const OPTIONAL: &[(&str, &str)] = &[
    ("http_ssl_module", "ssl_certificate"),
    ("http_v2_module", "http2"),
    ("http_v3_module", "http3"),
    ("http_realip_module", "set_real_ip_from"),
    ("http_addition_module", "add_before_body"),
    ("http_sub_module", "sub_filter"),
    ("http_dav_module", "dav_methods"),
    ("http_flv_module", "flv"),
    ("http_mp4_module", "mp4"),
    ("http_gunzip_module", "gunzip"),
    ("http_gzip_static_module", "gzip_static"),
    ("http_auth_request_module", "auth_request"),
    ("http_random_index_module", "random_index"),
    ("http_secure_link_module", "secure_link"),
    ("http_slice_module", "slice"),
    ("http_stub_status_module", "stub_status"),
    ("stream", "stream"),
    ("mail", "mail"),
];

/// Returns the text of `-v`, or with `build` of `-V`.
pub(crate) fn text(build: bool) -> String {
    let knows = |name: &str| {
        MODULES
            .iter()
            .flat_map(|module| module.directives.iter().copied().flatten())
            .any(|directive| directive.name == name && !matches!(directive.apply, Apply::DefaultOnly(_)))
    };
    describe(build, knows)
}

fn describe(build: bool, knows: impl Fn(&str) -> bool) -> String {
    let mut text = format!("pointsman version: pointsman/{}\n", env!("CARGO_PKG_VERSION"));
    if !build {
        return text;
    }
    text.push_str(&format!("nginx version: nginx/{NGINX}\n"));
    if knows("ssl_certificate") {
        text.push_str("TLS SNI support enabled\n");
    }
    text.push_str("configure arguments: --with-pcre");
    for (module, _) in OPTIONAL.iter().filter(|(_, directive)| knows(directive)) {
        text.push_str(&format!(" --with-{module}"));
    }
    for (module, _) in USUAL.iter().filter(|(_, directive)| !knows(directive)) {
        text.push_str(&format!(" --without-{module}"));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_claims_only_received_bytes() {
        let text = describe(true, |name| ["gzip", "stub_status"].contains(&name));
        assert!(text.starts_with("pointsman version: pointsman/"));
        assert!(text.contains("\nnginx version: nginx/1.22.1\n"));
        assert!(text.contains(" --with-http_stub_status_module"));
        assert!(text.contains(" --without-http_map_module"));
        assert!(!text.contains("http_gzip_module") && !text.contains("TLS") && !text.contains("OpenSSL"));
        assert!(!text.contains("--with-http_ssl_module") && !text.contains("=dynamic"));
        assert!(describe(true, |_| true).contains("\nTLS SNI support enabled\n"));
        assert!(!describe(false, |_| true).contains("nginx"));
    }

    #[test]
    fn each_directive_is_one_that_nginx_knows() {
        for (module, directive) in USUAL.iter().chain(OPTIONAL) {
            assert!(conf::known_directives::find(directive).is_some(), "{module}: {directive}");
        }
    }
}
