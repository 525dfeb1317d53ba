//! The live pages in a browser: accessible, silent, asking nobody else, and showing names of others as text.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use headless_chrome::browser::tab::Tab;
use headless_chrome::protocol::cdp::types::Event;
use headless_chrome::protocol::cdp::{Emulation, Network, Page};
use headless_chrome::{Browser, LaunchOptions};
use image::{Rgb, RgbImage};
use tessera_tests::Place;
use tessera_tests::served::Served;

/// Names that would be markup, speak to a terminal, or turn the order of writing round.
const HOSTILE: [&str; 5] =
    ["<img src=x onerror=alert(1)>", "\"quoted\" & 'single'", "\u{202e}gnp.exe", "esc\u{1b}[31mred", "😀 'مرحبا'"];
/// The browser's own traffic, which it is told to leave.
pub const QUIET: [&str; 9] = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--force-color-profile=srgb",
];

const PIPELINE: &str = r#"
[pipeline]
name = "browser"

[stage]
images = { op = "images", path = "photos" }
decoded = { op = "decode", input = "images", side = 48 }
gradients = { op = "hog", input = "decoded" }
clusters = { op = "kmeans", input = "gradients", k = 3, iterations = 4, tolerance = 0.0 }
assigned = { op = "assign", inputs = { features = "gradients", clusters = "clusters" } }
random = { op = "weights", network = "small" }
named = { op = "sql", input = "assigned", query = "SELECT *, CASE cluster WHEN 0 THEN '<script>alert(1)</script>' ELSE 'b\"&' END AS guess FROM assigned" }

[sweep]
"clusters.k" = [3, 4]
"#;

/// Where the browser is; nothing where there is none.
pub fn browser() -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    let all: Vec<PathBuf> = std::env::split_paths(&paths).collect();
    ["chromium", "chromium-browser", "google-chrome"]
        .iter()
        .find_map(|name| all.iter().map(|dir| dir.join(name)).find(|path| path.is_file()))
}

/// axe-core's script.
pub fn axe() -> String {
    let named = std::env::var_os("TESSERA_NPM").map(PathBuf::from);
    let cached = std::env::var_os("TESSERA_CACHE").map(|cache| Path::new(&cache).join("npm"));
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo names the package of a test that it runs");
    let own = Path::new(&package).join("../.npm");
    let dirs = [named, cached, Some(own)].into_iter().flatten();
    let found = dirs.map(|dir| dir.join("axe-core/node_modules/axe-core/axe.min.js")).find(|path| path.is_file());
    fs::read_to_string(
        found.expect("`make test` installs axe-core; without it: pipeline/npm.sh DIR axe-core 4.14.1, and TESSERA_NPM=DIR"),
    )
    .unwrap()
}

