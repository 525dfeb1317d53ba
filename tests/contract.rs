//! What every operator keeps to, whichever it is. A new operator needs its line in [`stage`], and nothing else here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde_json::{Map, Value, json};
use tessera_operators::OPERATORS;
use tessera_operators::operator::{At, BindError, Binding, Context, Inputs, Kernel, Port, PortKind, Scope};
use tessera_operators::spec::{Bound, Spec};
use tessera_pipeline::ask::sql::planner::Planner;
use tessera_pipeline::engine::files::AnyFiles;
use tessera_schemas::{
    BYTES, IMAGE_ID, PREVIOUS, clusters, components, features, images, meta, neighbours, pixels, points, puzzles, weights,
};
use tessera_tests::checkout;

/// A sound stage of each operator: its keys, and what it reads.
fn stage(operator: &str) -> (Value, Vec<(&'static str, SchemaRef)>) {
    let label = || Field::new("label", DataType::Utf8, true);
    let decoded = || {
        let id = Field::new(IMAGE_ID, DataType::Utf8, false);
        Arc::new(Schema::new(vec![id, pixels::field(48, 48), label()]))
    };
    let layout = puzzles::Layout { grid: 3, tile: 12, permutations: 8 };
    let network = weights::Network {
        name: Some("small".to_owned()),
        normalisation: Some("tile".to_owned()),
        ..weights::Network::default()
    };
    match operator {
        "assign" => {
            (json!({}), vec![("features", features::schema([("feature", 4)])), ("clusters", clusters::schema(3, 4))])
        }
        "augment" => (json!({ "side": 32 }), vec![("images", decoded())]),
        "bag_of_words" => {
            let word = meta::with(Field::new("cluster", DataType::Int32, false), meta::CLASSES, "3");
            let schema = Schema::new(vec![Field::new(IMAGE_ID, DataType::Utf8, false), word]);
            (json!({}), vec![("words", Arc::new(schema))])
        }
        "command" => {
            let keys = json!({ "command": ["cat"], "reads": ["pixels"], "columns": { "pixels": "uint8[48,48,3]" }, "hand_on": ["label"] });
            (keys, vec![("rows", decoded())])
        }
        "decode" => (json!({ "side": 48 }), vec![("images", images::schema())]),
        "groups" => (json!({ "below": 0.5 }), vec![("near", neighbours::schema())]),
        "hog" => (json!({}), vec![("images", decoded())]),
        "images" => (json!({ "path": "." }), vec![]),
        "infer" => (json!({ "layer": "conv3" }), vec![("images", decoded()), ("weights", weights::schema(&network))]),
        "jigsaw" => (json!({ "permutations": 8 }), vec![("images", decoded())]),
        "kmeans" => (json!({ "k": 3 }), vec![("features", features::schema([("feature", 4)]))]),
        "label_join" => (json!({}), vec![("images", images::schema()), ("labels", decoded())]),
        "layout" | "neighbours" => (json!({}), vec![("features", features::schema([("feature", 4)]))]),
        "normalize" | "pca" => (json!({}), vec![("features", features::schema([("feature", 4)]))]),
        "place" => {
            let map = points::with_features("feature", 4);
            (json!({}), vec![("features", features::schema([("feature", 4)])), ("map", map)])
        }
        "probe" => (json!({}), vec![("features", features::schema([("feature", 4)])), ("labels", images::schema())]),
        "project" => {
            (json!({}), vec![("features", features::schema([("feature", 4)])), ("components", components::schema(2, 4))])
        }
        "sql" => (json!({ "query": "SELECT image_id FROM photos" }), vec![("photos", images::schema())]),
        "table" => (json!({ "path": "rows.csv" }), vec![]),
        "tile" => (json!({ "side": 24 }), vec![("images", images::schema())]),
        "train" => (json!({ "network": "small" }), vec![("examples", puzzles::schema(layout, "tile"))]),
        "weights" => (json!({ "path": "tensors.safetensors" }), vec![]),
        new => panic!("`{new}` is new here: add a sound stage of it, so that the contract is checked for it"),
    }
}

/// A folder with the files that the stages name, and a planner.
struct Ground {
    folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Ground {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rows.csv"), "image_id,label\na,1\n").unwrap();
        let header = b"{}";
        let length = (header.len() as u64).to_le_bytes();
        std::fs::write(folder.path().join("tensors.safetensors"), [&length[..], header].concat()).unwrap();
        Self { folder, runtime: tokio::runtime::Runtime::new().unwrap() }
    }

    fn bind(&self, spec: &dyn Spec, keys: Map<String, Value>) -> Box<dyn Bound> {
        self.try_bind(spec, keys).unwrap_or_else(|errors| panic!("`{}`: {errors:?}", spec.name()))
    }

    fn try_bind(&self, spec: &dyn Spec, keys: Map<String, Value>) -> Result<Box<dyn Bound>, Vec<BindError>> {
        let inputs = Inputs(stage(spec.name()).1.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect());
        let planner = Planner { runtime: self.runtime.handle().clone() };
        let binding = Binding { inputs: &inputs, base: self.folder.path(), planner: &planner, files: &AnyFiles::default() };
        spec.bind(keys, &binding)
    }
}

fn keys(spec: &dyn Spec) -> Map<String, Value> {
    stage(spec.name()).0.as_object().cloned().expect("keys are a table")
}

#[test]
fn names_tell_operators_apart() {
    let names: BTreeSet<&str> = OPERATORS.iter().map(|spec| spec.name()).collect();
    assert_eq!(names.len(), OPERATORS.len(), "a name stands twice");
    for spec in OPERATORS {
        let name = spec.name();
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{name}");
        assert_eq!(tessera_operators::find(name).map(|found| found.name()), Some(name));
        assert!(spec.version() > 0, "{name}");
        assert!(!spec.summary().is_empty() && !spec.summary().ends_with('.'), "{name}: {}", spec.summary());
        assert!(spec.summary().chars().count() < 90 && !spec.summary().contains('\n'), "{name}: one short line");
    }
    assert!(tessera_operators::find("no-such-operator").is_none());
}

#[test]
fn an_operator_lies_in_the_file_of_its_name() {
    let sources = checkout("operators/src");
    for spec in OPERATORS {
        let file = format!("{}.rs", spec.name());
        let read = |path: &str| std::fs::read_to_string(sources.join(path));
        let text = read(&file)
            .or_else(|_| read(&format!("torch/{file}")))
            .or_else(|_| read(&format!("clusters/{file}")))
            .expect(&file);
        let begins = format!("//! `{}`: ", spec.name());
        assert!(text.starts_with(&begins), "{file} begins with {}", text.lines().next().unwrap_or_default());
    }
}

#[test]
fn the_reference_tells_each_column() {
    let ground = Ground::new();
    for spec in OPERATORS {
        let name = spec.name();
        let schema = ground.bind(*spec, keys(*spec)).schema();
        let told: Vec<&str> = spec.output().iter().map(|(column, _)| *column).collect();
        let has_others = told.iter().any(|column| column.starts_with("each "));
        for field in schema.fields() {
            assert!(has_others || told.contains(&field.name().as_str()), "`{name}` does not tell of `{}`", field.name());
        }
        for column in told.iter().filter(|column| !column.starts_with("each ")) {
            assert!(schema.field_with_name(column).is_ok(), "`{name}` tells of `{column}`, which is not there");
        }
    }
}

/// Whether an example is what a user may write.
#[test]
fn examples_name_keys_and_inputs_that_there_are() {
    for spec in OPERATORS {
        let (name, example) = (spec.name(), spec.example());
        let file: toml::Table = toml::from_str(example).unwrap_or_else(|error| panic!("`{name}`: {error}"));
        let stages = file["stage"].as_table().unwrap();
        let mut keys = stages.values().next().unwrap().as_table().unwrap().clone();
        assert_eq!((stages.len(), keys.remove("op").unwrap().as_str()), (1, Some(name)));
        let required: BTreeSet<&str> = spec.inputs().iter().filter(|port| port.required).map(|port| port.name).collect();
        match (keys.remove("input"), keys.remove("inputs")) {
            (Some(_), None) => {
                let is_any = required.is_empty() && !spec.inputs().is_empty();
                assert!(required.len() == 1 || is_any, "`{name}`");
            }
            (None, Some(inputs)) if !required.contains("*") => {
                let named: BTreeSet<&str> = inputs.as_table().unwrap().keys().map(String::as_str).collect();
                let known: BTreeSet<&str> = spec.inputs().iter().map(|port| port.name).collect();
                assert!(required.is_subset(&named) && named.is_subset(&known), "`{name}`: {named:?}");
            }
            (None, Some(_)) => {}
            _ => assert!(required.is_empty(), "`{name}`"),
        }
        let Value::Object(keys) = serde_json::to_value(keys).unwrap() else { panic!("`{name}`") };
        spec.check(keys).unwrap_or_else(|errors| panic!("`{name}`: {errors:?}"));
    }
}

#[test]
fn ports_fit_the_shape_of_the_kernel() {
    let ground = Ground::new();
    let context = Context { seed: 1, threads: 1, base: ground.folder.path().to_owned(), scratch: std::env::temp_dir() };
    for spec in OPERATORS {
        let (name, ports) = (spec.name(), spec.inputs());
        let of_kind = |kind| ports.iter().filter(|port| port.kind == kind).count();
        let names: BTreeSet<&str> = ports.iter().map(|port| port.name).collect();
        assert_eq!(names.len(), ports.len(), "`{name}` has two ports of one name");
        // One that takes one of several inputs has a port of each shape.
        let takes_one_of = ports.len() > 1 && ports.iter().all(|port| !port.required);
        let (streams, named, tables) = (of_kind(PortKind::Stream), of_kind(PortKind::Named), of_kind(PortKind::Table));
        match ground.bind(*spec, keys(*spec)).kernel(&context).unwrap() {
            Kernel::Source(_) => assert!(ports.is_empty(), "`{name}` is a source and reads stages"),
            Kernel::Map(_) if takes_one_of => {
                let has_id = |port: &Port| port.columns.iter().any(|column| column.name == IMAGE_ID);
                assert!(streams > 0 && named + tables == 0, "`{name}` is a map");
                let mut streams = ports.iter().filter(|port| port.kind == PortKind::Stream);
                assert!(streams.all(has_id), "`{name}` reads rows without a name");
            }
            Kernel::Map(_) => {
                assert_eq!((streams, named + tables), (1, 0), "`{name}` is a map");
                let stream = ports.iter().find(|port| port.kind == PortKind::Stream).unwrap();
                assert!(stream.required, "`{name}` can be without its stream");
                assert!(stream.columns.iter().any(|column| column.name == IMAGE_ID), "`{name}` reads rows without a name");
            }
            Kernel::Whole(_) => assert!(streams + named + tables == 0 && !ports.is_empty(), "`{name}` sees whole tables"),
            Kernel::Query(_) => {
                let any = named == 1 && ports.len() == 1;
                assert!(any || tables == ports.len() && tables > 0, "`{name}` is a query");
            }
        }
        assert!(streams >= 1 || !(spec.view() || spec.looks_back()), "`{name}`: only maps are views, or look back");
    }
}

#[test]
fn keys_are_known_and_checked() {
    for spec in OPERATORS {
        let (name, fields) = (spec.name(), spec.fields());
        assert!(!fields.is_empty(), "`{name}` knows no key");
        for general in ["op", "input", "inputs", "keep"] {
            assert!(!fields.contains(&general), "`{general}` of `{name}` hides every stage's own");
        }
        let snake = |field: &&str| field.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        assert!(fields.iter().all(snake), "`{name}`: {fields:?}");

        let with = |key: &str, value: Value| {
            let mut keys = keys(*spec);
            keys.insert(key.to_owned(), value);
            spec.check(keys)
        };
        assert_eq!(spec.check(keys(*spec)), Ok(()), "`{name}`");
        let errors = with("no_such_key", json!(1)).unwrap_err();
        assert_eq!(errors.len(), 1, "`{name}`: {errors:?}");
        assert_eq!(
            (&errors[0].at, errors[0].message.as_str()),
            (&At::Unknown("no_such_key".into()), "unknown key `no_such_key`")
        );
        let help = errors[0].help.as_deref().unwrap_or_default();
        assert!(fields.iter().all(|field| help.contains(field)), "`{name}` knows {fields:?}, and says `{help}`");
        for field in fields {
            let errors = with(field, json!({ "nonsense": [1, "x"] })).expect_err(field);
            let at_field = |at: &At| matches!(at, At::Key(path) if path.split(['.', '[']).next() == Some(*field));
            assert!(errors.len() == 1 && at_field(&errors[0].at), "`{name}.{field}`: {errors:?}");
        }
    }
}

/// A number's value as a key holds it.
type Shape = fn(Value) -> Value;
/// Values of a key that holds numbers, made of one: the shapes that configs have.
const SHAPES: [Shape; 4] = [|x| x, |x| json!([x]), |x| json!([x, x]), |x| json!([x, x, x])];

/// Every key that holds numbers, with the values that show it to take them.
fn numeric(spec: &dyn Spec) -> Vec<(&'static str, Shape)> {
    let takes = |field: &'static str, value: Value| {
        let keys: Map<String, Value> = keys(spec).into_iter().chain([(field.to_owned(), value)]).collect();
        spec.check(keys).is_ok()
    };
    let shape = |&field: &&'static str| {
        let number = |shape: &&fn(Value) -> Value| [json!(2), json!(0.5)].into_iter().any(|x| takes(field, shape(x)));
        // Names may be spelt as a text or as a list of texts.
        let text = |shape: &&fn(Value) -> Value| takes(field, shape(json!("x")));
        SHAPES.iter().find(|shape| number(shape) && !text(shape)).map(|shape| (field, *shape))
    };
    spec.fields().iter().filter_map(shape).collect()
}

