//! How it looks: on a telephone and on a wall, light and dark, to a screen reader; and pictures of it for the docs.

use super::*;
use serde_json::json;
use std::path::PathBuf;

const VIEWS: [&str; 5] = ["routes", "timeline", "groups", "history", "compare"];

/// Returns a site on which something has happened: keys of all kinds, traffic, a hold, a commit that waits, a group that is
/// down.
fn busy_site() -> Site {
    let site = Site::start(
        "targets blue green red; gate healthy=1 timeout=5s uri=/;",
        "upstream red { server 127.0.0.1:1; server 127.0.0.1:2; health_check interval=500ms uri=/; }",
    );
    let say = |words: &[&str]| site.say(words).unwrap();
    say(&["switch", "shop.example", "green", "-m", "release 42"]);
    say(&["split", "www.example", "green=10", "blue=90", "-m", "canary of release 43"]);
    say(&[
        "switch",
        "a-rather-long-name-of-a-host.with-many-labels.and-a-long-domain.example",
        "green",
        "-m",
        "a reason that is long enough to need more than one line on a small screen, and then some",
    ]);
    say(&["switch", "api.example", "green", "--confirm-within", "1h", "-m", "with a net"]);
    say(&["hold", "queue.example", "-m", "migration of the database"]);
    for host in ["shop.example", "www.example", "other.example"] {
        site.ask(host, 40);
    }
    site
}

fn until_shown(browser: &Browser, view: &str) {
    let is_there = match view {
        "routes" => "document.querySelectorAll('#keys tbody tr').length >= 4",
        "timeline" => {
            "document.querySelectorAll('.plot canvas').length === 4 && document.querySelectorAll('#happenings tbody tr').length > 3"
        }
        "groups" => "document.querySelectorAll('.group').length === 3",
        "history" => "document.querySelectorAll('#view tbody tr').length >= 4",
        _ => "document.querySelectorAll('#compared tbody tr').length > 0",
    };
    browser.until(is_there);
}

#[test]
fn every_view_fits_every_width_and_breaks_no_rule_of_the_policy() {
    let site = busy_site();
    let Some(browser) = site.browser("every_view_fits_every_width", "act") else { return };
    browser.until("document.querySelector('.card.alarm')");
    for (width, height) in [(360, 740), (800, 600), (1400, 1000), (3840, 2160)] {
        browser.resize(width, height);
        for view in VIEWS {
            browser.run(&format!("location.hash = '#{view}'"));
            until_shown(&browser, view);
            let wide = browser.run(
                "const root = document.documentElement;
                 return root.scrollWidth <= root.clientWidth ? null : [...document.querySelectorAll('body *')]
                     .filter((one) => one.getBoundingClientRect().right > root.clientWidth + 1)
                     .map((one) => `${one.tagName}.${one.className} ${one.getBoundingClientRect().right}`).slice(0, 10)",
            );
            assert_eq!(wide, Value::Null, "{view} at {width} scrolls sideways");
        }
        if width == 360 {
            browser.run("location.hash = '#routes'");
            browser.click("button[name=route]");
            let wide = browser.run(
                "const one = document.querySelector('dialog'); return one.scrollWidth > one.clientWidth",
            );
            assert_eq!(wide, false, "the dialog scrolls sideways");
            browser.click("dialog button[name=close]");
        }
    }
    // The alarm is red, and large.
    browser.resize(1400, 1000);
    let alarm = browser.run(
        "const style = getComputedStyle(document.querySelector('.card.alarm'));
         return [style.backgroundColor, parseFloat(getComputedStyle(document.querySelector('.card.alarm strong')).fontSize)]",
    );
    assert_eq!(alarm[0], "rgb(179, 18, 26)");
    assert!(alarm[1].as_f64() > Some(30.0), "{alarm}");
    assert!(browser.run("return document.title").as_str().unwrap().starts_with('■'));
    assert_eq!(browser.faults(), Vec::<String>::new());
    let inline = browser.run_async(
        "const done = arguments[arguments.length - 1];
         document.addEventListener('securitypolicyviolation', (event) => done([event.disposition, window.broken ?? 'whole']));
         const script = document.createElement('script'); script.append('window.broken = 1'); document.head.append(script);",
    );
    assert_eq!(inline, json!(["enforce", "whole"]), "the policy is in force");
}

