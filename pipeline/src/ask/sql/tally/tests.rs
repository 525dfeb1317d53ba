use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::physical_plan::displayable;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::{MOST_GROUPS, TallyExec, TallyFew};

/// Rows in three partitions, in groups of several kinds; the sums of `x` are exact.
fn table(rows: usize, groups: usize) -> MemTable {
    let batch = |start: usize| {
        let rows: Vec<usize> = (start..start + 500).map(|row| row.wrapping_mul(2_654_435_761) % 1_000_003).collect();
        let group = |row: &usize| (!row.is_multiple_of(11)).then_some(row % groups);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("g", Arc::new(rows.iter().map(|row| group(row).map(|g| g as i32)).collect::<Int32Array>())),
            ("s", Arc::new(rows.iter().map(|row| group(row).map(|g| format!("class {}", g % 7))).collect::<StringArray>())),
            ("b", Arc::new(rows.iter().map(|row| (row % 5 > 0).then_some(row % 3 == 0)).collect::<BooleanArray>())),
            ("n", Arc::new(rows.iter().map(|row| i64::MAX - (row % 2) as i64 * (i64::MAX / 2)).collect::<Int64Array>())),
            (
                "x",
                Arc::new(rows.iter().map(|row| (row % 6 > 0).then_some((row % 64) as f64 - 9.0)).collect::<Float64Array>()),
            ),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
    };
    let parts = (0..3).map(|part| (0..rows / 1500).map(|at| batch((part * rows / 1500 + at) * 500)).collect()).collect();
    MemTable::try_new(batch(0).schema(), parts).unwrap()
}

fn context(table: MemTable, with: bool, memory: usize) -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(3);
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(GreedyMemoryPool::new(memory))).build_arc().unwrap();
    let mut state = SessionStateBuilder::new().with_config(config).with_runtime_env(runtime).with_default_features();
    if with {
        state = state.with_physical_optimizer_rule(Arc::new(TallyFew));
    }
    let context = SessionContext::new_with_state(state.build());
    context.register_table("t", Arc::new(table)).unwrap();
    context
}

async fn answer(context: &SessionContext, query: &str) -> String {
    pretty_format_batches(&context.sql(query).await.unwrap().collect().await.unwrap()).unwrap().to_string()
}

async fn is_tallied(context: &SessionContext, query: &str) -> bool {
    let plan = context.sql(query).await.unwrap().create_physical_plan().await.unwrap();
    displayable(plan.as_ref()).indent(false).to_string().contains("TallyExec")
}

fn query(groups: &str) -> String {
    format!(
        "SELECT {groups}, count(*), count(x), sum(x), avg(x), min(x), max(n), stddev(x), count(*) FILTER (WHERE x > 3), bool_or(b) \
         FROM t GROUP BY {groups} ORDER BY {groups}"
    )
}

#[tokio::test]
async fn answers_are_those_of_the_engine() {
    for groups in [1, 40, 3000] {
        let (tallied, plain) =
            (context(table(30_000, groups), true, 1 << 30), context(table(30_000, groups), false, 1 << 30));
        for by in ["g", "s", "b", "n", "g, s", "s, g, b", "n, b", "g % 4"] {
            let query = query(by);
            assert!(is_tallied(&tallied, &query).await, "{query}");
            assert!(!is_tallied(&plain, &query).await);
            assert_eq!(answer(&tallied, &query).await, answer(&plain, &query).await, "{groups} groups: {query}");
        }
        for query in ["SELECT DISTINCT g, s FROM t ORDER BY g, s", "SELECT g, count(*) FROM t WHERE g < 0 GROUP BY g"] {
            assert_eq!(answer(&tallied, query).await, answer(&plain, query).await, "{groups} groups: {query}");
        }
    }
}

