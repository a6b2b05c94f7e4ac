//! The description itself, and whether anything can be sent that it does not foresee.

use super::*;

#[tokio::test]
async fn the_api_describes_every_part_of_itself() {
    let api = TestApi::new("state memory;");
    let description = api.get("/v1/openapi.json").await.done();
    assert_eq!(description, api.description);
    assert!(description["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut operations = 0;
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations += 1;
            assert!(operation["summary"].is_string(), "{method} {path}");
            assert_eq!(operation.get("requestBody").is_some(), method != "get", "{method} {path}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(!response["description"].as_str().unwrap().is_empty(), "{method} {path} {status}");
            }
        }
    }
    assert_eq!(operations, 44);
    // Every schema that is named is there.
    let text = description.to_string();
    for name in text.split("\"#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(description["components"]["schemas"].get(name).is_some(), "{name}");
    }
}

/// Numbers that look like chance and are the same each time (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.roll(of.len())]
    }
}

/// Servers, good and bad.
const SERVERS: [&str; 7] =
    ["127.0.0.1:2", "127.0.0.1:9", "[::1]:80", "unix:/a.sock", "backend", "10.0.0.1:99999", ""];

/// Returns a value that a field may be sent with: often one that makes sense.
fn value(dice: &mut Dice, field: &str) -> Value {
    if dice.roll(8) == 0 {
        let wild = [
            json!(null),
            json!(true),
            json!(-1),
            json!(1e300),
            json!(u64::MAX),
            json!(""),
            json!("x\u{0}y"),
            json!([]),
            json!({}),
            json!([[[1]]]),
            json!({"a": {"b": 1}}),
            json!("é".repeat(3000)),
        ];
        return dice.one(&wild).clone();
    }
    let times = [json!("1s"), json!("10m"), json!("0"), json!("9999999w"), json!("1h 1s"), json!("s")];
    let keys = ["a.example", "*.example", "b.example:80", "*", "a..b", "[::1]", "A.EXAMPLE.", ""];
    match field {
        "target" => {
            dice.one(&[json!("green"), json!("blue"), json!("red"), json!("a=1"), json!("a b")]).clone()
        }
        "split" => dice
            .one(&[
                json!({"green": 1, "blue": 3}),
                json!({"green": 0}),
                json!({"red": 5}),
                json!({"": 1}),
                json!({}),
            ])
            .clone(),
        "key" => json!(dice.one(&keys)),
        "keys" => json!([dice.one(&keys), dice.one(&keys)]),
        "changes" => {
            let count = dice.roll(4);
            let fields: &[&str] = match dice.roll(2) {
                0 => &["key", "target", "split", "default"],
                _ => &["do", "server", "params"],
            };
            (0..count).map(|_| object(dice, fields)).collect()
        }
        "params" => object(dice, &["weight", "max_conns", "fail_timeout", "slow_start", "backup", "down"]),
        "do" => dice
            .one(&["add", "set", "drain", "down", "up", "remove", "reset", "kill"].map(Value::from))
            .clone(),
        "server" => json!(dice.one(&SERVERS)),
        "hold" => object(dice, &["max", "timeout", "max_size", "per_second"]),
        "confirm_within" | "for" | "fail_timeout" | "slow_start" => dice.one(&times).clone(),
        // Nearly always sensible, so that enough of the orders are.
        "watch" if dice.roll(10) > 0 => json!("1m"),
        "watch" => json!("2h"),
        "expect_route" => dice.one(&[json!("default"), json!("green"), json!("a b")]).clone(),
        "then" => dice.one(&[json!("refuse"), json!("release"), json!("wait")]).clone(),
        // A hold waits for its drain as long as this.
        "timeout" => dice.one(&[json!("10ms"), json!("0"), json!("2h"), json!("1y"), json!("ms")]).clone(),
        "max_size" => dice.one(&[json!("1m"), json!("0"), json!("99999999999g"), json!("-1")]).clone(),
        "wait" => dice.one(&[json!("none"), json!("published"), json!("drained"), json!("always")]).clone(),
        "commit" | "revision" => json!(dice.roll(30)),
        "max" | "per_second" | "weight" | "max_conns" => json!(dice.roll(3)),
        "reason" => dice.one(&[json!("why"), json!("why"), json!("x".repeat(2000)), json!("a\nb")]).clone(),
        _ => json!(dice.roll(2) == 0),
    }
}

