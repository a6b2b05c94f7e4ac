//! One check of one server: from results in a row to a state.
//!
//! Owns: nginx Plus' `fails`, `passes` and `mandatory`. Must never: know how a server is asked.
//!
//! Source of behaviour: <https://nginx.org/en/docs/http/ngx_http_upstream_hc_module.html#health_check>.

/// A server's state as its checks have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Health {
    /// It takes requests.
    #[default]
    Healthy,
    /// It takes none until its first check has passed (`mandatory`).
    Checking,
    /// It takes none until it has passed often enough.
    Unhealthy,
}

impl Health {
    /// Returns it as one word, as nginx Plus has it.
    pub fn name(self) -> &'static str {
        match self {
            Health::Healthy => "up",
            Health::Checking => "checking",
            Health::Unhealthy => "unhealthy",
        }
    }
}

/// Whether a server must pass a check before its first request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mandatory {
    /// It is taken as healthy until it fails.
    #[default]
    No,
    /// `mandatory`
    Yes,
    /// `mandatory persistent`: unless it was healthy before this check was configured.
    Persistent,
}

/// The numbers of a `health_check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckRules {
    /// Failed checks in a row that make a server unhealthy; at least 1.
    pub fails: u32,
    /// Passed checks in a row that make it healthy again; at least 1.
    pub passes: u32,
    /// Whether it must pass before its first request.
    pub mandatory: Mandatory,
}

impl Default for CheckRules {
    fn default() -> CheckRules {
        CheckRules { fails: 1, passes: 1, mandatory: Mandatory::No }
    }
}

/// How far a check of a server has come.
///
/// ```
/// use pointsman_upstream::health::{CheckProgress, CheckRules, Health, Mandatory};
///
/// let rules = CheckRules { fails: 2, passes: 2, mandatory: Mandatory::No };
/// let mut check = CheckProgress::new(&rules, None, 0);
/// check.record(&rules, false, 5_000);
/// assert_eq!(check.health(), Health::Healthy);
/// check.record(&rules, false, 10_000);
/// assert_eq!((check.health(), check.since_ms()), (Health::Unhealthy, 10_000));
/// check.record(&rules, true, 15_000);
/// check.record(&rules, true, 20_000);
/// assert_eq!((check.health(), check.since_ms()), (Health::Healthy, 20_000));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckProgress {
    health: Health,
    since_ms: u64,
    /// Results in a row that speak against the present state.
    row: u32,
}

impl CheckProgress {
    /// Begins a check. `before` is the server's state if it was checked before, by another check.
    pub fn new(rules: &CheckRules, before: Option<Health>, now_ms: u64) -> CheckProgress {
        let health = match rules.mandatory {
            Mandatory::No => Health::Healthy,
            Mandatory::Persistent if before == Some(Health::Healthy) => Health::Healthy,
            Mandatory::Yes | Mandatory::Persistent => Health::Checking,
        };
        CheckProgress { health, since_ms: now_ms, row: 0 }
    }

    /// Returns its state.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Returns the time since which it has this state, in milliseconds.
    pub fn since_ms(&self) -> u64 {
        self.since_ms
    }

    /// Returns how many results in a row speak against its state.
    pub fn row(&self) -> u32 {
        self.row
    }

    /// Records a result.
    pub fn record(&mut self, rules: &CheckRules, passed: bool, now_ms: u64) {
        let (enough, next) = match (self.health, passed) {
            (Health::Healthy, true) | (Health::Unhealthy, false) => {
                self.row = 0;
                return;
            }
            (Health::Healthy, false) => (rules.fails, Health::Unhealthy),
            (Health::Unhealthy, true) => (rules.passes, Health::Healthy),
            // The first result decides.
            (Health::Checking, true) => (1, Health::Healthy),
            (Health::Checking, false) => (1, Health::Unhealthy),
        };
        self.row += 1;
        if self.row >= enough {
            *self = CheckProgress { health: next, since_ms: now_ms, row: 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Results as `+` and `-`, the states after each as `H`, `C` or `U`.
    fn states(
        fails: u32,
        passes: u32,
        mandatory: Mandatory,
        before: Option<Health>,
        results: &str,
    ) -> String {
        let rules = CheckRules { fails, passes, mandatory };
        let mut check = CheckProgress::new(&rules, before, 0);
        let letter = |check: &CheckProgress| match check.health() {
            Health::Healthy => 'H',
            Health::Checking => 'C',
            Health::Unhealthy => 'U',
        };
        let mut states = String::from(letter(&check));
        for (number, result) in results.chars().enumerate() {
            let (was, now_ms) = (check, number as u64 + 1);
            check.record(&rules, result == '+', now_ms);
            let since = if was.health() == check.health() { was.since_ms() } else { now_ms };
            assert_eq!(check.since_ms(), since, "{results} at {number}");
            states.push(letter(&check));
        }
        states
    }

    #[test]
    fn results_in_a_row_make_states() {
        use Mandatory::{No, Persistent, Yes};
        let (healthy, unhealthy) = (Some(Health::Healthy), Some(Health::Unhealthy));
        for (fails, passes, mandatory, before, results, expected) in [
            (1, 1, No, None, "+-+-", "HHUHU"),
            (3, 1, No, None, "--+---+", "HHHHHHUH"),
            (1, 3, No, None, "-++-+++", "HUUUUUUH"),
            (2, 2, No, None, "-+-+--+-++", "HHHHHHUUUUH"),
            (1, 1, No, unhealthy, "", "H"),
            (3, 3, Yes, None, "+--", "CHHH"),
            (3, 2, Yes, None, "-++", "CUUH"),
            (1, 1, Yes, healthy, "+", "CH"),
            (2, 1, Persistent, healthy, "--", "HHU"),
            (2, 1, Persistent, unhealthy, "+", "CH"),
            (2, 1, Persistent, None, "-+", "CUH"),
        ] {
            let states = states(fails, passes, mandatory, before, results);
            assert_eq!(states, expected, "{fails} {passes} {mandatory:?} {before:?} {results}");
        }
    }
}
