//! Answers as they come, for threads that may block.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, anyhow, bail};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::{JoinError, JoinHandle};

use super::limits::{Exceeded, Limits, Watch};
use super::question::Question;
use crate::engine::catalog::Catalog;
use crate::engine::pool;
use crate::store::DroppedRow;
use crate::watch::interrupt::Interrupt;

/// Batches that wait for their reader.
const AHEAD: usize = 2;

/// What the task of a query sends.
enum Message {
    Begun(SchemaRef),
    Batch(RecordBatch),
    Failed(anyhow::Error),
    End(End),
}

/// What is known of an answer when all of it was read.
#[derive(Debug, Default)]
pub struct End {
    /// Images that views could not handle, and left out.
    pub dropped: Vec<DroppedRow>,
    /// Notes on the answer.
    pub notes: Vec<String>,
}

/// A query's rows, batch by batch. The query works on threads with large stacks, and ends when this is dropped.
pub struct Streamed {
    /// Its columns.
    pub schema: SchemaRef,
    messages: Receiver<Message>,
    runtime: Handle,
    task: JoinHandle<()>,
    interrupt: Interrupt,
    exceeded: Arc<Mutex<Option<Exceeded>>>,
    end: Option<End>,
    _watch: Watch,
}

impl Streamed {
    /// Begins to answer a query within limits. A query that does not end when it should is told to `abandon`, which may end the process.
    ///
    /// # Errors
    /// As [`ask`](super::ask); or the limits are exceeded, or somebody interrupts.
    pub fn open(
        runtime: &Handle,
        catalog: &Arc<Catalog>,
        question: Question,
        limits: Limits,
        interrupt: &Interrupt,
        abandon: impl FnOnce(Exceeded) + Send + 'static,
    ) -> Result<Self> {
        let (sender, messages) = channel(AHEAD);
        let of = catalog.clone();
        let work = async move {
            if let Err(error) = answer(&of, &question, limits, &sender).await {
                let _ = sender.send(Message::Failed(error)).await;
            }
        };
        let task = runtime.spawn(work);
        let exceeded: Arc<Mutex<Option<Exceeded>>> = Arc::default();
        let (found, abort) = (exceeded.clone(), task.abort_handle());
        let told = move |why| {
            *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
            abort.abort();
        };
        let watch = limits.watch(told, abandon);
        let schema = Arc::new(arrow::datatypes::Schema::empty());
        let (runtime, interrupt) = (runtime.clone(), interrupt.clone());
        let mut streamed = Self { schema, messages, runtime, task, interrupt, exceeded, end: None, _watch: watch };
        match streamed.receive()? {
            Message::Begun(schema) => streamed.schema = schema,
            _ => bail!("the query began with its rows"),
        }
        Ok(streamed)
    }

    /// What is known of the answer, once all rows were read; nothing before.
    pub fn end(mut self) -> End {
        self.end.take().unwrap_or_default()
    }

    fn receive(&mut self) -> Result<Message> {
        let (messages, interrupt) = (&mut self.messages, &self.interrupt);
        let received = self.runtime.block_on(async {
            tokio::select! {
                message = messages.recv() => Some(message),
                () = interrupt.wait() => None,
            }
        });
        match received {
            None => bail!("interrupted"),
            Some(Some(Message::Failed(error))) => Err(error),
            Some(Some(message)) => Ok(message),
            // The task was ended, or it panicked.
            Some(None) => {
                let exceeded = *self.exceeded.lock().unwrap_or_else(PoisonError::into_inner);
                Err(exceeded.map_or_else(|| anyhow!("the query failed: {}", self.panic()), Into::into))
            }
        }
    }

    /// Why the task went away without a word.
    fn panic(&mut self) -> String {
        match self.runtime.block_on(&mut self.task).map_err(JoinError::try_into_panic) {
            Err(Ok(panic)) => pool::message(panic.as_ref()),
            _ => "its task is gone".to_owned(),
        }
    }
}

impl Iterator for Streamed {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.end.is_some() {
            return None;
        }
        match self.receive() {
            Ok(Message::Batch(batch)) => Some(Ok(batch)),
            Ok(Message::End(end)) => {
                self.end = Some(end);
                None
            }
            Ok(_) => None,
            Err(error) => {
                self.end = Some(End::default());
                Some(Err(error))
            }
        }
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(catalog: &Arc<Catalog>, question: &Question, limits: Limits, sender: &Sender<Message>) -> Result<()> {
    let mut asked = super::ask(catalog, question, limits).await?;
    if sender.send(Message::Begun(asked.schema.clone())).await.is_err() {
        return Ok(());
    }
    while let Some(batch) = asked.next().await {
        if sender.send(Message::Batch(batch?)).await.is_err() {
            return Ok(());
        }
    }
    let end = End { dropped: asked.dropped(), notes: asked.notes() };
    let _ = sender.send(Message::End(end)).await;
    Ok(())
}
