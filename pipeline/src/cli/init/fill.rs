//! The text of a pipeline file, from what was found.

use super::super::counted;
use super::found::Found;
use super::label_file::LabelFile;

/// The pieces that are filled in.
const IMAGES: &str = include_str!("images.toml");
const PUZZLES_PIECE: &str = include_str!("puzzles.toml");
const HOG: &str = include_str!("hog.toml");
const MODEL: &str = include_str!("model.toml");
const CLUSTERS: &str = include_str!("clusters.toml");
const LABELS: &str = include_str!("labels.toml");
const LABEL: &str = include_str!("label.toml");
const PROBED: &str = include_str!("probed.toml");

/// The side of images, in pixels, unless the folder's are smaller: four tiles of 28 px, which suit the small network.
const SIDE: u32 = 64;
/// The side for smaller images: four tiles of 14 px, not much more than the small network needs.
const LEAST_SIDE: u32 = 32;
/// Puzzles that the training is to see in all, in so many epochs.
const PUZZLES: usize = 300_000;
/// The fewest and the most epochs.
const EPOCHS: (usize, usize) = (3, 60);
/// Puzzles a step.
const BATCH: usize = 64;
/// Of fewer images than that, more than a tenth may go at once.
const FEW: usize = 100;
/// The most clusters.
const MOST_CLUSTERS: usize = 2000;

/// Where features come from.
#[derive(Debug, Clone)]
pub enum Way {
    /// From a network that learns to solve puzzles.
    Puzzles,
    /// From gradients.
    Hog,
    /// From a TorchScript model, as the pipeline file names it, of images of that side.
    Model {
        /// The file.
        file: String,
        /// In pixels.
        side: u32,
    },
}

/// All that a pipeline file follows from.
pub struct Filled<'a> {
    /// The data set.
    pub found: &'a Found,
    /// Its path, from the file.
    pub path: String,
    /// Labels beside it, and where they lie, from the file.
    pub labels: Option<(&'a LabelFile, String)>,
    /// Whether clusters are to be named.
    pub named: bool,
    /// Where features come from.
    pub way: Way,
}

impl Filled<'_> {
    /// Passes over the images.
    pub fn epochs(&self) -> usize {
        (PUZZLES / self.found.images.max(1)).clamp(EPOCHS.0, EPOCHS.1)
    }

    /// How many clusters.
    pub fn clusters(&self) -> usize {
        let images = self.found.images;
        images.isqrt().clamp(2.min(images), MOST_CLUSTERS)
    }

    /// Whether there is a table with the column `label`.
    pub fn has_label(&self) -> bool {
        self.labels.is_some() || self.found.labelled()
    }

    /// Whether there is a table of labels that a probe can learn.
    pub fn can_probe(&self) -> bool {
        self.has_label() || self.found.classes > 0
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let found = self.found;
        let short = found.median().map_or(SIDE, |(width, height)| width.min(height));
        let (features, side) = match &self.way {
            Way::Puzzles | Way::Hog if short < SIDE => (self.features(), LEAST_SIDE),
            Way::Puzzles | Way::Hog => (self.features(), SIDE),
            Way::Model { side, .. } => (MODEL, *side),
        };
        let mut text = [IMAGES, features, CLUSTERS].concat();
        if self.labels.is_some() {
            text.push_str(LABELS);
        }
        if self.named {
            text.push_str(LABEL);
        }
        if self.can_probe() {
            text.push_str(PROBED);
        }
        let sizes = found.median().map_or_else(String::new, |(width, height)| format!(" (many are {width} x {height})"));
        let (epochs, k) = (self.epochs(), self.clusters());
        let model = if let Way::Model { file, .. } = &self.way { quoted(file) } else { String::new() };
        let (label_file, label_query) = match &self.labels {
            Some((labels, path)) => (quoted(path), quoted(&labels.query())),
            None => (String::new(), String::new()),
        };
        let labelling = if self.labels.is_some() { "labels" } else { "images" };
        let values = [
            ("@summary@", format!("Clusters of {}: {}.", counted(found.images, "image"), found.formats())),
            ("@labels@", found.comment()),
            ("@path@", quoted(&self.path)),
            ("@sizes@", sizes),
            ("@side@", side.to_string()),
            // Seven eighths of a cell.
            ("@tile@", (side * 7 / 16).to_string()),
            ("@epochs@", epochs.to_string()),
            ("@puzzles@", (epochs * found.images).to_string()),
            ("@batch@", BATCH.min(found.images).max(2).to_string()),
            ("@k@", k.to_string()),
            ("@removed@", quoted(if found.images < FEW { "50%" } else { "10%" })),
            ("@model@", model),
            ("@label_file@", label_file),
            ("@label_query@", label_query),
            ("@labelling@", labelling.to_owned()),
        ];
        fill(&text, &values)
    }

    fn features(&self) -> &'static str {
        if matches!(self.way, Way::Hog) { HOG } else { PUZZLES_PIECE }
    }
}

/// Puts values in the places of their names; a value may hold what looks like one.
fn fill(text: &str, values: &[(&str, String)]) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('@') {
        filled.push_str(&rest[..start]);
        rest = &rest[start..];
        match values.iter().find(|(name, _)| rest.starts_with(name)) {
            Some((name, value)) => {
                filled.push_str(value);
                rest = &rest[name.len()..];
            }
            None => {
                filled.push('@');
                rest = &rest[1..];
            }
        }
    }
    filled + rest
}

/// A text as TOML has it: a JSON string is one, and `${` would be an environment variable.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace("${", "$${")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(images: usize, size: (u32, u32)) -> Found {
        Found { images, sizes: vec![size], formats: vec![("jpg".into(), images)], ..Found::default() }
    }

    fn text(found: &Found, path: &str, way: Way) -> String {
        Filled { found, path: path.to_owned(), labels: None, named: false, way }.text()
    }

    #[test]
    fn numbers_follow_the_folder() {
        let few = text(&found(9, (40, 30)), "a \"b\" ${c} @k@", Way::Puzzles);
        let path = "path = \"a \\\"b\\\" $${c} @k@\"\n";
        for line in ["max_removed = \"50%\" ", "k = 3 ", "side = 32\n", "tile = 14\n", "batch = 9\n", "epochs = 60 ", path] {
            assert!(few.contains(line), "{line}: {few}");
        }
        let many = text(&found(1_000_000, (500, 375)), "x", Way::Puzzles);
        for line in ["max_removed = \"10%\" ", "k = 1000 ", "side = 64\n", "tile = 28\n", "batch = 64\n", "epochs = 3 "] {
            assert!(many.contains(line), "{line}: {many}");
        }
        assert!(!many.contains('@') && !many.contains("probe"));
    }

    #[test]
    fn features_come_from_where_they_are_wanted() {
        let found = Found { classes: 2, ..found(9, (40, 30)) };
        let hog = text(&found, "x", Way::Hog);
        assert!(hog.contains("op = \"hog\"\n") && !hog.contains("train") && !hog.contains('@'), "{hog}");
        assert!(hog.contains("# inputs = { features = \"features\", labels = \"images\" }\n"), "{hog}");
        let model = text(&found, "x", Way::Model { file: "m.ts".into(), side: 224 });
        assert!(
            model.contains("model = \"m.ts\"\n") && model.contains("side = 224\n") && !model.contains("train"),
            "{model}"
        );
    }
}
