//! Stages as SQL tables: snapshots from their parts, views computed while they are read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, plan_datafusion_err, plan_err};
use datafusion::dataframe::DataFrame;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::SQLOptions;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::expressions::{CastExpr, col};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer, Word};

use super::least::LeastFirst;
use super::tally::TallyFew;
use super::{agreement, canonical, inside, unknown};
use crate::engine::catalog::Catalog;
use crate::engine::config;
use crate::engine::operator_exec::ScanState;
use crate::engine::request::{Request, Rows};
use crate::store::DroppedRow;

/// A context with Tessera's functions and no table.
pub fn context(threads: usize) -> SessionContext {
    context_in(threads, Arc::default())
}

/// A context as [`context`] makes it, within limits of memory.
pub fn context_in(threads: usize, runtime: Arc<RuntimeEnv>) -> SessionContext {
    let state = SessionStateBuilder::new().with_config(config(threads)).with_runtime_env(runtime).with_default_features();
    let state = state.with_physical_optimizer_rule(Arc::new(LeastFirst)).with_physical_optimizer_rule(Arc::new(TallyFew));
    let context = SessionContext::new_with_state(state.build());
    for function in agreement::all() {
        context.register_udaf(function);
    }
    context.register_udf(canonical::function());
    context.register_udf(inside::function());
    context
}

/// Operators that a query may have: each may be a step deeper in a tree that is walked by recursion.
const MOST_OPERATORS: usize = 4000;

/// Plans a query that may only read. Deep ones take a large stack.
///
/// # Errors
/// It is no query, or a wrong one, or larger than can be worked with. Of a table that is not there, the message says which are.
pub async fn read_only(context: &SessionContext, sql: &str) -> Result<DataFrame> {
    refuse_deep(sql)?;
    refuse_copy(context, sql)?;
    let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    context.sql_with_options(sql, options).await.map_err(|error| match error.find_root() {
        DataFusionError::Plan(said) if said.contains("' not found") => {
            unknown::table(context, sql).map_or(error, |message| plan_datafusion_err!("{message}"))
        }
        _ => error,
    })
}

/// Refuses COPY by what does in its place.
fn refuse_copy(context: &SessionContext, sql: &str) -> Result<()> {
    let state = context.state();
    let dialect = state.config().options().sql_parser.dialect;
    match state.sql_to_statement(sql, &dialect) {
        Ok(Statement::CopyTo(_)) => plan_err!(
            "a query writes no file, as COPY would: `tessera export FILE STAGE -o OUT` writes a table, and `tessera sql FILE -o OUT QUERY` an answer"
        ),
        // What is no statement is told of when it is planned.
        _ => Ok(()),
    }
}

/// Refuses a query that is too deep a tree to walk.
///
/// # Errors
/// It has too many operators.
pub fn refuse_deep(sql: &str) -> Result<()> {
    match operators(sql) {
        operators if operators > MOST_OPERATORS => plan_err!(
            "the query has {operators} operators, and {MOST_OPERATORS} are the most: `x IN (1, 2, …)` or a join with a table takes more values"
        ),
        _ => Ok(()),
    }
}

/// Operators and set operations in a query's text. What is no SQL has none, and the parser says so.
fn operators(sql: &str) -> usize {
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize().unwrap_or_default();
    let joins = |word: &Word| {
        matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::NOT
                | Keyword::UNION
                | Keyword::EXCEPT
                | Keyword::INTERSECT
                | Keyword::CASE
                | Keyword::JOIN
                | Keyword::SELECT
        )
    };
    let is_operator = |token: &Token| match token {
        Token::Word(word) => joins(word),
        Token::Whitespace(_) | Token::Comma | Token::Period | Token::SemiColon | Token::RParen | Token::EOF => false,
        Token::Number(..) | Token::SingleQuotedString(_) | Token::Placeholder(_) => false,
        _ => true,
    };
    tokens.iter().filter(|token| is_operator(token)).count()
}

/// What the scans of one query share: what they left out, and what else is to be said of their rows.
#[derive(Debug, Clone, Default)]
pub struct Scans(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    scans: Vec<Arc<ScanState>>,
    notes: Vec<String>,
}

