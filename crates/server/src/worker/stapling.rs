//! Stapling beside the control plane: the responders of certificates are asked, and handshakes carry the answers.
//!
//! Owns the requests and their turns; no thread of the traffic takes part. What an answer is worth is said by `tls`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use control::ControlHandle;
use engine::host::Level;
use http::{BodyFraming, Known, Method, Progress, ResponseHead};
use process::log::ErrorLog;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tls::{Contexts, Staple, StapleQuestion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How many responders are asked at once.
const AT_ONCE: usize = 8;
/// The longest time for an answer, as in nginx.
const ANSWER: Duration = Duration::from_secs(60);
/// The most bytes of an answer, and of its head.
const MAX_ANSWER: usize = 64 << 10;
const MAX_HEAD: usize = 16 << 10;
/// How long a task sleeps at most: the clock may be changed, and a certificate renewed meanwhile.
const MOST: Duration = Duration::from_secs(60);

/// The task that asks. Dropping it ends the task.
pub(super) struct StaplingTask(watch::Sender<Arc<Contexts>>);

impl StaplingTask {
    /// Starts it on the control thread.
    pub(super) fn start(
        control: &ControlHandle,
        contexts: Arc<Contexts>,
        log: Arc<Mutex<ErrorLog>>,
    ) -> StaplingTask {
        let (sender, receiver) = watch::channel(contexts);
        control.run_beside(move || run(receiver, log));
        StaplingTask(sender)
    }

    /// Asks about the certificates of these contexts from now on.
    pub(super) fn follow(&self, contexts: Arc<Contexts>) {
        self.0.send_replace(contexts);
    }
}

async fn run(mut contexts: watch::Receiver<Arc<Contexts>>, log: Arc<Mutex<ErrorLog>>) {
    let permits = Rc::new(Semaphore::new(AT_ONCE));
    loop {
        let staples = contexts.borrow_and_update().staples().to_vec();
        // Those of the configuration before end with their set.
        let mut tasks = JoinSet::new();
        for staple in staples {
            tasks.spawn_local(keep(staple, Rc::clone(&permits), Arc::clone(&log)));
        }
        if contexts.changed().await.is_err() {
            return;
        }
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Keeps the answer about one certificate fresh.
async fn keep(staple: Arc<Staple>, permits: Rc<Semaphore>, log: Arc<Mutex<ErrorLog>>) {
    let mut not_before_s = 0;
    loop {
        let due_s = staple.keep(now_s()).unwrap_or(0).max(not_before_s);
        if due_s > now_s() {
            sleep(Duration::from_secs(due_s - now_s()).min(MOST)).await;
            continue;
        }
        let question = match staple.question() {
            Ok(Some(question)) => question,
            // What ACME has issued may name no responder, and there may be nothing yet.
            Ok(None) | Err(_) => {
                sleep(MOST).await;
                continue;
            }
        };
        // Its answer is judged by the time at which it has come.
        let answer = match permits.acquire().await {
            Ok(_permit) => timeout(ANSWER, ask(&question)).await,
            Err(_) => return,
        };
        let answer = answer.unwrap_or_else(|_| Err("OCSP responder timed out".to_owned()));
        let accepted = answer.and_then(|answer| staple.accept(&question, &answer, now_s()));
        match accepted {
            Ok(refresh_s) => not_before_s = refresh_s,
            Err(why) => {
                not_before_s = Staple::retry_s(now_s());
                let name = staple.name();
                let line = format!(
                    "{why} while requesting certificate status, responder: {}, certificate: \"{name}\"",
                    question.url
                );
                let log = log.lock().unwrap_or_else(PoisonError::into_inner);
                log.write(Level::Error, 0, line.as_bytes());
            }
        }
    }
}

/// Asks a responder (RFC 6960, appendix A.1). Names are resolved by the system.
async fn ask(question: &StapleQuestion) -> Result<Vec<u8>, String> {
    let rest = question.url.get(7..).unwrap_or_default();
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let join = if path.is_empty() || path.ends_with('/') { "" } else { "/" };
    let mut coded = String::new();
    for letter in STANDARD.encode(&question.bytes).chars() {
        match letter {
            '+' => coded.push_str("%2B"),
            '/' => coded.push_str("%2F"),
            '=' => coded.push_str("%3D"),
            letter => coded.push(letter),
        }
    }
    let has_port =
        host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|digit| digit.is_ascii_digit()));
    let address = if has_port { host.to_owned() } else { format!("{host}:80") };
    let mut stream =
        TcpStream::connect(&*address).await.map_err(|error| format!("connect() failed ({error})"))?;
    let request = format!("GET /{path}{join}{coded} HTTP/1.0\r\nHost: {host}\r\n\r\n");
    let broke = |error: std::io::Error| format!("the connection to the OCSP responder broke ({error})");
    stream.write_all(request.as_bytes()).await.map_err(broke)?;
    let mut answer = Vec::new();
    loop {
        let count = (&mut stream).take(4096).read_buf(&mut answer).await.map_err(broke)?;
        if let Some(body) = body_of(&answer, count == 0)? {
            return Ok(body);
        }
        if count == 0 {
            return Err("OCSP responder prematurely closed connection".to_owned());
        }
        if answer.len() > MAX_ANSWER {
            return Err("OCSP responder sent too large response".to_owned());
        }
    }
}

/// Returns the body of an answer; `None` if it is not whole.
fn body_of(answer: &[u8], is_over: bool) -> Result<Option<Vec<u8>>, String> {
    let mut head = ResponseHead::new();
    let consumed = match head.decode(answer, MAX_HEAD) {
        Ok(Progress::Complete { consumed }) => consumed,
        Ok(Progress::Partial) => return Ok(None),
        Err(_) => return Err("OCSP responder sent invalid response".to_owned()),
    };
    if head.status != 200 {
        return Err(format!("OCSP responder sent invalid status {}", head.status));
    }
    let kind = head.headers.get(Known::ContentType).unwrap_or_default();
    if !kind.eq_ignore_ascii_case(b"application/ocsp-response") {
        let kind = String::from_utf8_lossy(kind);
        return Err(format!("OCSP responder sent invalid \"Content-Type\" header: \"{kind}\""));
    }
    let body = &answer[consumed..];
    match http::framing::response_body(&head, Method::Get) {
        Ok(BodyFraming::Length(len)) => {
            Ok(usize::try_from(len).ok().and_then(|len| body.get(..len)).map(<[u8]>::to_vec))
        }
        Ok(BodyFraming::UntilClose) => Ok(is_over.then(|| body.to_vec())),
        _ => Err("OCSP responder sent invalid response".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_to_their_ends() {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/ocsp-response\r\n";
        let with_length = format!("{head}Content-Length: 3\r\n\r\nabcd");
        assert_eq!(body_of(with_length.as_bytes(), false).unwrap().unwrap(), b"abc");
        assert_eq!(body_of(&with_length.as_bytes()[..with_length.len() - 2], true).unwrap(), None);
        let until_close = format!("{head}\r\nabcd");
        assert_eq!(body_of(until_close.as_bytes(), false).unwrap(), None);
        assert_eq!(body_of(until_close.as_bytes(), true).unwrap().unwrap(), b"abcd");
        for (answer, words) in [
            ("HTTP/1.1 404 Not Found\r\n\r\n", "invalid status 404"),
            ("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n", "\"text/html\""),
            (&format!("{head}Transfer-Encoding: chunked\r\n\r\n"), "invalid response"),
            ("SSH-2.0\r\n", "invalid response"),
        ] {
            assert!(body_of(answer.as_bytes(), true).unwrap_err().contains(words), "{answer}");
        }
    }
}
