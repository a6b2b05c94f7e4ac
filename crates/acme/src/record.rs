//! The record that answers dns-01, set and removed by a program of the configuration, or by updates of its zone.
//!
//! Owns the program's arguments, its time, and what it says when it fails. It is run without a shell.

use crate::dns_update::{self, RecordChange};
use engine::modules::acme::{DnsUpdate, Issuer};
use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The longest time for the program.
const LIMIT: Duration = Duration::from_secs(120);
/// How often it is looked whether it has ended.
const GLANCE: Duration = Duration::from_millis(50);
/// The most that is kept of what it says.
const MAX_WORDS: u64 = 1000;

/// Who sets records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Setter {
    /// A program, with its arguments.
    Hook(Vec<String>),
    /// The name server of the zone.
    Update(Box<DnsUpdate>),
}

impl Setter {
    /// Returns who sets the records of an issuer's challenges.
    pub(crate) fn of(issuer: &Issuer) -> Option<Setter> {
        let update = issuer.dns_update.clone().map(|update| Setter::Update(Box::new(update)));
        update.or_else(|| issuer.dns_hook.clone().map(Setter::Hook))
    }
}

/// A record to be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) setter: Setter,
    /// The name of the host that is proven.
    pub(crate) host: String,
    pub(crate) value: String,
}

/// A record that is set. Dropping it removes it, beside what follows.
pub(crate) struct SetRecord(Option<Record>);

impl Drop for SetRecord {
    fn drop(&mut self) {
        if let Some(record) = self.0.take() {
            // What fails here leaves a record that proves nothing any more.
            std::thread::spawn(move || record.change(RecordChange::Remove));
        }
    }
}

impl Record {
    /// Sets the record. Blocks until it can be asked for.
    pub(crate) fn set(self) -> Result<SetRecord, String> {
        let set = self.change(RecordChange::Add);
        // One that fails may have set it.
        let record = SetRecord(Some(self));
        set.map(|()| record)
    }

    fn change(&self, what: RecordChange) -> Result<(), String> {
        match (&self.setter, what) {
            (Setter::Hook(hook), RecordChange::Add) => self.run(hook, "present", LIMIT),
            (Setter::Hook(hook), RecordChange::Remove) => self.run(hook, "cleanup", LIMIT),
            (Setter::Update(update), what) => {
                dns_update::change(update, what, &format!("_acme-challenge.{}", self.host), &self.value)?;
                if what == RecordChange::Add {
                    std::thread::sleep(Duration::from_millis(update.wait_ms));
                }
                Ok(())
            }
        }
    }

    fn run(&self, hook: &[String], what: &str, limit: Duration) -> Result<(), String> {
        let Some((program, arguments)) = hook.split_first() else { return Ok(()) };
        let failed = |why: String| format!("the dns_hook \"{program}\" failed to {what} the record: {why}");
        let mut command = Command::new(program);
        command.args(arguments).args([what, &format!("_acme-challenge.{}", self.host), &self.value]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
        let words = child.stderr.take().map(|mut stderr| {
            std::thread::spawn(move || {
                let mut words = Vec::new();
                let _ = stderr.by_ref().take(MAX_WORDS).read_to_end(&mut words);
                // A program whose words are not read waits.
                let _ = io::copy(&mut stderr, &mut io::sink());
                words
            })
        });
        let status = match ended(&mut child, limit) {
            Ok(Some(status)) => status,
            Ok(None) => {
                // Its own programs may still hold the pipe: their words are not waited for.
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(format!("it took longer than {} s", limit.as_secs())));
            }
            Err(error) => return Err(failed(error.to_string())),
        };
        if status.success() {
            return Ok(());
        }
        let words = words.and_then(|reader| reader.join().ok()).unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        Err(failed(format!("{status}: {}", words.lines().next().unwrap_or_default())))
    }
}

/// Waits for the end of a program; `None` if it takes too long.
fn ended(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let until = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= until {
            return Ok(None);
        }
        std::thread::sleep(GLANCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(script: &str) -> Record {
        let setter = Setter::Hook(["/bin/sh", "-c", script, "x"].map(str::to_owned).to_vec());
        Record { setter, host: "a.example".into(), value: "v$(x)".into() }
    }

    #[test]
    fn program_gets_what_to_do_with_which_record() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("log").display().to_string();
        let set = record(&format!("echo \"$@\" >> {file}")).set().unwrap();
        let said = || std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(said(), "present _acme-challenge.a.example v$(x)\n");
        drop(set);
        let until = Instant::now() + Duration::from_secs(30);
        while !said().contains("cleanup _acme-challenge.a.example v$(x)\n") {
            assert!(Instant::now() < until, "{}", said());
            std::thread::sleep(GLANCE);
        }
    }

    #[test]
    fn failures_say_why() {
        let run = |record: &Record, limit| match &record.setter {
            Setter::Hook(hook) => record.run(hook, "present", limit),
            Setter::Update(_) => Ok(()),
        };
        let failed = |record: Record, limit| run(&record, limit).unwrap_err();
        let said = failed(record("echo no such zone >&2; echo more >&2; exit 3"), LIMIT);
        assert!(said.contains("failed to present the record: exit status: 3: no such zone"), "{said}");
        let missing = Record { setter: Setter::Hook(vec!["/nonexistent/hook".into()]), ..record("") };
        assert!(failed(missing, LIMIT).contains("\"/nonexistent/hook\" failed"));
        assert!(failed(record("exec sleep 60"), Duration::from_millis(200)).contains("took longer"));
        assert!(run(&record("yes | head -c 300000 >&2"), LIMIT).is_ok());
    }
}
