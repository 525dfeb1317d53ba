//! `label_join`: the rows of a table, with the labels that another table has for them.
//!
//! Input: `images`, any table with an `image_id`, and `labels`, any table with the key. Output: every column of `images`, and of
//! `labels` those in `columns`, sorted by `image_id`. A label column replaces one of `images` that has its name, in its place: the
//! `label` that a folder gave, for one. `image_id`, `source` and `digest` say which image and which bytes a row is about, and are
//! never replaced; by default they are not taken, and so an images table with labels can be decoded as before.
//!
//! Texts are compared in Unicode's composed form and without a leading `./`. Config: `on`, `columns`, `unmatched`, `allow_no_match`. A key that `labels` has twice fails the stage and is named, whether an image has it or
//! not. The table `metrics` says how many rows were `matched` and `unmatched`, and how many labels were `unused`; with
//! `unmatched = "drop"`, the table `dropped` says which. A key that is null matches nothing. Exact.

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use tessera_schemas::{IMAGE_ID, images};

use crate::operator::{BindError, Binding, Column, ColumnKind, Context, Operator, Port, PortKind, Query, RunError};

const IMAGES: &str = "images";
const LABELS: &str = "labels";
/// The function of queries that makes texts comparable ([`ids::canonical`](tessera_schemas::ids::canonical)).
const CANONICAL: &str = "canonical_id";
/// Columns that say which image and which bytes a row is about.
const IDENTITY: [&str; 3] = [IMAGE_ID, "source", "digest"];

/// Keys of a `label_join` stage.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The column, in both tables, by which rows find their label.
    #[serde(default = "on")]
    on: String,
    /// The columns that are taken from `labels`. Default: all but the key, `image_id`, `source`, `digest`, and what an images table
    /// says of files (`width` and so on).
    #[serde(default)]
    columns: Option<Vec<String>>,
    /// What happens to a row that `labels` has nothing for.
    #[serde(default)]
    unmatched: Unmatched,
    /// Whether a run may go on when no row finds a label. Otherwise it fails, for names are then probably written in two ways.
    #[serde(default)]
    allow_no_match: bool,
}

/// What happens to a row that `labels` has nothing for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unmatched {
    /// Its labels are null.
    #[default]
    Keep,
    /// It is left out, and listed in the table `dropped`.
    Drop,
    /// The run fails, and names it.
    Fail,
}

fn on() -> String {
    IMAGE_ID.to_owned()
}

/// The bound operator.
pub struct LabelJoin {
    on: String,
    /// The columns that are taken from `labels`.
    columns: Vec<String>,
    unmatched: Unmatched,
    allow_no_match: bool,
    /// Whether keys are texts.
    is_text: bool,
    schema: SchemaRef,
}

impl Operator for LabelJoin {
    const NAME: &'static str = "label_join";
    const SUMMARY: &'static str = "rows of a table, with the labels that another table has for them";
    const OUTPUT: &'static [(&'static str, &'static str)] =
        &[("each of images", "as it is"), ("each of columns", "from `labels`; null where `labels` has nothing for the row")];
    const EXAMPLE: &'static str = r#"
[stage.labelled]
op = "label_join"
inputs = { images = "assigned", labels = "labels" }
columns = ["label"]
"#;
    const VERSION: u32 = 2;
    const INPUTS: &'static [Port] = &[
        Port { name: IMAGES, kind: PortKind::Table, required: true, columns: &[Column::new(IMAGE_ID, ColumnKind::Text)] },
        Port { name: LABELS, kind: PortKind::Table, required: true, columns: &[] },
    ];
    type Config = Config;
    type Kernel = Query;

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let (images, labels) = (inputs.inputs.required(IMAGES), inputs.inputs.required(LABELS));
        let Config { on, columns, unmatched, allow_no_match } = config;
        let mut errors = check_key(&on, images, labels);
        let columns = match columns {
            Some(columns) => {
                errors.extend(check_columns(&columns, &on, labels));
                columns
            }
            None => {
                let labels = labels.fields().iter().filter(|field| !images::describes_file(field));
                let names = labels.map(|field| field.name());
                names.filter(|name| **name != on && !IDENTITY.contains(&name.as_str())).cloned().collect()
            }
        };
        if !errors.is_empty() {
            return Err(errors);
        }
        let schema = joined(images, labels, &columns, unmatched);
        let is_text = images.field_with_name(&on).is_ok_and(|field| *field.data_type() == DataType::Utf8);
        Ok(Self { on, columns, unmatched, allow_no_match, is_text, schema })
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn reads(&self, input: &str, _: &'static Port) -> Vec<String> {
        let of_labels = |name: &&String| self.columns.contains(name);
        let names = self.schema.fields().iter().map(|field| field.name());
        match input {
            LABELS => std::iter::once(self.on.clone()).chain(self.columns.iter().cloned()).collect(),
            // The key is among them: no label can have its name.
            _ => names.filter(|name| !of_labels(name)).cloned().collect(),
        }
    }

    fn settled(&self) -> Vec<(&'static str, serde_json::Value)> {
        vec![("columns", self.columns.clone().into())]
    }

    fn kernel(self, _: &Context) -> Result<Query, RunError> {
        Ok(self.query())
    }
}

