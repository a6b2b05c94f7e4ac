//! `cargo xtask docs [--check]`: the reference pages in `docs/`, made from the tables that the program itself runs on.
//!
//! With `--check` it writes nothing and fails when a page is not what it would write. Pages written by hand are not
//! its business.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::ExitCode;

use conf::known_directives::{self, DirectiveOrigin};
use engine::directive::{Contexts, Directive};
use engine::modules::no_effect;

const MADE: &str = "<!-- Made by `cargo xtask docs` from the tables in the code: change it there. -->\n";

/// Runs the verb.
pub(crate) fn main(args: &[String]) -> ExitCode {
    let check = match args {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => {
            eprintln!("usage: cargo xtask docs [--check]");
            return ExitCode::from(2);
        }
    };
    let mut status = ExitCode::SUCCESS;
    for (name, page) in pages() {
        let path = crate::root().join("docs").join(&name);
        if std::fs::read_to_string(&path).is_ok_and(|old| old == page) {
            continue;
        }
        if check {
            println!("docs/{name} is not what the tables say: run `cargo xtask docs`");
            status = ExitCode::FAILURE;
        } else if let Err(error) =
            path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, &page))
        {
            eprintln!("{}: {error}", path.display());
            status = ExitCode::FAILURE;
        } else {
            println!("wrote docs/{name}");
        }
    }
    status
}

/// Returns every generated page: its path below `docs/`, and its text.
fn pages() -> Vec<(String, String)> {
    let mut pages = vec![
        ("directives.md".to_owned(), directives()),
        ("variables.md".to_owned(), variables()),
        ("lua.md".to_owned(), lua()),
        ("differences.md".to_owned(), differences()),
    ];
    pages.extend(
        modules().into_iter().map(|(name, table)| (format!("directives/{name}.md"), module(name, &table))),
    );
    pages
}

/// Returns the differences from nginx that cases hold: what each case with other answers of nginx says of them.
fn differences() -> String {
    let mut page = format!("# Differences from nginx that cases hold\n\n{MADE}\n");
    page.push_str(
        "Each row is a file below `cases/`, which runs on pointsman and, unless the reason says why not, on nginx 1.22 with its \
         own answers. [coming-from-nginx.md](coming-from-nginx.md) tells what is different on purpose; of HTTP/2, where the \
         RFC wins, [http2.md](http2.md#differences-from-nginx) has the list, of TLS [tls.md](tls.md), of messages that are \
         no HTTP [framing.md](framing.md), and of upstreams that fail [fault-matrix.md](fault-matrix.md).\n\n\
         | case | what differs |\n|---|---|\n",
    );
    let root = crate::root().join("cases");
    let mut folders: Vec<_> = std::fs::read_dir(&root).into_iter().flatten().flatten().collect();
    folders.sort_by_key(std::fs::DirEntry::file_name);
    for folder in folders {
        let mut files: Vec<_> = std::fs::read_dir(folder.path()).into_iter().flatten().flatten().collect();
        files.sort_by_key(std::fs::DirEntry::file_name);
        for file in files.iter().filter(|file| file.path().extension().is_some_and(|end| end == "case")) {
            let text = std::fs::read_to_string(file.path()).unwrap_or_default();
            let says = |head: &str| text.lines().find_map(|line| line.strip_prefix(head).map(cell));
            // What nginx does not know at all is no difference.
            let skipped =
                says("=== oracle skip: ").filter(|why| !why.contains("has no ") && !why.contains("own"));
            if let Some(why) = says("=== differs: ").or(skipped) {
                let (folder, name) = (folder.file_name(), file.file_name());
                let case = format!("{}/{}", folder.display(), name.display());
                let _ = writeln!(page, "| [{case}](../cases/{case}) | {} |", why.trim_end_matches('.'));
            }
        }
    }
    page
}

/// Returns the modules with their directives, in the order of the tables.
fn modules() -> Vec<(&'static str, Vec<&'static Directive>)> {
    let all: Vec<_> = engine::config::directives().collect();
    let modules = all.chunk_by(|one, next| one.0.name == next.0.name);
    modules
        .map(|listed| (listed[0].0.name, listed.iter().map(|(_, directive)| *directive).collect()))
        .collect()
}

