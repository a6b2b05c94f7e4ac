//! Each act, as an operator clicks it: what would happen is shown first, a reason is asked for, and each refusal is seen.

use super::*;

/// Fills in the reason and has it shown what would happen.
fn check(browser: &Browser, reason: &str) {
    browser.until("document.querySelector('dialog[open]')");
    if !reason.is_empty() {
        browser.type_into("dialog input[name=reason]", reason);
    }
    browser.click("dialog button[name=check]");
}

/// Does what was shown, and closes the dialog.
fn act(browser: &Browser) {
    browser.click("dialog button[name=act]");
    browser.until("document.querySelector('dialog button[name=close]')?.textContent === 'Close'");
    browser.click("dialog button[name=close]");
    browser.until("!document.querySelector('dialog')");
}

#[test]
fn wrong_token_is_refused_and_the_right_one_opens() {
    let site = Site::start("", "");
    let Some(browser) = Browser::start("wrong_token_is_refused", 1200, 900) else { return };
    // A permanent link stays one through the login.
    browser.go(&format!("{}#groups?part=green", site.address()));
    browser.type_into("input[name=secret]", "wrong");
    browser.click("button[type=submit]");
    browser.until_text("this opens nothing");
    site.log_in(&browser, "look");
    browser.until_text("eve");
    browser.until("document.querySelector('#view .group h2')?.innerText.includes('green')");
    assert_eq!(browser.run("return document.querySelectorAll('.group').length"), 1);
    // A viewer has nothing to act with, and the server would not take it either.
    assert_eq!(browser.run("return document.querySelectorAll('.acts button').length"), 0);
    let refused = browser.run_async(
        "const done = arguments[arguments.length - 1];
         fetch('session').then((r) => r.json()).then((known) => fetch('v1/switches/live/keys/a.example', {
             method: 'PUT', headers: {'content-type': 'application/json', 'x-pointsman-csrf': known.csrf},
             body: JSON.stringify({target: 'green'})})).then((r) => r.json().then((body) => done([r.status, body.code])));",
    );
    assert_eq!(refused, serde_json::json!([403, "forbidden"]));
    browser.click("button[name=logout]");
    browser.until("document.querySelector('input[name=secret]')");
    let status = browser.run_async(
        "const done = arguments[arguments.length - 1]; fetch('v1/switches').then((r) => done(r.status));",
    );
    assert_eq!(status, 401);
}

#[test]
fn key_is_switched_split_and_undone() {
    let site = Site::start("gate healthy=1 timeout=5s uri=/;", "");
    let Some(browser) = site.browser("key_is_switched_split_and_undone", "act") else { return };
    browser.click("button[name=route]");
    browser.type_into("dialog input[name=key]", "shop.example");
    browser.click("dialog button[name='all green']");
    // Without a reason nothing is asked.
    check(&browser, "");
    assert_eq!(
        browser.run("return document.querySelector('dialog input[name=reason]').validity.valueMissing"),
        true
    );
    check(&browser, "release 42");
    browser.until_text("This would be done:");
    browser.until_text("shop.example: default (blue) → green");
    browser.until_text("gate: green is up, 2 servers healthy");
    assert_eq!(site.json(&["history"])["commits"].as_array().unwrap().len(), 0, "it was only shown");
    act(&browser);
    let commit = site.last_commit();
    assert_eq!((&commit["actor"], &commit["reason"]), (&"olga".into(), &"release 42".into()), "{commit}");
    assert_eq!(commit["changes"][0]["to"], "green");
    // The table says who, when and why.
    let row = browser.until("[...document.querySelectorAll('#keys tbody tr')].find((row) => row.innerText.includes('shop.example'))?.innerText");
    for part in ["green", "olga", "release 42"] {
        assert!(row.as_str().unwrap().contains(part), "{part}: {row}");
    }
    // A split by the slider.
    browser.click("button[aria-label='Switch shop.example']");
    browser.set("dialog input[name='share blue']", "90");
    check(&browser, "canary");
    browser.until_text("shop.example: green → blue 90 %, green 10 %");
    act(&browser);
    assert_eq!(site.last_commit()["changes"][0]["to"], "blue=90 green=10");
    browser.until("document.querySelector('#keys .route')?.innerText.includes('blue 90 %, green 10 %')");
    // Undone.
    browser.click("button[aria-label='Undo shop.example']");
    check(&browser, "too early");
    browser.until_text("blue 90 %, green 10 % → green");
    act(&browser);
    let commit = site.last_commit();
    assert_eq!((&commit["kind"], &commit["reason"]), (&"undo_keys".into(), &"too early".into()), "{commit}");
    // From the history, a whole commit.
    browser.click("a[href^='#history']");
    browser.until("document.querySelectorAll('#view tbody tr').length === 3");
    browser.click("button[aria-label='Undo revision 3']");
    check(&browser, "and back");
    browser.until_text("This would be done:");
    act(&browser);
    assert_eq!(site.last_commit()["kind"], "undo");
    // Reset to the default.
    browser.click("#tabs a[href^='#routes']");
    browser.click("button[aria-label='Reset shop.example']");
    check(&browser, "no exception any more");
    browser.until_text("→ default (blue)");
    act(&browser);
    browser.until_text("No key has a route of its own");
    assert_eq!(browser.faults(), Vec::<String>::new());
}