#[tokio::test]
async fn many_groups_and_little_memory_are_left_to_the_engine_on_the_way() {
    let groups = 3 * MOST_GROUPS;
    let plain = context(table(900_000, groups), false, 1 << 30);
    let all = "SELECT g, count(*) AS c, sum(x) AS x FROM t GROUP BY g";
    let query = format!("SELECT count(*), sum(c), sum(g * c), sum(x), max(c) FROM ({all}) AS a");
    let expected = answer(&plain, &query).await;
    assert!(is_tallied(&context(table(3000, groups), true, 1 << 30), &query).await);
    assert_eq!(answer(&context(table(900_000, groups), true, 1 << 30), &query).await, expected);
    // So little that a tally is given up, and what is left goes to files.
    let few = self::query("g");
    let expected = answer(&context(table(90_000, 20_000), false, 1 << 30), &few).await;
    assert_eq!(answer(&context(table(90_000, 20_000), true, 40 << 20), &few).await, expected);
}

/// The same rows in files, whose texts are dictionaries.
async fn in_files(rows: usize, groups: usize, with: bool) -> (SessionContext, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let memory = context(table(rows, groups), false, 1 << 30);
    let batches = memory.sql("SELECT *, s AS again FROM t").await.unwrap().collect_partitioned().await.unwrap();
    for (at, batches) in batches.iter().enumerate() {
        let file = std::fs::File::create(folder.path().join(format!("{at}.parquet"))).unwrap();
        let mut writer = parquet::arrow::ArrowWriter::try_new(file, batches[0].schema(), None).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.close().unwrap();
    }
    let mut config = SessionConfig::new().with_target_partitions(3);
    config.options_mut().execution.parquet.schema_force_view_types = false;
    let mut state = SessionStateBuilder::new().with_config(config).with_default_features();
    if with {
        state = state.with_physical_optimizer_rule(Arc::new(TallyFew));
    }
    let context = SessionContext::new_with_state(state.build());
    context.register_parquet("t", folder.path().to_str().unwrap(), Default::default()).await.unwrap();
    (context, folder)
}

/// Whether the tally of a query reads views.
async fn reads_views(context: &SessionContext, query: &str) -> bool {
    let plan = context.sql(query).await.unwrap().create_physical_plan().await.unwrap();
    let (mut found, mut plans) = (None, vec![plan]);
    while let Some(plan) = plans.pop() {
        if plan.downcast_ref::<TallyExec>().is_some() {
            found = Some(plan.children()[0].schema().fields().iter().any(|field| field.data_type() == &DataType::Utf8View));
        }
        plans.extend(plan.children().into_iter().cloned());
    }
    found.expect("a tally")
}

#[tokio::test]
async fn texts_in_files_are_read_as_views_where_they_are_groups_alone() {
    for groups in [5, 200_000] {
        let rows = if groups > MOST_GROUPS { 300_000 } else { 9000 };
        let (tallied, _folder) = in_files(rows, groups, true).await;
        let (plain, _other) = in_files(rows, groups, false).await;
        for (query, views) in [
            ("SELECT s, count(*), sum(x) FROM t GROUP BY s ORDER BY s", true),
            ("SELECT g, s, count(*), min(again) FROM t GROUP BY g, s ORDER BY g, s", true),
            ("SELECT s AS a, again AS b, count(b) FROM t GROUP BY s, again ORDER BY s", true),
            ("SELECT s, max(s) FROM t GROUP BY s ORDER BY s", false),
            ("SELECT s, count(*) FILTER (WHERE s > 'class 3') FROM t GROUP BY s ORDER BY s", false),
            ("SELECT s, min(length(s)) FROM t GROUP BY s ORDER BY s", false),
            ("SELECT s, count(*) FROM t WHERE x > 3 GROUP BY s ORDER BY s", false),
        ] {
            assert_eq!(answer(&tallied, query).await, answer(&plain, query).await, "{groups} groups: {query}");
            assert_eq!(reads_views(&tallied, query).await, views, "{query}");
        }
    }
}

#[tokio::test]
async fn what_it_cannot_tally_is_left_to_the_engine() {
    let tallied = context(table(3000, 3), true, 1 << 30);
    for query in [
        "SELECT x, count(*) FROM t GROUP BY x",
        "SELECT count(*) FROM t",
        "SELECT g, count(DISTINCT s), count(DISTINCT b) FROM t GROUP BY g",
        "SELECT g, s, count(*) FROM t GROUP BY ROLLUP (g, s)",
        "SELECT g, first_value(s ORDER BY x) FROM t GROUP BY g",
    ] {
        assert!(!is_tallied(&tallied, query).await, "{query}");
    }
}
