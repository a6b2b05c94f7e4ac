//! A real Chromium, driven through chromedriver.
//!
//! Owns the conversation: the WebDriver protocol (W3C, "WebDriver") is JSON over HTTP, and the tests need a dozen of its
//! commands.

use base64::Engine as _;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use testkit::ProcessGroup;

/// The longest time that anything may take: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(50);
const GLANCE: Duration = Duration::from_millis(20);

/// A browser with one window.
pub(crate) struct Browser {
    /// Dropped first.
    _driver: ProcessGroup,
    _profile: TempDir,
    _port: testkit::ports::Port,
    port: u16,
    session: String,
}

/// Returns the path of a program, if it is installed.
fn installed(program: &str) -> Option<String> {
    ["/usr/bin", "/usr/local/bin"]
        .iter()
        .map(|folder| format!("{folder}/{program}"))
        .find(|path| Path::new(path).exists())
}

impl Browser {
    /// Starts a browser whose window is so wide and high. Without Chromium the test is skipped by name, and fails in CI.
    pub(crate) fn start(test: &str, width: u32, height: u32) -> Option<Browser> {
        let (Some(driver), Some(chromium)) = (installed("chromedriver"), installed("chromium")) else {
            assert!(
                std::env::var_os("CI").is_none(),
                "{test} needs chromium and chromium-driver (.ci/install-test-packages)"
            );
            eprintln!("skipped: {test} needs chromium and chromium-driver (.ci/install-test-packages)");
            return None;
        };
        let port = testkit::ports::reserve().unwrap();
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new(driver);
        command.arg(format!("--port={}", port.number)).stdout(Stdio::null()).stderr(Stdio::null());
        // What a desktop has there is not the tests'.
        command.env("HOME", profile.path()).env("XDG_CONFIG_HOME", profile.path());
        let driver = ProcessGroup::start(&mut command).unwrap();
        let mut browser = Browser {
            _driver: driver,
            _profile: profile,
            port: port.number,
            _port: port,
            session: String::new(),
        };
        until("chromedriver listens", || TcpStream::connect(("127.0.0.1", browser.port)).is_ok());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--force-color-profile=srgb",
            &format!("--window-size={width},{height}"),
            &format!("--user-data-dir={}", browser._profile.path().join("profile").display()),
        ]
        .map(str::to_owned);
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"binary": chromium, "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
            "timeouts": {"script": 60_000, "pageLoad": 60_000},
        }}});
        let begun = browser.ask("POST", "/session", &capabilities);
        browser.session = begun["sessionId"].as_str().unwrap().to_owned();
        Some(browser)
    }

    /// Returns one command outside of a session.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        self.try_ask(method, path, body).unwrap_or_else(|fault| panic!("{method} {path}: {fault}"))
    }

    fn try_ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(2 * PATIENCE)).unwrap();
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.port,
            body.len()
        );
        stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
        let json = body_of(&mut stream).map_err(|error| error.to_string())?;
        let mut answer: Value = serde_json::from_slice(&json).map_err(|error| error.to_string())?;
        let value = answer["value"].take();
        match value.get("error") {
            Some(error) => Err(format!("{error}: {}", value["message"])),
            None => Ok(value),
        }
    }

    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        self.ask(method, &format!("/session/{}{path}", self.session), body)
    }

    /// Goes to an address.
    pub(crate) fn go(&self, address: &str) {
        self.command("POST", "/url", &json!({ "url": address }));
    }

    /// Runs a script in the page; its `return` is returned.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.command("POST", "/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Returns the same, of a script that calls its last argument with the result.
    pub(crate) fn run_async(&self, script: &str) -> Value {
        self.command("POST", "/execute/async", &json!({"script": script, "args": []}))
    }

    /// Waits until an expression is true in the page, and returns it. A page that is being loaded has nothing.
    pub(crate) fn until(&self, expression: &str) -> Value {
        let script = json!({"script": format!("return ({expression})"), "args": []});
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.try_ask("POST", &format!("/session/{}/execute/sync", self.session), &script);
            match found {
                Ok(Value::Null | Value::Bool(false)) | Err(_) if Instant::now() < deadline => {
                    std::thread::sleep(GLANCE)
                }
                Ok(value) if !matches!(value, Value::Null | Value::Bool(false)) => return value,
                found => panic!("not in time: {expression}: {found:?}\n{}\n{:#?}", self.text(), self.logs()),
            }
        }
    }

    /// Returns the text of the page.
    pub(crate) fn text(&self) -> String {
        self.run("return document.body ? document.body.innerText : ''")
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Waits until the page has a text.
    pub(crate) fn until_text(&self, text: &str) {
        self.until(&format!("document.body.innerText.includes({})", json!(text)));
    }

    /// Waits for an element, and returns its reference.
    fn element(&self, selector: &str) -> String {
        let selector_text = json!(selector);
        self.until(&format!(
            "(() => {{ const found = [...document.querySelectorAll({selector_text})].filter((one) => one.checkVisibility() && !one.disabled); return found.length > 0; }})()"
        ));
        let script = format!(
            "return [...document.querySelectorAll({selector_text})].filter((one) => one.checkVisibility() && !one.disabled)[0]"
        );
        let found = self.run(&script);
        found.as_object().and_then(|object| object.values().next()).unwrap().as_str().unwrap().to_owned()
    }

    /// Clicks what a person would click.
    pub(crate) fn click(&self, selector: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let element = self.element(selector);
            let path = format!("/session/{}/element/{element}/click", self.session);
            match self.try_ask("POST", &path, &json!({})) {
                Ok(_) => return,
                // It was drawn anew meanwhile.
                Err(_) if Instant::now() < deadline => std::thread::sleep(GLANCE),
                Err(fault) => panic!("{selector}: {fault}"),
            }
        }
    }

    /// Types into a field.
    pub(crate) fn type_into(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.command("POST", &format!("/element/{element}/value"), &json!({ "text": text }));
    }

    /// Sets a slider or a choice as a person does.
    pub(crate) fn set(&self, selector: &str, value: &str) {
        self.element(selector);
        let (selector, value) = (json!(selector), json!(value));
        self.run(&format!(
            "const one = document.querySelector({selector}); one.value = {value}; one.dispatchEvent(new Event('input', {{bubbles: true}})); one.dispatchEvent(new Event('change', {{bubbles: true}}));"
        ));
    }

    /// Presses keys, at what has the focus.
    pub(crate) fn press(&self, keys: &[&str]) {
        let actions: Vec<Value> = keys
            .iter()
            .flat_map(|key| {
                [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})]
            })
            .collect();
        self.command(
            "POST",
            "/actions",
            &json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]}),
        );
    }

    /// Returns what the browser has logged: errors of scripts, violations of the page's policy.
    pub(crate) fn logs(&self) -> Vec<String> {
        let logs = self.command("POST", "/se/log", &json!({"type": "browser"}));
        let line = |entry: &Value| {
            format!(
                "{} {}",
                entry["level"].as_str().unwrap_or_default(),
                entry["message"].as_str().unwrap_or_default()
            )
        };
        logs.as_array().into_iter().flatten().map(line).collect()
    }

    /// Returns what went wrong in the page: errors of scripts, violations of its policy. That no one is logged in yet is no
    /// fault.
    pub(crate) fn faults(&self) -> Vec<String> {
        let is_fault =
            |line: &String| line.starts_with("SEVERE") && !line.contains("/session - Failed to load");
        self.logs().into_iter().filter(is_fault).collect()
    }

    /// Makes the page so wide and high, as a device would.
    pub(crate) fn resize(&self, width: u32, height: u32) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.cdp("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// Shows the page as a system does that is set to light or dark.
    pub(crate) fn prefer(&self, scheme: &str) {
        self.cdp(
            "Emulation.setEmulatedMedia",
            json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]}),
        );
    }

    /// Returns a picture of what is seen, as WebP.
    pub(crate) fn picture(&self) -> Vec<u8> {
        let found = self.cdp("Page.captureScreenshot", json!({"format": "webp", "quality": 70}));
        base64::prelude::BASE64_STANDARD.decode(found["data"].as_str().unwrap()).unwrap()
    }

    /// Returns a command of Chromium's own.
    pub(crate) fn cdp(&self, command: &str, parameters: Value) -> Value {
        self.command("POST", "/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }
}

/// Reads an answer. Its connection stays open.
fn body_of(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(body)
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium would outlive its driver otherwise.
        let _ = self.try_ask("DELETE", &format!("/session/{}", self.session), &json!({}));
    }
}

/// Waits for something outside of the browser.
pub(crate) fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(GLANCE);
    }
}