/// Images in classes with hostile names, with hostile names of their own.
fn place() -> Place {
    let place = Place::new();
    for at in 0..40 {
        let (class, name) =
            (HOSTILE[at % HOSTILE.len()].replace('/', "-"), HOSTILE[at / 8 % HOSTILE.len()].replace('/', "-"));
        let path = place.path("photos").join(class).join(format!("{at:02} {name}.png"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        RgbImage::from_fn(64, 56, |x, y| Rgb([(at * 37 % 256) as u8, (x * 4) as u8, ((y * 4) as usize * (at % 3)) as u8]))
            .save(path)
            .unwrap();
    }
    place.write("photos/broken.png", "no image");
    place.write("pipeline.toml", PIPELINE.replace("side = 48", "side = 48, on_error = \"drop\""));
    let run = place.tessera("run", &["-q"]);
    assert_eq!(run.code, 0, "{}", run.err);
    place
}

/// What a page asked for, and what it said.
#[derive(Default)]
pub struct Heard {
    asked: Vec<String>,
    pub said: Vec<String>,
}

pub struct Window {
    pub tab: Arc<Tab>,
    pub heard: Arc<Mutex<Heard>>,
}

impl Window {
    pub fn open(browser: &Browser) -> Self {
        let tab = browser.new_tab().expect("a tab");
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let to = heard.clone();
        let network = Network::Enable {
            max_total_buffer_size: None,
            max_resource_buffer_size: None,
            max_post_data_size: None,
            report_direct_socket_traffic: None,
            enable_durable_messages: None,
        };
        tab.call_method(network).expect("its requests");
        tab.enable_log().expect("its log");
        tab.enable_runtime().expect("its console");
        let listen = move |event: &Event| {
            let mut heard = to.lock().expect("no panic");
            match event {
                Event::NetworkRequestWillBeSent(event) => heard.asked.push(event.params.request.url.clone()),
                Event::LogEntryAdded(event) => {
                    heard.said.push(format!("{:?} {:?}", event.params.entry.text, event.params.entry.url))
                }
                Event::RuntimeConsoleAPICalled(event) => heard.said.push(format!("{:?}", event.params.args)),
                Event::RuntimeExceptionThrown(event) => heard.said.push(format!("{:?}", event.params.exception_details)),
                _ => {}
            }
        };
        tab.add_event_listener(Arc::new(listen)).expect("a listener");
        Self { tab, heard }
    }

    fn size(&self, width: u32, height: u32, is_dark: bool) {
        let size = Emulation::SetDeviceMetricsOverride {
            width,
            height,
            device_scale_factor: 1.0,
            mobile: width < 600,
            scale: None,
            screen_width: None,
            screen_height: None,
            position_x: None,
            position_y: None,
            dont_set_visible_size: None,
            screen_orientation: None,
            viewport: None,
            display_feature: None,
            device_posture: None,
        };
        self.tab.call_method(size).expect("a size");
        let value = if is_dark { "dark" } else { "light" };
        let feature = Emulation::MediaFeature { name: "prefers-color-scheme".into(), value: value.into() };
        self.tab.call_method(Emulation::SetEmulatedMedia { media: None, features: Some(vec![feature]) }).expect("colours");
    }

    pub fn go(&self, address: &str) {
        self.tab
            .navigate_to(address)
            .and_then(|tab| tab.wait_until_navigated())
            .unwrap_or_else(|error| panic!("{address}: {error}"));
    }

    /// What an expression gives, a promise's value included.
    pub fn run(&self, script: &str) -> serde_json::Value {
        let found =
            self.tab.evaluate(script, true).unwrap_or_else(|error| panic!("{error}: {}", &script[..script.len().min(200)]));
        found.value.unwrap_or_default()
    }

    pub fn text(&self, script: &str) -> String {
        let found = self.run(script);
        found.as_str().unwrap_or_else(|| panic!("{found:?} is no text: {}", &script[..script.len().min(200)])).to_owned()
    }

    /// What the accessibility rules of the levels A and AA find wrong.
    pub fn violations(&self, axe: &str) -> String {
        self.run(axe);
        self.text(
            "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'], resultTypes: ['violations']}).then(r =>
             r.violations.length + ' ' + r.violations.map(v => v.id + ': ' + v.nodes.slice(0, 3).map(n => n.html.slice(0, 200) + ' ' + n.failureSummary).join(' | ')).join('\\n'))",
        )
    }

    /// Takes a picture, where TESSERA_SCREENSHOTS names a folder for them.
    fn picture(&self, name: &str) {
        let Some(folder) = std::env::var_os("TESSERA_SCREENSHOTS") else { return };
        let png =
            self.tab.capture_screenshot(Page::CaptureScreenshotFormatOption::Png, None, None, true).expect("a picture");
        fs::create_dir_all(&folder).unwrap();
        fs::write(Path::new(&folder).join(format!("{name}.png")), png).unwrap();
    }
}

#[test]
fn pages_are_accessible_silent_and_ask_nobody_else() {
    let Some(path) = browser() else {
        eprintln!("skipped: there is no browser; `apt-get install chromium` gives one");
        return;
    };
    let place = place();
    let served = Served::start(&place, &[]);
    let own = format!("http://localhost:{}", served.port);
    let options = LaunchOptions {
        sandbox: false,
        path: Some(path),
        window_size: Some((1280, 900)),
        args: QUIET.iter().map(AsRef::as_ref).collect(),
        ..LaunchOptions::default()
    };
    let browser = Browser::new(options).expect("the browser starts");
    let window = Window::open(&browser);
    let axe = axe();
    let ids = place.sql("SELECT image_id FROM images ORDER BY image_id");
    let id = ids.iter().find_map(|row| row["image_id"].as_str().filter(|id| id.starts_with('<'))).unwrap().to_owned();
    let table = "assigned@k%3D3";
    let image = tessera_tests::served::encoded(&id);
    let pages = [
        ("stages", "/".to_owned()),
        ("stage", format!("/stage/{table}")),
        ("weights", "/stage/random".to_owned()),
        ("clusters", format!("/clusters/{table}")),
        ("cluster", format!("/clusters/{table}/0")),
        ("image", format!("/image/{image}")),
        ("compare", format!("/compare/{table}/assigned@k%3D4")),
        ("confusion", format!("/confusion/{table}/images.label")),
        ("guesses", "/confusion/named@k%3D3/images.label?by=guess".to_owned()),
        ("curves", "/train/clusters".to_owned()),
        ("sweep", "/sweep".to_owned()),
        ("find", "/find".to_owned()),
        ("sql", "/sql?q=SELECT%20%27%3Cb%3E%27".to_owned()),
    ];
    for (name, page) in &pages {
        window.size(1280, 900, false);
        window.go(&format!("{own}{page}"));
        for (width, is_dark) in [(1280, false), (390, true)] {
            let at = format!("{page} at {width}");
            window.size(width, 900, is_dark);
            let wide = window.run("document.documentElement.scrollWidth - document.documentElement.clientWidth");
            assert_eq!(wide.as_f64(), Some(0.0), "{at}: wider than the window");
            let broken = "[...document.images].filter(i => i.complete && i.naturalWidth === 0).map(i => i.src).join(' ')";
            assert_eq!(window.text(broken), "", "{at}: images that did not come");
            let scripts = "[...document.scripts].filter(s => !s.src).map(s => s.textContent).join()";
            assert_eq!(window.text(scripts), "", "{at}: a script of others");
            window.picture(&format!("{name}-{width}-{}", if is_dark { "dark" } else { "light" }));
            let heard = std::mem::take(&mut *window.heard.lock().unwrap());
            assert_eq!(heard.said, Vec::<String>::new(), "{at}");
            assert!(heard.asked.iter().all(|asked| asked.starts_with(&own)), "{at}: {:?}", heard.asked);
            assert!(is_dark || heard.asked.len() >= 3, "{at}: {:?}", heard.asked);
            assert_eq!(window.violations(&axe), "0 ", "{at}");
            // What the rules' own script says is not the page's.
            window.heard.lock().unwrap().said.clear();
        }
    }
    // Names are as they are, but for what would speak to a terminal or turn writing round.
    window.go(&format!("{own}/image/{image}"));
    let title = window.text("document.querySelector('h1').textContent");
    assert!(title.starts_with("<img src=x onerror=alert(1)>/"), "{title}");
    window.go(&format!("{own}/confusion/{table}/images.label"));
    let classes = window.text("[...document.querySelectorAll('.heat th.turned')].map(e => e.textContent).join('\\n')");
    assert!(classes.contains("😀") && !classes.contains(['\u{202e}', '\u{1b}']), "{classes}");

    // The box asks by its form, and an image of one's own finds itself.
    window.go(&format!("{own}/sql?q=SELECT%20count(*)%20AS%20n%20FROM%20images"));
    window.run("document.querySelector('form.query button').click()");
    window.tab.wait_for_element("table.numbers").expect("an answer");
    assert_eq!(window.text("document.querySelector('table.numbers td').textContent"), "41");
    window.go(&format!("{own}/find"));
    let picked = fs::canonicalize(place.path("photos").join(&id)).unwrap().to_string_lossy().into_owned();
    let input = window.tab.wait_for_element("form.drop input").expect("a place to drop");
    input.set_input_files(&[&picked]).expect("a file");
    window.tab.wait_for_element("ul.thumbs li").expect("images");
    let found = window.text("document.querySelector('ul.thumbs li a').textContent");
    assert!(found.contains("<img src=x"), "{found}");
    let heard = std::mem::take(&mut *window.heard.lock().unwrap());
    assert_eq!(heard.said, Vec::<String>::new());

    // A page is read again when a run has published, without being loaded.
    window.go(&format!("{own}/clusters/{table}"));
    let cards = "document.querySelectorAll('article.card').length";
    assert_eq!(window.run(cards).as_f64(), Some(3.0));
    window.run("window.stays = true; document.querySelector('details').open = true");
    let again = PIPELINE.replace("iterations = 4", "iterations = 5").replace("side = 48", "side = 48, on_error = \"drop\"");
    place.write("pipeline.toml", again);
    let before = window.text("document.querySelector('.strip img').src");
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while window.text("document.querySelector('.strip img').src") == before {
        assert!(std::time::Instant::now() < until, "the page shows what it showed");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(window.run("window.stays === true").as_bool(), Some(true), "it was loaded anew");
}
