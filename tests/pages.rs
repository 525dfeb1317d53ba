//! Pages of figures.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use base64::Engine as _;
use image::{Rgb, RgbImage};
use tessera_tests::{Answer, Place, read, run};

const PIPELINE: &str = r#"
[pipeline]
name = "pages"
part_rows = 8

[stage]
images = { op = "images", path = "photos" }
decoded = { op = "decode", input = "images", side = 48, on_error = "drop" }
gradients = { op = "hog", input = "decoded", cell = 8, block = 2 }
clusters = { op = "kmeans", input = "gradients", k = 3, tolerance = 0.0, iterations = 5 }
assigned = { op = "assign", inputs = { features = "gradients", clusters = "clusters" } }
random = { op = "weights", network = "small" }
numbers = { op = "table", path = "probed.csv" }
probed = { op = "sql", input = "numbers", query = "SELECT layer, metric, nullif(what, '') AS class, value, split, chosen FROM numbers" }
rows = { op = "table", path = "rows.csv" }
made = { op = "sql", inputs = { r = "rows", d = "decoded" }, query = "SELECT image_id, CAST(cluster AS INT) AS cluster, distance, second_distance, kind FROM r" }

[sweep]
"clusters.k" = [2, 4]
"clusters.seed" = [1, 2]
"#;

const PROBED: &str = "layer,metric,what,value,split,chosen
conv1,top1,,0.25,test,true
conv2,top1,,0.375,test,true
conv2,top1,,0.125,validation,true
conv3,top1,,0.5,test,true
conv3,map,,0.4375,test,true
conv3,ap,cat,0.625,test,true
conv3,ap,dog,0.25,test,true
conv2,map,,0.125,test,true
conv2,ap,cat,0.125,test,true
";

/// A colour that no other image has.
fn shade(at: usize) -> [u8; 3] {
    [at * 7 % 256, 255 - at * 5 % 256, at * 29 % 256].map(|value| value as u8)
}

/// Forty images of one colour each, three clusters by hand (the nearer the smaller the number), a file that is no image, and tables of numbers.
fn place() -> Place {
    let place = Place::new();
    let mut rows = "image_id,cluster,distance,second_distance,kind\n".to_owned();
    for at in 0..40 {
        let id = format!("{}/{at:02}.png", ["cat", "dog"][at % 2]);
        let path = place.path("photos").join(&id);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        RgbImage::from_pixel(64, 56, Rgb(shade(at))).save(path).unwrap();
        // The border's images are those in the middle: their second centre is nearest.
        let margin = 1 + at.abs_diff(20);
        rows.push_str(&format!(
            "{id},{},{at}.25,{}.25,{}\n",
            [7, 7, 7, 8, 9][at % 5],
            at + margin,
            ["round", "square"][at / 20]
        ));
    }
    place.write("photos/dog/broken.png", "no image");
    place.write("rows.csv", rows);
    place.write("probed.csv", PROBED);
    place.write("pipeline.toml", PIPELINE);
    let made = place.tessera("run", &["-q"]);
    assert_eq!(made.code, 0, "{}", made.err);
    place
}

fn report(place: &Place, arguments: &[&str]) -> String {
    let answer = place.tessera("report", &[&["-o", "report.html", "--force"], arguments].concat());
    assert_eq!((answer.code, answer.out.as_str()), (0, ""), "{}", answer.err);
    fs::read_to_string(place.path("report.html")).unwrap()
}

/// What is between two texts, each time.
fn between<'a>(html: &'a str, start: &str, end: &str) -> Vec<&'a str> {
    html.split(start).skip(1).map(|behind| behind.split_once(end).unwrap_or_else(|| panic!("no {end}")).0).collect()
}

/// The figures of a page, `figure stage`, and their HTML.
fn figures(html: &str) -> BTreeMap<String, &str> {
    let named = html.split("data-figure=\"").skip(1).map(|figure| {
        let (id, _) = figure.split_once('"').unwrap();
        let of = read(between(figure, "data-of=\"", "\"")[0]);
        (format!("{id} {of}").trim().to_owned(), figure)
    });
    named.collect()
}

fn csv(place: &Place, query: &str) -> Answer {
    let answer = place.tessera("sql", &["--format", "csv", query]);
    assert_eq!(answer.code, 0, "{query}: {}", answer.err);
    answer
}

