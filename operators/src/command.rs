//! `command`: a stage that is any program. Arrow's stream format goes to its stdin and comes from its stdout.
//!
//! Input, one of three or none. `rows` (which a plain `input` means): the program gets a batch of rows and answers it by one of as many, in
//! the same order, and is kept for the next batch; a row's answer follows from that row alone, so that it is reused as other maps' rows
//! are. `images`: the same, with the images' encoded bytes in the column `encoded`. `table`: the program reads all rows, sorted by `image_id` (or
//! else by all columns that it gets), and then the table that it writes is the stage's. Without an input the program is a source: its stdin is empty.
//!
//! Output: the columns that `columns` declares; of `rows` and `images`, `image_id` first, and what `hand_on` names last. A row of which the
//! program's column `error` (utf8) is not null has no answer, and `on_error` says what becomes of it.
//!
//! What an answer follows from is in the key: the command line, the bytes of the program and of each file or folder that an argument or
//! `files` names, and the values of the variables that `environment` names. Of the other variables a program gets `PATH`, `HOME`, `USER`,
//! `LOGNAME` and `TMPDIR` alone, and `LANG`, `LC_ALL`, `PYTHONHASHSEED`, `PYTHONUNBUFFERED`, `OMP_NUM_THREADS`, `OPENBLAS_NUM_THREADS` and
//! `MKL_NUM_THREADS` with fixed values. No shell is between. What a program imports from elsewhere, or fetches, is not known: a file of
//! `files` can say it, such as a lock file.

mod content;
mod frames;
mod lines;
mod process;
mod rows;
mod system;
mod types;
mod whole;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tessera_schemas::{BYTES, IMAGE_ID, meta};

use crate::config::Limits;
use crate::decode::OnError;
use crate::operator::{BindError, Binding, Column, ColumnKind, Context, Kernel, Operator, Port, RunError};
use content::Content;
use process::Call;
use rows::{Rows, Task};
use types::Columns;
use whole::Table;

const ROWS: &str = "rows";
const IMAGES: &str = "images";
const TABLE: &str = "table";
/// The column by which a program says that a row has no answer.
const ERROR: &str = "error";
/// How long a program may take for a batch, unless the stage says.
const PATIENCE_SECONDS: u64 = 600;

/// Keys of a `command` stage.
#[derive(Debug, Clone, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The program and its arguments, a text each, run in the pipeline file's folder without a shell. With `input` (or `inputs = { rows = … }`,
    /// or `images` for encoded bytes) it answers each batch by one of as many rows; with `inputs = { table = … }` it reads all rows before its
    /// table is taken; without an input it is a source. Its bytes, and those of each file or folder that an argument names, are part of the key.
    command: Vec<String>,
    /// The columns that the program writes, `{ name = "type", … }`: bool, int8 to int64, uint8 to uint64, float16 to float64, utf8,
    /// binary; `float32[128]` and `uint8[64,64,3]` are arrays, and `utf8?` may be null. The table has them in this order.
    columns: Columns,
    /// The columns of the input that the program gets. Default: all but `image_id`; for a `table`, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reads: Option<Vec<String>>,
    /// Columns of the input that are handed on untouched, such as labels; not for a `table`.
    #[serde(default)]
    hand_on: Vec<String>,
    /// Further files and folders that the program uses, such as what it imports. Their bytes are part of the key.
    #[serde(default)]
    files: Vec<PathBuf>,
    /// Variables that the program gets: `NAME` as it is set here, `NAME=value` with that value. Their values are part of the key.
    #[serde(default)]
    environment: Vec<String>,
    /// What happens to a row that has an `error` in place of an answer, or whose file cannot be read.
    #[serde(default)]
    on_error: OnError,
    /// The number of programs that run at once, at most as many as there are threads; for a `table`, one program runs. Default: as many
    /// as there are threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    processes: Option<usize>,
    /// The seconds after which a program that neither reads nor writes is ended. Default: 600; without an input, and for a `table`, it
    /// is not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout_seconds: Option<u64>,
}

/// The bound operator.
pub struct Command {
    config: Config,
    content: Content,
    /// The input's name, if there is one.
    input: Option<&'static str>,
    /// What the program gets.
    sent: SchemaRef,
    /// The columns that it makes.
    made: Vec<Arc<Field>>,
    schema: SchemaRef,
}

/// Whether a column says what it says by its values, and not where that is.
fn has_content(field: &Field) -> bool {
    !field.metadata().contains_key(meta::UNDIGESTED)
}

