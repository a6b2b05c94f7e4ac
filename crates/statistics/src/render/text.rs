//! `upstream_status` for a terminal.
//!
//! Owns: how columns are aligned. Must never: choose what is in them.
//!
//! Its first line is that of the well-known `log_by_lua` example, a mean over everything; the table below it shows what
//! that mean hides.

use super::table::{Row, Table, average, legend, tables};
use crate::{Snapshot, Summary};

/// Returns the body as plain text.
pub fn text(summary: &Summary, snapshot: &Snapshot) -> String {
    let mut out = average(summary);
    out += "\n\n";
    out += &legend(summary);
    out += "\n";
    for table in tables(summary, snapshot) {
        out += "\n";
        write_table(&table, &mut out);
    }
    out
}

fn write_table(table: &Table, out: &mut String) {
    let lines: Vec<Vec<String>> = table.rows.iter().map(line).collect();
    let width = |column: usize| {
        let cells = lines.iter().map(|cells| cells[column].chars().count());
        cells.chain([table.heads[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..table.heads.len()).map(width).collect();
    *out += &table.title;
    out.push('\n');
    let heads = table.heads.iter().map(|head| (*head).to_owned()).collect();
    for cells in [heads].iter().chain(&lines) {
        let mut text = String::new();
        for (column, (cell, &width)) in cells.iter().zip(&widths).enumerate() {
            if column > 0 {
                text += "  ";
            }
            match column < table.words {
                true => text += &format!("{cell:<width$}"),
                false => text += &format!("{cell:>width$}"),
            }
        }
        *out += text.trim_end();
        out.push('\n');
    }
    if let Some(note) = &table.note {
        *out += note;
        out.push('\n');
    }
}

fn line(row: &Row) -> Vec<String> {
    let mut cells: Vec<String> =
        row.cells.iter().map(|cell| cell.chars().flat_map(shown).collect()).collect();
    if row.below {
        cells[0].insert_str(0, "  ");
    }
    cells
}

/// Escapes what a terminal might interpret.
fn shown(char: char) -> Vec<char> {
    if char.is_control() { char.escape_default().collect() } else { vec![char] }
}
