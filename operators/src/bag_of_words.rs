//! `bag_of_words`: how often each visual word stands in a photo, over the photo's crops.
//!
//! Input: `words`, the crops that `tile` made with a whole number each, its word: `assign`'s `cluster`, for one. Output: `image_id` of the
//! photo and `feature`, a value a word: the share of the photo's crops that have it. Photos are sorted by `image_id`. Config: `column`,
//! `words`, `root`. Exact.
//!
//! With `tile`, `hog`, `kmeans` and `assign` before it, this is the paper's HOG baseline (table 3, CC+HOG), which learns nothing. Csurka,
//! Dance, Fan, Willamowski, Bray, "Visual categorization with bags of keypoints", 2004; the square root is Hellinger's kernel (Arandjelović,
//! Zisserman, "Three things everyone should know to improve object retrieval", CVPR 2012).

use std::collections::BTreeMap;

use arrow::array::{Array as _, ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tessera_schemas::{IMAGE_ID, clusters, column, features, meta, text, whole_numbers};

use crate::config::Limits;
use crate::operator::{
    BindError, Binding, Column, ColumnKind, Context, Operator, Port, RunError, Sink, Tables, Whole, read_all,
};
use crate::tile;

const WORDS: &str = "words";
/// Values of one batch of output.
const VALUES: usize = 1 << 22;

/// Keys of a `bag_of_words` stage.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The column with a crop's word.
    #[serde(default = "cluster")]
    column: String,
    /// How many words there are, 0 to `words` - 1. Default: the number that the input's metadata have for the column, as those of
    /// `assign` do.
    #[serde(default)]
    words: Option<usize>,
    /// Takes the square root of each share, so that a few frequent words do not outweigh the others.
    #[serde(default)]
    root: bool,
}

fn cluster() -> String {
    clusters::CLUSTER.to_owned()
}

/// The bound operator.
pub struct BagOfWords {
    column: String,
    words: usize,
    root: bool,
}

impl Operator for BagOfWords {
    const NAME: &'static str = "bag_of_words";
    const SUMMARY: &'static str = "features of photos: how often each visual word stands in its crops";
    const OUTPUT: &'static [(&'static str, &'static str)] =
        &[("image_id", "the photo's"), ("feature", "one value a word: the share of the photo's crops that have this word")];
    const EXAMPLE: &'static str = r#"
[stage.bags]
op = "bag_of_words"
input = "words"
root = true
"#;
    const VERSION: u32 = 1;
    const INPUTS: &'static [Port] = &[Port::scan(WORDS, &[Column::new(IMAGE_ID, ColumnKind::Text)])];
    const LIMITS: Limits = &[("words", 1e6)];
    type Config = Config;
    type Kernel = Box<dyn Whole>;

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let Config { column: name, words, root } = config;
        let rows = inputs.inputs.required(WORDS);
        let field = column::field(rows, &name).map_err(|error| vec![BindError::key("column", error.to_string())])?;
        if !field.data_type().is_integer() {
            let message = format!("`{name}` holds {}, and words are whole numbers", field.data_type());
            return Err(vec![BindError::key("column", message).help("`assign` makes some, as `cluster`")]);
        }
        match words.or_else(|| meta::number(field, meta::CLASSES).ok()) {
            Some(0) => Err(vec![BindError::key("words", "0 words count nothing: at least 1")]),
            Some(words) => Ok(Self { column: name, words, root }),
            None => {
                let message = format!("needs `words`: its input does not say how many there are in `{name}`");
                Err(vec![BindError::stage(message).help("words = N, for words 0 to N - 1")])
            }
        }
    }

    fn schema(&self) -> SchemaRef {
        features::schema([(features::FEATURE, self.words)])
    }

    fn reads(&self, _: &str, _: &'static Port) -> Vec<String> {
        vec![IMAGE_ID.to_owned(), self.column.clone()]
    }

    fn settled(&self) -> Vec<(&'static str, serde_json::Value)> {
        vec![("words", self.words.into())]
    }

    fn kernel(self, _: &Context) -> Result<Box<dyn Whole>, RunError> {
        Ok(Box::new(self))
    }
}

impl Whole for BagOfWords {
    fn run(self: Box<Self>, tables: &dyn Tables, sink: &mut dyn Sink) -> Result<(), RunError> {
        // Words and how often, by photo; most photos have few of them.
        let mut photos: BTreeMap<String, BTreeMap<u32, u32>> = BTreeMap::new();
        read_all(tables, WORDS, sink, "counting words", |batch, _| self.count(batch, &mut photos))?;
        let mut photos = photos.into_iter().peekable();
        while photos.peek().is_some() {
            let some: Vec<_> = photos.by_ref().take((VALUES / self.words).max(1)).collect();
            let values = some.iter().flat_map(|(_, counts)| shares(counts, self.words, self.root)).collect();
            let ids: ArrayRef = Arc::new(StringArray::from_iter_values(some.iter().map(|(id, _)| id)));
            let vectors = features::array(values, self.words);
            sink.write(RecordBatch::try_new(self.schema(), vec![ids, vectors])?)?;
        }
        Ok(())
    }
}