#[test]
fn page_works_by_keyboard() {
    let site = busy_site();
    let Some(browser) = site.browser("page_works_by_keyboard", "act") else { return };
    until_shown(&browser, "routes");
    const TAB: &str = "\u{e004}";
    const ENTER: &str = "\u{e007}";
    browser.run("document.activeElement.blur()");
    browser.press(&[TAB]);
    assert_eq!(browser.run("return document.activeElement.className"), "skip");
    browser.press(&[ENTER]);
    browser.until("document.activeElement.id === 'view'");
    // Everything that can be clicked can be reached.
    let mut reached = Vec::new();
    for _ in 0..80 {
        browser.press(&[TAB]);
        let focus =
            browser.run("return document.activeElement.dataset.focus ?? document.activeElement.name ?? ''");
        reached.push(focus.as_str().unwrap_or_default().to_owned());
        if reached.last().is_some_and(|last| last == "reset key www.example") {
            break;
        }
    }
    for wanted in [
        "route",
        "hold",
        "contains",
        "sort Keys of live key",
        "switch key shop.example",
        "undo key www.example",
    ] {
        assert!(reached.iter().any(|one| one == wanted), "{wanted}: {reached:?}");
    }
    let ring = browser.run("return getComputedStyle(document.activeElement).outlineWidth");
    assert_eq!(ring, "3px", "what has the focus is seen");
    // A table that is drawn anew keeps the keyboard's place.
    browser.run("document.querySelector(\"[data-focus='switch key shop.example']\").focus()");
    site.say(&["switch", "zzz.example", "green", "-m", "another"]).unwrap();
    browser.until_text("zzz.example");
    assert_eq!(browser.run("return document.activeElement.dataset.focus"), "switch key shop.example");
    browser.press(&[ENTER]);
    browser.until("document.querySelector('dialog[open]')");
}

/// Returns the script of axe-core, if `.ci/install-test-packages` could have it.
fn axe() -> Option<String> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target")), PathBuf::from);
    std::fs::read_to_string(target.join("axe-core/axe.min.js")).ok()
}

#[test]
fn page_breaks_no_rule_of_accessibility() {
    let test = "page_breaks_no_rule_of_accessibility";
    let Some(axe) = axe() else {
        let can_be_had =
            std::env::var_os("CI").is_some() && Command::new("npm").arg("--version").output().is_ok();
        assert!(!can_be_had, "{test} needs axe-core (.ci/install-test-packages)");
        return eprintln!("skipped: {test} needs axe-core (.ci/install-test-packages)");
    };
    let site = busy_site();
    let Some(browser) = site.browser(test, "act") else { return };
    let findings = |what: &str| {
        browser.run(&axe);
        let found = browser.run_async(
            "const done = arguments[arguments.length - 1];
             axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']}).then((found) => done(found.violations.map((one) =>
                 `${one.impact} ${one.id}: ${one.nodes.map((node) => node.target.join(' ') + ' ' + (node.any[0]?.message ?? '')).slice(0, 3).join(' | ')}`)));",
        );
        assert_eq!(found, json!([]), "{what}");
    };
    for scheme in ["light", "dark"] {
        browser.prefer(scheme);
        for view in VIEWS {
            browser.run(&format!("location.hash = '#{view}'"));
            until_shown(&browser, view);
            findings(&format!("{view}, {scheme}"));
        }
        browser.run("location.hash = '#routes'");
        browser.click("button[name=route]");
        findings(&format!("the dialog, {scheme}"));
        browser.click("dialog button[name=close]");
        browser.until("!document.querySelector('dialog')");
    }
    browser.resize(360, 740);
    for view in VIEWS {
        browser.run(&format!("location.hash = '#{view}'"));
        until_shown(&browser, view);
        findings(&format!("{view}, narrow"));
    }
    browser.click("button[name=logout]");
    browser.until("document.querySelector('input[name=secret]')");
    findings("the login");
}

/// `make screenshots` keeps the pictures; the test itself sees that the states can be shown.
#[test]
fn pictures_of_the_main_states() {
    let site = busy_site();
    let Some(browser) = site.browser("pictures_of_the_main_states", "act") else { return };
    let folder = std::env::var_os("POINTSMAN_SCREENSHOTS").map(PathBuf::from);
    let keep = |name: &str| {
        let picture = browser.picture();
        assert!(picture.starts_with(b"RIFF") && picture.len() > 5_000, "{name}");
        if let Some(folder) = &folder {
            std::fs::write(folder.join(format!("{name}.webp")), picture).unwrap();
        }
    };
    browser.resize(1280, 860);
    browser.prefer("light");
    until_shown(&browser, "routes");
    browser.until("document.querySelector('.card.alarm')");
    keep("dashboard-routes");
    browser.click("button[aria-label='Switch www.example']");
    browser.set("dialog input[name='share green']", "50");
    browser.type_into("dialog input[name=reason]", "canary is well");
    browser.click("dialog button[name=check]");
    browser.until_text("This would be done:");
    keep("dashboard-split");
    browser.click("dialog button[name=close]");
    browser.prefer("dark");
    browser.run("location.hash = '#timeline'");
    until_shown(&browser, "timeline");
    // A line needs some slots of five seconds.
    if folder.is_some() {
        for round in 0..40 {
            site.ask(["shop.example", "www.example", "other.example"][round % 3], 20 + 7 * (round % 5));
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
        site.say(&["undo", "www.example", "-m", "too many errors"]).unwrap();
        browser.until_text("too many errors");
        std::thread::sleep(std::time::Duration::from_secs(11));
    }
    keep("dashboard-timeline");
    browser.resize(360, 740);
    browser.run("location.hash = '#groups'");
    until_shown(&browser, "groups");
    keep("dashboard-narrow");
}