/// A slip of the keyboard is found by `check`, and not by a process that is out of memory.
#[test]
fn numbers_beyond_reason_are_faults() {
    let ground = Ground::new();
    let mut seen = 0;
    for spec in OPERATORS {
        for (field, shape) in numeric(*spec) {
            let bound = |value: Value| {
                let start = std::time::Instant::now();
                let keys = keys(*spec).into_iter().chain([(field.to_owned(), shape(value.clone()))]).collect();
                let bound = ground.try_bind(*spec, keys);
                assert!(start.elapsed().as_secs() < 60, "`{}.{field}` = {value} takes {:?}", spec.name(), start.elapsed());
                bound.map(|_| ())
            };
            for value in [json!(u32::MAX), json!(0), json!(1), json!(1_000_000)] {
                let _ = bound(value);
            }
            for value in [json!(i64::MAX), json!(u64::MAX), json!(1e300), json!(-1), json!(i64::MIN), json!(-1e300)] {
                let errors = bound(value.clone()).expect_err(&format!("`{}.{field}` = {value}", spec.name()));
                let at_field = |error: &BindError| match &error.at {
                    At::Key(path) => path.split(['.', '[']).next() == Some(field),
                    _ => false,
                };
                assert!(errors.iter().all(at_field), "`{}.{field}` = {value}: {errors:?}", spec.name());
                let tells = |error: &BindError| error.message.contains(|c: char| c.is_ascii_digit());
                assert!(errors.iter().any(tells), "`{}.{field}` = {value}: {errors:?}", spec.name());
            }
            seen += 1;
        }
    }
    assert!(seen >= 50, "only {seen} keys hold numbers");
}