impl Config {
    /// What is wrong with it, whatever the stage reads.
    fn faults(&self, base: &Path) -> Vec<BindError> {
        let mut faults = Vec::new();
        if self.columns.0.is_empty() {
            faults.push(
                BindError::key("columns", "the program writes no column").help("such as columns = { angle = \"int32\" }"),
            );
        }
        for (key, value) in [("processes", self.processes.map(|n| n as u64)), ("timeout_seconds", self.timeout_seconds)] {
            if value == Some(0) {
                faults.push(BindError::key(key, format!("{key} is 0, and should be at least 1")));
            }
        }
        for (at, variable) in self.environment.iter().enumerate() {
            let name = variable.split_once('=').map_or(variable.as_str(), |(name, _)| name);
            if name.is_empty() || variable.contains('\0') {
                faults.push(BindError::key(&format!("environment[{at}]"), format!("`{variable}` names no variable")));
            }
        }
        for (at, argument) in self.command.iter().enumerate().filter(|(_, argument)| argument.contains('\0')) {
            faults.push(BindError::key(
                &format!("command[{at}]"),
                format!("{argument:?} has a character that no argument may have"),
            ));
        }
        for (at, file) in self.files.iter().enumerate().filter(|(_, file)| file.as_os_str().is_empty()) {
            faults.push(BindError::key(&format!("files[{at}]"), format!("{file:?} names no file")));
        }
        for (at, file) in
            self.files.iter().enumerate().filter(|(_, file)| !file.as_os_str().is_empty() && !base.join(file).exists())
        {
            let error = BindError::key(&format!("files[{at}]"), format!("`{}` does not exist", file.display()));
            faults.push(error.help("a relative path starts from the pipeline file's folder"));
        }
        faults
    }

    /// The columns that the program makes.
    fn made(&self, faults: &mut Vec<BindError>) -> Vec<Arc<Field>> {
        let mut made = Vec::new();
        for (name, kind) in &self.columns.0 {
            match types::field(name, kind) {
                Ok(field) => made.push(Arc::new(field)),
                Err(message) => faults.push(BindError::key(&format!("columns.{name}"), message)),
            }
        }
        made
    }
}

/// Of the input's columns, those of that key, each of which must be one.
fn named(key: &str, names: &[String], input: &SchemaRef, faults: &mut Vec<BindError>) -> Vec<Arc<Field>> {
    let mut found: Vec<Arc<Field>> = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let key = format!("{key}[{at}]");
        match input.fields().iter().find(|field| field.name() == name) {
            Some(_) if found.iter().any(|field| field.name() == name) => {
                faults.push(BindError::key(&key, format!("`{name}` is named twice")));
            }
            Some(field) => found.push(field.clone()),
            None => {
                let known: Vec<&str> = input.fields().iter().map(|field| field.name().as_str()).collect();
                let error = BindError::key(&key, format!("the input has no column `{name}`"));
                faults.push(error.help(format!("it has: {}", known.join(", "))));
            }
        }
    }
    found
}

/// What an input gives a program: its own columns, and of images their bytes.
fn offered(input: &'static str, schema: &SchemaRef) -> SchemaRef {
    let mut fields = schema.fields().to_vec();
    if input == IMAGES {
        fields.push(Arc::new(Field::new(BYTES, DataType::Binary, true)));
    }
    Arc::new(Schema::new(fields))
}

