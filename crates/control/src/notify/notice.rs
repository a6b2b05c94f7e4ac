//! What is sent of a commit.
//!
//! Owns its form, which programs elsewhere read.

use engine::modules::control::SyslogPlace;
use serde::Serialize;
use std::sync::LazyLock;
use switch::{Commit, Hash};

/// The severity of syslog messages: informational (RFC 5424, section 6.2.1).
const SEVERITY: u8 = 6;

/// The name of this machine.
static HOST: LazyLock<String> = LazyLock::new(|| {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().filter(char::is_ascii_graphic).collect();
    if name.is_empty() { "-".to_owned() } else { name }
});

/// The newest commit of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct HeadNotice {
    /// `commit`, when one was made; `head` for the one that a process has found when it began, or that a restore has made.
    event: &'static str,
    /// The machine.
    host: &'static str,
    /// The switch, or `groups`.
    switch: String,
    /// The commit's revision; 0 before the first.
    revision: u64,
    /// Its hash.
    hash: String,
    /// The hash of the commit before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<String>,
    /// When it was made: milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<String>,
    /// How many notices before it were given up, because the place did not take them.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) missed: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl HeadNotice {
    /// Returns the notice of a commit that was made just now.
    pub(crate) fn of_commit(switch: &str, commit: &Commit) -> HeadNotice {
        HeadNotice {
            event: "commit",
            previous: Some(commit.previous.to_string()),
            time_ms: Some(commit.time_ms),
            kind: Some(commit.kind.name().to_owned()),
            actor: Some(commit.actor.clone()),
            ..HeadNotice::of_head(switch, commit.revision, commit.hash)
        }
    }

    /// Returns the notice of the newest commit that was found.
    pub(crate) fn of_head(switch: &str, revision: u64, hash: Hash) -> HeadNotice {
        HeadNotice {
            event: "head",
            host: HOST.as_str(),
            switch: switch.to_owned(),
            revision,
            hash: hash.to_string(),
            previous: None,
            time_ms: None,
            kind: None,
            actor: None,
            missed: 0,
        }
    }

    /// Returns it for people: `revision 8 of live`.
    pub(super) fn name(&self) -> String {
        format!("revision {} of {}", self.revision, self.switch)
    }

    /// Returns it as a line of JSON, with hidden characters escaped.
    pub(super) fn json(&self) -> String {
        // It is a plain struct: there is nothing in it that JSON could not say.
        let text = serde_json::to_string(self).unwrap_or_default();
        switch::visible_json(&text).into_owned()
    }

    /// Returns it as a syslog message at this time (RFC 5424, section 6).
    pub(super) fn syslog(&self, place: &SyslogPlace, now_ms: u64) -> String {
        let priority = place.facility * 8 + SEVERITY;
        let time = http::date::iso8601(now_ms / 1000, 0);
        let (time, pid) = (String::from_utf8_lossy(&time), std::process::id());
        format!("<{priority}>1 {time} {} {} {pid} head - {}", self.host, place.tag, self.json())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_one_line_of_json() {
        let notice =
            HeadNotice { actor: Some("a\u{202e}\nb".into()), ..HeadNotice::of_head("live", 7, Hash::ZERO) };
        let (json, hash) = (notice.json(), Hash::ZERO.to_string());
        assert!(!json.contains('\n') && json.is_ascii(), "{json}");
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (&read["switch"], &read["revision"], &read["hash"]),
            (&"live".into(), &7.into(), &hash.into())
        );
        assert!(read.get("missed").is_none() && read.get("previous").is_none());
        let place = SyslogPlace { text: "".into(), addresses: Vec::new(), facility: 23, tag: "app".into() };
        let message = notice.syslog(&place, 784_111_777_000);
        let head = format!("<190>1 1994-11-06T08:49:37+00:00 {} app {} head - {{", *HOST, std::process::id());
        assert!(message.starts_with(&head), "{message}");
    }
}