/// A key is made of the config after defaults: if spelling a default out changed it, that would rerun the stage.
#[test]
fn a_default_spelt_out_is_no_change() {
    let ground = Ground::new();
    for spec in OPERATORS {
        let (name, given) = (spec.name(), keys(*spec));
        let bound = ground.bind(*spec, given.clone());
        for key in bound.config().keys() {
            assert!(spec.fields().contains(&key.as_str()), "`{name}`: the key has `{key}`, which is no field");
        }
        let mut spelt = given;
        spelt.extend(bound.config().clone());
        let again = ground.bind(*spec, spelt);
        assert_eq!((bound.config(), bound.schema()), (again.config(), again.schema()), "`{name}`");
    }
}

#[test]
fn what_a_stage_reads_and_hands_on_is_there() {
    let ground = Ground::new();
    for spec in OPERATORS {
        let name = spec.name();
        let bound = ground.bind(*spec, keys(*spec));
        let inputs: BTreeMap<&str, SchemaRef> = stage(name).1.into_iter().collect();
        let mut streamed: Vec<String> = Vec::new();
        for (input, schema) in &inputs {
            let port = spec.inputs().iter().find(|port| port.name == *input || port.kind == PortKind::Named).expect(input);
            let there = |column: &String| column == BYTES || schema.field_with_name(column).is_ok();
            let reads = bound.reads(input, port);
            assert!(reads.iter().all(there), "`{name}` reads {reads:?} of `{input}`");
            if port.kind == PortKind::Stream {
                streamed.extend(schema.fields().iter().map(|field| field.name().clone()));
            }
        }
        let (schema, passes) = (bound.schema(), bound.passes());
        for column in &passes {
            assert!(streamed.contains(column), "`{name}` hands on `{column}`, which its stream has not");
            assert!(schema.field_with_name(column).is_ok(), "`{name}` hands on `{column}`, which its table has not");
        }
        let names: BTreeSet<&String> = schema.fields().iter().map(|field| field.name()).collect();
        assert_eq!(names.len(), schema.fields().len(), "`{name}` has two columns of one name");
    }
}