fn object(dice: &mut Dice, fields: &[&str]) -> Value {
    let mut object = serde_json::Map::new();
    for field in fields {
        if dice.roll(3) == 0 {
            object.insert((*field).into(), value(dice, field));
        }
    }
    if dice.roll(20) == 0 {
        object.insert("more".into(), json!(1));
    }
    object.into()
}

/// Some thousands of orders and questions, sensible and not: none is answered with what is not described (which
/// [`TestApi::ask`] checks), none with a fault of the server.
#[tokio::test]
async fn every_answer_of_the_api_is_described() {
    let api = TestApi::new("keys max=5 length=50;");
    let dice = &mut Dice(0x9e37_79b9_7f4a_7c15);
    let operations: Vec<(String, String, Value)> = api.description["paths"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(path, _)| *path != "/v1/events")
        .flat_map(|(path, item)| {
            item.as_object()
                .unwrap()
                .iter()
                .map(|(method, operation)| (path.clone(), method.to_uppercase(), operation.clone()))
        })
        .collect();
    let long = "k".repeat(60);
    let mut done = 0;
    for _ in 0..12_500 {
        let (path, method, operation) = dice.one(&operations).clone();
        let fields: Vec<String> = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
            .as_str()
            .map(|name| name.rsplit('/').next().unwrap())
            .and_then(|name| api.description["components"]["schemas"][name]["properties"].as_object())
            .map(|fields| fields.keys().cloned().collect())
            .unwrap_or_default();
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let name = if dice.roll(10) == 0 { *dice.one(&["life", "%00", "%FF", "a%2Fb"]) } else { "live" };
        let key = *dice.one(&[
            "a.example",
            "b.example",
            "%2A.example",
            "a/b",
            "%FF",
            "%20",
            "*",
            "x.example:1",
            &long,
        ]);
        let (name, key) = match path.starts_with("/v1/groups") && dice.roll(10) > 0 {
            true => ("green", *dice.one(&SERVERS)),
            false => (name, key),
        };
        let revision = *dice.one(&["1", "2", "0", "99999999999999999999", "-1", "x"]);
        let mut target = path.replace("{name}", name).replace("{key}", key).replace("{revision}", revision);
        for parameter in
            operation["parameters"].as_array().into_iter().flatten().filter(|one| one["in"] == "query")
        {
            if dice.roll(3) > 0 || parameter["required"] == true {
                let text =
                    *dice.one(&["1", "a", "", "%FF", "-1", "true", "10s", "blue", "99999999999999999999"]);
                let mark = if target.contains('?') { '&' } else { '?' };
                target.push_str(&format!("{mark}{}={text}", parameter["name"].as_str().unwrap()));
            }
        }
        let body = if dice.roll(30) == 0 { Value::from(dice.roll(9)) } else { object(dice, &fields) };
        let mut headers =
            vec![("content-type", if dice.roll(10) == 0 { "text/plain" } else { "application/json" })];
        if dice.roll(6) == 0 {
            headers.push(("if-match", *dice.one(&["\"1\"", "\"9\"", "*", "x", "\"-1\""])));
        }
        if dice.roll(6) == 0 {
            headers.push(("idempotency-key", *dice.one(&["one", "two", "three", ""])));
        }
        let body = (method != "GET").then(|| body.to_string());
        let answer = api.ask(&method, &target, &headers, body).await;
        assert!(answer.status < 500, "{method} {target}: {}", answer.text);
        done += usize::from(answer.status == 200 && method != "GET");
    }
    // Enough of it was sensible.
    assert!(done > 100, "{done}");
    let verified = api.get("/v1/switches/live/history?verify=true&limit=1").await.done();
    assert_eq!(verified["verified"]["intact"], true);
    let verified = api.get("/v1/switches/groups/history?verify=true&limit=1").await.done();
    assert_eq!(verified["verified"]["intact"], true);
    assert!(verified["verified"]["commits"].as_u64().unwrap() > 5, "{verified}");
}
