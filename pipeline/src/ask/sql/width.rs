//! Batches of a query by the width of its rows.
//!
//! DataFusion counts a batch in rows, 8192 of them. Rows of features are 10 KiB and rows of pixels 150 KiB, and a sort reads one
//! batch or two of each run that it merges. So a query over wide rows has fewer of them in a batch.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::limit::LocalLimitExec;
use datafusion::physical_plan::sorts::sort::SortExec;

use super::limits::{FAN_IN, Limits};

/// Rows of a batch at most: DataFusion's own number.
const MOST_ROWS: usize = 8192;
/// Bytes of a batch at least: with less, there is more to do about batches than about rows.
const LEAST_BYTES: usize = 64 << 10;
/// Bytes of a batch at most: more is not faster.
const MOST_BYTES: usize = 4 << 20;
/// Batches that a merge holds of each run: DataFusion reserves two that are read ahead, and as much again to sort them.
const HELD: usize = 4;
/// The first rows of sorts may take one part in so many of the memory, all partitions together.
const SHARE: usize = 8;
/// What values without a fixed width are taken for, in bytes.
const TEXT: usize = 64;
/// What encoded images are taken for, in bytes.
const BINARY: usize = 64 << 10;
/// What lists are taken for, in bytes.
const LIST: usize = 4 << 10;

/// Rows of a batch of a query, so that the merges of all partitions take half of the memory together.
///
/// # Errors
/// The plan cannot be walked (never).
pub fn batch_rows(plan: &LogicalPlan, limits: Limits, partitions: usize) -> Result<usize> {
    let memory = usize::try_from(limits.memory.0).unwrap_or(usize::MAX);
    let batch = (memory / 2 / (HELD * FAN_IN * partitions.max(1))).clamp(LEAST_BYTES, MOST_BYTES);
    let mut widest = 1;
    plan.apply_with_subqueries(|node| {
        widest = widest.max(row_bytes(node.schema().as_arrow()));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok((batch / widest).clamp(1, MOST_ROWS))
}

/// The plan with sorts that go to files in place of those that hold the first rows, where these rows are more than memory is for.
///
/// # Errors
/// The plan cannot be changed (never).
pub fn with_sorts_that_spill(
    plan: Arc<dyn ExecutionPlan>,
    limits: Limits,
    partitions: usize,
) -> Result<Arc<dyn ExecutionPlan>> {
    let memory = usize::try_from(limits.memory.0).unwrap_or(usize::MAX);
    let most = memory / SHARE / partitions.max(1);
    let changed = plan.transform_up(|plan| {
        let Some(sort) = plan.downcast_ref::<SortExec>() else { return Ok(Transformed::no(plan)) };
        let held = |rows: &usize| rows.saturating_mul(row_bytes(&sort.schema())) > most;
        let Some(first) = sort.fetch().filter(held) else { return Ok(Transformed::no(plan)) };
        let whole = SortExec::new(sort.expr().clone(), sort.input().clone());
        let whole = whole.with_preserve_partitioning(sort.preserve_partitioning());
        Ok(Transformed::yes(Arc::new(LocalLimitExec::new(Arc::new(whole), first))))
    })?;
    Ok(changed.data)
}

/// About how many bytes a row takes.
fn row_bytes(schema: &Schema) -> usize {
    schema.fields().iter().fold(0, |sum, field| sum.saturating_add(value_bytes(field.data_type())))
}

fn value_bytes(kind: &DataType) -> usize {
    match kind {
        DataType::FixedSizeList(item, length) => {
            value_bytes(item.data_type()).saturating_mul(usize::try_from(*length).unwrap_or(0))
        }
        DataType::FixedSizeBinary(length) => usize::try_from(*length).unwrap_or(0),
        DataType::Struct(fields) => fields.iter().fold(0, |sum, field| sum.saturating_add(value_bytes(field.data_type()))),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => BINARY,
        DataType::List(_) | DataType::LargeList(_) | DataType::ListView(_) | DataType::LargeListView(_) => LIST,
        DataType::Map(_, _) => LIST,
        other => other.primitive_width().unwrap_or(TEXT),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::datasource::empty::EmptyTable;
    use datafusion::physical_plan::displayable;
    use datafusion::prelude::SessionContext;
    use tessera_operators::memory::Memory;
    use tessera_schemas::features;

    use super::*;

    fn context() -> SessionContext {
        let context = SessionContext::new();
        let schema =
            Schema::new(vec![arrow::datatypes::Field::new("id", DataType::Utf8, false), features::field("feature", 2560)]);
        context.register_table("wide", Arc::new(EmptyTable::new(Arc::new(schema)))).unwrap();
        context
    }

    async fn rows(sql: &str, memory: u64) -> usize {
        let plan = context().sql(sql).await.unwrap().into_optimized_plan().unwrap();
        batch_rows(&plan, Limits { memory: Memory(memory), timeout: None }, 2).unwrap()
    }

    #[tokio::test]
    async fn wide_rows_come_few_at_a_time() {
        assert_eq!(rows("SELECT * FROM wide", 1 << 30).await, (1 << 20) / (4 * 2560 + 64));
        assert_eq!(rows("SELECT * FROM wide", 16 << 30).await, (4 << 20) / (4 * 2560 + 64));
        assert_eq!(rows("SELECT * FROM wide", 1 << 20).await, 6);
        let joined = rows("SELECT count(*) FROM wide AS a JOIN wide AS b ON a.feature = b.feature", 1 << 30).await;
        assert_eq!(joined, (1 << 20) / (8 * 2560));
        for narrow in ["SELECT id FROM wide", "SELECT count(*) FROM wide", "SELECT 1"] {
            assert_eq!(rows(narrow, 16 << 30).await, MOST_ROWS);
        }
    }

    #[tokio::test]
    async fn few_first_rows_are_held_and_many_are_sorted_in_files() {
        let plan = async |sql: &str| {
            let plan = context().sql(sql).await.unwrap().create_physical_plan().await.unwrap();
            let limits = Limits { memory: Memory(1 << 30), timeout: None };
            let plan = with_sorts_that_spill(plan, limits, 2).unwrap();
            displayable(plan.as_ref()).indent(false).to_string()
        };
        let few = plan("SELECT * FROM wide ORDER BY id LIMIT 1000").await;
        assert!(few.contains("SortExec: TopK(fetch=1000)") && !few.contains("LocalLimitExec"), "{few}");
        let many = plan("SELECT * FROM wide ORDER BY id LIMIT 100000").await;
        assert!(many.contains("LocalLimitExec: fetch=100000") && !many.contains("TopK"), "{many}");
    }
}