#[test]
fn every_number_is_that_of_the_query_below_it() {
    let place = place();
    let html = report(&place, &[]);
    let figures = figures(&html);
    let names: Vec<&str> = figures.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "classes assigned@k=2,seed=1 against images.label",
            "classes assigned@k=2,seed=2 against images.label",
            "classes assigned@k=4,seed=1 against images.label",
            "classes assigned@k=4,seed=2 against images.label",
            "classes made against images.label",
            "classes made against made.kind",
            "curves clusters",
            "dropped",
            "filters random",
            "gallery assigned@k=2,seed=1",
            "gallery assigned@k=2,seed=2",
            "gallery assigned@k=4,seed=1",
            "gallery assigned@k=4,seed=2",
            "gallery made",
            "precision probed",
            "probe probed",
            "runs",
            "sizes assigned@k=2,seed=1",
            "sizes assigned@k=2,seed=2",
            "sizes assigned@k=4,seed=1",
            "sizes assigned@k=4,seed=2",
            "sizes made",
            "stages",
            "sweep clusters",
            "time",
        ]
    );
    let mut walked = 0;
    for (name, figure) in &figures {
        for source in figure.split("<div class=\"source\">").skip(1) {
            let query = read(between(source, "<code>", "</code>")[0]);
            let answer = csv(&place, &query).out;
            let listed = if source.contains("<table class=\"numbers\">") {
                let rows = between(source, "<tr>", "</tr>");
                let cells = |row: &&str| {
                    between(&row.replace("<th scope=\"col\">", "<td>").replace("</th>", "</td>"), "<td>", "</td>")
                        .into_iter()
                        .map(read)
                        .collect::<Vec<_>>()
                };
                // No value of these tables has a comma but names of cells, which CSV puts in quotes.
                let quoted = |cell: String| if cell.contains(',') { format!("\"{cell}\"") } else { cell };
                rows.iter()
                    .map(|row| cells(row).into_iter().map(quoted).collect::<Vec<_>>().join(",") + "\n")
                    .collect::<String>()
            } else if let Some(listed) = between(source, "<pre class=\"csv\" tabindex=\"0\">", "</pre>").first() {
                read(listed)
            } else {
                assert!(name.starts_with("gallery "), "{name} lists no numbers");
                continue;
            };
            assert_eq!(listed, answer, "{name}: {query}");
            walked += 1;
        }
    }
    assert!(walked > 12, "{walked} answers");
    // What is drawn is rounded from what is listed.
    let probe = figures["probe probed"];
    assert!(probe.contains("here: 0.375") && probe.contains("paper: Jigsaw++: 0.287"), "{probe}");
    assert!(read(figures["precision probed"]).contains("cat"), "no class");
    assert!(read(figures["dropped"]).contains("decoded"), "nothing was left out");
}

/// A card's attributes, and the lines of its members.
type Card = (BTreeMap<String, String>, Vec<Vec<String>>);

