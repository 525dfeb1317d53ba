//! Random rounds of changes: a rerun gives what a new store gives, and computes no more than a model of the folder says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use image::{Rgb, RgbImage};
use tessera_tests::{Answer, Place};

const FILE: &str = r#"
[pipeline]
name = "NAME"
store = "STORE"
part_rows = 4

[stage.images]
op = "images"
path = "photos"

[stage.decoded]
op = "decode"
input = "images"
side = SIDE

[stage.gradients]
op = "hog"
input = "decoded"
cell = CELL

[stage.clusters]
op = "kmeans"
input = "gradients"
k = CLUSTERS

[stage.assigned]
op = "assign"
inputs = { features = "gradients", clusters = "clusters" }

[stage.labelled]
op = "sql"
inputs = { a = "assigned", i = "images" }
query = "SELECT image_id, a.cluster, i.label FROM a JOIN i USING (image_id)"

[stage.counts]
op = "sql"
input = "images"
query = "SELECT label, count(*) AS n FROM images GROUP BY label"
"#;
const CLASSES: [&str; 3] = ["blue", "green", "red"];
/// Images at the start, and the fewest that are left.
const FIRST: usize = 24;
const FEWEST: usize = 10;

/// Numbers that look random, the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % end
    }
}

/// The folder and the file as they should be: which picture is where, and the settings.
#[derive(Clone, PartialEq)]
struct Model {
    images: BTreeMap<String, usize>,
    side: usize,
    cell: usize,
    clusters: usize,
}

impl Model {
    /// Images that are not what they were under the same name.
    fn fresh(&self, before: &Self) -> u64 {
        self.images.iter().filter(|(id, picture)| before.images.get(*id) != Some(picture)).count() as u64
    }

    fn pick(&self, dice: &mut Dice) -> String {
        self.images.keys().nth(dice.below(self.images.len())).expect("one of them").clone()
    }
}

/// The folder, its model, and pictures that are not used yet.
struct Folder {
    place: Place,
    model: Model,
    pictures: usize,
    dice: Dice,
}

impl Folder {
    fn new(seed: u64) -> Self {
        let model = Model { images: BTreeMap::new(), side: 24, cell: 8, clusters: 3 };
        let mut folder = Self { place: Place::new(), model, pictures: 0, dice: Dice(seed) };
        (0..FIRST).for_each(|_| folder.add());
        folder
    }

    fn draw(&mut self, id: &str) {
        let picture = self.pictures;
        self.pictures += 1;
        let wave =
            |x: u32, y: u32| ((x as usize * (picture % 7 + 1) + y as usize * (picture % 5 + 1)) * 9 + picture * 31) % 256;
        let image =
            RgbImage::from_fn(40, 32, |x, y| Rgb([wave(x, y) as u8, (picture * 13 % 256) as u8, (picture / 256) as u8]));
        let path = self.place.path("photos").join(id);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image.save(path).unwrap();
        self.model.images.insert(id.to_owned(), picture);
    }

    fn add(&mut self) {
        let class = CLASSES[self.dice.below(CLASSES.len())];
        // Names in no order, so that new images fall among the old ones.
        let id = format!("{class}/{:04}-{}.png", self.pictures * 7919 % 10_000, self.pictures);
        self.draw(&id);
    }

    fn moved(&mut self, id: &str, to: String) {
        let photos = self.place.path("photos");
        fs::create_dir_all(photos.join(&to).parent().unwrap()).unwrap();
        fs::rename(photos.join(id), photos.join(&to)).unwrap();
        let picture = self.model.images.remove(id).unwrap();
        self.model.images.insert(to, picture);
    }

