//! Aggregates over few groups.
//!
//! "How many images has each cluster, by class?" has two thousand groups, or some ten thousand, and a row for each image. DataFusion
//! hashes the values of each row, and looks their group up in a table that could have gone to files. [`TallyExec`] takes the place of
//! its first step, the one behind each scan: it [numbers](super::groups) the groups, and DataFusion's accumulators do the rest. When the
//! groups turn out to be many, or memory short, it passes on what it has, and DataFusion's own step takes the rows that are left.

mod views;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, AsArray as _, RecordBatch};
use arrow::datatypes::SchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::internal_datafusion_err;
use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput as _};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, InputOrderMode, PhysicalExpr, PlanProperties, SendableRecordBatchStream,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::groups::{Groups, has_groups};

/// Groups at most: more do not fit a processor's cache, and a table of hashes is as good.
const MOST_GROUPS: usize = 1 << 16;

/// Puts [`TallyExec`] in the place of DataFusion's first step wherever groups can be numbered.
#[derive(Debug)]
pub struct TallyFew;

impl PhysicalOptimizerRule for TallyFew {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|plan| match plan.downcast_ref::<AggregateExec>() {
            Some(aggregate) if can_tally(aggregate)? => {
                let input = views::input(aggregate)?;
                Ok(Transformed::yes(Arc::new(TallyExec::new(plan.clone(), input)) as Arc<dyn ExecutionPlan>))
            }
            _ => Ok(Transformed::no(plan)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "tally_few"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Whether a step's groups can be numbered, and its accumulators take rows in any order, many groups at once.
fn can_tally(aggregate: &AggregateExec) -> Result<bool> {
    let (groups, input) = (aggregate.group_expr(), aggregate.input().schema());
    let is_first = *aggregate.mode() == AggregateMode::Partial && *aggregate.input_order_mode() == InputOrderMode::Linear;
    let is_plain = groups.is_single() && !groups.is_empty() && aggregate.limit_options().is_none();
    for group in groups.input_exprs() {
        if !has_groups(&group.data_type(&input)?) {
            return Ok(false);
        }
    }
    let takes_any = aggregate.aggr_expr().iter().all(|function| {
        !function.is_distinct() && function.order_bys().is_empty() && function.groups_accumulator_supported()
    });
    Ok(is_first && is_plain && takes_any)
}

/// A plan over other inputs has its properties computed anew.
fn recompute() -> ReplaceChildrenOptions {
    ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute)
}

/// DataFusion's first step of an aggregate, done another way while groups are few.
#[derive(Debug)]
pub struct TallyExec {
    /// An [`AggregateExec`].
    step: Arc<dyn ExecutionPlan>,
    /// What the step would read, with views in place of some texts.
    input: Arc<dyn ExecutionPlan>,
    metrics: ExecutionPlanMetricsSet,
}

impl TallyExec {
    fn new(step: Arc<dyn ExecutionPlan>, input: Arc<dyn ExecutionPlan>) -> Self {
        Self { step, input, metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl DisplayAs for TallyExec {
    fn fmt_as(&self, kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TallyExec: ")?;
        self.step.fmt_as(kind, f)
    }
}

impl ExecutionPlan for TallyExec {
    fn name(&self) -> &str {
        "TallyExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.step.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.step.apply_expressions(f)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(self.step.clone(), children.swap_remove(0))))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, recompute())
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let aggregate = self.step.downcast_ref::<AggregateExec>();
        let aggregate = aggregate.ok_or_else(|| internal_datafusion_err!("{} is no aggregate", self.step.name()))?;
        let input = self.input.execute(partition, context.clone())?;
        let reservation = MemoryConsumer::new(format!("TallyExec[{partition}]")).register(context.memory_pool());
        let tally = Tally::new(aggregate, &self.input.schema(), reservation)?;
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let rows = stream::once(tally_all(tally, input, self.step.clone(), context, metrics)).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.step.schema(), rows)))
    }
}

/// Takes all rows; the step that it stands for takes those that are too many.
async fn tally_all(
    mut tally: Tally,
    mut input: SendableRecordBatchStream,
    step: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    metrics: BaselineMetrics,
) -> Result<SendableRecordBatchStream> {
    let mut rest = None;
    while let Some(batch) = input.next().await {
        let _timer = metrics.elapsed_compute().timer();
        if !tally.add(&batch?)? {
            rest = Some(left(&step, input, &context)?);
            break;
        }
    }
    let found = tally.finish(step.schema())?.record_output(&metrics);
    let rows = context.session_config().batch_size();
    let batches = (0..found.num_rows()).step_by(rows);
    let batches: Vec<_> = batches.map(|at| Ok(found.slice(at, rows.min(found.num_rows() - at)))).collect();
    let rows = stream::iter(batches).chain(stream::iter(rest).flatten());
    Ok(Box::pin(RecordBatchStreamAdapter::new(step.schema(), rows)))
}

/// What a step gives of the rows that are left of one partition.
fn left(
    step: &Arc<dyn ExecutionPlan>,
    rows: SendableRecordBatchStream,
    context: &Arc<TaskContext>,
) -> Result<SendableRecordBatchStream> {
    let schema = step.children().first().map_or_else(|| rows.schema(), |input| input.schema());
    let kinds = schema.clone();
    let rows = rows.map(move |batch| views::plain(&batch?, &kinds));
    let rows = Box::pin(RecordBatchStreamAdapter::new(schema.clone(), rows));
    let left: Arc<dyn PartitionStream> = Arc::new(Left { schema: schema.clone(), rows: Mutex::new(Some(rows)) });
    let left = StreamingTableExec::try_new(schema, vec![left], None, [], false, None)?;
    step.clone().replace_children(vec![Arc::new(left)], recompute())?.execute(0, context.clone())
}

/// Rows that are left, to be read once.
struct Left {
    schema: SchemaRef,
    rows: Mutex<Option<SendableRecordBatchStream>>,
}

impl fmt::Debug for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Left")
    }
}

