//! The book (`pipeline/docs`), README and the other pages: their pipelines pass `check`, their links lead somewhere, and the commands,
//! options and operators that they name are there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;
use tch::{CModule, Device, Kind, Tensor};
use tessera_tests::{Answer, Place, binary, checkout, is_sound, run};
use toml::{Table, Value as Toml};

/// Where `make docs` writes the pages of operators and commands.
const GENERATED: &str = "pipeline/docs/reference";
/// Its first pipeline is what pieces without images of their own go with.
const FIRST: &str = "pipeline/docs/first-hour.md";

/// All pages by their paths in the checkout.
fn pages() -> BTreeMap<String, String> {
    let mut paths: Vec<PathBuf> =
        ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "pipeline/ARCHITECTURE.md"].map(Into::into).to_vec();
    let mut open: Vec<PathBuf> = ["pipeline/docs", "pipeline/experiments"].map(Into::into).to_vec();
    paths.push("pipeline/python/README.md".into());
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(checkout(folder.to_str().unwrap())).unwrap() {
            let name = folder.join(entry.unwrap().file_name());
            if checkout(name.to_str().unwrap()).is_dir() {
                open.push(name);
            } else if name.extension().is_some_and(|end| end == "md") {
                paths.push(name);
            }
        }
    }
    let read = |path: PathBuf| {
        let path = path.to_str().unwrap().to_owned();
        (path.clone(), fs::read_to_string(checkout(&path)).unwrap())
    };
    paths.into_iter().map(read).collect()
}

/// The blocks of a page behind three backticks and that word, without the spaces before them.
fn blocks(page: &str, word: &str) -> Vec<String> {
    let fence = format!("```{word}");
    let (mut blocks, mut block): (Vec<String>, Option<String>) = (Vec::new(), None);
    for line in page.lines() {
        let trimmed = line.trim_start();
        match &mut block {
            Some(text) if trimmed.starts_with("```") => {
                blocks.push(std::mem::take(text));
                block = None;
            }
            Some(text) => text.extend([trimmed, "\n"]),
            None if trimmed.trim_end() == fence => block = Some(String::new()),
            None => {}
        }
    }
    blocks
}

/// A page in two: what is code (blocks and words between backticks, a line each), and the rest.
fn code(page: &str) -> (Vec<String>, String) {
    let (mut code, mut rest, mut is_block) = (Vec::new(), String::new(), false);
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            is_block = !is_block;
        } else if is_block || line.starts_with("    ") {
            code.push(line.trim_start().to_owned());
        } else {
            let mut pieces = line.split('`');
            rest.push_str(pieces.next().unwrap_or_default());
            while let (Some(word), plain) = (pieces.next(), pieces.next()) {
                code.push(word.to_owned());
                rest.push_str(plain.unwrap_or_default());
            }
            rest.push('\n');
        }
    }
    (code, rest)
}

fn bare(arguments: &[&str]) -> Answer {
    let mut command = std::process::Command::new(binary());
    command.args(arguments);
    run(command)
}

/// The operators' names.
fn operators() -> BTreeSet<String> {
    let listed: Value = bare(&["operators", "--format", "json"]).json();
    listed.as_array().unwrap().iter().map(|operator| operator["name"].as_str().unwrap().to_owned()).collect()
}

/// The commands with their options, as the script that completes them has them.
fn commands() -> BTreeMap<String, BTreeSet<String>> {
    let script = bare(&["completions", "bash"]).out;
    let lines: Vec<&str> = script.lines().map(str::trim).collect();
    let command = |pair: &[&str]| {
        let name = pair[0].strip_suffix(')')?.strip_prefix("tessera__subcmd__")?;
        let words = pair[1].strip_prefix("opts=\"")?.trim_end_matches('"').split(' ');
        Some((name.to_owned(), words.map(str::to_owned).collect()))
    };
    lines.windows(2).filter_map(command).collect()
}

/// Files that the book's pipelines name: images, a data set as PASCAL VOC has it, weights, a model and tables.
fn place() -> Place {
    let place = Place::new();
    place.images(9);
    let picture = fs::read(place.path("photos/green/0000.png")).unwrap();
    for (half, name) in [("train", "000001"), ("val", "000002")] {
        place.write(&format!("VOC2007/JPEGImages/{name}.jpg"), &picture);
        place.write(&format!("VOC2007/ImageSets/Main/{half}.txt"), format!("{name}\n"));
        place.write(&format!("VOC2007/ImageSets/Main/cat_{half}.txt"), format!("{name} 1\n"));
    }
    let statistics = "mean = [0.485, 0.456, 0.406], deviation = [0.229, 0.224, 0.225]";
    place.write(
        "weights.toml",
        format!(
            "stage.teacher = {{ op = \"weights\", network = \"resnet18\", {statistics} }}\n\
             stage.pretext = {{ op = \"weights\", network = \"small\", normalisation = \"tile\" }}\n"
        ),
    );
    let made = place.call("run", "weights.toml", &["-q"]);
    assert_eq!(made.code, 0, "{}", made.err);
    for name in ["teacher", "pretext"] {
        let wrote = place.call("export", "weights.toml", &[name, "-o", &format!("{name}.safetensors")]);
        assert_eq!(wrote.code, 0, "{}", wrote.err);
    }
    let mut forward = |inputs: &[Tensor]| vec![inputs[0].mean_dim([2i64, 3].as_slice(), false, Kind::Float)];
    let example = Tensor::zeros([1, 3, 64, 64], (Kind::Float, Device::Cpu));
    let model = CModule::create_by_tracing("Model", "forward", &[example], &mut forward).unwrap();
    model.save(place.path("teacher.pt")).unwrap();
    place.write("words.csv", "cluster,name\n1,shoes\n");
    place.write("labels.csv", "image_id,kind\ngreen/0000.png,leaf\n");
    place
}

