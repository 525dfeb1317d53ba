//! A plan's batches in the order of its partitions, for threads that may block.
//!
//! Some partitions are read ahead, each into a queue of its own, so that none waits for another. A queue that closes says nothing about
//! why: the task behind it may have panicked, or its runtime may be shutting down. So each task marks the end of its rows, and a queue
//! that closes before its mark is an error, never a shorter table.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties as _, SendableRecordBatchStream};
use futures::{FutureExt as _, StreamExt as _};
use tessera_operators::operator::{Batches, RunError};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::{convert, pool};

/// Batches of one partition that wait for their reader.
const AHEAD: usize = 2;

/// What a partition's task sends.
enum Message {
    Batch(RecordBatch),
    Failed(RunError),
    /// All rows have been sent.
    End,
}

/// The batches of a plan, partition by partition. Open at once are the partition that is read and `ahead` behind it.
///
/// A panic in a partition's task is that partition's error; so is a task that goes away before its last row.
pub fn in_order(plan: Arc<dyn ExecutionPlan>, task: Arc<TaskContext>, ahead: usize, runtime: &Handle) -> Batches {
    let partitions = plan.output_partitioning().partition_count();
    Box::new(InOrder::new(move |partition| plan.execute(partition, task.clone()), partitions, ahead, runtime))
}

struct InOrder {
    /// The partitions' queues, in their order.
    queues: Receiver<Receiver<Message>>,
    current: Option<Receiver<Message>>,
    /// Partitions that are not read to their end.
    left: usize,
}

impl InOrder {
    fn new(
        open: impl Fn(usize) -> Result<SendableRecordBatchStream, DataFusionError> + Send + Sync + 'static,
        partitions: usize,
        ahead: usize,
        runtime: &Handle,
    ) -> Self {
        let (sender, queues) = mpsc::channel(ahead.max(1));
        let (open, spawner) = (Arc::new(open), runtime.clone());
        runtime.spawn(async move {
            for partition in 0..partitions {
                let (messages, queue) = mpsc::channel(AHEAD);
                if sender.send(queue).await.is_err() {
                    return;
                }
                spawner.spawn(send(open.clone(), partition, messages));
            }
        });
        Self { queues, current: None, left: partitions }
    }
}

/// Sends a partition's rows, and how they ended. When the reader is gone, sending fails, and the stream is dropped with its work.
async fn send(
    open: Arc<impl Fn(usize) -> Result<SendableRecordBatchStream, DataFusionError>>,
    partition: usize,
    messages: Sender<Message>,
) {
    let rows = async {
        let mut stream = open(partition)?;
        while let Some(batch) = stream.next().await {
            if messages.send(Message::Batch(batch?)).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    let last = match AssertUnwindSafe(rows).catch_unwind().await {
        Ok(Ok(())) => Message::End,
        Ok(Err(error)) => Message::Failed(convert::to_run_error(error)),
        Err(panic) => Message::Failed(RunError::Engine(format!("a scan panicked: {}", pool::message(panic.as_ref())))),
    };
    // Nobody is left to be told if the reader is gone.
    let _ = messages.send(last).await;
}

impl Iterator for InOrder {
    type Item = Result<RecordBatch, RunError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.left > 0 {
            if self.current.is_none() {
                self.current = self.queues.blocking_recv();
            }
            let message = self.current.as_mut().and_then(Receiver::blocking_recv);
            let error = match message {
                Some(Message::Batch(batch)) => return Some(Ok(batch)),
                Some(Message::End) => {
                    self.current = None;
                    self.left -= 1;
                    continue;
                }
                Some(Message::Failed(error)) => error,
                None => RunError::Engine("a scan ended before its last row: its task is gone".into()),
            };
            self.left = 0;
            return Some(Err(error));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray as _, Int32Array};
    use arrow::datatypes::Int32Type;
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    use tokio::runtime::Runtime;

    use super::*;

    /// What becomes of a partition of three batches.
    #[derive(Clone, Copy, PartialEq)]
    enum Fate {
        Sound,
        Fails,
        Panics,
        NeverEnds,
    }

    fn rows(number: i32) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int32Array::from(vec![number]));
        RecordBatch::try_from_iter([("number", column)]).unwrap()
    }

    /// The numbers that are read of ten partitions, up to the first error; the fifth has that fate.
    fn read(fate: Fate, runtime: &Runtime) -> (Vec<i32>, Option<String>, InOrder) {
        let open = move |partition: usize| {
            let batch = move |at: usize| {
                if partition == 4 && at == 2 {
                    match fate {
                        Fate::Sound => {}
                        Fate::Fails => return Err(DataFusionError::Execution("no luck".into())),
                        Fate::Panics => panic!("at row {at}"),
                        Fate::NeverEnds => unreachable!("it waits before"),
                    }
                }
                Ok(rows((partition * 3 + at) as i32))
            };
            let stream = futures::stream::iter(0..3).then(move |at| async move {
                if fate == Fate::NeverEnds && partition == 4 && at == 2 {
                    futures::future::pending::<()>().await;
                }
                batch(at)
            });
            let stream: SendableRecordBatchStream = Box::pin(RecordBatchStreamAdapter::new(rows(0).schema(), stream));
            Ok(stream)
        };
        let mut batches = InOrder::new(open, 10, 2, runtime.handle());
        let mut found = Vec::new();
        let end = if fate == Fate::NeverEnds { 14 } else { usize::MAX };
        for batch in batches.by_ref().take(end) {
            match batch {
                Ok(batch) => found.push(batch.column(0).as_primitive::<Int32Type>().value(0)),
                Err(error) => return (found, Some(error.to_string()), batches),
            }
        }
        (found, None, batches)
    }

    #[test]
    fn a_partition_that_breaks_off_is_an_error_and_no_shorter_table() {
        let runtime = Runtime::new().unwrap();
        let (found, error, mut rest) = read(Fate::Sound, &runtime);
        assert_eq!((found, error), ((0..30).collect(), None));
        assert!(rest.next().is_none());
        for (fate, message) in [(Fate::Fails, "no luck"), (Fate::Panics, "a scan panicked: at row 2")] {
            let (found, error, mut rest) = read(fate, &runtime);
            assert_eq!(found, (0..14).collect::<Vec<_>>());
            assert!(error.as_ref().is_some_and(|error| error.ends_with(message)), "{error:?}");
            assert!(rest.next().is_none(), "an error is the last thing that is said");
        }
    }

    #[test]
    fn rows_of_a_runtime_that_shuts_down_are_missed() {
        let runtime = Runtime::new().unwrap();
        let (found, error, mut rest) = read(Fate::NeverEnds, &runtime);
        assert_eq!((found, error), ((0..14).collect(), None));
        runtime.shutdown_background();
        let error = rest.next().unwrap().unwrap_err().to_string();
        assert!(error.ends_with("a scan ended before its last row: its task is gone"), "{error}");
    }
}
