//! The directives about files.

use super::path::{self, Join, Root, SymlinkRule};
use super::{IfModifiedSince, Types};
use crate::config::{Builder, Modifier, invalid_choice, invalid_parameter, once};
use crate::directive::{Apply, Args, Contexts, Directive};
use crate::host::Symlinks;
use bstr::ByteSlice;
use conf::{Body, Diagnostic};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive::new("root", Contexts::HSLI, Args::Exactly(1), "path", root)
        .default("html")
        .doc("The directory of files: a URI is a path below it. May contain variables.")
        .example("root /srv/www;"),
    Directive::new("alias", Contexts::LOCATION, Args::Exactly(1), "path", root)
        .doc(
            "The directory that replaces the location's prefix in the path; in a location with a regular expression, \
             the whole path.",
        )
        .example("alias /srv/images/;"),
    Directive::new("index", Contexts::HSL, Args::AtLeast(1), "file ...", index)
        .default("index.html")
        .doc(
            "The files to serve for a URI that ends in a slash, the first that exists; the last one may be an \
             absolute URI.",
        )
        .example("index index.html index.$geo.html /index.html;"),
    Directive::new("types", Contexts::HSL, Args::Block(0, 0), "{ … }", types)
        .default("{ text/html html; image/gif gif; image/jpeg jpg; }")
        .doc("Maps file extensions to media types.")
        .example("types { text/html html htm; image/png png; }"),
    Directive::new("default_type", Contexts::HSL, Args::Exactly(1), "mime-type", |b, d| {
        let kind = d.args[0].text().as_bytes().into();
        b.write(d, |s| &mut s.static_files.default_type, kind)
    })
    .default("text/plain")
    .doc("The media type of files whose extension `types` does not list.")
    .example("default_type application/octet-stream;"),
    Directive::ignored("types_hash_max_size", Contexts::HSL, Apply::IgnoredNumber)
        .default("1024")
        .doc("Has no effect: the table of types grows as needed.")
        .example("types_hash_max_size 2048;"),
    Directive::ignored("types_hash_bucket_size", Contexts::HSL, Apply::IgnoredNumber)
        .default("64")
        .doc("Has no effect: the table of types grows as needed.")
        .example("types_hash_bucket_size 64;"),
    Directive::flag("etag", Contexts::HSL, |b| &mut b.settings().static_files.etag)
        .default("on")
        .doc("Whether responses for files have an ETag, made of the file's modification time and length.")
        .example("etag off;"),
    Directive::new(
        "if_modified_since",
        Contexts::HSL,
        Args::Exactly(1),
        "off | exact | before",
        if_modified_since,
    )
    .default("exact")
    .doc(
        "When If-Modified-Since is answered with 304: off never, exact if the times are equal, before if the file is \
         not newer.",
    )
    .example("if_modified_since before;"),
    Directive::new(
        "disable_symlinks",
        Contexts::HSL,
        Args::Between(1, 2),
        "off | on | if_not_owner [from=part]",
        disable_symlinks,
    )
    .default("off")
    .doc(
        "Whether symbolic links in paths are refused: on, if_not_owner, off; from= names the part of the path that \
         is not checked.",
    )
    .example("disable_symlinks if_not_owner from=$document_root;"),
    Directive::flag("sendfile", Contexts::HSLI, |b| &mut b.settings().static_files.sendfile)
        .default("off")
        .doc("Whether files are sent with sendfile(2).")
        .example("sendfile on;"),
    Directive::flag("log_not_found", Contexts::HSL, |b| &mut b.settings().static_files.log_not_found)
        .default("on")
        .doc("Whether files that are not found are logged.")
        .example("log_not_found off;"),
];