/// The cards of a gallery: their attributes and the lines of their members.
fn cards(figure: &str) -> Vec<Card> {
    let one = |card: &str| {
        let (tag, rest) = card.split_once('>').unwrap();
        let attributes = between(tag, "data-", "\"").into_iter().zip(between(tag, "=\"", "\""));
        let attributes = attributes.map(|(name, value)| (name.trim_end_matches('=').to_owned(), value.to_owned())).collect();
        let members = read(between(rest, "<pre class=\"members\">", "</pre>")[0]);
        (attributes, members.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
    };
    figure.split("<article class=\"card\" ").skip(1).map(one).collect()
}

#[test]
fn a_gallery_shows_the_right_images() {
    let place = place();
    let html = report(&place, &["made"]);
    let figures = figures(&html);
    let gallery = figures["gallery made"];
    let queries: Vec<String> = between(gallery, "<code>", "</code>").into_iter().map(read).collect();
    let cards = cards(gallery);
    // Sizes and means are those of the first query.
    let facts = place.sql(&queries[0]);
    assert_eq!((cards.len(), facts.len()), (3, 3));
    for ((attributes, _), facts) in cards.iter().zip(&facts) {
        for name in ["cluster", "size", "spread", "radius", "margin"] {
            let (told, known) = (attributes[name].parse::<f64>().unwrap(), facts[name].as_f64().unwrap());
            assert!((told - known).abs() <= 1e-6 * known.abs(), "{name}: {told} {known}");
        }
    }
    // Members are those of the second.
    let members: Vec<Vec<String>> = cards.iter().flat_map(|(_, members)| members.clone()).collect();
    let known = place.sql(&queries[1]);
    assert_eq!(members.len(), known.len());
    for (_, lines) in &cards {
        let kinds: Vec<&str> = lines.iter().map(|line| line[0].as_str()).collect();
        let mut sorted = kinds.clone();
        sorted.sort_by_key(|kind| ["nearest", "border", "random", "farthest"].iter().position(|known| known == kind));
        assert_eq!(kinds, sorted);
    }
    let mut lines: Vec<String> = members.iter().map(|line| format!("{} {}", line[0], line[2])).collect();
    let mut rows: Vec<String> =
        known.iter().map(|row| format!("{} {}", row["kind"].as_str().unwrap(), row["image_id"].as_str().unwrap())).collect();
    lines.sort();
    rows.sort();
    assert_eq!(lines, rows);
    // Cluster 7 has 0, 1, 2, 5, 6, 7, 10, ... 37: by hand its nearest, farthest, and those at the border, nearest to number 20.
    let (attributes, lines) = &cards[0];
    assert_eq!((attributes["cluster"].as_str(), attributes["size"].as_str()), ("7", "24"));
    let of = |kind: &str| -> Vec<usize> {
        let lines = lines.iter().filter(|line| line[0] == kind);
        lines.map(|line| line[2].split(['/', '.']).nth(1).unwrap().parse().unwrap()).collect()
    };
    assert_eq!((of("nearest"), of("border"), of("farthest")), (vec![0, 1, 2, 5, 6, 7], vec![20, 21], vec![37, 36]));
    assert_eq!(of("random").len(), 2);
    // And these are the images that are seen, each in its place.
    let jpeg = between(gallery, "data:image/jpeg;base64,", "\"")[0];
    let picture =
        image::load_from_memory(&base64::engine::general_purpose::STANDARD.decode(jpeg).unwrap()).unwrap().into_rgb8();
    let side = picture.width() / 6;
    assert_eq!((picture.width(), picture.height(), side), (576, 192, 96));
    let shown = [of("nearest"), of("border"), of("random"), of("farthest")].concat();
    for (slot, at) in shown.into_iter().enumerate() {
        let (x, y) = (slot as u32 % 6 * side + side / 2, slot as u32 / 6 * side + side / 2);
        let found = picture.get_pixel(x, y).0;
        let off = found.iter().zip(shade(at)).map(|(found, known)| found.abs_diff(known)).max().unwrap();
        assert!(off < 10, "slot {slot} is of image {at}: {found:?} {:?}", shade(at));
    }
}

/// The commands that a page prints give the numbers that it shows.
#[test]
fn commands_of_a_page_have_what_the_command_line_gave() {
    let place = Place::new();
    place.images(6).write("pipeline.toml", tessera_tests::clustered(4, false));
    let set = ["--set", "clusters.k=2", "--set", "decoded.side=32"];
    assert_eq!(place.tessera("run", &[&["-q"], &set[..]].concat()).code, 0);
    let html = report(&place, &set);
    let commands = html.matches("tessera sql ").count();
    assert_eq!(
        html.matches("tessera sql pipeline.toml --set clusters.k=2 --set decoded.side=32 &lt;&lt;").count(),
        commands,
        "{html}"
    );
    assert!(commands > 4);
}

#[test]
fn names_are_text_whatever_they_hold() {
    let place = Place::new();
    let names = [
        "<img src=x onerror=alert(1)>",
        "\"><script>alert(1)<",
        "a'b\"c&amp;d",
        "\u{1b}[31mred",
        "\u{202e}gpj.exe",
        "עברית",
        "🐈\u{200d}⬛",
    ];
    let mut rows = "image_id,cluster,distance,kind\n".to_owned();
    for (at, name) in names.iter().enumerate() {
        let path = place.path("photos").join(name).join(format!("{name}.png"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        RgbImage::from_pixel(16, 16, Rgb(shade(at))).save(path).unwrap();
        let quoted = name.replace('"', "\"\"");
        rows.push_str(&format!("\"{quoted}/{quoted}.png\",0,{at}.5,\"{quoted}\"\n"));
    }
    place.write("rows.csv", rows);
    place.write(
        "pipeline.toml",
        r#"
[stage]
images = { op = "images", path = "photos" }
decoded = { op = "decode", input = "images", side = 16 }
rows = { op = "table", path = "rows.csv" }
made = { op = "sql", inputs = { r = "rows", d = "decoded" }, query = "SELECT image_id, CAST(cluster AS INT) AS cluster, distance, 'k' || (cluster % 2) || chr(27) || '<b>' AS kind FROM r" }
"#,
    );
    let made = place.tessera("run", &["-q"]);
    assert_eq!(made.code, 0, "{}", made.err);
    let html = report(&place, &[]);
    for name in names {
        let shown: String = name
            .chars()
            .map(|c| if c.is_control() || c == '\u{202e}' { c.escape_default().to_string() } else { c.to_string() })
            .collect();
        let escaped = shown.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
        assert!(html.contains(&escaped), "{escaped}");
    }
    assert!(html.contains("k0\\u{1b}&lt;b&gt;"), "values are text as well");
    for bad in ["<img src=x", "<script>alert", "<b>", "\u{1b}", "\u{202e}"] {
        assert!(!html.contains(bad), "{bad:?}");
    }
    // Its own script and style alone, and nothing is loaded.
    assert_eq!((html.matches("<script").count(), html.matches("<style").count()), (1, 1));
    assert!(html.contains("default-src &#39;none&#39;") || html.contains("default-src 'none'"), "no policy");
    for address in ["http:", "https:", "//cdn", "url(", "@import"] {
        assert!(!html.contains(address), "{address}");
    }
    assert!(html.split("src=\"").skip(1).all(|source| source.starts_with("data:image/")), "an image from elsewhere");
}

#[test]
fn a_report_goes_where_it_is_sent() {
    let place = Place::new();
    place.images(6).write("pipeline.toml", "[stage]\nimages = { op = \"images\", path = \"photos\" }\n");
    // Of what was not made yet there are the stages.
    let html = report(&place, &[]);
    assert!(html.contains("not made yet"), "{html}");
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    for (arguments, code, said) in [
        (&["-o", "report.html"][..], 1, "report.html is there already: --force overwrites it"),
        (&["-o", "report.pdf"], 2, "report.pdf: a report is an HTML file; name one that ends with .html"),
        (&["-o", "new.html", "--metric", "loss"], 2, "--metric and --format are of the printed metrics"),
        (&["-o", "new.html", "image"], 2, "did you mean `images`?"),
        (&["-o", "nowhere/new.html"], 1, "nowhere/new.html"),
        (&["--force"], 2, "--output"),
    ] {
        let answer = place.tessera("report", arguments);
        assert_eq!((answer.code, answer.out.as_str()), (code, ""), "{arguments:?}: {}", answer.err);
        assert!(answer.err.contains(said), "{said}: {}", answer.err);
    }
    assert!(!place.path("new.html").exists());
    let answer = place.tessera("report", &["-o", "-", "-q"]);
    assert_eq!((answer.code, answer.err.as_str()), (0, ""));
    assert!(answer.out.starts_with("<!DOCTYPE html>") && answer.out.ends_with("</html>"), "{}", answer.out);
    // Without the file's images there is what was made of them.
    fs::remove_dir_all(place.path("photos")).unwrap();
    let answer = place.tessera("report", &["-o", "-"]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    assert!(read(&answer.out).contains("6 rows"), "{}", answer.out);
}

/// A browser runs the page's own script, applies its own style, and has nothing to say: the policy names both by their hashes.
#[test]
#[ignore = "a browser: chromium"]
fn a_browser_has_nothing_to_say() {
    let place = place();
    report(&place, &[]);
    let mut call = Command::new("chromium");
    let profile = format!("--user-data-dir={}", place.path("profile").display());
    let page = format!("file://{}", place.path("report.html").display());
    call.args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]);
    call.args([&profile, "--enable-logging=stderr", "--dump-dom", &page]);
    let answer = run(call);
    assert_eq!(answer.code, 0, "{}", answer.err);
    assert!(answer.out.contains("<form class=\"tools\">"), "the script did not show the tools");
    let said: Vec<&str> = answer.err.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(said.is_empty(), "{said:?}");
}
