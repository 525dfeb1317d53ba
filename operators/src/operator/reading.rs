//! How a [`Whole`](super::Whole) kernel reads an input from end to end.

use arrow::array::RecordBatch;

use super::{Order, RunError, Sink, Tables};

/// Hands each batch of an input to `take`, in stored order. The progress bar says `note` and how many rows were read.
///
/// # Errors
/// The input cannot be read, `take` fails, or the run was cancelled.
pub fn read_all(
    tables: &dyn Tables,
    input: &str,
    sink: &mut dyn Sink,
    note: &str,
    mut take: impl FnMut(&RecordBatch, &mut dyn Sink) -> Result<(), RunError>,
) -> Result<(), RunError> {
    let (expected, mut read) = (tables.rows(input)?, 0);
    for batch in tables.scan(input, Order::Stored)? {
        let batch = batch?;
        take(&batch, sink)?;
        read += batch.num_rows();
        sink.progress(read, expected, note);
        if sink.cancelled() {
            return Err(RunError::Cancelled);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::{self, Memory, Record};

    #[test]
    fn an_input_is_read_to_its_end_unless_the_run_is_cancelled() {
        let table = trial::features(&[("a", &[1.0]), ("b", &[2.0]), ("c", &[3.0])]);
        let tables = Memory([("features", vec![table.slice(0, 2), table.slice(2, 1)])].into());
        for cancel in [false, true] {
            let (mut record, mut rows) = (Record { cancel, ..Record::default() }, 0);
            let done = read_all(&tables, "features", &mut record, "reading", |batch, _| {
                rows += batch.num_rows();
                Ok(())
            });
            if cancel {
                assert!(matches!(done, Err(RunError::Cancelled)) && rows == 2);
            } else {
                assert!(done.is_ok());
                assert_eq!((rows, record.progress), (3, vec![(2, 3), (3, 3)]));
            }
        }
    }
}
