//! Batch by batch: each goes to a program, which answers it by one batch of as many rows.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use arrow::array::{Array as _, ArrayRef, AsArray as _, BooleanArray, RecordBatch, StringArray};
use arrow::buffer::Buffer;
use arrow::compute::{cast, filter, filter_record_batch};
use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::ipc::writer::StreamEncoder;
use tessera_schemas::{BYTES, IMAGE_ID, bytes, column, text};

use super::frames::Came;
use super::process::{Call, Program, Round};
use super::{ERROR, types};
use crate::decode::{OnError, refuse, unread};
use crate::operator::{Inputs, Map, MapFn, RunError, Scope};
use crate::spec::same_content;

/// How the rows of a stage are made.
#[derive(Debug)]
pub struct Task {
    /// How programs are run.
    pub call: Call,
    /// How many run at once.
    pub processes: usize,
    /// What they get.
    pub sent: SchemaRef,
    /// The columns that they make.
    pub made: Vec<Arc<Field>>,
    /// The stage's table.
    pub schema: SchemaRef,
    /// What happens to a row that has no answer.
    pub on_error: OnError,
    /// Digests of what the programs use, as of the making of the kernel.
    pub digests: Vec<String>,
}

/// A stage's programs.
pub struct Rows {
    shared: Arc<Shared>,
}

struct Shared {
    task: Task,
    state: Mutex<State>,
    /// Told when a program is free.
    freed: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<Running>,
    /// How many run, the idle ones among them.
    running: usize,
}

impl Rows {
    /// No program runs yet.
    pub fn new(task: Task) -> Self {
        Self { shared: Arc::new(Shared { task, state: Mutex::default(), freed: Condvar::new() }) }
    }
}

impl Map for Rows {
    fn open(&self, _: &Inputs<Vec<RecordBatch>>) -> Result<Box<dyn MapFn>, RunError> {
        Ok(Box::new(Worker { shared: self.shared.clone(), heard: Vec::new() }))
    }
}

struct Worker {
    shared: Arc<Shared>,
    heard: Vec<String>,
}

/// A program, and how far its stream is.
struct Running {
    program: Program,
    encoder: StreamEncoder,
    /// Where the columns lie in its batches, once that is known.
    places: Option<Places>,
    /// Whether it has answered, and its files were then those that it was started with.
    proven: bool,
}

/// Where the columns lie in a program's batches.
struct Places {
    made: Vec<usize>,
    image_id: Option<usize>,
    error: Option<usize>,
}

/// The place of a program among those that may run. It is free again when this is dropped, also by a panic.
struct Place<'a>(Option<&'a Shared>);

impl Place<'_> {
    /// The program keeps its place, and waits for the next batch.
    fn keep(mut self, running: Running) {
        if let Some(shared) = self.0.take() {
            shared.state.lock().unwrap_or_else(PoisonError::into_inner).idle.push(running);
            shared.freed.notify_one();
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(shared) = self.0 {
            shared.state.lock().unwrap_or_else(PoisonError::into_inner).running -= 1;
            shared.freed.notify_one();
        }
    }
}

impl Shared {
    /// A program that is free, or a new one, and its place; waits if as many run as may.
    fn take(&self) -> Result<(Place<'_>, Running), RunError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(running) = state.idle.pop() {
                return Ok((Place(Some(self)), running));
            }
            if state.running < self.task.processes {
                state.running += 1;
                break;
            }
            state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        let place = Place(Some(self));
        Ok((place, Running::start(&self.task)?))
    }
}

impl MapFn for Worker {
    fn call(&mut self, batch: &RecordBatch, scope: &mut Scope<'_>) -> Result<RecordBatch, RunError> {
        let task = &self.shared.task;
        let there = with_bytes(task, batch, scope)?;
        let batch = there.as_ref().unwrap_or(batch);
        if batch.num_rows() == 0 {
            return Ok(RecordBatch::new_empty(task.schema.clone()));
        }
        // Without an answer, the program ends before its place is another's.
        let (place, mut running) = self.shared.take()?;
        let answered = running.answer(task, batch);
        self.heard.extend(running.program.heard());
        let made = arrange(task, &running, batch, &answered?, scope);
        place.keep(running);
        made
    }