impl Scans {
    /// Rows that any of the scans left out.
    pub fn dropped(&self) -> Vec<DroppedRow> {
        let told = self.told();
        let mut rows: Vec<DroppedRow> =
            told.scans.iter().flat_map(|scan| (0..scan.dropped.len()).flat_map(|at| scan.take_dropped(at))).collect();
        rows.sort();
        rows.dedup();
        rows
    }

    /// What was noted.
    pub fn notes(&self) -> Vec<String> {
        self.told().notes.clone()
    }

    /// Adds a scan.
    pub fn add(&self, scan: Arc<ScanState>) {
        self.told().scans.push(scan);
    }

    /// Notes something, once.
    pub fn note(&self, note: String) {
        let mut told = self.told();
        if !told.notes.contains(&note) {
            told.notes.push(note);
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A predicate and a number of rows.
pub(super) type PushedDown = (Option<Arc<dyn PhysicalExpr>>, Option<usize>);

/// What a scan is told of the rows that its reader will not look at: a predicate, and how many are enough. A limit behind a filter that is
/// not exact could be reached too early.
pub(super) fn pushed_down(
    state: &dyn Session,
    schema: &SchemaRef,
    filters: &[Expr],
    limit: Option<usize>,
) -> Result<PushedDown> {
    let Some(filter) = conjunction(filters.to_vec()) else { return Ok((None, limit)) };
    Ok((Some(state.create_physical_expr(filter, &DFSchema::try_from(schema.clone())?)?), None))
}

/// A stage as a table.
pub struct StageTable {
    catalog: Arc<Catalog>,
    node: usize,
    scans: Scans,
    schema: SchemaRef,
}

impl StageTable {
    /// The table of a stage.
    pub fn new(catalog: Arc<Catalog>, node: usize, scans: Scans) -> Self {
        let schema = catalog.schema(node);
        Self { catalog, node, scans, schema }
    }

    /// The same table, with fields that have no metadata.
    pub fn without_metadata(self) -> Self {
        let bare = |field: &Arc<Field>| field.as_ref().clone().with_metadata(HashMap::new());
        let schema = Arc::new(Schema::new(self.schema.fields().iter().map(bare).collect::<Vec<_>>()));
        Self { schema, ..self }
    }

    fn is_view(&self) -> bool {
        self.catalog.plan.graph.nodes[self.node].view
    }
}

impl std::fmt::Debug for StageTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StageTable({})", self.catalog.name(self.node))
    }
}

#[async_trait]
impl TableProvider for StageTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        if self.is_view() { TableType::View } else { TableType::Base }
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let support =
            if self.is_view() { TableProviderFilterPushDown::Unsupported } else { TableProviderFilterPushDown::Inexact };
        Ok(vec![support; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = self.schema();
        let names = |places: &Vec<usize>| places.iter().map(|&at| schema.field(at).name().clone()).collect::<Vec<String>>();
        let (predicate, limit) = pushed_down(state, &schema, filters, limit)?;
        let partitions = state.config().target_partitions();
        let rows = Rows::Few { partitions, predicate, limit };
        let request = Request { top: None, columns: projection.map(names), rows };
        let scan = self.catalog.scan(self.node, request).await.map_err(|error| DataFusionError::External(error.into()))?;
        self.scans.add(scan.state.clone());
        let found = scan.plan.schema();
        let all = (0..schema.fields().len()).collect();
        let places = projection.unwrap_or(&all);
        if projection.is_none() && found.fields() == schema.fields() {
            return Ok(scan.plan);
        }
        let exprs = places
            .iter()
            .map(|&at| {
                let field = &schema.fields()[at];
                let mut expr = col(field.name(), &found)?;
                if found.field_with_name(field.name())?.metadata() != field.metadata() {
                    expr = Arc::new(CastExpr::new_with_target_field(expr, field.clone(), None));
                }
                Ok((expr, field.name().clone()))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(ProjectionExec::try_new(exprs, scan.plan)?))
    }
}