/// Complaints about the key.
fn check_key(on: &str, images: &SchemaRef, labels: &SchemaRef) -> Vec<BindError> {
    let mut errors = Vec::new();
    let mut kinds = Vec::new();
    for (input, schema) in [(IMAGES, images), (LABELS, labels)] {
        match schema.field_with_name(on) {
            Ok(field) => kinds.push((input, field.data_type())),
            Err(_) => {
                let message = format!("`{input}` has no column `{on}`");
                errors.push(BindError::key("on", message).help(has(input, schema)));
            }
        }
    }
    let fits = |kind: &DataType| kind.is_integer() || kind == &DataType::Utf8;
    for (input, kind) in kinds.iter().filter(|(_, kind)| !fits(kind)) {
        errors.push(BindError::key("on", format!("`{on}` of `{input}` is {kind}, and a key is Utf8 or an integer")));
    }
    if let [(_, one), (_, other)] = kinds[..]
        && errors.is_empty()
        && one.is_integer() != other.is_integer()
    {
        let message = format!("`{on}` is {one} in `{IMAGES}`, and {other} in `{LABELS}`");
        errors.push(BindError::key("on", message).help("a `sql` stage can CAST one of them"));
    }
    errors
}

/// Complaints about the columns that the stage names.
fn check_columns(columns: &[String], on: &str, labels: &SchemaRef) -> Vec<BindError> {
    let mut seen = BTreeSet::new();
    let mut errors = Vec::new();
    for (at, name) in columns.iter().enumerate() {
        let key = format!("columns[{at}]");
        if !seen.insert(name) {
            errors.push(BindError::key(&key, format!("`{name}` is named twice")));
        } else if name == on {
            errors.push(BindError::key(&key, format!("`{name}` is the key, which the table has anyway")));
        } else if IDENTITY.contains(&name.as_str()) {
            let message = format!("`{name}` says which image a row is about, and a label cannot have that name");
            errors.push(BindError::key(&key, message).help("a `sql` stage can rename it"));
        } else if labels.field_with_name(name).is_err() {
            let message = format!("`{LABELS}` has no column `{name}`");
            errors.push(BindError::key(&key, message).help(has(LABELS, labels)));
        }
    }
    errors
}

fn has(input: &str, schema: &SchemaRef) -> String {
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    format!("`{input}` has: {}", names.join(", "))
}

/// The result's schema: labels stand where `images` has a column of the name, or else behind.
fn joined(images: &SchemaRef, labels: &SchemaRef, columns: &[String], unmatched: Unmatched) -> SchemaRef {
    let label = |name: &String| -> Option<Arc<Field>> {
        let field = labels.fields().iter().find(|field| field.name() == name)?;
        let nullable = field.is_nullable() || unmatched == Unmatched::Keep;
        Some(Arc::new(field.as_ref().clone().with_nullable(nullable)))
    };
    let taken = |field: &Arc<Field>| if columns.contains(field.name()) { label(field.name()) } else { None };
    let replaced = images.fields().iter().map(|field| taken(field).unwrap_or_else(|| field.clone()));
    let added = columns.iter().filter(|name| images.field_with_name(name).is_err()).filter_map(label);
    Arc::new(Schema::new(replaced.chain(added).collect::<Vec<_>>()))
}