#[test]
fn refusals_are_shown_and_can_be_overruled() {
    let site = Site::start(
        "targets blue green red; gate healthy=1 timeout=1s uri=/;",
        "upstream red { server 127.0.0.1:1; }",
    );
    let Some(browser) = site.browser("refusals_are_shown_and_can_be_overruled", "act") else { return };
    let route = |target: &str, reason: &str| {
        browser.click("button[name=route]");
        browser.type_into("dialog input[name=key]", "shop.example");
        browser.click(&format!("dialog button[name='all {target}']"));
        check(&browser, reason);
    };
    route("red", "a wish");
    browser.until_text("The gate would refuse this:");
    browser.until_text("127.0.0.1:1:");
    assert_eq!(browser.run("return document.querySelector('dialog button[name=act]').disabled"), true);
    browser.click("dialog input[name=force]");
    act(&browser);
    let commit = site.last_commit();
    assert_eq!((&commit["forced"], &commit["changes"][0]["to"]), (&true.into(), &"red".into()), "{commit}");
    // What someone else did in between is a refusal.
    browser.click("button[aria-label='Switch shop.example']");
    browser.click("dialog button[name='all green']");
    check(&browser, "back");
    browser.until_text("This would be done:");
    site.say(&["switch", "shop.example", "blue", "-m", "faster"]).unwrap();
    browser.click("dialog button[name=act]");
    browser.until_text("Refused: not as expected");
    browser.until("document.querySelector('dialog .refusal .remedy')");
    assert_eq!(site.last_commit()["reason"], "faster");
    browser.click("dialog button[name=close]");
    // A key that is none.
    browser.click("button[name=route]");
    browser.type_into("dialog input[name=key]", "no host at all");
    browser.click("dialog button[name='all green']");
    check(&browser, "a slip");
    browser.until_text("Refused: invalid key");
    // Escape leaves, and the focus is where it was.
    browser.press(&["\u{e00c}"]);
    browser.until("!document.querySelector('dialog')");
    assert_eq!(browser.run("return document.activeElement.name"), "route");
}

#[test]
fn commit_counts_down_until_it_is_confirmed() {
    let site = Site::start("", "");
    let Some(browser) = site.browser("commit_counts_down_until_it_is_confirmed", "act") else { return };
    browser.click("button[name=route]");
    browser.type_into("dialog input[name=key]", "shop.example");
    browser.click("dialog button[name='all green']");
    browser.set("dialog select[name=confirm_within]", "15m");
    check(&browser, "with a net");
    browser.until_text("It is reverted at");
    act(&browser);
    browser.until_text("live revision 1");
    let first = browser.until("document.querySelector('.countdown')?.textContent");
    browser.until(&format!("document.querySelector('.countdown')?.textContent !== {first}"));
    browser.until("document.querySelector('#keys .badge')?.innerText === 'unconfirmed'");
    browser.click("[data-focus='confirm live 1']");
    check(&browser, "it holds");
    browser.until_text("This stays, and is not reverted any more:");
    browser.until_text("shop.example: default → green");
    act(&browser);
    browser.until("!document.querySelector('.countdown')");
    let commit = site.last_commit();
    assert_eq!(
        (&commit["kind"], &commit["reason"], &commit["actor"]),
        (&"confirm".into(), &"it holds".into(), &"olga".into())
    );
}

#[test]
fn key_is_held_and_released() {
    let site = Site::start("", "");
    let Some(browser) = site.browser("key_is_held_and_released", "act") else { return };
    browser.click("button[name=hold]");
    browser.type_into("dialog input[name=key]", "shop.example");
    browser.set("dialog input[name=timeout]", "50s");
    check(&browser, "migration");
    browser.until_text("New requests of shop.example, which go to blue now, wait, each at most 50s");
    act(&browser);
    browser.until_text("shop.example is held");
    let port = site.port.number;
    let waiting = std::thread::spawn(move || {
        http(port, "GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
    });
    browser.until_text("1 waiting");
    browser.click("[data-focus='release live shop.example']");
    check(&browser, "migrated");
    browser.until_text("1 requests wait");
    act(&browser);
    assert_eq!(waiting.join().unwrap().text, "blue");
    browser.until("!document.body.innerText.includes('shop.example is held')");
    // What happened is on the timeline, with who and why.
    browser.click("#tabs a[href^='#timeline']");
    let text = browser.until("document.getElementById('happenings')?.innerText.includes('migrated') && document.getElementById('happenings').innerText");
    for part in ["hold", "release", "olga", "migration"] {
        assert!(text.as_str().unwrap().contains(part), "{part}: {text}");
    }
}

#[test]
fn server_is_drained_and_brought_back() {
    let site = Site::start("", "");
    let Some(browser) = site.browser("server_is_drained_and_brought_back", "act") else { return };
    browser.click("#tabs a[href^='#groups']");
    let server = site.server(0);
    browser.click(&format!("button[aria-label='Drain {server} of blue']"));
    check(&browser, "new disk");
    browser.until_text("This would be done:");
    assert_eq!(site.json(&["history", "--switch", "groups"])["commits"].as_array().unwrap().len(), 0);
    act(&browser);
    let commit = site.json(&["history", "--switch", "groups"])["commits"][0].clone();
    assert_eq!((&commit["actor"], &commit["reason"]), (&"olga".into(), &"new disk".into()), "{commit}");
    browser.until("document.querySelector('#groups').innerText.includes('draining')");
    browser.until_text("new disk");
    browser.click(&format!("button[aria-label='Up {server} of blue']"));
    check(&browser, "it is in");
    act(&browser);
    browser.until("!document.querySelector('#groups').innerText.includes('draining')");
    // The last server is refused, and that is shown.
    let other = site.server(1);
    site.say(&["server", "blue", "down", &server]).unwrap();
    browser.until(&format!("document.querySelector(\"button[aria-label='Up {server} of blue']\")"));
    browser.click(&format!("button[aria-label='Down {other} of blue']"));
    check(&browser, "all of it");
    browser.until("document.querySelector('dialog .refusal')");
}
