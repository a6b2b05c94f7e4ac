//! `upstream_status` for a browser.
//!
//! Owns: a page that needs nothing but itself: no script, no other file. Must never: let a name through unescaped.

use super::table::{Table, average, legend, tables};
use crate::{Snapshot, Summary, Window};

const HEAD: &str = "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
<meta http-equiv=\"refresh\" content=\"5\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
<title>upstream status</title>\n<style>\n\
:root{color-scheme:light dark}\nbody{font:14px/1.5 system-ui,sans-serif;margin:1.5em}\n\
table{border-collapse:collapse}\nth,td{padding:.1em .7em;text-align:right;font-variant-numeric:tabular-nums}\n\
th{border-bottom:1px solid}\n.word{text-align:left}\n.below .word:first-child{padding-left:2em}\n\
tr:not(.below) td:first-child{font-weight:600}\nh2{font-size:1.1em;margin:1.5em 0 .3em}\n</style>\n";

/// The body as a page that loads itself anew every 5 s.
pub fn html(summary: &Summary, snapshot: &Snapshot) -> String {
    let mut out = HEAD.to_owned();
    out += "<h1>";
    escape(&average(summary), &mut out);
    out += "</h1>\n<p>";
    for window in Window::ALL {
        let name = window.name();
        match window == summary.window {
            true => out += &format!("<b>{name}</b> "),
            false => out += &format!("<a href=\"?window={name}&amp;format=html\">{name}</a> "),
        }
    }
    out += "</p>\n<p>";
    escape(&legend(summary), &mut out);
    out += "</p>\n";
    for table in tables(summary, snapshot) {
        write_table(&table, &mut out);
    }
    out += "<p>pointsman ";
    escape(&snapshot.version, &mut out);
    out += "</p>\n</html>\n";
    out
}

fn write_table(table: &Table, out: &mut String) {
    *out += "<h2>";
    escape(&table.title, out);
    *out += "</h2>\n<table>\n<tr>";
    for (column, head) in table.heads.iter().enumerate() {
        cell("th", column < table.words, head, out);
    }
    *out += "</tr>\n";
    for row in &table.rows {
        *out += if row.below { "<tr class=\"below\">" } else { "<tr>" };
        for (column, text) in row.cells.iter().enumerate() {
            cell("td", column < table.words, text, out);
        }
        *out += "</tr>\n";
    }
    *out += "</table>\n";
    if let Some(note) = &table.note {
        *out += "<p>";
        escape(note, out);
        *out += "</p>\n";
    }
}

fn cell(element: &str, word: bool, text: &str, out: &mut String) {
    *out += &format!("<{element}{}>", if word { " class=\"word\"" } else { "" });
    escape(text, out);
    *out += &format!("</{element}>");
}

/// As the text of an element or of a quoted attribute.
fn escape(text: &str, out: &mut String) {
    for char in text.chars() {
        match char {
            '&' => *out += "&amp;",
            '<' => *out += "&lt;",
            '>' => *out += "&gt;",
            '"' => *out += "&quot;",
            '\'' => *out += "&#39;",
            char => out.push(char),
        }
    }
}