impl LabelJoin {
    fn query(&self) -> Query {
        let key = identifier(&self.on);
        let name = format!("{} `", self.on);
        // What keys are compared by.
        let by = |side: &str| if self.is_text { format!("{CANONICAL}({side}.{key})") } else { format!("{side}.{key}") };
        let (of_image, of_label) = (by("i"), by("l"));
        let column = |field: &Arc<Field>| {
            let side = if self.columns.contains(field.name()) { "l" } else { "i" };
            let name = identifier(field.name());
            format!("{side}.{name} AS {name}")
        };
        let columns = self.schema.fields().iter().map(column).collect::<Vec<_>>().join(", ");
        let join = if self.unmatched == Unmatched::Keep { "LEFT" } else { "INNER" };
        let pairs = format!("{IMAGES} AS i {join} JOIN {LABELS} AS l ON {of_image} = {of_label}");
        let missing = format!("{IMAGES} AS i WHERE NOT EXISTS (SELECT 1 FROM {LABELS} AS l WHERE {of_label} = {of_image})");
        let unused = format!("{LABELS} AS l WHERE NOT EXISTS (SELECT 1 FROM {IMAGES} AS i WHERE {of_image} = {of_label})");
        let shown = format!("coalesce(CAST(i.{key} AS VARCHAR), 'null')");

        let twice = format!(
            "WITH twice AS (SELECT {of_label} AS k, count(*) AS n FROM {LABELS} AS l WHERE {of_label} IS NOT NULL GROUP BY {of_label} \
             HAVING count(*) > 1) \
             SELECT {has} || CAST(n AS VARCHAR) || {rows} || CAST(k AS VARCHAR) || {one} || \
             CAST((SELECT count(*) FROM twice) AS VARCHAR) FROM twice ORDER BY k LIMIT 1",
            has = text(&format!("`{LABELS}` has ")),
            rows = text(&format!(" rows of {name}")),
            one = text("`, and may have one of each; keys with several rows: "),
        );
        let mut checks = vec![twice];
        if !self.allow_no_match {
            checks.push(format!(
                "SELECT '0 of ' || CAST(i.n AS VARCHAR) || {none} || coalesce(i.k, 'null') || {against} || coalesce(l.k, 'nothing') || {help} \
                 FROM (SELECT count(*) AS n, min(CAST({key} AS VARCHAR)) AS k FROM {IMAGES}) AS i, \
                 (SELECT min(CAST({key} AS VARCHAR)) AS k FROM {LABELS}) AS l, \
                 (SELECT count(*) AS n FROM {missing}) AS m WHERE i.n > 0 AND m.n = i.n",
                none = text(&format!(" rows of `{IMAGES}` have a label, by {}: `", self.on)),
                against = text("` against `"),
                help = text("`; allow_no_match = true permits it"),
            ));
        }
        if self.unmatched == Unmatched::Fail {
            checks.push(format!(
                "SELECT {none} || min({shown}) || {many} || CAST(count(*) AS VARCHAR) FROM {missing} HAVING count(*) > 0",
                none = text(&format!("`{LABELS}` has no row of {name}")),
                many = text(&format!("`; rows of `{IMAGES}` without a label: ")),
            ));
        }
        let dropped = (self.unmatched == Unmatched::Drop).then(|| {
            let reason = text(&format!("no label of {name}"));
            format!("SELECT i.{} AS image_id, {reason} || {shown} || '`' AS reason FROM {missing}", identifier(IMAGE_ID))
        });
        let counts = format!(
            "SELECT a.n - m.n AS matched, m.n AS unmatched, u.n AS unused FROM (SELECT count(*) AS n FROM {IMAGES}) AS a, \
             (SELECT count(*) AS n FROM {missing}) AS m, (SELECT count(*) AS n FROM {unused}) AS u"
        );
        Query { sql: format!("SELECT {columns} FROM {pairs}"), checks, dropped, counts: Some(counts) }
    }
}

