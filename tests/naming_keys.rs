//! Clusters are named in a browser by the keyboard alone.

use std::time::{Duration, Instant};

use headless_chrome::{Browser, LaunchOptions};
use tessera_tests::Place;
use tessera_tests::served::Served;

use crate::browser::{QUIET, Window, axe, browser};
use crate::naming::{lines, made};

/// Waits until the file's lines are as they should be.
fn wait(place: &Place, what: &str, is: impl Fn(&[String]) -> bool) -> Duration {
    let start = Instant::now();
    loop {
        let found = lines(place);
        if is(&found) {
            return start.elapsed();
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{what}: {found:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn the_keyboard_alone_suffices() {
    let Some(path) = browser() else {
        eprintln!("skipped: there is no browser; `apt-get install chromium` gives one");
        return;
    };
    let place = made(12);
    let served = Served::start(&place, &["--edit"]);
    let args = QUIET.iter().map(AsRef::as_ref).collect();
    let options =
        LaunchOptions { sandbox: false, path: Some(path), window_size: Some((1280, 900)), args, ..LaunchOptions::default() };
    let browser = Browser::new(options).expect("the browser starts");
    let window = Window::open(&browser);
    window.go(&format!("http://localhost:{}/label", served.port));
    let press = |key: &str| {
        window.tab.press_key(key).unwrap_or_else(|error| panic!("{key}: {error}"));
    };
    // A name, typed.
    press("n");
    window.tab.type_str("Dress").expect("a name");
    press("Enter");
    let took = wait(&place, "a name", |lines| lines.len() == 1 && lines[0].contains(",name,Dress,"));
    println!("on the disk {took:?} after Enter");
    // The page hears of it, and it has a key.
    let recent = "document.querySelector('#recent li')?.textContent ?? ''";
    let start = Instant::now();
    while window.text(recent) != "Dress" {
        assert!(start.elapsed() < Duration::from_secs(20), "{}", window.text("document.body.innerText"));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(window.text("document.getElementById('progress').textContent").starts_with("1 name of 1 cluster, "));
    press("1");
    wait(&place, "a recent name", |lines| lines.iter().filter(|line| line.contains(",name,Dress,")).count() == 2);
    press("x");
    wait(&place, "a mark", |lines| lines.iter().any(|line| line.contains(",mixed,,")));
    press("s");
    wait(&place, "a split", |lines| lines.iter().any(|line| line.contains(",split,4,")));
    assert_eq!(lines(&place).len(), 4);
    // Undone, the last first.
    press("u");
    wait(&place, "the split is back", |lines| lines.len() == 3 && !lines.iter().any(|line| line.contains(",split,")));
    press("u");
    wait(&place, "the mark is back", |lines| lines.len() == 2 && !lines.iter().any(|line| line.contains(",mixed,")));
    // Keys are letters while a field has the focus.
    press("/");
    window.tab.type_str("xs1").expect("a filter");
    assert_eq!(window.text("document.activeElement.value"), "xs1");
    assert_eq!(lines(&place).len(), 2);
    press("Escape");
    press("j");
    assert!(window.text("document.activeElement.closest('article')?.className ?? ''").contains("naming"));
    // Another tab decides about a cluster that this one shows: this one is told, and nothing is lost.
    let cluster = window.text("document.activeElement.closest('article').dataset.cluster");
    let other = Window::open(&browser);
    other.go(&format!("http://localhost:{}/label", served.port));
    other.run(&format!(
        "(() => {{ const form = document.querySelector('article[data-cluster=\"{cluster}\"] form.name'); form.elements.value.value = 'Hat'; form.requestSubmit(); }})()"
    ));
    wait(&place, "the other tab's name", |lines| lines.iter().any(|line| line.contains(&format!(",{cluster},name,Hat,"))));
    press("n");
    window.tab.type_str("Skirt").expect("a name");
    press("Enter");
    let said = format!("document.querySelector('article[data-cluster=\"{cluster}\"] p.said')?.textContent ?? ''");
    let start = Instant::now();
    while !window.text(&said).contains("it is named Hat now. You wrote: named Skirt") {
        assert!(start.elapsed() < Duration::from_secs(20), "{}", window.text(&said));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(lines(&place).iter().any(|line| line.contains(&format!(",{cluster},name,Hat,"))));
    let violations = window.violations(&axe());
    assert!(violations.starts_with("0 "), "{violations}");
    for (window, refused) in [(&window, 1), (&other, 0)] {
        let said = &window.heard.lock().unwrap().said;
        // A browser notes that an answer was 409.
        assert!(said.len() <= refused && said.iter().all(|line| line.contains("409")), "{said:?}");
    }
}
