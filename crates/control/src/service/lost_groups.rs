//! Groups made at run time that are gone while keys lead to them: a store of the groups was put back, or made anew.
//!
//! Owns that they are no reason not to start, and none to refuse a configuration: the requests of these keys get 502, and it is
//! said. What the configuration in force serves, a new one must serve too.

use super::name_list::named;
use std::sync::Arc;
use switch::{Rules, RunTimeRules, Table};

/// Returns the rules by which a switch's table is checked, and what is to be said of groups that are gone. `served` are the rules in
/// force, if the switch is served.
pub(super) fn tolerated(
    rules: &Arc<Rules>,
    table: &Table,
    served: Option<&Rules>,
) -> (Arc<Rules>, Option<String>) {
    let strict = (Arc::clone(rules), None);
    if !rules.run_time.is_admitted || rules.run_time.are_unknown {
        return strict;
    }
    let orphans = rules.admits(table).err().unwrap_or_default();
    let default = rules.admits_default(table).err().map(|(own, _)| own);
    let mut targets = orphans.iter().map(|orphan| &*orphan.target).chain(default);
    if targets.any(|target| served.is_some_and(|served| served.target(target).is_some())) {
        return strict;
    }
    let mut lost: Vec<String> =
        orphans.iter().map(|orphan| format!("{} ({})", orphan.key, orphan.target)).collect();
    lost.extend(default.map(|own| format!("the default ({own})")));
    if lost.is_empty() {
        return strict;
    }
    let text = format!(
        "switch \"{0}\": keys lead to groups that are gone: {1}; their requests get 502: lead them elsewhere (pointsman switch KEY \
         TARGET --switch {0}), or make the groups again (pointsman group create)",
        rules.name,
        named(lost.into_iter())
    );
    let run_time = RunTimeRules { are_unknown: true, ..rules.run_time.clone() };
    (Arc::new(Rules { run_time, ..Rules::clone(rules) }), Some(text))
}
