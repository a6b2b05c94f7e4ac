//! `pointsman compare`: two groups side by side in the same window.
//!
//! Owns the verb's words. Must never call a difference real: the server works out what noise can explain.

use crate::client::{Call, encoded};
use crate::fault::{Code, Fault, say};
use crate::figures::{Table, micros_if, share};
use crate::status::Window;
use crate::verbs::Session;
use clap::Args;
use control::api::types::{Comparison, Judged, Side, Verdict};

/// Show two groups side by side, and whether they differ by more than noise
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pointsman compare blue green --window 5m")]
pub(crate) struct Compare {
    /// A group
    a: String,
    /// The group that is compared with it
    b: String,
    /// How far back the figures reach
    #[arg(long, value_name = "TIME", value_enum, default_value = "5m")]
    window: Window,
}

impl Compare {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Fault> {
        let path = format!(
            "/v1/compare?a={}&b={}&window={}",
            encoded(&self.a),
            encoded(&self.b),
            self.window.name()
        );
        let (comparison, body) = session.client.ask::<Comparison>(&Call::get(path))?;
        if session.json {
            say(&format!("{}\n", String::from_utf8_lossy(&body)))?;
        } else {
            say(&text(&comparison))?;
        }
        Ok(Code::Done)
    }
}

fn text(comparison: &Comparison) -> String {
    let (a, b) = (&comparison.a, &comparison.b);
    let heads = [format!(">{}", a.group), format!(">{}", b.group)];
    let mut table = Table::new(&["", &heads[0], &heads[1], "difference"]);
    let verdict = |figure: &str| {
        let judged = comparison.judged.iter().find(|judged| judged.figure == figure);
        judged.map(|judged| said(judged, &b.group)).unwrap_or_default()
    };
    let mut row = |name: &str, cell: &dyn Fn(&Side) -> String, verdict: String| {
        table.row([name.to_owned(), cell(a), cell(b), verdict]);
    };
    row("requests", &|side| side.requests.to_string(), String::new());
    row("errors", &|side| share(side.errors, side.requests), verdict("errors"));
    row("p50", &|side| micros_if(side.response.p50_us), verdict("p50"));
    row("p90", &|side| micros_if(side.response.p90_us), verdict("p90"));
    row("p99", &|side| micros_if(side.response.p99_us), verdict("p99"));
    row("mean", &|side| micros_if(side.response.mean_us.map(|us| us.round() as u64)), verdict("mean"));
    format!("the last {}\n{}({})\n", comparison.window, table.text(), comparison.method)
}

fn said(judged: &Judged, group: &str) -> String {
    match judged.verdict {
        Verdict::TooFew => match judged.needed {
            Some(needed) => format!("too few to say (needs {needed} each)"),
            None => "too few to say".into(),
        },
        Verdict::Noise => "no more than noise".into(),
        Verdict::Better => format!("{group} is better"),
        Verdict::Worse => format!("{group} is worse"),
    }
}
