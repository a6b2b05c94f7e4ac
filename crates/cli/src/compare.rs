//! `pointsman compare`: two groups side by side over the same period.
//!
//! Owns the verb's options. Must never judge a difference: the server works out what noise can explain.

use crate::client::{Call, encoded};
use crate::error::{Code, Error, say, say_json};
use crate::format::{Table, micros_if, share};
use crate::session::Session;
use crate::status::Period;
use clap::Args;
use control::api::types::{Comparison, Judged, Side, Verdict};

/// Compare two groups, and show whether they differ by more than noise
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pointsman compare blue green --window 5m")]
pub(crate) struct Compare {
    /// Group
    a: String,
    /// Group to compare with it
    b: String,
    /// Period that the figures cover
    #[arg(long, value_name = "TIME", value_enum, default_value = "5m")]
    window: Period,
}

impl Compare {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Error> {
        let path = format!(
            "/v1/compare?a={}&b={}&window={}",
            encoded(&self.a),
            encoded(&self.b),
            self.window.name()
        );
        let (comparison, body) = session.client.ask::<Comparison>(&Call::get(path))?;
        if session.json {
            say_json(&body)?;
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
    format!("last {}\n{}({})\n", comparison.window, table.text(), comparison.method)
}

fn said(judged: &Judged, group: &str) -> String {
    match judged.verdict {
        Verdict::TooFew => match judged.needed {
            Some(needed) => format!("too few requests (needs {needed} each)"),
            None => "too few requests".into(),
        },
        Verdict::Noise => "within noise".into(),
        Verdict::Better => format!("{group} is better"),
        Verdict::Worse => format!("{group} is worse"),
    }
}
