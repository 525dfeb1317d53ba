//! Queries whose answer follows from the rows of their tables, and not from how those lie in parts.
//!
//! `LIMIT` takes the first rows of an order, and so do `row_number()`, `first_value`, `DISTINCT ON`. Without an `ORDER BY` the first rows
//! are those that come first, which is another row on another day: that is refused. Where an order has ties, it goes on by the
//! `image_id`s of the rows that it sorts, or where there is none, by all their columns.

use datafusion::common::plan_err;
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Sort as By, WindowFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::logical_plan::{Distinct, DistinctOn, Limit, Projection, Sort};
use datafusion::logical_expr::{Expr, LogicalPlan, WindowFrame, WindowFrameBound, WindowFrameUnits};
use std::sync::Arc;
use tessera_schemas::IMAGE_ID;

/// Aggregates whose value depends on the order of rows.
const ORDERED: [&str; 5] = ["array_agg", "first_value", "last_value", "nth_value", "string_agg"];
/// Window functions, beside those, whose value depends on the order of rows with equal places.
const PLACED: [&str; 4] = ["row_number", "ntile", "lag", "lead"];

/// The plan with orders that leave nothing open.
///
/// # Errors
/// What it takes from an order has none; the message says what to write.
pub fn settled(plan: LogicalPlan) -> Result<LogicalPlan> {
    let settle = |plan: LogicalPlan| -> Result<Transformed<LogicalPlan>> {
        let plan = match plan {
            LogicalPlan::Limit(limit) => LogicalPlan::Limit(first_rows(limit)?),
            LogicalPlan::Distinct(Distinct::On(on)) => LogicalPlan::Distinct(Distinct::On(first_of_each(on)?)),
            LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) => return functions(plan),
            other => return Ok(Transformed::no(other)),
        };
        Ok(Transformed::yes(plan))
    };
    Ok(plan.transform_up_with_subqueries(settle)?.data)
}

fn unordered<T>(what: &str, write: &str) -> Result<T> {
    plan_err!(
        "{what} takes rows as they lie, and those lie otherwise after another run, while the result of this query is kept: write {write}"
    )
}

/// What tells rows of a plan apart, beyond `by`.
fn ties(plan: &LogicalPlan, by: &[By]) -> Vec<By> {
    let columns = plan.schema().columns();
    let ids: Vec<_> = columns.iter().filter(|column| column.name == IMAGE_ID).cloned().collect();
    let columns = if ids.is_empty() { columns } else { ids };
    let columns = columns.into_iter().map(Expr::Column);
    columns.filter(|column| by.iter().all(|by| by.expr != *column)).map(|column| column.sort(true, true)).collect()
}

/// A limit of rows that are sorted to the last.
fn first_rows(limit: Limit) -> Result<Limit> {
    if limit.input.max_rows().is_some_and(|rows| rows <= 1) {
        return Ok(limit);
    }
    match sorted(&limit.input)? {
        Some(input) => Ok(Limit { input: Arc::new(input), ..limit }),
        None => unordered("LIMIT without ORDER BY", "ORDER BY image_id LIMIT …, or another order"),
    }
}

/// A sort, its columns chosen or not, that leaves nothing open; none if the plan is no sort.
fn sorted(plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    Ok(match plan {
        LogicalPlan::Sort(sort) => {
            let mut expr = sort.expr.clone();
            expr.extend(ties(&sort.input, &sort.expr));
            Some(LogicalPlan::Sort(Sort { expr, ..sort.clone() }))
        }
        LogicalPlan::Projection(projection) => match sorted(&projection.input)? {
            Some(input) => Some(LogicalPlan::Projection(Projection::try_new(projection.expr.clone(), Arc::new(input))?)),
            None => None,
        },
        _ => None,
    })
}

/// The first row of each group, in an order that leaves nothing open.
fn first_of_each(on: DistinctOn) -> Result<DistinctOn> {
    let Some(mut by) = on.sort_expr.clone() else {
        return unordered("DISTINCT ON without ORDER BY", "ORDER BY with the columns of DISTINCT ON first");
    };
    by.extend(ties(&on.input, &by));
    Ok(DistinctOn { sort_expr: Some(by), ..on })
}

/// Functions of ordered rows, their orders such that nothing is left open. They keep their names, by which the plan knows them.
fn functions(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let names = NamePreserver::new(&plan);
    let inputs = plan.inputs().first().map(|input| ties(input, &[])).unwrap_or_default();
    plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let changed = expr.transform_up(|expr| match expr {
            Expr::AggregateFunction(mut call) if ORDERED.contains(&call.func.name()) => {
                let (name, params) = (call.func.name().to_owned(), &mut call.params);
                if params.order_by.is_empty() && !is_of_one_kind(&params.args) {
                    return unordered(
                        &format!("{name}() without ORDER BY"),
                        &format!("{name}(x ORDER BY image_id), or another order"),
                    );
                }
                // Rows of equal places and equal values are as good as each other.
                params.order_by.extend(params.args.first().map(|value| value.clone().sort(true, true)));
                Ok(Transformed::yes(Expr::AggregateFunction(call)))
            }
            Expr::WindowFunction(mut window) if depends_on_places(&window) => {
                let by = &mut window.params.order_by;
                if by.is_empty() {
                    let name = window.fun.name().to_owned();
                    return unordered(
                        &format!("{name}() OVER () without ORDER BY"),
                        &format!("{name}(…) OVER (ORDER BY image_id), or another order"),
                    );
                }
                let more: Vec<By> = inputs.iter().filter(|tie| by.iter().all(|by| by.expr != tie.expr)).cloned().collect();
                by.extend(more);
                Ok(Transformed::yes(Expr::WindowFunction(window)))
            }
            other => Ok(Transformed::no(other)),
        })?;
        Ok(if changed.transformed { Transformed::yes(name.restore(changed.data)) } else { changed })
    })
}