/// `root` and `alias` (ngx_http_core_root).
fn root(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let is_alias = d.name.text() == "alias";
    let (word, name) = (&d.args[0], d.name.text());
    let scope = &b.draft.scopes[b.scope_index()];
    if let (true, Some(earlier)) =
        (scope.settings.static_files.root.written(), scope.settings.static_files.root.get())
    {
        if earlier.is_alias() == is_alias {
            return once(Err(crate::setting::Duplicate), d);
        }
        let earlier = if earlier.is_alias() { "alias" } else { "root" };
        let fault =
            format!("\"{name}\" directive is duplicate, \"{earlier}\" directive was specified earlier");
        return Err(Diagnostic::error(d.name.span, fault).help("keep one of the two"));
    }
    let join = match is_alias {
        true => path::alias_join(scope.modifier, &scope.name),
        false => Join::Whole,
    };
    if is_alias && scope.modifier == Modifier::Named {
        let fault = "the \"alias\" directive cannot be used inside the named location";
        return Err(
            Diagnostic::error(d.name.span, fault).help("a named location has no URI to replace: use `root`")
        );
    }
    for variable in ["document_root", "realpath_root"] {
        let text = word.text();
        if text.contains_str(format!("${variable}")) || text.contains_str(format!("${{{variable}}}")) {
            let fault = format!("the ${variable} variable cannot be used in the \"{name}\" directive");
            return Err(Diagnostic::error(word.span, fault));
        }
    }
    let is_open_prefix =
        matches!(scope.modifier, Modifier::Prefix | Modifier::PrefixNoRegex) && !scope.name.ends_with(b"/");
    if is_alias && is_open_prefix && word.text().ends_with(b"/") {
        let name = scope.name.as_bstr();
        let fault = format!("location \"{name}\" has no slash at its end, its \"alias\" has one");
        let help =
            format!("write `location {name}/`: as it is, \"{name}X\" is served from \"{}X\"", word.text());
        b.diagnostics.push(Diagnostic::warn(word.span, fault).help(help));
    }
    let mut text = word.text().to_vec();
    if !is_alias && text.ends_with(b"/") {
        text.pop();
    }
    // A text that begins with a variable is made absolute once its value is known.
    if !matches!(word.text().first(), Some(b'/' | b'$')) {
        let prefix = b.inputs.prefix.as_os_str().as_bytes();
        let slash = if prefix.ends_with(b"/") { &b""[..] } else { b"/" };
        text = [prefix, slash, &text].concat();
    }
    let text = b.template_of(&text, word.span)?;
    b.write(d, |s| &mut s.static_files.root, Some(Root { text, join }))
}

fn index(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    for (at, word) in d.args.iter().enumerate() {
        let text = word.text();
        if text.is_empty() {
            let fault = format!("index \"{text}\" in \"index\" directive is invalid");
            return Err(Diagnostic::error(word.span, fault));
        }
        if text.starts_with(b"/") && at + 1 < d.args.len() {
            let fault = "only the last index in \"index\" directive should be absolute";
            b.diagnostics.push(Diagnostic::warn(word.span, fault).label("what follows is never looked for"));
        }
        let name = b.template(word)?;
        b.settings().static_files.index.push(name);
    }
    Ok(())
}

/// `types`: several blocks of one level make one table.
fn types(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let setting = &mut b.settings().static_files.types;
    let mut table = match setting.written() {
        true => Types::clone(setting.get()),
        false => Types::empty(),
    };
    for entry in d.children() {
        let kind = entry.name.text();
        if !matches!(entry.body, Body::None) {
            let fault = format!("\"{kind}\" in \"types\" takes no block");
            return Err(Diagnostic::error(entry.name.span, fault).help(format!("write `{kind} EXTENSION;`")));
        }
        for word in &entry.args {
            if let Some(previous) = table.insert(word.text(), kind) {
                let previous = previous.as_bstr();
                let extension = word.text();
                b.diagnostics.push(Diagnostic::warn(
                    word.span,
                    format!(
                        "duplicate extension \"{extension}\", content type: \"{kind}\", previous content type: \
                         \"{previous}\""
                    ),
                ));
            }
        }
    }
    b.settings().static_files.types.replace(Arc::new(table));
    Ok(())
}

fn if_modified_since(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let rule = match &**d.args[0].text() {
        b"off" => IfModifiedSince::Off,
        b"exact" => IfModifiedSince::Exact,
        b"before" => IfModifiedSince::Before,
        _ => return Err(invalid_choice(&d.args[0]).help("off, exact or before")),
    };
    b.write(d, |s| &mut s.static_files.if_modified_since, rule)
}

fn disable_symlinks(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let mut treatment = None;
    let mut from = None;
    for word in &d.args {
        match &**word.text() {
            b"off" => treatment = Some(Symlinks::Follow),
            b"on" => treatment = Some(Symlinks::Refuse),
            b"if_not_owner" => treatment = Some(Symlinks::RefuseOtherOwner),
            text => {
                let path = text.strip_prefix(b"from=").ok_or_else(|| invalid_parameter(word))?;
                from = Some(b.template_of(path, word.span)?);
            }
        }
    }
    let Some(treatment) = treatment else {
        let fault = "\"disable_symlinks\" must have \"off\", \"on\" or \"if_not_owner\" parameter";
        return Err(Diagnostic::error(d.name.span, fault));
    };
    if let ([first, second], None) = (d.args.as_slice(), &from) {
        let fault = format!("duplicate parameters \"{} {}\"", first.text(), second.text());
        return Err(Diagnostic::error(second.span, fault));
    }
    if treatment == Symlinks::Follow && from.is_some() {
        let fault = "\"from=\" cannot be used with \"off\" parameter";
        return Err(Diagnostic::error(d.name.span, fault));
    }
    b.write(d, |s| &mut s.static_files.disable_symlinks, SymlinkRule { treatment, from })
}