/// A name in SQL.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in SQL.
fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::operator::At;
    use crate::trial;

    fn table(columns: &[(&str, DataType)]) -> SchemaRef {
        Arc::new(Schema::new(columns.iter().map(|(name, kind)| Field::new(*name, kind.clone(), false)).collect::<Vec<_>>()))
    }

    fn labels() -> SchemaRef {
        let text = || DataType::Utf8;
        table(&[("image_id", text()), ("breed", text()), ("label", DataType::Int64), ("digest", text()), ("photo", text())])
    }

    fn bind(config: serde_json::Value) -> Result<LabelJoin, Vec<BindError>> {
        trial::bind::<LabelJoin>(config, &[(IMAGES, images::schema()), (LABELS, labels())])
    }

    fn names(schema: &SchemaRef) -> Vec<&str> {
        schema.fields().iter().map(|field| field.name().as_str()).collect()
    }

    fn faults(config: serde_json::Value) -> Vec<(At, String)> {
        bind(config).err().expect("faults").into_iter().map(|error| (error.at, error.message)).collect()
    }

    #[test]
    fn labels_stand_in_place_or_behind() {
        let joined = bind(json!({})).unwrap();
        let mut expected = names(&images::schema()).into_iter().map(str::to_owned).collect::<Vec<_>>();
        assert!(expected.contains(&"label".to_owned()) && expected.contains(&"digest".to_owned()));
        expected.extend(["breed".to_owned(), "photo".to_owned()]);
        assert_eq!(names(&joined.schema), expected);
        let label = joined.schema.field_with_name("label").unwrap();
        assert_eq!((label.data_type(), label.is_nullable()), (&DataType::Int64, true));
        let digest = |schema: &SchemaRef| schema.field_with_name("digest").unwrap().clone();
        assert_eq!(digest(&joined.schema), digest(&images::schema()));
        assert_eq!(joined.settled(), [("columns", json!(["breed", "label", "photo"]))]);
        assert!(!bind(json!({ "unmatched": "drop" })).unwrap().schema.field_with_name("breed").unwrap().is_nullable());
    }

    #[test]
    fn reads_what_it_hands_on() {
        let joined = bind(json!({ "columns": ["label"] })).unwrap();
        let [images, labels] = LabelJoin::INPUTS else { panic!("two ports") };
        assert_eq!(joined.reads(LABELS, labels), ["image_id", "label"]);
        let read = joined.reads(IMAGES, images);
        assert!(read.contains(&"image_id".to_owned()) && read.contains(&"source".to_owned()), "{read:?}");
        assert!(!read.contains(&"label".to_owned()), "what is replaced does not matter: {read:?}");
    }

    #[test]
    fn the_query_keeps_names_apart() {
        let images = table(&[("image_id", DataType::Utf8), ("a\"b", DataType::Utf8)]);
        let labels = table(&[("a\"b", DataType::Utf8), ("it's", DataType::Utf8)]);
        let config = json!({ "on": "a\"b", "unmatched": "drop" });
        let query = trial::bind::<LabelJoin>(config, &[(IMAGES, images), (LABELS, labels)]).unwrap().query();
        assert_eq!(
            query.sql,
            "SELECT i.\"image_id\" AS \"image_id\", i.\"a\"\"b\" AS \"a\"\"b\", l.\"it's\" AS \"it's\" \
             FROM images AS i INNER JOIN labels AS l ON canonical_id(i.\"a\"\"b\") = canonical_id(l.\"a\"\"b\")"
        );
        assert_eq!((query.checks.len(), query.dropped.is_some()), (2, true));
        let fail = bind(json!({ "unmatched": "fail" })).unwrap().query();
        assert_eq!((fail.checks.len(), fail.dropped), (3, None));
        assert!(bind(json!({})).unwrap().query().sql.contains("LEFT JOIN"));
    }

    #[test]
    fn faults_are_told_together() {
        let at = |key: &str| At::Key(key.to_owned());
        let found = faults(json!({ "on": "breeds", "columns": ["label", "race", "label", "source", "breeds"] }));
        let expected = [
            (at("on"), "`images` has no column `breeds`".to_owned()),
            (at("on"), "`labels` has no column `breeds`".to_owned()),
            (at("columns[1]"), "`labels` has no column `race`".to_owned()),
            (at("columns[2]"), "`label` is named twice".to_owned()),
            (at("columns[3]"), "`source` says which image a row is about, and a label cannot have that name".to_owned()),
            (at("columns[4]"), "`breeds` is the key, which the table has anyway".to_owned()),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn keys_must_be_comparable() {
        let found = faults(json!({ "on": "label" }));
        assert_eq!(found, [(At::Key("on".into()), "`label` is Utf8 in `images`, and Int64 in `labels`".to_owned())]);
        let inputs = [(IMAGES, images::schema()), (LABELS, table(&[("image_id", DataType::Float64)]))];
        let errors = trial::bind::<LabelJoin>(json!({}), &inputs).err().unwrap();
        assert_eq!(errors[0].message, "`image_id` of `labels` is Float64, and a key is Utf8 or an integer");
    }
}