/// Whether a function's values are all the same.
fn is_of_one_kind(args: &[Expr]) -> bool {
    args.first().is_some_and(|value| matches!(value, Expr::Literal(..)))
}

/// Whether rows with equal places in a window's order get other values by which of them comes first.
fn depends_on_places(window: &WindowFunction) -> bool {
    let name = window.fun.name();
    PLACED.contains(&name) || ORDERED.contains(&name) || counts_rows(&window.params.window_frame)
}

/// Whether a frame begins or ends at a number of rows.
fn counts_rows(frame: &WindowFrame) -> bool {
    let is_open = |bound: &WindowFrameBound| match bound {
        WindowFrameBound::Preceding(rows) | WindowFrameBound::Following(rows) => rows.is_null(),
        WindowFrameBound::CurrentRow => false,
    };
    frame.units == WindowFrameUnits::Rows && !(is_open(&frame.start_bound) && is_open(&frame.end_bound))
}

#[cfg(test)]
mod tests {
    use datafusion::dataframe::DataFrame;

    use super::*;
    use crate::ask::sql::provider::{context, read_only};

    async fn answer(table: &str, sql: &str) -> Result<String> {
        let context = context(2);
        context.sql(&format!("CREATE TABLE t AS {table}")).await?.collect().await?;
        let (state, plan) = read_only(&context, sql).await?.into_parts();
        let batches = DataFrame::new(state, settled(plan)?).collect().await?;
        Ok(arrow::util::pretty::pretty_format_batches(&batches)?.to_string())
    }

    /// Four images, three of them at the same distance, as they may lie.
    const ONE: &str = "SELECT * FROM (VALUES ('a', 1, 5), ('b', 0, 6), ('c', 1, 7), ('d', 1, 8)) AS v (image_id, d, x)";
    const OTHER: &str = "SELECT * FROM (VALUES ('d', 1, 8), ('c', 1, 7), ('b', 0, 6), ('a', 1, 5)) AS v (image_id, d, x)";

    #[tokio::test]
    async fn ties_end_alike_however_rows_lie() {
        for sql in [
            "SELECT * FROM t ORDER BY d LIMIT 2",
            "SELECT x FROM t ORDER BY d LIMIT 2",
            "SELECT x, count(*) AS n FROM t GROUP BY x ORDER BY n LIMIT 1",
            "SELECT d, x FROM (SELECT image_id, d, x, row_number() OVER (PARTITION BY d ORDER BY d) AS n FROM t) WHERE n = 1 ORDER BY 1, 2",
            "SELECT image_id, lag(x) OVER (ORDER BY d) AS before, first_value(x) OVER (ORDER BY d) AS first FROM t ORDER BY 1",
            "SELECT image_id, sum(x) OVER (ORDER BY d ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS s FROM t ORDER BY 1",
            "SELECT first_value(x ORDER BY d) AS f, array_agg(image_id ORDER BY d) AS all FROM t",
            "SELECT DISTINCT ON (d) d, x FROM t ORDER BY d",
            "SELECT image_id FROM t WHERE x IN (SELECT x FROM t ORDER BY d LIMIT 2) ORDER BY 1",
            "SELECT count(*) AS n FROM t LIMIT 1",
            "SELECT image_id, rank() OVER (ORDER BY d) AS r, sum(x) OVER (ORDER BY d) AS s, count(*) OVER () AS n FROM t ORDER BY 1",
        ] {
            let one = answer(ONE, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
            assert_eq!(one, answer(OTHER, sql).await.unwrap(), "{sql}");
        }
        let first = answer(OTHER, "SELECT image_id FROM t ORDER BY d LIMIT 2").await.unwrap();
        assert!(first.contains("| b ") && first.contains("| a "), "{first}");
    }

    #[tokio::test]
    async fn rows_as_they_lie_are_refused() {
        for (sql, what) in [
            ("SELECT * FROM t LIMIT 2", "LIMIT without ORDER BY"),
            ("SELECT * FROM t OFFSET 2", "LIMIT without ORDER BY"),
            ("SELECT * FROM (SELECT * FROM t ORDER BY d) AS s LIMIT 2", "LIMIT without ORDER BY"),
            ("SELECT count(*) FROM t WHERE x IN (SELECT x FROM t LIMIT 2)", "LIMIT without ORDER BY"),
            ("SELECT array_agg(x) FROM t", "array_agg() without ORDER BY"),
            ("SELECT d, first_value(x) FROM t GROUP BY d", "first_value() without ORDER BY"),
            ("SELECT row_number() OVER () FROM t", "row_number() OVER () without ORDER BY"),
            ("SELECT row_number() OVER (PARTITION BY d) FROM t", "row_number() OVER () without ORDER BY"),
            ("SELECT DISTINCT ON (d) d, x FROM t", "DISTINCT ON without ORDER BY"),
        ] {
            let error = answer(ONE, sql).await.err().unwrap_or_else(|| panic!("{sql}")).to_string();
            assert!(error.contains(what) && error.contains("write "), "{sql}: {error}");
        }
    }
}
