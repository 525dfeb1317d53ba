//! A whole table: the program reads all rows of the input, if there is one, and writes its table.

use std::collections::HashSet;

use arrow::array::{AsArray as _, RecordBatch};
use arrow::ipc::writer::StreamEncoder;
use tessera_schemas::{IMAGE_ID, column};

use super::frames::Came;
use super::process::{Program, Round};
use super::rows::Task;
use super::{TABLE, types};
use crate::operator::{Order, RunError, Sink, Tables, Whole};
use crate::spec::same_content;

/// A stage that reads a table, or none.
pub struct Table {
    /// What is to be done.
    pub task: Task,
    /// Whether there is an input.
    pub reads: bool,
}

impl Whole for Table {
    fn run(self: Box<Self>, tables: &dyn Tables, sink: &mut dyn Sink) -> Result<(), RunError> {
        let task = &self.task;
        let program = Program::start(&task.call)?;
        let mut run = Run { task, program, places: None, seen: HashSet::new(), sink, read: 0, made: 0, expected: 0 };
        let done = if self.reads { run.with_input(tables) } else { run.without_input() };
        done.and_then(|()| run.finish())?;
        // What was read of files in the course of it was read before this.
        same_content(&task.digests, &task.call.content.digests()?)
    }
}

struct Run<'a> {
    task: &'a Task,
    program: Program,
    /// Where the columns lie in its batches, once that is known.
    places: Option<Vec<usize>>,
    /// Hashes of the ids so far.
    seen: HashSet<[u8; 16]>,
    sink: &'a mut dyn Sink,
    read: usize,
    made: usize,
    expected: usize,
}

impl Run<'_> {
    fn with_input(&mut self, tables: &dyn Tables) -> Result<(), RunError> {
        self.expected = tables.rows(TABLE)?;
        let mut encoder = StreamEncoder::try_new(&self.task.sent)?;
        for batch in tables.scan(TABLE, Order::Sorted)? {
            let batch = batch?;
            let columns = self.task.sent.fields().iter().map(|field| column(&batch, field.name()).cloned());
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            for buffer in encoder.encode(&RecordBatch::try_new(self.task.sent.clone(), columns)?)? {
                self.send(&buffer)?;
            }
            self.read += batch.num_rows();
            self.sink.progress(self.read, self.expected, "rows read by the program");
        }
        for buffer in encoder.finish()? {
            self.send(&buffer)?;
        }
        Ok(())
    }

    fn without_input(&mut self) -> Result<(), RunError> {
        self.program.close();
        Ok(())
    }

    fn send(&mut self, buffer: &[u8]) -> Result<(), RunError> {
        self.program.ask();
        let mut rest = buffer;
        while !rest.is_empty() {
            match self.round(rest)? {
                Some(bytes) => rest = &rest[bytes..],
                // It has closed its stdout: how it ends says whether it had read enough.
                None => return Ok(()),
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), RunError> {
        self.program.close();
        self.program.ask();
        while self.round(&[])?.is_some() {}
        self.program.finish()?;
        self.tell();
        if !self.program.is_through() {
            let what = "has not ended its stream, and rows may be missing: close the writer (`with pa.ipc.new_stream(…) as writer`)";
            return Err(self.program.fail(what));
        }
        Ok(())
    }

    /// Waits for what comes next, and says how many bytes were written; none once the program has closed its stdout.
    fn round(&mut self, bytes: &[u8]) -> Result<Option<usize>, RunError> {
        if self.sink.cancelled() {
            return Err(RunError::Cancelled);
        }
        let round = self.program.round(bytes);
        self.tell();
        match round? {
            Round::Wrote(bytes) => Ok(Some(bytes)),
            Round::Came(came) => self.came(came).map(|()| Some(0)),
            Round::Closed => Ok(None),
        }
    }

    fn tell(&mut self) {
        for line in self.program.heard() {
            self.sink.say(&line);
        }
    }

    fn came(&mut self, came: Came) -> Result<(), RunError> {
        match came {
            Came::Schema(schema) => {
                let places = types::places(&schema, &self.task.made, &[]);
                self.places = Some(places.map_err(|what| self.program.fail(&format!("writes {what}")))?);
                Ok(())
            }
            Came::End => Ok(()),
            Came::Batch(batch) => {
                let rows = self.arrange(&batch).map_err(|what| self.program.fail(&what))?;
                self.made += rows.num_rows();
                if self.task.sent.fields().is_empty() {
                    self.sink.progress(self.made, self.made, "rows written by the program");
                }
                if rows.num_rows() > 0 { self.sink.write(rows) } else { Ok(()) }
            }
        }
    }

    /// The program's rows as those of the stage's table.
    fn arrange(&mut self, batch: &RecordBatch) -> Result<RecordBatch, String> {
        let places = self.places.as_ref().ok_or("wrote rows before its columns")?;
        let wrong = |row: Option<usize>, what: String| match row {
            Some(row) => format!("wrote a wrong row, number {}: {what}", self.made + row),
            None => format!("wrote a wrong batch: {what}"),
        };
        let columns = self.task.made.iter().zip(places);
        let columns =
            columns.map(|(field, &place)| types::column(batch.column(place), field).map_err(|(row, what)| wrong(row, what)));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let rows = RecordBatch::try_new(self.task.schema.clone(), columns).map_err(|error| error.to_string())?;
        if let Some(ids) = rows.column_by_name(IMAGE_ID) {
            for (row, id) in ids.as_string::<i32>().iter().flatten().enumerate() {
                let hash = blake3::hash(id.as_bytes());
                let (short, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
                if !self.seen.insert(*short) {
                    return Err(wrong(Some(row), format!("the {IMAGE_ID} `{id}` occurs for the second time")));
                }
            }
        }
        Ok(rows)
    }
}
