use std::path::Path;

use serde_json::json;

use super::*;
use crate::declare::faults::Faults;
use crate::declare::graph::{Graph, Node, place};

const STAGES: &str = "\
[stage]
images = { op = \"images\", path = \"photos\" }
decoded = { op = \"decode\", input = \"images\", side = 32 }
features = { op = \"hog\", input = \"decoded\" }
clusters = { op = \"kmeans\", input = \"features\", k = 3 }
assigned = { op = \"assign\", inputs = { features = \"features\", clusters = \"clusters\" } }
sizes = { op = \"sql\", input = \"assigned\", query = \"SELECT count(*) AS n FROM assigned\" }
";

/// A file of [`STAGES`] and a sweep.
fn file(sweep: &str, set: &[&str]) -> PipelineFile {
    let set: Vec<_> = set.iter().map(|set| set.parse().unwrap()).collect();
    PipelineFile::parse(Path::new("p.toml"), format!("{STAGES}{sweep}"), &set).unwrap()
}

fn names(file: &PipelineFile) -> Vec<&str> {
    file.stages.iter().map(|stage| stage.name.text.as_str()).collect()
}

/// What faults say, and the text that they point at.
fn told(sweep: &str, set: &[&str]) -> Vec<(String, String)> {
    let graph = Graph::resolve(file(sweep, set));
    let wrong = |node: &Node| {
        let stage = &graph.file.stages[node.declared];
        let errors = node.spec.check(stage.config.clone()).err().unwrap_or_default();
        errors.into_iter().map(|error| place(stage, &graph.file.stages, error)).collect::<Vec<_>>()
    };
    let all = graph.faults.iter().cloned().chain(graph.nodes.iter().flat_map(wrong)).collect();
    let faults = fold(&graph.file.stages, all);
    let faults = Faults::new("p.toml", graph.file.text.clone(), faults).faults;
    faults.into_iter().map(|fault| (fault.message, graph.file.text[fault.span].to_owned())).collect()
}

#[test]
fn a_stage_and_what_reads_it_become_cells() {
    let file = file("[sweep]\n\"clusters.k\" = [5, 10]\n\"clusters.seed\" = [1, 2]\n", &[]);
    assert!(file.faults.is_empty(), "{:?}", file.faults);
    let cells = ["k=5,seed=1", "k=5,seed=2", "k=10,seed=1", "k=10,seed=2"];
    let of = |stage: &str| cells.map(|cell| format!("{stage}@{cell}"));
    let all = [
        ["images", "decoded", "features"].map(str::to_owned).to_vec(),
        of("clusters").to_vec(),
        of("assigned").to_vec(),
        of("sizes").to_vec(),
    ];
    assert_eq!(names(&file), all.concat());
    let clusters = &file.stages[6];
    assert_eq!((&clusters.config["k"], clusters.seed.as_ref().map(|seed| seed.0)), (&json!(10), Some(2)));
    assert_eq!((clusters.base(), clusters.input.as_ref().unwrap().text.as_str()), ("clusters", "features"));
    let assigned: Vec<&str> = file.stages[10].inputs.iter().map(|(_, from)| from.text.as_str()).collect();
    assert_eq!(assigned, ["features", "clusters@k=10,seed=2"]);
    // A query knows its table by the stage's name, in every cell.
    let (name, from) = &file.stages[14].inputs[0];
    assert_eq!((name.text.as_str(), from.text.as_str()), ("assigned", "assigned@k=10,seed=2"));
    assert!(file.stages[14].input.is_none());
}

#[test]
fn stages_depend_only_on_axes_upstream() {
    let file =
        file("[sweep]\nassigned.distance = []\n[sweep.clusters]\nk = [5, 10]\n[sweep.features]\ncell = [4, 8]\n", &[]);
    assert_eq!(file.faults.len(), 1, "an empty list: {:?}", file.faults);
    let names = names(&file);
    assert_eq!(names[2..4], ["features@cell=4", "features@cell=8"]);
    assert_eq!(names[4..6], ["clusters@k=5,cell=4", "clusters@k=5,cell=8"]);
    assert_eq!(file.stages[5].input.as_ref().unwrap().text, "features@cell=8");
}

#[test]
fn axes_with_one_key_go_by_their_paths() {
    let file = file("[sweep]\n\"clusters.seed\" = [1]\n\"pipeline.seed\" = [7, 8]\n", &[]);
    let faults: Vec<&str> = file.faults.iter().map(|fault| fault.message.as_str()).collect();
    assert_eq!(faults, ["no stage draws random numbers by the pipeline's seed"], "clusters has seeds of its own");
    assert_eq!(names(&file)[3..5], ["clusters@seed=1", "assigned@seed=1"]);
    let more = format!(
        "{STAGES}more = {{ op = \"kmeans\", input = \"assigned\", k = 2 }}\n[sweep]\n\"clusters.seed\" = [1]\n\"pipeline.seed\" = [7, 8]\n"
    );
    let file = PipelineFile::parse(Path::new("p.toml"), more, &[]).unwrap();
    assert!(file.faults.is_empty(), "{:?}", file.faults);
    assert_eq!(names(&file)[3], "clusters@clusters.seed=1");
    assert_eq!(names(&file)[6..], ["more@clusters.seed=1,pipeline.seed=7", "more@clusters.seed=1,pipeline.seed=8"]);
    let seeds: Vec<u64> = file.stages[6..].iter().map(|stage| stage.seed.as_ref().unwrap().0).collect();
    assert_eq!(seeds, [7, 8]);
}

#[test]
fn the_command_line_fixes_an_axis_and_gives_others() {
    let sweep = "[sweep]\n\"clusters.k\" = [5, 10]\n";
    assert_eq!(names(&file(sweep, &["clusters.k=7"]))[3..5], ["clusters@k=7", "assigned@k=7"]);
    assert_eq!(names(&file(sweep, &["sweep.clusters.k=[8, 9]"]))[3..5], ["clusters@k=8", "clusters@k=9"]);
    let both = file(sweep, &["sweep.clusters.seed=[1]", "clusters.k=7"]);
    assert_eq!(names(&both)[3], "clusters@k=7,seed=1");
    assert_eq!(names(&file("", &["sweep.clusters.k=[8, 9]"]))[3..5], ["clusters@k=8", "clusters@k=9"]);
    assert_eq!(names(&file("", &["clusters.seed=4"]))[3], "clusters");
}

#[test]
fn values_are_written_plainly_or_told_apart() {
    assert_eq!(plain(&json!(500)), "500");
    assert_eq!(plain(&json!(0.05)), "0.05");
    assert_eq!(plain(&json!("k-means++")), "k-means++");
    assert_eq!(plain(&json!(true)), "true");
    let odd = ["../a", "..\\a", "__a", "", "a b", "a,b", "a=b", &"x".repeat(99), &"x".repeat(98), "ä", "ö"];
    let written: BTreeSet<String> = odd.iter().map(|text| plain(&json!(text))).collect();
    assert_eq!(written.len(), odd.len(), "{written:?}");
    let safe =
        |name: &String| name.len() <= VALUE_BYTES && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-+~".contains(c));
    assert!(written.iter().all(safe), "{written:?}");
}

#[test]
fn faults_stand_at_their_places_all_at_once() {
    let sweep = "\
[sweep]
\"cluster.k\" = [1]
\"clusters.kk\" = [1]
\"clusters.k\" = 5
\"clusters.iterations\" = []
\"clusters.init\" = [\"random\", \"random\"]
\"clusters.restarts\" = [1]
k = [1]
\"pipeline.part_rows\" = [1]
clusters.restarts = [2]
features.seed = [1, 2]
clusters.seed = [1, -2]
";
    let expected = [
        ("the sweep names the unknown stage `cluster`", "\"cluster.k\""),
        ("`kmeans` has no key `kk` to sweep", "\"clusters.kk\""),
        ("`clusters.k` should be a list of values, found integer", "5"),
        ("`clusters.iterations` is swept over no value", "[]"),
        ("`clusters.init` is swept over \"random\" twice", "\"random\""),
        ("`k` names no key of a stage", "k"),
        ("`pipeline.part_rows` cannot be swept: of [pipeline], only its `seed`", "\"pipeline.part_rows\""),
        ("`clusters.restarts` is swept twice", "restarts"),
        ("stage `features`: `hog` draws no random numbers, and needs no `seed`", "seed"),
        ("`seed` should be a whole number of at least 0, found -2", "-2"),
    ];
    let expected: Vec<(String, String)> = expected.map(|(message, at)| (message.to_owned(), at.to_owned())).to_vec();
    assert_eq!(told(sweep, &[]), expected);
}

#[test]
fn a_wrong_value_is_told_once_and_at_its_place() {
    // Cells downstream and along other axes have the fault as well.
    let sweep = "[sweep]\n\"clusters.k\" = [5, \"many\"]\n\"clusters.seed\" = [1, 2, 3]\n";
    let found = told(sweep, &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].1, "\"many\"");
    assert!(found[0].0.starts_with("stage `clusters@k=many,seed=1`: `k`: invalid type"), "{found:?}");
    assert!(found[0].0.ends_with("(and 2 more of its 6 cells)"), "{found:?}");
    let wrong = told("[sweep]\n\"clusters.k\" = [5, 6]\n", &["clusters.init=best"]);
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    assert!(wrong[0].0.starts_with("stage `clusters`: ") && wrong[0].0.contains("(from --set clusters.init)"), "{wrong:?}");
}

#[test]
fn faults_of_the_command_line_say_so() {
    let sweep = "[sweep]\n\"clusters.k\" = [5, 6]\n";
    for (set, expected) in [
        ("sweep.clusters.kk=[1]", "`kmeans` has no key `kk` to sweep (from --set sweep.clusters.kk)"),
        ("sweep.clusters.k=3", "`clusters.k` should be a list of values, found integer (from --set sweep.clusters.k)"),
        ("sweep.clusters.seed=[-1]", "found -1 (from --set sweep.clusters.seed)"),
        ("clusters.k=none", "(from --set clusters.k)"),
    ] {
        let found = told(sweep, &[set]);
        assert!(found.len() == 1 && found[0].0.contains(expected), "{set}: {found:?}");
    }
}

#[test]
fn circles_and_grids_without_end_are_refused() {
    let circle = "[stage]\na = { op = \"sql\", input = \"b\", query = \"q\" }\nb = { op = \"sql\", input = \"a\", query = \"q\" }\n[sweep]\na.query = [\"x\", \"y\"]\n";
    let file = PipelineFile::parse(Path::new("p.toml"), circle.to_owned(), &[]).unwrap();
    let graph = Graph::resolve(file);
    let faults = Faults::new("p.toml", "", fold(&graph.file.stages, graph.faults)).faults;
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].message, "stages read each other in a circle: a -> b -> a");
    let many: Vec<String> = (1..=101).map(|k| k.to_string()).collect();
    let many = many.join(", ");
    let found = told(&format!("[sweep]\n\"clusters.k\" = [{many}]\n\"clusters.seed\" = [{many}]\n"), &[]);
    assert_eq!(found, [("the sweep makes more than 10000 stages".to_owned(), "\"clusters.k\"".to_owned())]);
}

#[test]
fn cells_are_found_by_some_of_their_values() {
    let graph = Graph::resolve(file("[sweep]\n\"clusters.k\" = [5, 50]\n\"clusters.seed\" = [1, 2]\n", &[]));
    let found = |name: &str| graph.matching(name).into_iter().map(|node| graph.nodes[node].name.clone()).collect::<Vec<_>>();
    assert_eq!(found("clusters").len(), 4);
    assert_eq!(found("clusters@k=5"), ["clusters@k=5,seed=1", "clusters@k=5,seed=2"]);
    assert_eq!(found("clusters@seed=2,k=50"), ["clusters@k=50,seed=2"]);
    assert_eq!(found("features"), ["features"]);
    assert!(found("clusters@k=7").is_empty() && found("cluster").is_empty());
    let families = graph.families();
    let sizes: Vec<(&str, usize)> = families.iter().map(|(name, cells)| (*name, cells.len())).collect();
    assert_eq!(sizes, [("images", 1), ("decoded", 1), ("features", 1), ("clusters", 4), ("assigned", 4), ("sizes", 4)]);
}

const NETWORKS: &str = "\
[stage]
images = { op = \"images\", path = \"photos\" }
decoded = { op = \"decode\", input = \"images\", side = 32 }
gradients = { op = \"hog\", input = \"decoded\" }
random = { op = \"weights\", network = \"small\", normalisation = \"none\" }
puzzles = { op = \"jigsaw\", input = \"decoded\", permutations = 8 }
learnt = { op = \"train\", input = \"puzzles\", network = \"small\" }
known = { op = \"infer\", inputs = { images = \"decoded\" }, layer = \"conv4\" }
clusters = { op = \"kmeans\", column = \"feature\", k = 3 }
";

fn swept(sweep: &str, set: &[&str]) -> PipelineFile {
    let set: Vec<_> = set.iter().map(|set| set.parse().unwrap()).collect();
    PipelineFile::parse(Path::new("p.toml"), format!("{NETWORKS}[sweep]\n{sweep}"), &set).unwrap()
}

#[test]
fn stages_to_read_are_an_axis() {
    let sweep = "\
\"learnt.seed\" = [1, 2]
\"known.inputs.weights\" = [\"random\", \"learnt\"]
\"clusters.input\" = [\"gradients\", \"known\"]
";
    let file = swept(sweep, &[]);
    let graph = Graph::resolve(file);
    assert!(graph.faults.is_empty(), "{:?}", graph.faults);
    let file = &graph.file;
    // A cell has the axes alone of what it reads.
    let known = ["known@weights=random", "known@seed=1,weights=learnt", "known@seed=2,weights=learnt"];
    assert_eq!(names(file)[7..10], known);
    let clusters = [
        "clusters@input=gradients",
        "clusters@weights=random,input=known",
        "clusters@seed=1,weights=learnt,input=known",
        "clusters@seed=2,weights=learnt,input=known",
    ];
    let found: BTreeSet<&str> = names(file)[10..].iter().copied().collect();
    assert_eq!(found, BTreeSet::from(clusters));
    let cell = |name: &str| file.stages.iter().find(|stage| stage.name.text == name).unwrap();
    let of = |name: &str| cell(name).cell.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(of("clusters@input=gradients"), ["seed=null", "weights=null", "input=gradients"]);
    let read: Vec<_> = cell(known[2]).inputs.iter().map(|(port, from)| (port.text.as_str(), from.text.as_str())).collect();
    assert_eq!(read, [("images", "decoded"), ("weights", "learnt@seed=2")]);
    assert_eq!(cell(clusters[3]).input.as_ref().unwrap().text, known[2]);
    let one = swept(
        "known = { inputs.weights = [\"random\", \"learnt\"] }\n",
        &["known.inputs.weights=learnt", "clusters.input=known"],
    );
    assert_eq!(names(&one)[6..], ["known@weights=learnt", "clusters@weights=learnt"]);
    let plain = swept("", &["known.inputs.weights=learnt", "clusters.input=known"]);
    let graph = Graph::resolve(plain);
    assert!(graph.faults.is_empty() && names(&graph.file).len() == 8, "{:?}", graph.faults);
    // Of four networks with 12 cells each, another stage has 48 and not 4 x 12 x 12 x 12 x 12.
    let many: String =
        (0..4).map(|at| format!("net{at} = {{ op = \"train\", input = \"puzzles\", network = \"small\" }}\n")).collect();
    let axes: String =
        (0..4).map(|at| format!("\"net{at}.seed\" = [1, 2, 3]\n\"net{at}.epochs\" = [1, 2, 3, 4]\n")).collect();
    let text =
        format!("{NETWORKS}{many}[sweep]\n\"known.inputs.weights\" = [\"net0\", \"net1\", \"net2\", \"net3\"]\n{axes}");
    let file = PipelineFile::parse(Path::new("p.toml"), text, &[]).unwrap();
    assert!(file.faults.is_empty(), "{:?}", file.faults);
    assert_eq!(file.stages.iter().filter(|stage| stage.base() == "known").count(), 48);
}

#[test]
fn stages_to_read_that_are_not_there_are_told() {
    let sweep = "\"known.inputs.weights\" = [\"random\", \"lernt\", 5]\n\"clusters.input\" = [\"gradients\", \"known\"]\n";
    let told = |sweep: &str| {
        let graph = Graph::resolve(swept(sweep, &[]));
        let faults = fold(&graph.file.stages, graph.faults);
        faults.into_iter().map(|fault| (fault.message, graph.file.text[fault.span].to_owned())).collect::<Vec<_>>()
    };
    let number = ("`inputs.weights` should name a stage, found 5".to_owned(), "5".to_owned());
    assert!(told(sweep).contains(&number), "{:?}", told(sweep));
    let found = told("\"known.inputs.weights\" = [\"random\", \"lernt\"]\n\"clusters.input\" = [\"gradients\"]\n");
    let unknown = ("stage `known@weights=lernt`: unknown input stage `lernt`".to_owned(), "\"lernt\"".to_owned());
    assert_eq!(found, [unknown]);
    let found = told("\"known.inputs\" = [\"random\"]\n\"clusters.input\" = [\"gradients\"]\n");
    assert!(found[0].0.contains("`infer` has no key `inputs` to sweep"), "{found:?}");
    let found = told("\"known.inputs.wights\" = [\"random\"]\n\"clusters.input\" = [\"gradients\"]\n");
    assert!(found[0].0.contains("`infer` has no input `wights`") && found[0].1 == "\"known.inputs.wights\"", "{found:?}");
}
