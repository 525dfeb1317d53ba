//! The least rows of each group, found before they are sorted.
//!
//! "The nine nearest images of each cluster" is `row_number() OVER (PARTITION BY cluster ORDER BY distance) <= 9`. DataFusion has an
//! operator for it, which deals all rows out by their group and then looks at them group by group: with 2000 clusters, that is a few
//! rows at a time. [`LeastExec`] stands before it, where rows come as they are read, and lets only those by that can be among the
//! nine: of a million rows, 18,000. It decides nothing else. What DataFusion makes of these rows is what it would have made of all.

mod heaps;

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput as _};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::partitioned_topk::{PartitionedTopKExec, WindowFnKind};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties as _, PhysicalExpr, PlanProperties,
    SendableRecordBatchStream,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::groups::has_groups;
use heaps::Heaps;

/// Rows of a group at most: of more, sorting them is no more work.
const MOST_ROWS: usize = 1000;

/// Puts [`LeastExec`] below DataFusion's operator wherever it can tell which rows are the least.
#[derive(Debug)]
pub struct LeastFirst;

impl PhysicalOptimizerRule for LeastFirst {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|plan| match filtered(plan.as_ref())? {
            Some(filtered) => Ok(Transformed::yes(filtered)),
            None => Ok(Transformed::no(plan)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "least_first"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The same plan over fewer rows, if it is one for the least rows of each group.
fn filtered(plan: &dyn ExecutionPlan) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(top) = plan.downcast_ref::<PartitionedTopKExec>() else { return Ok(None) };
    // Of rows that share a rank, all are wanted.
    if top.fn_kind() != WindowFnKind::RowNumber || top.fetch() > MOST_ROWS {
        return Ok(None);
    }
    let (groups, order) = top.expr().split_at(top.partition_prefix_len());
    let groups: Vec<_> = groups.iter().map(|group| group.expr.clone()).collect();
    let dealt = top.input().downcast_ref::<RepartitionExec>();
    let input = dealt.map_or(top.input(), RepartitionExec::input);
    let Some(least) = LeastExec::over(input, groups, order, top.fetch())? else { return Ok(None) };
    let least: Arc<dyn ExecutionPlan> = Arc::new(least);
    let below = match dealt {
        Some(dealt) => Arc::new(RepartitionExec::try_new(least, dealt.partitioning().clone())?),
        None => least,
    };
    let (expr, groups) = (top.expr().clone(), top.partition_prefix_len());
    Ok(Some(Arc::new(PartitionedTopKExec::try_new(below, expr, groups, top.fetch(), top.fn_kind())?)))
}

/// Lets those rows of each partition by that can be among the first `most` of their group, and some others.
#[derive(Debug)]
pub struct LeastExec {
    input: Arc<dyn ExecutionPlan>,
    groups: Vec<Arc<dyn PhysicalExpr>>,
    order: PhysicalSortExpr,
    /// Whether rows that are equal by `order` are told apart by more.
    is_coarse: bool,
    most: usize,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl LeastExec {
    /// Puts it on top of a plan, if groups and order are of types that it can compare as DataFusion does.
    fn over(
        input: &Arc<dyn ExecutionPlan>,
        groups: Vec<Arc<dyn PhysicalExpr>>,
        order: &[PhysicalSortExpr],
        most: usize,
    ) -> Result<Option<Self>> {
        let schema = input.schema();
        for group in &groups {
            if !has_groups(&group.data_type(&schema)?) {
                return Ok(None);
            }
        }
        let Some((first, rest)) = order.split_first() else { return Ok(None) };
        let Some(is_exact) = heaps::is_exact(&first.expr.data_type(&schema)?) else { return Ok(None) };
        let is_coarse = !rest.is_empty() || !is_exact;
        Ok(Some(Self::new(input.clone(), groups, first.clone(), is_coarse, most)))
    }

    fn new(
        input: Arc<dyn ExecutionPlan>,
        groups: Vec<Arc<dyn PhysicalExpr>>,
        order: PhysicalSortExpr,
        is_coarse: bool,
        most: usize,
    ) -> Self {
        let properties = Arc::new(PlanProperties::new(
            input.equivalence_properties().clone(),
            input.output_partitioning().clone(),
            EmissionType::Both,
            input.boundedness(),
        ));
        Self { input, groups, order, is_coarse, most, properties, metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl DisplayAs for LeastExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups = self.groups.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        write!(f, "LeastExec: rows={}, groups=[{groups}], order={}", self.most, self.order)
    }
}

impl ExecutionPlan for LeastExec {
    fn name(&self) -> &str {
        "LeastExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for expr in self.groups.iter().chain([&self.order.expr]) {
            if f(expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.swap_remove(0);
        Ok(Arc::new(Self::new(input, self.groups.clone(), self.order.clone(), self.is_coarse, self.most)))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context.clone())?;
        let schema: SchemaRef = input.schema();
        let reservation = MemoryConsumer::new(format!("LeastExec[{partition}]")).register(context.memory_pool());
        let heaps = Heaps::new(&schema, &self.groups, &self.order, self.is_coarse, self.most, reservation)?;
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        // After the last batch, what was held back comes.
        let steps = input.map_ok(Some).chain(stream::once(async { Ok(None) }));
        let work = move |heaps: &mut Heaps, metrics: &BaselineMetrics, batch: Result<Option<_>>| {
            let _timer = metrics.elapsed_compute().timer();
            match batch? {
                Some(batch) => heaps.insert(batch),
                None => heaps.finish(),
            }
        };
        let rows = steps.scan((heaps, metrics), move |(heaps, metrics), batch| {
            let found = work(heaps, metrics, batch).map(|batches| {
                let found = batches.into_iter().map(|batch| Ok(batch.record_output(metrics)));
                stream::iter(found.collect::<Vec<_>>())
            });
            futures::future::ready(Some(found))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows.try_flatten())))
    }
}

#[cfg(test)]
mod tests;
