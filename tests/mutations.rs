//! Pipeline files that are nearly sound: each is parsed, resolved and bound, or what is wrong with it is shown at its place.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::datatypes::SchemaRef;
use tessera_operators::operator::{Inputs, QueryPlanner};
use tessera_pipeline::declare::faults::Faults;
use tessera_pipeline::declare::file::PipelineFile;
use tessera_pipeline::declare::graph::Graph;
use tessera_pipeline::declare::plan::Plan;
use tessera_pipeline::engine::files::AnyFiles;
use tessera_tests::{Place, checkout};

#[path = "fuzz/src/mutations.rs"]
mod fuzz;

/// No query is any.
struct NoPlanner;

impl QueryPlanner for NoPlanner {
    fn plan(&self, _: &str, _: &Inputs<SchemaRef>) -> Result<(SchemaRef, BTreeMap<String, Vec<String>>), String> {
        Err("queries are not planned here".to_owned())
    }
}

fn shown(faults: &Faults) {
    assert!(!faults.faults.is_empty());
    let text = faults.render(false);
    assert!(!text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\t')), "it is not fit to be shown: {text:?}");
    assert!(faults.faults.iter().all(|fault| fault.span.start <= fault.span.end));
    assert!(!faults.summary().is_empty() && faults.render(true).len() >= faults.summary().len());
}

/// The files that stand under a folder of the checkout, and end so.
fn texts(folder: &Path, found: &mut Vec<Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            texts(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "toml") {
            found.push(std::fs::read(path).unwrap());
        }
    }
}

#[test]
#[ignore = "feeds a reader for a minute"]
fn pipeline_files_that_are_nearly_sound_end_in_messages() {
    let place = Place::new();
    place.images(3).write("labels.csv", "image_id,label\na,1\n");
    let mut samples = Vec::new();
    texts(&checkout("pipeline/experiments"), &mut samples);
    texts(&checkout("pipeline/demo"), &mut samples);
    // What stands there is to be found, at least in part.
    for sample in &mut samples {
        *sample = String::from_utf8_lossy(sample).replace("${IMAGES}", "photos").into_bytes();
    }
    let words = [
        "[stage.",
        "[sweep]",
        "[pipeline]",
        "op = ",
        "\"\"\"",
        "[[",
        "]]",
        "{",
        "}",
        " = ",
        "1e309",
        "nan",
        "-1",
        "9223372036854775807",
        "0x",
        "${",
        "${HOME}",
        "\u{0}",
        "\u{202e}",
        "é",
        "\t",
        "\r\n",
        "#",
        "inputs = { ",
        "input = ",
        "\"images\"",
        "photos",
        "labels.csv",
        "1979-05-27",
        "true",
        "'''",
        "\\u",
        ".",
    ];
    let path = place.path("p.toml");
    fuzz::feed("pipeline", &samples, &words, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        match PipelineFile::parse(Path::new(&path), text.to_owned(), &[]) {
            Err(faults) => shown(&faults),
            Ok(file) => match Plan::bind(Graph::resolve(file), &NoPlanner, &AnyFiles::default()) {
                Err(faults) => shown(&faults),
                Ok(plan) => assert_eq!(plan.stages.len(), plan.graph.nodes.len()),
            },
        }
    });
}
