//! What a store's file has besides rows.
//!
//! Owns: that it is exactly what this version makes. What a trigger, a view or another index of a backup does, no verification of
//! rows finds. Must never: have anything of the file carried out; it only reads definitions.

use super::fault;
use super::schema::{Format, TABLES, TO_TWO, UNCHANGED};
use rusqlite::Connection;
use std::collections::BTreeMap;
use switch::StoreFault;

/// The table that a file of format 2 may lack until it is opened.
const ADDED_LATER: &str = "unchanged";

/// Fails unless a file has exactly what this version makes. Nothing of the file has been evaluated before.
///
/// # Errors
/// It is damaged: something is missing, changed or added.
pub(super) fn check(connection: &Connection, format: Format, shown: &str) -> Result<(), StoreFault> {
    let wrong = |error: rusqlite::Error| fault::at(shown, &error);
    let mut found = objects(connection).map_err(wrong)?;
    let model = Connection::open_in_memory().map_err(wrong)?;
    model.execute_batch(TABLES).map_err(wrong)?;
    if format == Format::Two {
        model.execute_batch(TO_TWO).map_err(wrong)?;
        model.execute_batch(UNCHANGED).map_err(wrong)?;
    }
    for ((kind, name), text) in objects(&model).map_err(wrong)? {
        match found.remove(&(kind.clone(), name.clone())) {
            Some(same) if same == text => {}
            None if name == ADDED_LATER => {}
            Some(_) => return Err(fault::damaged_at(shown, &format!("its {kind} {name} is another one"))),
            None => return Err(fault::damaged_at(shown, &format!("it has no {kind} {name}"))),
        }
    }
    match found.into_keys().next() {
        Some((kind, name)) => {
            let what =
                format!("it has a {} {} that no pointsman makes", kind.escape_debug(), name.escape_debug());
            Err(fault::damaged_at(shown, &what))
        }
        None => Ok(()),
    }
}

/// Returns the objects of a database with their definitions, without what SQLite makes by itself.
fn objects(connection: &Connection) -> rusqlite::Result<BTreeMap<(String, String), String>> {
    let sql = "SELECT type, name, coalesce(tbl_name, ''), coalesce(sql, '') FROM sqlite_schema";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| {
        let [kind, name, table, text] = [0, 1, 2, 3].map(|at| row.get::<_, String>(at));
        Ok(((kind?, name?), (table?, text?)))
    })?;
    let mut found = BTreeMap::new();
    for row in rows {
        let ((kind, name), (table, text)) = row?;
        // The index of a PRIMARY KEY or of UNIQUE has no definition of its own; that of its table is compared.
        if !(kind == "index" && text.is_empty() && name.starts_with("sqlite_autoindex_")) {
            let words: Vec<&str> = text.split_ascii_whitespace().collect();
            found.insert((kind, name), format!("{table}: {}", words.join(" ")));
        }
    }
    Ok(found)
}
