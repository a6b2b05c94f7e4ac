//! The API over a real control plane with scripted workers. Every answer of every test is held against the
//! description: a path, a method, a status or a field that is not described is a failure.

mod auth;
mod description;
mod events;
mod journal;
mod orders;
mod past;
mod queries;
mod servers;
mod status;
pub(crate) mod transports;

use super::context::Api;
use super::openapi::Description;
use super::router::router;
use crate::call::{Origin, Via};
use crate::service::ControlHandle;
use crate::testing::{FakeDataPlane, open, two_groups};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::sync::Arc;
use tempfile::TempDir;
use tower::ServiceExt;
use utoipa::OpenApi;

/// A control plane and its API.
pub(super) struct TestApi {
    pub(super) control: ControlHandle,
    pub(super) data_plane: Arc<FakeDataPlane>,
    pub(super) folder: TempDir,
    router: Router,
    description: Value,
    pub(super) origin: Origin,
}

/// The answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Returns the code of a refusal.
    pub(super) fn code(&self) -> String {
        assert!(self.status >= 400, "{} {}", self.status, self.text);
        self.json()["code"].as_str().unwrap().to_owned()
    }

    /// Returns the answer to a change.
    pub(super) fn done(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()
    }
}

impl TestApi {
    /// Returns a switch `$live` between blue and green, with these directives.
    pub(super) fn new(switch: &str) -> TestApi {
        TestApi::of(&two_groups(switch), &[])
    }

    /// Returns this configuration, with these files.
    pub(super) fn of(http: &str, files: &[(&'static str, String)]) -> TestApi {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("state")).unwrap();
        let config = transports::config(folder.path(), http, files);
        let data_plane = FakeDataPlane::new();
        let (control, _) = open(&config, &data_plane).unwrap();
        let router = router(Api::new(control.clone()));
        let description = serde_json::to_value(Description::openapi()).unwrap();
        let origin = Origin::at_socket("unix:7(ann)".into());
        TestApi { control, data_plane, folder, router, description, origin }
    }

    pub(super) async fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, &[], None).await
    }

    /// Returns an order, as a program sends it.
    pub(super) async fn order(&self, method: &str, target: &str, body: Value) -> Answer {
        self.order_with(method, target, &[], body).await
    }

    pub(super) async fn order_with(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> Answer {
        let headers = [&[("content-type", "application/json")], headers].concat();
        self.ask(method, target, &headers, Some(body.to_string())).await
    }

    pub(super) async fn ask(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> Answer {
        let response = self.begin(method, target, headers, body).await;
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        // A backup is no text.
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let answer = Answer { status: head.status.as_u16(), headers: head.headers, text };
        self.check(method, target, &answer);
        answer
    }

    /// Returns the head of an answer whose body may not end.
    pub(super) async fn begin(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> axum::response::Response {
        let mut request = Request::builder().method(method).uri(target);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "pointsman");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::from(body.unwrap_or_default())).unwrap();
        request.extensions_mut().insert(self.origin.clone());
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// Is the answer one that the description has?
    fn check(&self, method: &str, target: &str, answer: &Answer) {
        let told = || format!("{method} {target}: {} {}", answer.status, answer.text);
        assert_eq!(answer.header("cache-control"), "no-store", "{}", told());
        let path = target.split('?').next().unwrap();
        let paths = self.description["paths"].as_object().unwrap();
        let Some((_, item)) = paths.iter().find(|(template, _)| fits(template, path)) else {
            assert!([401, 403, 404].contains(&answer.status), "{}", told());
            return self.check_body(&json!({"$ref": "#/components/schemas/Problem"}), answer);
        };
        let Some(operation) = item.get(method.to_lowercase()) else {
            if method == "HEAD" && answer.status == 200 {
                return;
            }
            assert!([401, 403, 405].contains(&answer.status), "{}", told());
            if answer.status == 405 {
                assert!(!answer.header("allow").is_empty(), "{}", told());
            }
            if method == "HEAD" {
                return;
            }
            return self.check_body(&json!({"$ref": "#/components/schemas/Problem"}), answer);
        };
        let Some(described) = operation["responses"].get(answer.status.to_string()) else {
            panic!("not described: {}", told());
        };
        let kind = answer.header("content-type").split(';').next().unwrap();
        let content = described["content"].as_object().unwrap_or_else(|| panic!("no content: {}", told()));
        let Some(described) = content.get(kind) else { panic!("{kind} is not described: {}", told()) };
        if kind.ends_with("json") && described.get("schema").is_some() {
            self.check_body(&described["schema"], answer);
        }
    }

    fn check_body(&self, schema: &Value, answer: &Answer) {
        self.check_value(schema, &answer.json());
    }

    /// Does a value fit a schema of the description?
    pub(super) fn check_value(&self, schema: &Value, value: &Value) {
        let mut whole = schema.clone();
        whole["components"] = self.description["components"].clone();
        let validator = jsonschema::draft202012::new(&whole).unwrap();
        let faults: Vec<String> =
            validator.iter_errors(value).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
        assert!(faults.is_empty(), "{value:#}\n{schema}\n{faults:#?}");
    }
}

impl Drop for TestApi {
    fn drop(&mut self) {
        self.control.stop();
    }
}

/// Does a path fit a template? A key may hold slashes.
fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
    let whole =
        template.len() == path.len() || (path.len() > template.len() && template.last() == Some(&"{key}"));
    let may_be = |part: &str, word: &str| part.starts_with('{') && (!word.is_empty() || part == "{key}");
    let fits = |(part, word): (&&str, &&str)| part == word || may_be(part, word);
    whole && template.iter().zip(&path).all(fits)
}