    /// One change, and its name.
    fn change(&mut self) -> &'static str {
        let id = self.model.pick(&mut self.dice);
        let (class, name) = id.split_once('/').unwrap();
        match self.dice.below(12) {
            0..=2 => {
                self.add();
                "add"
            }
            3..=5 if self.model.images.len() > FEWEST => {
                fs::remove_file(self.place.path("photos").join(&id)).unwrap();
                self.model.images.remove(&id);
                "remove"
            }
            3..=7 => {
                self.draw(&id);
                "change"
            }
            8 => {
                self.moved(&id, format!("{class}/{}-{name}", self.pictures));
                "rename"
            }
            9 | 10 => {
                let other = CLASSES[(CLASSES.iter().position(|known| *known == class).unwrap() + 1) % CLASSES.len()];
                self.moved(&id, format!("{other}/{name}"));
                "relabel"
            }
            _ => {
                match self.dice.below(3) {
                    0 => self.model.side = [24, 28, 32][self.dice.below(3)],
                    1 => self.model.cell = [6, 8][self.dice.below(2)],
                    _ => self.model.clusters = 2 + self.dice.below(4),
                }
                "config"
            }
        }
    }

    fn run(&self, name: &str) -> Answer {
        let Model { side, cell, clusters, .. } = &self.model;
        let store = if name == "fresh" { "other" } else { ".tessera" };
        let file = FILE.replace("NAME", name).replace("STORE", store).replace("SIDE", &side.to_string());
        let file = file.replace("CELL", &cell.to_string()).replace("CLUSTERS", &clusters.to_string());
        self.place.write(&format!("{name}.toml"), file);
        let answer = self.place.call("run", &format!("{name}.toml"), &["-q", "--format", "json"]);
        assert_eq!((answer.code, answer.err.as_str()), (0, ""));
        answer
    }
}

/// Rounds of one to four changes each.
fn play(rounds: usize, seed: u64) {
    let mut folder = Folder::new(seed);
    folder.run("kept");
    let mut made: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut computed, mut of) = (0, 0);
    for round in 0..rounds {
        let (before, old) = (folder.model.clone(), folder.place.digests("kept"));
        let count = 1 + folder.dice.below(4);
        let changes: Vec<&str> = (0..count).map(|_| folder.change()).collect();
        changes.iter().for_each(|change| *made.entry(change).or_default() += 1);
        let at = format!("seed {seed}, round {round}: {changes:?}");

        let run = folder.run("kept");
        let new = folder.place.digests("kept");
        let _ = fs::remove_dir_all(folder.place.path("other"));
        folder.run("fresh");
        assert_eq!(new, folder.place.digests_in("other", "fresh"), "{at}: as if made at once");

        let (all, fresh) = (folder.model.images.len() as u64, folder.model.fresh(&before));
        let same = |stage: &str| old[stage] == new[stage];
        let settings = (folder.model.side, folder.model.cell) == (before.side, before.cell);
        let pixels = if settings { fresh } else { all };
        // A query and a kernel that reads all are made whole, but only if what they read is another.
        let most = BTreeMap::from([
            ("images", fresh),
            ("decoded", pixels),
            ("gradients", pixels),
            ("clusters", if same("gradients") && folder.model.clusters == before.clusters { 0 } else { 6 }),
            ("assigned", if same("clusters") { pixels } else { all }),
            ("labelled", if same("assigned") && same("images") { 0 } else { all }),
            ("counts", if same("images") { 0 } else { 3 }),
        ]);
        for (stage, most) in most {
            let rows = run.stage(stage)["rows_computed"].as_u64().unwrap();
            assert!(rows <= most, "{at}: {stage} computed {rows} rows, and {most} changed: {}", run.out);
        }
        computed += run.stage("gradients")["rows_computed"].as_u64().unwrap();
        of += all;
        if folder.model == before {
            assert!(run.actions().iter().all(|action| action.ends_with(":reuse")), "{at}: {}", run.out);
        }
    }
    let kinds: BTreeSet<&str> = made.keys().copied().collect();
    println!("{rounds} rounds of {made:?}: computed {computed} of {of} vectors");
    assert!(rounds < 20 || kinds.len() == 6, "{kinds:?}");
}

#[test]
fn some_rounds_of_changes() {
    play(6, 3);
}

#[test]
#[ignore = "minutes: 50 rounds, each against a new store"]
fn fifty_rounds_of_changes() {
    play(50, 2018);
}
