//! A part is made from plain data, by whoever has it: once, whoever else makes it.

use std::fs;
use std::sync::Arc;

use arrow::array::Array as _;

use tessera_pipeline::ask::sql::planner::Planner;
use tessera_pipeline::declare::file::PipelineFile;
use tessera_pipeline::declare::graph::Graph;
use tessera_pipeline::declare::plan::Plan;
use tessera_pipeline::engine::Engine;
use tessera_pipeline::engine::catalog::Catalog;
use tessera_pipeline::engine::files::AnyFiles;
use tessera_pipeline::run::decide::Reads;
use tessera_pipeline::run::make::{Maker, Pace};
use tessera_pipeline::run::recipe::{Copies, Recipe, WorkRow};
use tessera_pipeline::store::generation::Generation;
use tessera_pipeline::store::{Part, Store};
use tessera_tests::Place;
use tokio::runtime::Runtime;

const FILE: &str = r#"
[pipeline]
name = "made"
part_rows = 4

[stage.images]
op = "images"
path = "photos"

[stage.decoded]
op = "decode"
input = "images"
side = 48

[stage.gradients]
op = "hog"
input = "decoded"

[stage.clusters]
op = "kmeans"
input = "gradients"
k = 2

[stage.assigned]
op = "assign"
inputs = { features = "gradients", clusters = "clusters" }
"#;

struct Made {
    place: Place,
    runtime: Runtime,
}

/// A pipeline that was run, and the parts of its stages.
fn made() -> Made {
    let place = Place::new();
    place.images(8).write("pipeline.toml", FILE);
    let run = place.tessera("run", &["-q"]);
    assert_eq!(run.code, 0, "{}", run.err);
    Made { place, runtime: tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap() }
}

impl Made {
    fn store(&self) -> Store {
        Store::new(&self.place.path(".tessera"), "made")
    }

    /// What a driver says of a stage's parts, as it comes out of a text.
    fn recipe(&self, stage: &str, reads: &Reads) -> Recipe {
        let path = self.place.path("pipeline.toml");
        let graph = Graph::resolve(PipelineFile::read(&path, &[]).unwrap());
        let planner = Planner { runtime: self.runtime.handle().clone() };
        let plan = Plan::bind(graph, &planner, &AnyFiles::default()).unwrap();
        let node = plan.graph.find(stage).unwrap();
        let catalog = Catalog::new(plan, self.store(), self.engine(), None);
        catalog.load(&Generation::read(&self.store()).unwrap());
        let text = serde_json::to_string(&Recipe::of(&catalog, node, reads).unwrap()).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn engine(&self) -> Arc<Engine> {
        Engine::new(2, Arc::new(AnyFiles::default()), self.store().unpacked()).unwrap()
    }

    fn parts(&self, stage: &str) -> Vec<Part> {
        self.store().stage(stage).current().unwrap().unwrap().parts
    }

    /// Makes a part like another process: with nothing but the recipe and the row, as texts.
    fn make(&self, recipe: &Recipe, row: &WorkRow) -> Result<Part, String> {
        let row: WorkRow = serde_json::from_str(&serde_json::to_string(row).unwrap()).unwrap();
        let maker = Maker::new(self.engine(), self.store());
        let made = self.runtime.block_on(maker.make(recipe, row, &Pace { window: 2, done: Arc::default() }));
        made.map_err(|error| format!("{error:#}"))
    }

    fn files(&self, stage: &str) -> Vec<String> {
        let entries = fs::read_dir(self.place.path(&format!(".tessera/made/{stage}/parts"))).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

#[test]
fn a_part_is_what_its_recipe_and_row_say() {
    let made = made();
    for (stage, below) in [("gradients", "images"), ("assigned", "gradients")] {
        let recipe = made.recipe(stage, &Reads::default());
        for (at, (source, whole)) in made.parts(below).into_iter().zip(made.parts(stage)).enumerate() {
            let row = WorkRow { key: format!("key{at}"), sources: vec![source], ..WorkRow::default() };
            let part = made.make(&recipe, &row).unwrap();
            assert_eq!((part.rows, &part.digests, &part.made_from), (whole.rows, &whole.digests, &whole.made_from));
        }
        // Several parts are made into one, and some of their rows are.
        let sources = made.parts(below);
        let row = WorkRow { key: "both".to_owned(), sources, ..WorkRow::default() };
        let both = made.make(&recipe, &row).unwrap();
        assert_eq!(both.rows, 8);
        let row = WorkRow { key: "some".to_owned(), compute: Some(vec![1, 6, 7]), ..row };
        assert_eq!(made.make(&recipe, &row).unwrap().rows, 3);
        // The others are copied: together they are the same rows.
        let copies = |part: &Part, onto: [u32; 5]| {
            let rows = made.store().stage(stage).read(part).unwrap();
            let ids = tessera_schemas::text(&rows, "image_id").unwrap();
            let wanted = made.place.sql(&format!("SELECT image_id FROM {below} ORDER BY 1"));
            let id = |row: u32| wanted[row as usize]["image_id"].as_str().unwrap().to_owned();
            let place = |row: u32| (0..ids.len()).find(|&at| ids.value(at) == id(row)).unwrap() as u32;
            Copies { part: part.clone(), rows: onto.map(place).to_vec(), onto: onto.to_vec() }
        };
        let row = WorkRow { key: "mixed".to_owned(), copies: vec![copies(&both, [0, 2, 3, 4, 5])], ..row };
        let mixed = made.make(&recipe, &row).unwrap();
        assert_eq!((mixed.rows, &mixed.digests), (8, &both.digests));
    }
}

#[test]
fn a_part_that_is_made_twice_is_one() {
    let made = made();
    let recipe = made.recipe("gradients", &Reads::default());
    let row = WorkRow { key: "twice".to_owned(), sources: made.parts("images"), ..WorkRow::default() };
    let attempts = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| made.make(&recipe, &row).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(attempts.iter().all(|part| *part == attempts[0]), "the first note wins");
    let files: Vec<String> = made.files("gradients").into_iter().filter(|name| name.starts_with("twice")).collect();
    assert_eq!(files.len(), 2, "a part and its note: {files:?}");
    // A note whose part is gone is nobody's.
    fs::remove_file(made.place.path(".tessera/made/gradients/parts").join(&attempts[0].file)).unwrap();
    let again = made.make(&recipe, &row).unwrap();
    assert!(again.file != attempts[0].file && again.digests == attempts[0].digests);
    // Other rows under the same key: no answer is right.
    let other = WorkRow { compute: Some(vec![0, 1]), ..row.clone() };
    let error = made.make(&recipe, &other).unwrap_err();
    assert!(error.contains("stage `gradients`") && error.contains("of the same key and with other rows"), "{error}");
    let anew = made.make(&recipe, &WorkRow { anew: true, ..other }).unwrap();
    assert_eq!(anew.rows, 2);
}

#[test]
fn a_recipe_of_another_build_is_refused() {
    let made = made();
    let mut recipe = made.recipe("gradients", &Reads::default());
    recipe.steps[0].version += 1;
    let row = WorkRow { key: "key".to_owned(), sources: made.parts("images"), ..WorkRow::default() };
    let error = made.make(&recipe, &row).unwrap_err();
    assert!(error.contains("this build has no operator `decode` of version"), "{error}");
}