/// Returns the index of all directives.
fn directives() -> String {
    let mut page = format!("# Directives\n\n{MADE}\n");
    page.push_str(
        "Every directive that `nginx.conf` may use with pointsman, one page a module. A directive does what nginx's \
         documentation says of it; [coming-from-nginx.md](coming-from-nginx.md) lists where it differs on purpose. \
         The end of this page lists what nginx knows and pointsman does not support: such a directive is refused by \
         name, never ignored.\n\n| module | directives |\n|---|---|\n",
    );
    for (module, directives) in modules() {
        let link = |directive: &&Directive| format!("[{0}](directives/{module}.md#{0})", directive.name);
        let links: Vec<String> = directives.iter().map(link).collect();
        let _ = writeln!(page, "| [{module}](directives/{module}.md) | {} |", links.join(", "));
    }
    page.push_str(&unsupported());
    page
}

/// Returns one module's page: each directive as nginx's documentation shows it.
fn module(name: &str, directives: &[&Directive]) -> String {
    let mut page = format!("# Directives: {name}\n\n{MADE}\n[All directives](../directives.md)\n");
    for directive in directives {
        let line = |arguments: &str| {
            let space = if arguments.is_empty() { "" } else { " " };
            let end = if arguments.ends_with('}') { "" } else { ";" };
            format!("`{}{space}{}{end}`", directive.name, cell(arguments))
        };
        let _ = write!(
            page,
            "\n## {}\n\n| | |\n|---|---|\n| Syntax | {} |\n| Default | {} |\n| Context | {} |\n\n{}\n\n\
             ```nginx\n{}\n```\n",
            directive.name,
            line(directive.syntax),
            directive.default.map_or("—".to_owned(), line),
            directive.contexts.names().join(", "),
            directive.doc,
            directive.example
        );
    }
    page
}

/// Lists the known directives that pointsman does not support, module by module.
fn unsupported() -> String {
    // What is written in `switch {}` and `acme_issuer {}` is called like directives of nginx that mean something else.
    let ours: BTreeSet<&str> = engine::config::directives()
        .filter(|(_, directive)| !matches!(directive.contexts, Contexts::SWITCH | Contexts::ACME_ISSUER))
        .map(|(_, directive)| directive.name)
        .collect();
    let mut by_module: [BTreeMap<&str, BTreeSet<&str>>; 2] = Default::default();
    for entry in known_directives::all() {
        let module = match entry.origin {
            DirectiveOrigin::Nginx(module) => module,
            DirectiveOrigin::NgxLua => "ngx_http_lua_module",
            // Other people's modules are known for the sake of the diagnostics alone.
            DirectiveOrigin::Plus(_) | DirectiveOrigin::Other(_) => continue,
        };
        if !ours.contains(entry.name) && !entry.is_mail() && !entry.is_stream() {
            let reason = no_effect::reason(entry);
            by_module[usize::from(reason.is_some())]
                .entry(reason.unwrap_or(module))
                .or_default()
                .insert(entry.name);
        }
    }
    let titles = [
        "\n## Known to nginx or OpenResty, and not supported\n\nBesides everything in `mail {}` and `stream {}`:\n\n",
        "\n## Without effect here\n\nThese are read, and their values are not checked:\n\n",
    ];
    let mut text = String::new();
    for (by_module, title) in by_module.into_iter().zip(titles) {
        text.push_str(title);
        for (module, names) in by_module {
            let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
            let _ = writeln!(text, "- {module}: {}", names.join(", "));
        }
    }
    text
}

fn variables() -> String {
    let mut page = format!("# Variables\n\n{MADE}\n");
    page.push_str(
        "The variables that are there without any directive. `set` may write those that say so.\n\n",
    );
    page.push_str("| variable | value | `set` |\n|---|---|---|\n");
    let mut rows = Vec::new();
    for variable in engine::variables::VARIABLES.iter().copied().flatten() {
        rows.push((format!("`${}`", variable.name), variable.doc, variable.set.is_some()));
    }
    for family in engine::variables::FAMILIES.iter().copied().flatten() {
        rows.push((format!("`${}`*name*", family.prefix), family.doc, false));
    }
    rows.sort();
    for (name, doc, settable) in rows {
        let _ = writeln!(page, "| {name} | {} | {} |", cell(doc), if settable { "yes" } else { "" });
    }
    page
}

