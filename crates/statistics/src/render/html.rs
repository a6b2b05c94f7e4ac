//! `upstream_status` for a browser.
//!
//! Owns: a page that needs nothing but itself: no script, no other file. Every name on it is escaped, because the
//! markup is checked and written by maud.

use super::table::{Row, Table, average, legend, tables};
use crate::{Snapshot, Summary, Window};
use maud::{DOCTYPE, Markup, PreEscaped, html as markup};

const STYLE: &str = "
:root{color-scheme:light dark}
body{font:14px/1.5 system-ui,sans-serif;margin:1.5em}
table{border-collapse:collapse}
th,td{padding:.1em .7em;text-align:right;font-variant-numeric:tabular-nums}
th{border-bottom:1px solid}
.word{text-align:left}
.below .word:first-child{padding-left:2em}
tr:not(.below) td:first-child{font-weight:600}
h2{font-size:1.1em;margin:1.5em 0 .3em}
";

/// Returns the body as a page that reloads itself every 5 s.
pub fn html(summary: &Summary, snapshot: &Snapshot) -> String {
    let page = markup! {
        (DOCTYPE) "\n"
        html lang="en" {
            meta charset="utf-8";
            meta http-equiv="refresh" content="5";
            meta name="viewport" content="width=device-width";
            title { "upstream status" }
            style { (PreEscaped(STYLE)) }
            "\n" h1 { (average(summary)) }
            "\n" p { @for window in Window::ALL { (window_link(window, summary.window)) " " } }
            "\n" p { (legend(summary)) }
            @for table in tables(summary, snapshot) { (table_markup(&table)) }
            "\n" p { "pointsman " (snapshot.version) } "\n"
        }
        "\n"
    };
    page.into_string()
}

fn window_link(window: Window, shown: Window) -> Markup {
    let name = window.name();
    markup! {
        @if window == shown { b { (name) } } @else { a href={ "?window=" (name) "&format=html" } { (name) } }
    }
}

fn table_markup(table: &Table) -> Markup {
    let class = |column| (column < table.words).then_some("word");
    let row = |Row { cells, below }: &Row| {
        markup! {
            "\n" tr class=[below.then_some("below")] {
                @for (column, text) in cells.iter().enumerate() { td class=[class(column)] { (text) } }
            }
        }
    };
    markup! {
        "\n" h2 { (table.title) }
        "\n" table {
            "\n" tr {
                @for (column, head) in table.heads.iter().enumerate() { th class=[class(column)] { (head) } }
            }
            @for cells in &table.rows { (row(cells)) }
            "\n"
        }
        @if let Some(note) = &table.note { "\n" p { (note) } }
    }
}