    fn heard(&mut self) -> Vec<String> {
        std::mem::take(&mut self.heard)
    }
}

/// The rows whose bytes could be read, if programs get bytes and some could not.
fn with_bytes(task: &Task, batch: &RecordBatch, scope: &mut Scope<'_>) -> Result<Option<RecordBatch>, RunError> {
    if task.sent.field_with_name(BYTES).is_err() {
        return Ok(None);
    }
    let (ids, encoded) = (text(batch, IMAGE_ID)?, bytes(batch, BYTES)?);
    if encoded.null_count() == 0 {
        return Ok(None);
    }
    for row in (0..batch.num_rows()).filter(|&row| encoded.is_null(row)) {
        let reason = unread(scope, row);
        refuse(task.on_error, ids.value(row), reason, scope)?;
    }
    let there: BooleanArray = (0..batch.num_rows()).map(|row| Some(encoded.is_valid(row))).collect();
    Ok(Some(filter_record_batch(batch, &there)?))
}

impl Running {
    fn start(task: &Task) -> Result<Self, RunError> {
        same_content(&task.digests, &task.call.content.digests()?)?;
        let encoder = StreamEncoder::try_new(&task.sent)?;
        Ok(Self { program: Program::start(&task.call)?, encoder, places: None, proven: false })
    }

    /// What the program makes of a batch.
    fn answer(&mut self, task: &Task, batch: &RecordBatch) -> Result<RecordBatch, RunError> {
        let columns = task.sent.fields().iter().map(|field| column(batch, field.name()).cloned());
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let buffers = self.encoder.encode(&RecordBatch::try_new(task.sent.clone(), columns)?)?;
        // Of the stream's head nothing need have come: what has come beyond it answers nothing.
        if self.places.is_some() && self.program.peek()? {
            return Err(self.program.fail("wrote more than one batch for a batch that it read"));
        }
        self.program.ask();
        let mut answer = None;
        for buffer in buffers {
            self.send(task, &buffer, &mut answer)?;
        }
        while answer.is_none() {
            self.round(task, &[], &mut answer)?;
        }
        let answer = answer.ok_or_else(|| RunError::Engine("a program's answer is lost".to_owned()))?;
        let (found, wanted) = (answer.num_rows(), batch.num_rows());
        if found != wanted {
            let what =
                format!("answered a batch of {wanted} rows by one of {found}: each row has one answer, in the same order");
            return Err(self.program.fail(&what));
        }
        if !self.proven {
            // What it read of its files, it has read by now.
            same_content(&task.digests, &task.call.content.digests()?)?;
            self.proven = true;
        }
        Ok(answer)
    }

    fn send(&mut self, task: &Task, buffer: &Buffer, answer: &mut Option<RecordBatch>) -> Result<(), RunError> {
        let mut rest = buffer.as_slice();
        while !rest.is_empty() {
            rest = &rest[self.round(task, rest, answer)?..];
        }
        Ok(())
    }

    /// Waits for what comes next, and says how many bytes were written.
    fn round(&mut self, task: &Task, bytes: &[u8], answer: &mut Option<RecordBatch>) -> Result<usize, RunError> {
        match self.program.round(bytes)? {
            Round::Wrote(bytes) => return Ok(bytes),
            Round::Came(Came::Schema(schema)) => {
                let places = Places::of(task, &schema);
                self.places = Some(places.map_err(|what| self.program.fail(&format!("writes {what}")))?);
            }
            Round::Came(Came::Batch(batch)) => {
                if answer.replace(batch).is_some() {
                    return Err(self.program.fail("wrote more than one batch for a batch that it read"));
                }
            }
            Round::Came(Came::End) => {
                let what = "ended its stream before it had answered all batches: it is to write one for each that it reads";
                return Err(self.program.fail(what));
            }
            Round::Closed => return Err(self.program.died("before it had answered a batch")),
        }
        Ok(0)
    }
}