impl Operator for Command {
    const NAME: &'static str = "command";
    const SUMMARY: &'static str = "any program: Arrow batches in on stdin, Arrow batches out on stdout";
    const OUTPUT: &'static [(&'static str, &'static str)] =
        &[("each of `columns`", "as the program writes it, beside `image_id`")];
    const EXAMPLE: &'static str = r#"
[stage.rotated]
op = "command"
input = "decoded"
command = ["python3", "rotate.py"]
reads = ["pixels"]
columns = { pixels = "uint8[64,64,3]", angle = "int32" }
hand_on = ["label"]
"#;
    const VERSION: u32 = 2;
    const INPUTS: &'static [Port] = &[
        Port::stream(ROWS, &[Column::new(IMAGE_ID, ColumnKind::Text)]).optional(),
        Port::stream(IMAGES, &[Column::new(IMAGE_ID, ColumnKind::Text), Column::new(BYTES, ColumnKind::Bytes)]).optional(),
        Port::scan(TABLE, &[]).optional(),
    ];
    const NEUTRAL: &'static [&'static str] = &["on_error", "processes", "timeout_seconds"];
    const LIMITS: Limits = &[("processes", 4096.0), ("timeout_seconds", 1e8)];
    type Config = Config;
    type Kernel = Kernel;

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let mut faults = config.faults(inputs.base);
        let given: Vec<&'static str> =
            [ROWS, IMAGES, TABLE].into_iter().filter(|name| inputs.inputs.get(name).is_some()).collect();
        if let [_, second, ..] = given[..] {
            let error = BindError::input(second, "a program reads one input");
            faults.push(error.help("`sql` joins tables: let the program read such a stage"));
        }
        let input = given.first().copied();
        let by_rows = input.is_some_and(|input| input != TABLE);
        let offers = input.map_or_else(|| Arc::new(Schema::empty()), |input| offered(input, inputs.inputs.required(input)));
        let mut made = config.made(&mut faults);
        let sent = match &config.reads {
            Some(names) => named("reads", names, &offers, &mut faults),
            None => {
                let gets = |field: &&Arc<Field>| has_content(field) && (!by_rows || field.name() != IMAGE_ID);
                offers.fields().iter().filter(gets).cloned().collect()
            }
        };
        for (at, field) in sent.iter().enumerate().filter(|(_, field)| !has_content(field)) {
            let message =
                format!("`{}` says where something lies, which may move: a program gets what has content", field.name());
            let error = BindError::key(&format!("reads[{at}]"), message);
            faults.push(error.help("`inputs = { images = … }` gives it the images' bytes, as `encoded`"));
        }
        if by_rows && sent.is_empty() && faults.is_empty() {
            let error = BindError::key("reads", "the program gets no column");
            faults.push(error.help("name those that it reads, such as reads = [\"pixels\"]"));
        }
        let handed = named("hand_on", &config.hand_on, &offers, &mut faults);
        if !by_rows && !config.hand_on.is_empty() {
            faults.push(BindError::key("hand_on", "only rows that are made one of one have something to hand on"));
        }
        for (at, field) in handed.iter().enumerate() {
            let name = field.name();
            if name == IMAGE_ID || name == BYTES || made.iter().any(|made| made.name() == name) {
                faults.push(BindError::key(&format!("hand_on[{at}]"), format!("the table has another column `{name}`")));
            }
        }
        let id = made.iter().position(|field| field.name() == IMAGE_ID);
        match id {
            Some(_) if by_rows => {
                let message = "the table has the input's own `image_id` of each row, and it is not to be declared";
                faults.push(BindError::key("columns.image_id", message));
            }
            Some(at) if made[at].data_type() != &DataType::Utf8 || made[at].is_nullable() => {
                faults.push(BindError::key("columns.image_id", "`image_id` names a row, and its type is utf8"));
            }
            Some(at) => made[..=at].rotate_right(1),
            None => {}
        }
        let content = Content::new(&config.command, &config.files, &config.environment, inputs.base);
        let content = content.map_err(|message| BindError::key("command", message));
        match content {
            Ok(content) if faults.is_empty() => {
                let mut fields = made.clone();
                if by_rows {
                    fields.insert(0, Arc::new(Field::new(IMAGE_ID, DataType::Utf8, false)));
                    fields.extend(handed);
                }
                let (schema, sent) = (Arc::new(Schema::new(fields)), Arc::new(Schema::new(sent)));
                Ok(Self { config, content, input, sent, made, schema })
            }
            content => {
                faults.extend(content.err());
                Err(faults)
            }
        }
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn reads(&self, _: &str, _: &'static Port) -> Vec<String> {
        self.sent.fields().iter().map(|field| field.name().clone()).collect()
    }

    fn reads_ids(&self) -> bool {
        self.sent.field_with_name(IMAGE_ID).is_ok()
    }

    fn passes(&self) -> Vec<String> {
        match self.input {
            Some(ROWS | IMAGES) => std::iter::once(IMAGE_ID.to_owned()).chain(self.config.hand_on.iter().cloned()).collect(),
            _ => Vec::new(),
        }
    }

    /// The order of the columns, which a map of names has not.
    fn settled(&self) -> Vec<(&'static str, serde_json::Value)> {
        let names: Vec<&str> = self.made.iter().map(|field| field.name().as_str()).collect();
        vec![("order", names.into())]
    }

    fn refuses_drops(&self) -> bool {
        self.config.on_error == OnError::Fail
    }

    fn content(&self) -> Result<Vec<String>, RunError> {
        self.content.digests()
    }

    fn kernel(self, context: &Context) -> Result<Kernel, RunError> {
        let (by_rows, reads) = (self.is_by_rows(), self.input.is_some());
        let task = self.task(context)?;
        Ok(if by_rows { Kernel::Map(Box::new(Rows::new(task))) } else { Kernel::Whole(Box::new(Table { task, reads })) })
    }
}

impl Command {
    /// Whether each row is made of one.
    fn is_by_rows(&self) -> bool {
        matches!(self.input, Some(ROWS | IMAGES))
    }

    /// What its programs have to do.
    fn task(self, context: &Context) -> Result<Task, RunError> {
        let (digests, by_rows) = (self.content.digests()?, self.is_by_rows());
        let threads = context.threads.max(1);
        let processes = if by_rows { self.config.processes.unwrap_or(threads).min(threads) } else { 1 };
        let patience = self.config.timeout_seconds.or(by_rows.then_some(PATIENCE_SECONDS)).map(Duration::from_secs);
        let call =
            Call { command: self.config.command, content: self.content, threads: (threads / processes).max(1), patience };
        let Self { sent, made, schema, .. } = self;
        Ok(Task { call, processes, sent, made, schema, on_error: self.config.on_error, digests })
    }
}

/// Ends all programs that run, and what they have started.
pub fn end_programs() {
    system::groups::end_all();
}

#[cfg(test)]
mod tests;
