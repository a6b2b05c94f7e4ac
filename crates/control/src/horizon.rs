//! What requests were answered around a switch: the part of a receipt that is completed for minutes.
//!
//! Owns: the horizon as a value. Must never: measure.

use serde::{Deserialize, Serialize};
use statistics::{Answers, Counters};
use utoipa::ToSchema;

/// The answers around a commit, up to its horizon.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Horizon {
    /// Whether answers are still counted.
    pub state: HorizonState,
    /// Until when answers are counted, in milliseconds since the Unix epoch.
    pub until_ms: u64,
    /// The time after the commit up to which they are counted here, in microseconds.
    pub span_us: u64,
    /// Why counting ended before that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_short: Option<String>,
    /// The process that counts: the boot of the machine, its number and its start.
    #[serde(default)]
    pub process: String,
    /// By target of the changed keys, before and after.
    pub targets: Vec<TargetAnswers>,
    /// The responses of the old side after the switch.
    pub old: AnswerCounts,
}

/// The progress of a horizon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HorizonState {
    /// Answers are counted.
    #[default]
    Watching,
    /// They were counted to the end.
    Complete,
    /// Counting ended early: see `cut_short`.
    CutShort,
}

/// The answers of one target to the changed keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TargetAnswers {
    /// The target.
    pub target: String,
    /// In the minute before the commit, perhaps without its last second: streams are among the requests, and what failed are
    /// statuses of 500 and more.
    pub before: AnswerCounts,
    /// Of requests that the commit has routed, since then.
    pub after: AnswerCounts,
}

/// Counts of answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AnswerCounts {
    /// Requests that have ended, without streams.
    pub requests: u64,
    /// Those of them that failed: no answer, a broken one, or a status of 500 and more.
    pub failed: u64,
    /// WebSockets and long answers that have ended.
    pub streams: u64,
    /// Those of them that failed.
    pub failed_streams: u64,
    /// The median time that upstreams took for a request, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<u64>,
    /// The 99th percentile of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<u64>,
}

impl AnswerCounts {
    /// Returns the number of requests and streams, and of those that failed.
    pub fn all(&self) -> (u64, u64) {
        (self.requests + self.streams, self.failed + self.failed_streams)
    }
}

impl From<&Answers> for AnswerCounts {
    fn from(answers: &Answers) -> AnswerCounts {
        AnswerCounts {
            requests: answers.requests,
            failed: answers.failed,
            streams: answers.streams,
            failed_streams: answers.failed_streams,
            p50_us: answers.times.quantile(0.5),
            p99_us: answers.times.quantile(0.99),
        }
    }
}

impl From<&Counters> for AnswerCounts {
    fn from(counters: &Counters) -> AnswerCounts {
        AnswerCounts {
            requests: counters.ended,
            failed: counters.errors,
            p50_us: counters.response.quantile(0.5),
            p99_us: counters.response.quantile(0.99),
            ..AnswerCounts::default()
        }
    }
}