#[test]
fn maps_yield_the_schema_that_they_promised() {
    let ground = Ground::new();
    let context = Context { seed: 1, threads: 1, base: ground.folder.path().to_owned(), scratch: std::env::temp_dir() };
    let mut seen = 0;
    for spec in OPERATORS.iter().filter(|spec| matches!(spec.inputs(), [port] if port.kind == PortKind::Stream)) {
        let bound = ground.bind(*spec, keys(*spec));
        let schema = bound.schema();
        let Kernel::Map(map) = bound.kernel(&context).unwrap() else { panic!("`{}` is no map", spec.name()) };
        let mut fields: Vec<Arc<Field>> = stage(spec.name()).1[0].1.fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new(BYTES, DataType::Binary, true)));
        fields.push(Arc::new(Field::new(PREVIOUS, DataType::Utf8, true)));
        let none = RecordBatch::new_empty(Arc::new(Schema::new(fields)));
        let mut dropped = Vec::new();
        let mut worker = map.open(&Inputs::default()).unwrap();
        let mut scope = Scope { epoch: 0, lead: None, unread: &[], dropped: &mut dropped };
        let made = worker.call(&none, &mut scope).unwrap();
        assert_eq!((made.schema(), made.num_rows()), (schema, 0), "`{}` of no rows", spec.name());
        seen += 1;
    }
    assert!(seen >= 3, "only {seen} maps were seen");
}
