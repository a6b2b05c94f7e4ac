//! What health checks have found out, as the metrics show it.

use statistics::CheckNow;
use std::sync::Arc;
use upstream::health::HealthTable;

/// Returns the checks of all servers with the numbers of their results.
pub fn checks_now(health: &HealthTable) -> Vec<CheckNow> {
    let mut now = Vec::new();
    for (group, servers) in health.all() {
        let group: Arc<str> = group.into();
        for server in servers {
            let peer: Arc<str> = server.address().to_string().into();
            now.extend(server.view().checks.into_iter().map(|check| CheckNow {
                group: Arc::clone(&group),
                peer: Arc::clone(&peer),
                check: check.check,
                passed: check.passed,
                failed: check.failed,
                took_us: check.last.map(|last| last.took_us),
            }));
        }
    }
    now
}