impl PartitionStream for Left {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner).take();
        let twice = || Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), stream::iter([Err(read_twice())]))) as _;
        rows.unwrap_or_else(twice)
    }
}

fn read_twice() -> datafusion::error::DataFusionError {
    internal_datafusion_err!("rows that are left were read twice")
}

/// The groups of one partition so far, and what is known of each.
struct Tally {
    by: Vec<Arc<dyn PhysicalExpr>>,
    functions: Vec<Function>,
    groups: Groups,
    ids: Vec<usize>,
    reservation: MemoryReservation,
}

/// A function of each group's rows.
struct Function {
    arguments: Vec<Arc<dyn PhysicalExpr>>,
    filter: Option<Arc<dyn PhysicalExpr>>,
    accumulator: Box<dyn GroupsAccumulator>,
}

impl Tally {
    fn new(aggregate: &AggregateExec, schema: &SchemaRef, reservation: MemoryReservation) -> Result<Self> {
        let by = aggregate.group_expr().input_exprs();
        let kinds = by.iter().map(|group| group.data_type(schema)).collect::<Result<Vec<_>>>()?;
        let functions = aggregate.aggr_expr().iter().zip(aggregate.filter_expr()).map(|(function, filter)| {
            let accumulator = function.create_groups_accumulator()?;
            Ok(Function { arguments: function.expressions(), filter: filter.clone(), accumulator })
        });
        let functions = functions.collect::<Result<Vec<_>>>()?;
        Ok(Self { by, functions, groups: Groups::new(&kinds)?, ids: Vec::new(), reservation })
    }

    /// Takes rows; then says whether there may be more.
    fn add(&mut self, batch: &RecordBatch) -> Result<bool> {
        let values = |expr: &Arc<dyn PhysicalExpr>| expr.evaluate(batch)?.into_array(batch.num_rows());
        let columns = self.by.iter().map(values).collect::<Result<Vec<_>>>()?;
        self.groups.intern(&columns, &mut self.ids);
        let mut size = self.groups.size();
        for function in &mut self.functions {
            let arguments = function.arguments.iter().map(values).collect::<Result<Vec<_>>>()?;
            let filter = function.filter.as_ref().map(values).transpose()?;
            let filter = filter.as_ref().map(|filter| filter.as_boolean());
            function.accumulator.update_batch(&arguments, &self.ids, filter, self.groups.len())?;
            size += function.accumulator.size();
        }
        Ok(self.groups.len() <= MOST_GROUPS && self.reservation.try_resize(size).is_ok())
    }

    /// The groups and the states of their accumulators.
    fn finish(self, schema: SchemaRef) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = self.groups.values();
        for mut function in self.functions {
            columns.extend(function.accumulator.state(EmitTo::All)?);
        }
        let names = schema.fields().iter().map(|field| field.name());
        let found = RecordBatch::try_from_iter_with_nullable(names.zip(columns).map(|(name, column)| (name, column, true)))?;
        views::plain(&found, &schema)
    }
}

#[cfg(test)]
mod tests;