impl BagOfWords {
    /// Adds a batch's words to their photos'.
    fn count(&self, batch: &RecordBatch, photos: &mut BTreeMap<String, BTreeMap<u32, u32>>) -> Result<(), RunError> {
        let (ids, words) = (text(batch, IMAGE_ID)?, whole_numbers(batch, &self.column)?);
        for (row, id) in ids.iter().enumerate() {
            let id = id.unwrap_or_default();
            let fault = |reason: String| RunError::Row { image_id: id.to_owned(), reason };
            let photo = tile::photo(id).ok_or_else(|| {
                fault("it is no crop of a photo: `tile` cuts photos into crops, named PHOTO#ROW,COLUMN".into())
            })?;
            let word = (!words.is_null(row)).then(|| words.value(row));
            let word = word.filter(|word| (0..self.words as i64).contains(word)).ok_or_else(|| {
                let found = word.map_or("null".to_owned(), |word| word.to_string());
                fault(format!("its word is {found}, and should be 0 to {}", self.words - 1))
            })?;
            let counts = match photos.get_mut(photo) {
                Some(counts) => counts,
                None => photos.entry(photo.to_owned()).or_default(),
            };
            *counts.entry(word as u32).or_default() += 1;
        }
        Ok(())
    }
}

/// Each word's share of all.
fn shares(counts: &BTreeMap<u32, u32>, words: usize, root: bool) -> Vec<f32> {
    let all: f64 = counts.values().copied().map(f64::from).sum();
    let mut shares = vec![0.0; words];
    for (&word, &count) in counts {
        let share = f64::from(count) / all;
        shares[word as usize] = if root { share.sqrt() } else { share } as f32;
    }
    shares
}

#[cfg(test)]
mod tests {
    use arrow::array::Int32Array;
    use arrow::datatypes::{DataType, Field, Schema};
    use serde_json::json;

    use super::*;
    use crate::operator::At;
    use crate::trial::{self, Memory, Record};

    fn table(rows: &[(&str, Option<i32>)]) -> RecordBatch {
        let word = meta::with(Field::new("cluster", DataType::Int32, true), meta::CLASSES, "3");
        let schema = Arc::new(Schema::new(vec![Field::new(IMAGE_ID, DataType::Utf8, false), word]));
        let ids = StringArray::from_iter_values(rows.iter().map(|row| row.0));
        let words: Int32Array = rows.iter().map(|row| row.1).collect();
        RecordBatch::try_new(schema, vec![Arc::new(ids), Arc::new(words)]).unwrap()
    }

    fn run(config: serde_json::Value, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>, RunError> {
        let operator: BagOfWords = trial::bind(config, &[(WORDS, batches[0].schema())]).unwrap();
        let mut record = Record::default();
        Box::new(operator).run(&Memory([(WORDS, batches)].into()), &mut record)?;
        Ok(record.batches)
    }

    #[test]
    fn words_are_counted_by_photo_whatever_the_batches() {
        let rows = [("b.jpg#000,000", 2), ("a#1.jpg#000,001", 0), ("b.jpg#000,001", 2), ("b.jpg#001,000", 0)];
        let rows = rows.map(|(id, word)| (id, Some(word)));
        let expected = trial::features(&[("a#1.jpg", &[1.0, 0.0, 0.0]), ("b.jpg", &[1.0 / 3.0, 0.0, 2.0 / 3.0])]);
        assert_eq!(run(json!({}), vec![table(&rows)]).unwrap(), std::slice::from_ref(&expected));
        assert_eq!(run(json!({}), vec![table(&rows[2..]), table(&rows[..2])]).unwrap(), [expected]);
        let half = 0.5f32.sqrt();
        let made = run(json!({"root": true}), vec![table(&[("a#0,0", Some(1)), ("a#0,1", Some(2))])]).unwrap();
        assert_eq!(made, [trial::features(&[("a", &[0.0, half, half])])]);
    }

    #[test]
    fn unfit_rows_are_named() {
        let message = |rows: &[(&str, Option<i32>)]| run(json!({}), vec![table(rows)]).unwrap_err().to_string();
        assert!(message(&[("a.jpg", Some(0))]).starts_with("image `a.jpg`: it is no crop of a photo"));
        assert_eq!(message(&[("a#0,0", Some(3))]), "image `a#0,0`: its word is 3, and should be 0 to 2");
        assert_eq!(message(&[("a#0,0", None)]), "image `a#0,0`: its word is null, and should be 0 to 2");
    }

    #[test]
    fn faults_name_their_keys() {
        let fault = |config| {
            let bound = trial::bind::<BagOfWords>(config, &[(WORDS, table(&[]).schema())]);
            bound.err().map(|faults| faults[0].message.clone())
        };
        assert_eq!(fault(json!({"words": 9})), None);
        assert_eq!(fault(json!({"words": 0})).unwrap(), "0 words count nothing: at least 1");
        assert_eq!(fault(json!({"column": IMAGE_ID})).unwrap(), "`image_id` holds Utf8, and words are whole numbers");
        let features = trial::bind::<BagOfWords>(json!({}), &[(WORDS, trial::features(&[("a", &[1.0])]).schema())]);
        assert_eq!(features.err().unwrap()[0].at, At::Key("column".into()));
    }
}