fn lua() -> String {
    let mut page = format!("# The Lua API\n\n{MADE}\n");
    page.push_str(
        "Lua runs on LuaJIT, with one machine per thread and Lua's own libraries. The table `ngx` is that of OpenResty; \
         the differences are noted below. A function that is called outside of its phases raises `API disabled in the \
         context of …`. The phases are those of the `*_by_lua` directives in [directives.md](directives.md); *requests* \
         means all phases with a request: set, server_rewrite, rewrite, access, content, header_filter, \
         body_filter, log and balancer.\n",
    );
    for area in lua::AREAS {
        if area.functions.is_empty() && area.fields.is_empty() {
            continue;
        }
        let _ = write!(page, "\n## {}\n\n| name | what it does | phases |\n|---|---|---|\n", area.name);
        for entry in area.functions.iter().chain(area.fields) {
            let _ = writeln!(page, "| `{}` | {} | {} |", entry.name, cell(entry.doc), phases(entry.phases));
        }
    }
    page.push_str(
        "\n## Not supported\n\nUsing one of these functions of OpenResty raises an error that names it.\n\n",
    );
    let _ =
        writeln!(page, "{}.", absent().map(|name| format!("`ngx.{name}`")).collect::<Vec<_>>().join(", "));
    page
}

/// Returns the names that the Lua script lists as absent.
fn absent() -> impl Iterator<Item = &'static str> {
    let script = include_str!("../../crates/lua/src/lua/absent.lua");
    let list = script.split("in ipairs {").nth(1).and_then(|rest| rest.split('}').next()).unwrap_or_default();
    list.split('"').skip(1).step_by(2)
}

fn phases(allowed: lua::Phases) -> String {
    use lua::{PHASES, Phase};
    let with_request =
        |phase: Phase| !matches!(phase, Phase::Timer | Phase::InitWorker | Phase::ExitWorker | Phase::Init);
    let (in_it, outside): (Vec<_>, Vec<_>) =
        PHASES.into_iter().partition(|(phase, _, _)| allowed.has(*phase));
    let names = |phases: &[(Phase, &'static str, &str)]| {
        phases.iter().map(|(_, name, _)| *name).collect::<Vec<_>>().join(", ")
    };
    let rest: Vec<_> = in_it.iter().copied().filter(|(phase, _, _)| !with_request(*phase)).collect();
    if outside.is_empty() {
        "all".to_owned()
    } else if outside.len() < 4 {
        format!("all but {}", names(&outside))
    } else if outside.iter().any(|(phase, _, _)| with_request(*phase)) {
        names(&in_it)
    } else if rest.is_empty() {
        "requests".to_owned()
    } else {
        format!("requests, {}", names(&rest))
    }
}

/// Text that may stand in a table's cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_are_up_to_date() {
        for (name, page) in pages() {
            let there = std::fs::read_to_string(crate::root().join("docs").join(&name)).unwrap_or_default();
            assert!(there == page, "docs/{name} is not what the tables say: run `cargo xtask docs`");
        }
    }

    #[test]
    fn a_cell_holds_what_it_is_given() {
        assert_eq!(cell("a|b"), "a\\|b");
    }

    #[test]
    fn phases_are_listed_in_the_shorter_way() {
        use lua::{PHASES, Phase, Phases};
        let but = |left_out: &[Phase]| {
            let in_it = PHASES.iter().map(|(phase, _, _)| *phase).filter(|phase| !left_out.contains(phase));
            phases(Phases::of(&in_it.collect::<Vec<_>>()))
        };
        assert_eq!(phases(Phases::ALL), "all");
        assert_eq!(phases(Phases::of(&[Phase::Set, Phase::Log])), "set, log");
        assert_eq!(but(&[Phase::Init]), "all but init");
        assert_eq!(but(&[Phase::Timer, Phase::InitWorker, Phase::ExitWorker, Phase::Init]), "requests");
        assert_eq!(
            but(&[Phase::Set, Phase::InitWorker, Phase::ExitWorker]),
            "all but set, init_worker, exit_worker"
        );
    }

    #[test]
    fn absent_names_are_read_from_the_script() {
        let names: Vec<&str> = absent().collect();
        assert!(
            names.contains(&"run_worker_thread") && names.iter().all(|name| !name.contains([' ', '{'])),
            "{names:?}"
        );
    }
}