impl Places {
    fn of(task: &Task, schema: &SchemaRef) -> Result<Self, String> {
        let made = types::places(schema, &task.made, &[IMAGE_ID, ERROR])?;
        let is_free = |name: &str| !task.made.iter().any(|field| field.name() == name);
        let text = |name: &str| match schema.column_with_name(name).filter(|_| is_free(name)) {
            Some((place, field)) if types::is_text(field.data_type()) => Ok(Some(place)),
            Some((_, field)) => Err(format!("`{name}` as {}, and it is utf8", types::written(field.data_type()))),
            None => Ok(None),
        };
        Ok(Self { made, image_id: text(IMAGE_ID)?, error: text(ERROR)? })
    }
}

fn texts(answer: &RecordBatch, place: usize) -> Result<StringArray, RunError> {
    Ok(cast(answer.column(place), &DataType::Utf8)?.as_string::<i32>().clone())
}

/// The stage's rows: ids and what is handed on from the input, the rest from the answer, which has as many rows.
fn arrange(
    task: &Task,
    running: &Running,
    batch: &RecordBatch,
    answer: &RecordBatch,
    scope: &mut Scope<'_>,
) -> Result<RecordBatch, RunError> {
    let places = running.places.as_ref().ok_or_else(|| RunError::Engine("a program's columns are lost".to_owned()))?;
    let ids = text(batch, IMAGE_ID)?;
    if let Some(place) = places.image_id {
        let found = texts(answer, place)?;
        if let Some(row) = (0..ids.len()).find(|&row| found.is_null(row) || found.value(row) != ids.value(row)) {
            let (wanted, is) = (ids.value(row), if found.is_null(row) { "null" } else { found.value(row) });
            let what =
                format!("the program answered it by the row of `{is}`: rows come back in the order in which they were sent");
            return Err(RunError::Row { image_id: wanted.to_owned(), reason: what });
        }
    }
    let mut kept = None;
    if let Some(place) = places.error {
        let errors = texts(answer, place)?;
        for row in (0..ids.len()).filter(|&row| errors.is_valid(row)) {
            refuse(task.on_error, ids.value(row), errors.value(row).to_owned(), scope)?;
        }
        let whole: BooleanArray = (0..ids.len()).map(|row| Some(errors.is_null(row))).collect();
        kept = Some(whole).filter(|whole| whole.true_count() < ids.len());
    }
    let keep = |column: &ArrayRef| kept.as_ref().map_or_else(|| Ok(column.clone()), |kept| filter(column, kept));
    let ids = keep(column(batch, IMAGE_ID)?)?;
    let columns = task.schema.fields().iter().map(|field| -> Result<ArrayRef, RunError> {
        let Some(at) = task.made.iter().position(|made| made.name() == field.name()) else {
            return Ok(keep(column(batch, field.name())?)?);
        };
        types::column(&keep(answer.column(places.made[at]))?, field).map_err(|(row, what)| match row {
            Some(row) => {
                let image_id = ids.as_string::<i32>().value(row).to_owned();
                RunError::Row { image_id, reason: format!("the program's {what}") }
            }
            None => RunError::Input(format!("the program's {what}")),
        })
    });
    Ok(RecordBatch::try_new(task.schema.clone(), columns.collect::<Result<Vec<_>, _>>()?)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Command;
    use super::*;
    use crate::operator::Context;
    use crate::trial;

    /// Otherwise the next worker would wait for ever.
    #[test]
    fn a_worker_that_panics_leaves_its_place() {
        let table = trial::features(&[("a", &[1.0])]);
        let config = json!({ "command": ["cat"], "columns": { "feature": "float32[1]" } });
        let operator: Command = trial::bind(config, &[("rows", table.schema())]).unwrap();
        let context = Context { seed: 0, threads: 1, base: "".into(), scratch: std::env::temp_dir() };
        let rows = Rows::new(operator.task(&context).unwrap());
        for _ in 0..3 {
            let shared = rows.shared.clone();
            let panicking = std::thread::spawn(move || {
                let _taken = shared.take().unwrap();
                panic!("as asked");
            });
            panicking.join().unwrap_err();
        }
        let mut worker = rows.open(&Inputs::default()).unwrap();
        assert_eq!(trial::call_worker(worker.as_mut(), &table).unwrap(), table);
    }
}