/// Whether a pipeline has a stage that lists images.
fn lists_images(pipeline: &Table) -> bool {
    let mut stages = pipeline.get("stage").and_then(Toml::as_table).into_iter().flat_map(Table::values);
    stages.any(|stage| stage.get("op").and_then(Toml::as_str) == Some("images"))
}

/// A value as TOML has it in a line.
fn inline(value: &Toml) -> String {
    match value {
        Toml::Table(table) => {
            let pairs: Vec<String> = table.iter().map(|(key, value)| format!("{key:?} = {}", inline(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        Toml::Array(values) => format!("[{}]", values.iter().map(inline).collect::<Vec<_>>().join(", ")),
        // JSON's texts, numbers and truth values are TOML's.
        value => serde_json::to_string(value).unwrap(),
    }
}

/// A piece without images of its own goes with the first hour's pipeline, whose stages of the same names it replaces.
#[test]
fn the_pipelines_of_the_book_are_sound() {
    let (place, pages) = (place(), pages());
    let first: Table = blocks(&pages[FIRST], "toml")[0].parse().unwrap();
    let mut count = 0;
    for (path, page) in &pages {
        for piece in blocks(page, "toml") {
            let own: Table = piece.parse().unwrap_or_else(|error| panic!("{path}: {error}\n{piece}"));
            let text = if lists_images(&own) {
                piece
            } else {
                let mut whole = first.clone();
                whole.entry("sweep").or_insert_with(|| Toml::Table(Table::new()));
                for (name, value) in own {
                    let (Toml::Table(more), Some(Toml::Table(table))) = (value, whole.get_mut(&name)) else {
                        panic!("{path}: [{name}] is not in the first hour's pipeline:\n{piece}");
                    };
                    table.extend(more);
                }
                whole.iter().map(|(name, value)| format!("{name} = {}\n", inline(value))).collect()
            };
            place.write("pipeline.toml", &text);
            let checked = place.tessera("check", &[]);
            assert!(is_sound(&checked), "{path}:\n{text}\n{}{}", checked.out, checked.err);
            count += 1;
        }
    }
    assert!(count >= 12, "{count} pipelines");
}

/// The name of a heading in a link: lower case, hyphens for spaces, no other signs.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let keep = |sign: char| match sign {
        ' ' => Some('-'),
        sign => (sign.is_alphanumeric() || "-_".contains(sign)).then_some(sign),
    };
    heading.chars().filter_map(keep).collect()
}

/// Where a link from a page leads, in the checkout.
fn target(page: &str, link: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in Path::new(page).parent().unwrap().join(link).components() {
        match part {
            Component::ParentDir => drop(parts.pop()),
            Component::Normal(name) => parts.push(name.to_str().unwrap().to_owned()),
            _ => {}
        }
    }
    parts.join("/")
}

#[test]
fn links_of_the_book_lead_somewhere() {
    let (pages, operators, commands) = (pages(), operators(), commands());
    let mut listed = BTreeSet::new();
    for (path, page) in &pages {
        let plain = code(page).1;
        let links = plain.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
        for link in links.filter(|link| !link.starts_with("http")) {
            let (file, heading) = link.split_once('#').map_or((link, None), |(file, heading)| (file, Some(heading)));
            let file = if file.is_empty() { path.clone() } else { target(path, file) };
            if path.ends_with("SUMMARY.md") {
                listed.insert(file.clone());
            }
            let generated =
                file.strip_prefix(GENERATED).and_then(|rest| rest.strip_prefix('/')?.strip_suffix(".md")?.split_once('/'));
            let is_there = match generated {
                Some(("operators", name)) => name == "README" || operators.contains(name),
                Some(("commands", name)) => name == "README" || commands.contains_key(name),
                _ => checkout(&file).exists(),
            };
            assert!(is_there, "{path}: ({link}) leads to {file}, which is not there");
            let Some(heading) = heading else { continue };
            let page = pages.get(&file).unwrap_or_else(|| panic!("{path}: ({link}) leads to no page"));
            let mut headings = page.lines().filter(|line| line.starts_with('#')).map(anchor);
            assert!(headings.any(|one| one == heading), "{path}: ({link}) leads to no heading of {file}");
        }
    }
    for path in pages.keys().filter(|path| path.starts_with("pipeline/docs/") && !path.ends_with("SUMMARY.md")) {
        assert!(listed.contains(path), "SUMMARY.md does not list {path}");
    }
}

#[test]
fn commands_and_operators_of_the_book_are_there() {
    let (operators, commands) = (operators(), commands());
    assert!(commands.len() >= 15 && operators.len() >= 15, "{commands:?} {operators:?}");
    let mut count = 0;
    for (path, page) in pages() {
        for line in code(&page).0 {
            for operator in line.split("op = \"").skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(operators.contains(operator), "{path}: {line}: there is no operator {operator}");
            }
            for call in line.split("tessera ").skip(1) {
                let call = call.split(['|', '#', ')', '"', '\'']).next().unwrap_or_default();
                let mut words = call.split_whitespace();
                let Some(name) = words.next().filter(|name| name.chars().all(|sign| sign.is_ascii_lowercase())) else {
                    continue;
                };
                let Some(options) = commands.get(name) else { panic!("{path}: {line}: there is no command {name}") };
                count += 1;
                for option in words.take_while(|word| *word != "&&").filter(|word| word.starts_with("--")) {
                    let option = option.split('=').next().unwrap_or_default();
                    assert!(options.contains(option), "{path}: {line}: {name} has no option {option}");
                }
            }
        }
    }
    assert!(count >= 40, "{count} commands");
}
