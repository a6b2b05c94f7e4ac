//! The directives of the Lua module: three spellings of each, and what holds for all scripts.

use super::{Script, ScriptId, ScriptPhase, ScriptSource, SharedDict, content};
use crate::config::{Builder, invalid_value, once};
use crate::directive::{Args, Contexts, Directive};
use crate::modules::rewrite::{self, Operation};
use crate::modules::upstream;
use conf::{Body, Diagnostic, Span, Word};

/// Puts a script where it belongs.
type Store = fn(&mut Builder<'_>, &conf::Directive, ScriptId) -> Result<(), Diagnostic>;

/// Three spellings of one directive: a block, a file, and (deprecated by OpenResty, written by the tutorial) a string.
macro_rules! script_directives {
    ($($name:literal, $contexts:expr, $doc:literal, $phase:expr, $store:expr;)+) => {
        [$(
            Directive::new(concat!($name, "_block"), $contexts, Args::LuaBlock(0), "{ lua }", |b, d| {
                let id = block(b, d, $phase)?;
                let store: Store = $store;
                store(b, d, id)
            })
            .doc($doc)
            .example(concat!($name, "_block { ngx.log(ngx.INFO, \"here\") }")),
            Directive::new(concat!($name, "_file"), $contexts, Args::Exactly(1), "file", |b, d| {
                let id = file(b, d, $phase)?;
                let store: Store = $store;
                store(b, d, id)
            })
            .doc($doc)
            .example(concat!($name, "_file lua/here.lua;")),
            Directive::new($name, $contexts, Args::Exactly(1), "string", |b, d| {
                let id = string(b, d, $phase)?;
                let store: Store = $store;
                store(b, d, id)
            })
            .doc($doc)
            .example(concat!($name, " 'ngx.log(ngx.INFO, \"here\")';")),
        )+]
    };
}

pub(super) const SCRIPTS: [Directive; 24] = script_directives! {
    "init_by_lua", Contexts::HTTP,
        "Runs Lua once in each worker thread's VM when a configuration is loaded, before any request.",
        ScriptPhase::Init, |b, d, id| once(b.draft.lua.init.write(Some(id)), d);
    "init_worker_by_lua", Contexts::HTTP, "Runs Lua in each worker thread when it starts.",
        ScriptPhase::InitWorker, |b, d, id| once(b.draft.lua.init_worker.write(Some(id)), d);
    "rewrite_by_lua", Contexts::HSLI, "Runs Lua in the rewrite phase, after the rewrite module.",
        ScriptPhase::Rewrite, |b, d, id| b.write(d, |s| &mut s.lua.rewrite, Some(id));
    "access_by_lua", Contexts::HSLI, "Runs Lua in the access phase.",
        ScriptPhase::Access, |b, d, id| b.write(d, |s| &mut s.lua.access, Some(id));
    "content_by_lua", Contexts::LOCATION.or(Contexts::LOCATION_IF), "Runs Lua that generates the response.",
        ScriptPhase::Content, store_content;
    "header_filter_by_lua", Contexts::HSLI, "Runs Lua that changes the response's head.",
        ScriptPhase::HeaderFilter, |b, d, id| b.write(d, |s| &mut s.lua.header_filter, Some(id));
    "body_filter_by_lua", Contexts::HSLI, "Runs Lua that changes the response's body.",
        ScriptPhase::BodyFilter, |b, d, id| b.write(d, |s| &mut s.lua.body_filter, Some(id));
    "log_by_lua", Contexts::HSLI, "Runs Lua in the log phase, after the response.",
        ScriptPhase::Log, |b, d, id| b.write(d, |s| &mut s.lua.log, Some(id));
};

/// The directives of phases that OpenResty has added later: without the spelling as a string.
pub(super) const LATER_SCRIPTS: &[Directive] = &[
    Directive::new("balancer_by_lua_block", Contexts::UPSTREAM, Args::LuaBlock(0), "{ lua }", |b, d| {
        let id = block(b, d, ScriptPhase::Balancer)?;
        upstream::set_script(b, d, id)
    })
    .doc(
        "Runs Lua that chooses the server of a request to the group through `ngx.balancer`, again before each \
         further try. If it chooses none, the group's own method does.",
    )
    .example(
        "balancer_by_lua_block { require(\"ngx.balancer\").set_current_peer(\"127.0.0.1\", 8081) }",
    ),
    Directive::new("balancer_by_lua_file", Contexts::UPSTREAM, Args::Exactly(1), "file", |b, d| {
        let id = file(b, d, ScriptPhase::Balancer)?;
        upstream::set_script(b, d, id)
    })
    .doc("The same, from a file.")
    .example("balancer_by_lua_file lua/balance.lua;"),
    Directive::new("ssl_client_hello_by_lua_block", HTTP_SERVER, Args::LuaBlock(0), "{ lua }", |b, d| {
        let id = block(b, d, ScriptPhase::SslClientHello)?;
        b.write(d, |s| &mut s.lua.ssl_client_hello, Some(id))
    })
    .doc(
        "Runs Lua when a client's ClientHello has arrived, before its server is chosen: the code of the address's \
         default server. It may wait, limit the protocols through `ngx.ssl.clienthello`, and end the handshake by \
         `ngx.exit(ngx.ERROR)`.",
    )
    .example("ssl_client_hello_by_lua_block { require(\"ngx.ssl.clienthello\").set_protocols({ \"TLSv1.3\" }) }"),
    Directive::new("ssl_client_hello_by_lua_file", HTTP_SERVER, Args::Exactly(1), "file", |b, d| {
        let id = file(b, d, ScriptPhase::SslClientHello)?;
        b.write(d, |s| &mut s.lua.ssl_client_hello, Some(id))
    })
    .doc("The same, from a file.")
    .example("ssl_client_hello_by_lua_file lua/hello.lua;"),
    Directive::new("ssl_certificate_by_lua_block", HTTP_SERVER, Args::LuaBlock(0), "{ lua }", |b, d| {
        let id = block(b, d, ScriptPhase::SslCertificate)?;
        b.write(d, |s| &mut s.lua.ssl_certificate, Some(id))
    })
    .doc(
        "Runs Lua in each TLS handshake with the server; it may wait. `ngx.ssl` sets the certificates and keys that \
         the client gets, and whether the client is asked for one. An `ssl_certificate` is still required; one whose \
         name has variables is not read.",
    )
    .example("ssl_certificate_by_lua_block { require(\"ngx.ssl\").clear_certs() }"),
    Directive::new("ssl_certificate_by_lua_file", HTTP_SERVER, Args::Exactly(1), "file", |b, d| {
        let id = file(b, d, ScriptPhase::SslCertificate)?;
        b.write(d, |s| &mut s.lua.ssl_certificate, Some(id))
    })
    .doc("The same, from a file.")
    .example("ssl_certificate_by_lua_file lua/certificate.lua;"),
    Directive::new("server_rewrite_by_lua_block", HTTP_SERVER, Args::LuaBlock(0), "{ lua }", |b, d| {
        let id = block(b, d, ScriptPhase::ServerRewrite)?;
        b.write(d, |s| &mut s.lua.server_rewrite, Some(id))
    })
    .doc("Runs Lua before the location is searched, and before the server's `set`, `rewrite`, `if` and `return`.")
    .example("server_rewrite_by_lua_block { ngx.req.set_uri(\"/new\") }"),
    Directive::new("server_rewrite_by_lua_file", HTTP_SERVER, Args::Exactly(1), "file", |b, d| {
        let id = file(b, d, ScriptPhase::ServerRewrite)?;
        b.write(d, |s| &mut s.lua.server_rewrite, Some(id))
    })
    .doc("The same, from a file.")
    .example("server_rewrite_by_lua_file lua/rewrite.lua;"),
    Directive::new("exit_worker_by_lua_block", Contexts::HTTP, Args::LuaBlock(0), "{ lua }", |b, d| {
        let id = block(b, d, ScriptPhase::ExitWorker)?;
        once(b.draft.lua.exit_worker.write(Some(id)), d)
    })
    .doc("Runs Lua in each worker thread when it ends, or when its configuration has been replaced and the last \
         request under it has ended.")
    .example("exit_worker_by_lua_block { ngx.log(ngx.NOTICE, \"over\") }"),
    Directive::new("exit_worker_by_lua_file", Contexts::HTTP, Args::Exactly(1), "file", |b, d| {
        let id = file(b, d, ScriptPhase::ExitWorker)?;
        once(b.draft.lua.exit_worker.write(Some(id)), d)
    })
    .doc("The same, from a file.")
    .example("exit_worker_by_lua_file lua/exit.lua;"),
    Directive::flag("rewrite_by_lua_no_postpone", Contexts::HTTP, |b| &mut b.draft.lua.no_postpone.rewrite)
        .default("off")
        .doc("Whether rewrite_by_lua* runs before the location's `set`, `rewrite`, `if` and `return`, not after \
             them.")
        .example("rewrite_by_lua_no_postpone on;"),
    Directive::flag("access_by_lua_no_postpone", Contexts::HTTP, |b| &mut b.draft.lua.no_postpone.access)
        .default("off")
        .doc("Whether access_by_lua* runs before allow, deny and auth_basic, not after them.")
        .example("access_by_lua_no_postpone on;"),
];

/// Returns the last directive that sets a location's handler wins.
fn store_content(b: &mut Builder<'_>, d: &conf::Directive, id: ScriptId) -> Result<(), Diagnostic> {
    b.settings().core.content.replace(Some(content));
    b.write(d, |s| &mut s.lua.content, Some(id))
}

/// The smallest `lua_shared_dict`: ngx_lua refuses less than 8k.
const MIN_DICT_BYTES: u64 = 8 << 10;

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive::new("set_by_lua_block", SET_CONTEXTS, Args::LuaBlock(1), "$variable { lua }", |b, d| {
        let id = block(b, d, ScriptPhase::Set)?;
        set(b, d, id)
    })
    .doc(
        "Sets a variable to what the Lua code returns, at its place among the rewrite \
         directives.",
    )
    .example("set_by_lua_block $half { return ngx.var.arg_n / 2 }"),
    Directive::new(
        "set_by_lua_file",
        SET_CONTEXTS,
        Args::AtLeast(2),
        "$variable file [argument ...]",
        |b, d| {
            let id = file_of(b, d, &d.args[1], ScriptPhase::Set)?;
            set(b, d, id)
        },
    )
    .doc("The same, from a file; further arguments are `ngx.arg[1]` and so on.")
    .example("set_by_lua_file $half lua/half.lua $arg_n;"),
    Directive::new(
        "set_by_lua",
        SET_CONTEXTS,
        Args::AtLeast(2),
        "$variable string [argument ...]",
        |b, d| {
            let id = string_of(b, &d.args[1], d, ScriptPhase::Set)?;
            set(b, d, id)
        },
    )
    .doc("The same, from a string; further arguments are `ngx.arg[1]` and so on.")
    .example("set_by_lua $half 'return ngx.arg[1] / 2' $arg_n;"),
    Directive::new("lua_shared_dict", Contexts::HTTP, Args::Exactly(2), "name size", shared_dict)
        .doc("A dictionary of a fixed size that all worker threads share.")
        .example("lua_shared_dict sessions 10m;"),
    Directive::new("lua_package_path", Contexts::HTTP, Args::Exactly(1), "path", |b, d| {
        let path = d.args[0].str()?.to_owned();
        once(b.draft.lua.package_path.write(path), d)
    })
    .default(r#""""#)
    .doc(
        "Where `require` looks for Lua; `;;` is the default path, `$prefix` the server's \
         prefix.",
    )
    .example("lua_package_path \"$prefix/lua/?.lua;;\";"),
    Directive::new("lua_package_cpath", Contexts::HTTP, Args::Exactly(1), "path", |b, d| {
        let path = d.args[0].str()?.to_owned();
        once(b.draft.lua.package_cpath.write(path), d)
    })
    .default(r#""""#)
    .doc("Where `require` looks for C modules.")
    .example("lua_package_cpath \"/usr/lib/lua/?.so;;\";"),
    Directive::new("lua_code_cache", Contexts::HSLI, Args::Flag, "on | off", |b, d| {
        let on = b.flag(d)?;
        if !on {
            b.diagnostics
                .push(Diagnostic::warn(d.name.span, "lua_code_cache is off; this will hurt performance"));
        }
        b.write(d, |s| &mut s.lua.code_cache, on)
    })
    .default("on")
    .doc(
        "Whether compiled code is cached; off reads files again for each request, for development.",
    )
    .example("lua_code_cache off;"),
    Directive::flag("lua_need_request_body", Contexts::HSLI, |b| &mut b.settings().lua.need_request_body)
        .default("off")
        .doc("Whether the request body is read before a script runs.")
        .example("lua_need_request_body on;"),
    Directive::flag("lua_transform_underscores_in_response_headers", Contexts::HSLI, |b| {
        &mut b.settings().lua.transform_underscores
    })
    .default("on")
    .doc("Whether `ngx.header.content_type` means Content-Type.")
    .example("lua_transform_underscores_in_response_headers off;"),
    Directive::flag("lua_use_default_type", Contexts::HSLI, |b| &mut b.settings().lua.use_default_type)
        .default("on")
        .doc("Whether a script's response gets its media type from `default_type`.")
        .example("lua_use_default_type off;"),
    Directive::flag("lua_http10_buffering", Contexts::HSLI, |b| &mut b.settings().lua.http10_buffering)
        .default("on")
        .doc("Whether the response to an HTTP/1.0 request is buffered until its length is known.")
        .example("lua_http10_buffering off;"),
    Directive::flag("lua_check_client_abort", Contexts::HSLI, |b| &mut b.settings().lua.check_client_abort)
        .default("off")
        .doc(
            "Whether a waiting script is ended when its client closes the connection; otherwise it runs to its end, \
             and its writes return nil and an error.",
        )
        .example("lua_check_client_abort on;"),
    Directive::number("lua_regex_cache_max_entries", Contexts::HTTP, |b| {
        &mut b.draft.lua.regex_cache_max_entries
    })
    .default("1024")
    .doc("The maximum number of patterns with the `o` option that a worker thread caches.")
    .example("lua_regex_cache_max_entries 4096;"),
    Directive::number("lua_regex_match_limit", Contexts::HTTP, |b| &mut b.draft.lua.regex_match_limit)
        .default("0")
        .doc("The backtracking limit of one match of `ngx.re`; 0 is PCRE2's default.")
        .example("lua_regex_match_limit 100000;"),
    Directive::number("lua_max_pending_timers", Contexts::HTTP, |b| &mut b.draft.lua.max_pending_timers)
        .default("1024")
        .doc("The maximum number of pending timers in one worker thread.")
        .example("lua_max_pending_timers 4096;"),
    Directive::number("lua_max_running_timers", Contexts::HTTP, |b| &mut b.draft.lua.max_running_timers)
        .default("256")
        .doc("The maximum number of timers that run at once in one worker thread.")
        .example("lua_max_running_timers 512;"),
    Directive::time("lua_run_limit", Contexts::HTTP, |b| &mut b.draft.lua.run_limit_ms)
        .default("10s")
        .doc(
            "pointsman's own: how long a script may run without yielding before it is stopped \
         with an error; 0 is no limit.",
        )
        .example("lua_run_limit 2s;"),
    Directive::size("lua_memory_limit", Contexts::HTTP, |b| &mut b.draft.lua.memory_limit)
        .default("1g")
        .doc(
            "pointsman's own: how much memory the Lua VM of one worker thread may take, by default 1 GiB; 0 is no \
             limit.",
        )
        .example("lua_memory_limit 256m;"),
    Directive::flag("lua_isolate_globals", Contexts::HTTP, |b| &mut b.draft.lua.isolate_globals)
        .default("off")
        .doc(
            "pointsman's own: whether a global variable that a request creates is visible to that request only; \
             otherwise all requests of the thread share it, as with OpenResty's LuaJIT. A warning is logged either \
             way.",
        )
        .example("lua_isolate_globals on;"),
];

const HTTP_SERVER: Contexts = Contexts::HTTP.or(Contexts::SERVER);

const SET_CONTEXTS: Contexts =
    Contexts::SERVER.or(Contexts::SERVER_IF).or(Contexts::LOCATION).or(Contexts::LOCATION_IF);

fn add(b: &mut Builder<'_>, script: Script) -> ScriptId {
    b.draft.lua.used = true;
    b.draft.lua.scripts.push(script);
    ScriptId(b.draft.lua.scripts.len() as u32 - 1)
}

fn inline(b: &mut Builder<'_>, d: &conf::Directive, code: &[u8], phase: ScriptPhase) -> ScriptId {
    let file = b.sources.path(d.span.source).file_name().map(|name| name.to_string_lossy().into_owned());
    let source =
        ScriptSource::Inline { code: code.to_vec(), file: file.unwrap_or_default(), line: script_line(b, d) };
    add(b, Script { phase, source, span: Some(code_span(d)), args: Vec::new() })
}

/// Returns the line that ngx_lua puts into the chunk's name: that of the directive's name, or, for a block, of its
/// brace.
fn script_line(b: &Builder<'_>, d: &conf::Directive) -> u32 {
    match &d.body {
        Body::Lua(lua) => lua.line,
        // nginx counts up to the `;`.
        _ => b.sources.line(d.span.source, d.span.end.saturating_sub(1)),
    }
}

/// Returns the span of a script's text.
fn code_span(d: &conf::Directive) -> Span {
    match &d.body {
        Body::Lua(lua) => lua.span,
        _ => d.span,
    }
}

fn block(b: &mut Builder<'_>, d: &conf::Directive, phase: ScriptPhase) -> Result<ScriptId, Diagnostic> {
    match &d.body {
        Body::Lua(lua) => Ok(inline(b, d, &lua.code, phase)),
        _ => Err(invalid_value(&d.name)),
    }
}

fn string(b: &mut Builder<'_>, d: &conf::Directive, phase: ScriptPhase) -> Result<ScriptId, Diagnostic> {
    string_of(b, &d.args[0], d, phase)
}

fn string_of(
    b: &mut Builder<'_>,
    word: &Word,
    d: &conf::Directive,
    phase: ScriptPhase,
) -> Result<ScriptId, Diagnostic> {
    if word.text().is_empty() {
        return Err(Diagnostic::error(word.span, "invalid location config: no runnable Lua code"));
    }
    Ok(inline(b, d, word.text(), phase))
}

fn file(b: &mut Builder<'_>, d: &conf::Directive, phase: ScriptPhase) -> Result<ScriptId, Diagnostic> {
    file_of(b, d, &d.args[0], phase)
}

fn file_of(
    b: &mut Builder<'_>,
    _d: &conf::Directive,
    word: &Word,
    phase: ScriptPhase,
) -> Result<ScriptId, Diagnostic> {
    let path = b.template(word)?;
    Ok(add(b, Script { phase, source: ScriptSource::File(path), span: None, args: Vec::new() }))
}

fn set(b: &mut Builder<'_>, d: &conf::Directive, script: ScriptId) -> Result<(), Diagnostic> {
    let args = d.args.iter().skip(2).map(|word| b.template(word)).collect::<Result<Vec<_>, _>>()?;
    b.draft.lua.scripts[script.0 as usize].args = args;
    let variable = rewrite::define(b, &d.args[0])?;
    b.settings().rewrite.operations.push(Operation::SetByScript { variable, script });
    Ok(())
}

fn shared_dict(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let name = d.args[0].str()?.to_owned();
    let size = b.size(&d.args[1]).map_err(|_| {
        Diagnostic::error(d.args[1].span, format!("invalid lua shared dict size \"{}\"", d.args[1].text()))
            .help("a size is a number of bytes, or a number with k, m or g: 10m")
    })?;
    if size < MIN_DICT_BYTES {
        let shown = d.args[1].text();
        return Err(Diagnostic::error(d.args[1].span, format!("invalid lua shared dict size \"{shown}\""))
            .help("a shared dict takes at least 8k"));
    }
    if b.draft.lua.dicts.iter().any(|dict| dict.name == name) {
        let fault = format!("lua_shared_dict \"{name}\" is already defined as \"{name}\"");
        return Err(Diagnostic::error(d.args[0].span, fault));
    }
    b.draft.lua.used = true;
    b.draft.lua.dicts.push(SharedDict { name, size });
    Ok(())
}
