//! What goes on while the page is open: a restart, a reload, many keys.

use super::*;
use nix::sys::signal::Signal;
use serde_json::json;

#[test]
fn page_is_live_and_comes_back_after_a_restart() {
    let mut site = Site::start("", "");
    let local = site.dashboard(&["--operate"]);
    let Some(browser) = Browser::start("page_is_live_and_comes_back_after_a_restart", 1200, 900) else {
        return;
    };
    browser.go(&local.address);
    browser.until("document.querySelector('#connection.good')");
    assert!(
        !browser.run("return location.href").as_str().unwrap().contains("secret"),
        "it is not in the address any more"
    );
    // What someone else does is seen at once.
    site.say(&["switch", "shop.example", "green", "-m", "from elsewhere"]).unwrap();
    browser.until_text("from elsewhere");
    site.end();
    browser.until("document.querySelector('#connection.bad')");
    site.begin();
    browser.until("document.querySelector('#connection.good')");
    site.say(&["switch", "shop.example", "blue", "-m", "after the restart"]).unwrap();
    browser.until_text("after the restart");
    // The secret opens once, in whatever browser.
    browser.run("document.cookie = 'x=1'");
    browser.cdp("Network.clearBrowserCookies", json!({}));
    browser.go("about:blank");
    browser.go(&local.address);
    browser.until_text("was used already");
    local.process.signal(Signal::SIGTERM).unwrap();
}

#[test]
fn login_ends_with_its_token_and_with_its_process() {
    let mut site = Site::start("", "");
    let Some(browser) = site.browser("login_ends_with_its_token_and_with_its_process", "look") else {
        return;
    };
    site.write_tokens(&[("olga", "operator", "act")]);
    site.say(&["reload"]).unwrap();
    browser.until("document.querySelector('input[name=secret]')");
    site.log_in(&browser, "act");
    browser.until_text("olga");
    site.end();
    browser.until("document.querySelector('#connection.bad')");
    site.begin();
    // A new process knows no one.
    browser.until("document.querySelector('input[name=secret]')");
    site.log_in(&browser, "act");
    browser.until("document.querySelector('#connection.good')");
}

#[test]
fn ten_thousand_keys_and_fifty_groups_are_usable() {
    let groups: String =
        (0..50).map(|number| format!("upstream g{number} {{ server 127.0.0.1:{}; }} ", 2 + number)).collect();
    let site = Site::start("keys max=20000;", &groups);
    let keys: String = (0..10_000).map(|number| format!("k{number:05}.example green\n")).collect();
    let list = site.folder.path().join("keys");
    std::fs::write(&list, keys).unwrap();
    site.say(&["switch", "--from", list.to_str().unwrap(), "--force", "-m", "many"]).unwrap();
    let Some(browser) = site.browser("ten_thousand_keys_and_fifty_groups_are_usable", "act") else { return };
    browser.until("document.querySelectorAll('#keys tbody tr').length === 100");
    browser.until_text("10\u{202f}000 of at most");
    browser.click("[data-focus=next]");
    browser.until("document.querySelector('#keys tbody th')?.innerText.includes('k00100.example')");
    browser.click("[data-focus=first]");
    browser.type_into("input[name=contains]", "k0999");
    browser.until("document.querySelectorAll('#keys tbody tr').length === 10");
    assert!(browser.run("return location.hash").as_str().unwrap().contains("contains=k0999"));
    // The address is a permanent link.
    let address = browser.run("return location.href");
    browser.go("about:blank");
    browser.go(address.as_str().unwrap());
    browser.until("document.querySelectorAll('#keys tbody tr').length === 10");
    browser.click("[data-focus='sort Keys of live key']");
    browser.until("document.querySelector('#keys tbody th')?.innerText.includes('k09999')");
    browser.set("select[name=rows]", "1000");
    browser.click("#tabs a[href^='#groups']");
    browser.until("document.querySelectorAll('.group').length === 52");
    browser.click("#tabs a[href^='#timeline']");
    browser.until("document.querySelectorAll('.plot canvas').length === 4");
    let paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime";
    eprintln!("first contentful paint after {} ms", browser.until(paint));
}
