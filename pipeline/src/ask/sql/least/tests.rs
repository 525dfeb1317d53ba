use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::physical_plan::displayable;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::LeastFirst;

/// Rows in three partitions: of three groups, or of as many as there are rows; with ties, nulls, zeros with signs, and values that are no
/// numbers.
fn table(rows: usize, groups: usize) -> MemTable {
    let mut state = 7_u64;
    let mut roll = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let odd = [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, f32::MIN_POSITIVE, -1.5];
    let mut batch = |rows: usize| {
        let dice: Vec<[usize; 3]> = (0..rows).map(|_| [roll(), roll(), roll()]).collect();
        let group = |dice: &[usize; 3]| (!dice[0].is_multiple_of(11)).then_some(dice[0] % groups);
        let narrow = |dice: &[usize; 3]| match dice[1] % 20 {
            0 => None,
            1..8 => Some(odd[dice[2] % odd.len()]),
            _ => Some((dice[2] % 50) as f32 - 25.0),
        };
        let ends = [i64::MIN, i64::MAX, 0, -1];
        let long = |dice: &[usize; 3]| (!dice[1].is_multiple_of(9)).then_some(ends[dice[2] % ends.len()]);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("g", Arc::new(dice.iter().map(|dice| group(dice).map(|g| g as i32)).collect::<Int32Array>())),
            ("s", Arc::new(dice.iter().map(|dice| group(dice).map(|g| format!("g{g}"))).collect::<StringArray>())),
            ("x", Arc::new(dice.iter().map(narrow).collect::<Float32Array>())),
            ("y", Arc::new(dice.iter().map(|dice| narrow(dice).map(f64::from)).collect::<Float64Array>())),
            ("n", Arc::new(dice.iter().map(long).collect::<Int64Array>())),
            ("m", Arc::new(dice.iter().map(|dice| (dice[0] % 13) as i64).collect::<Int64Array>())),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
    };
    let parts: Vec<Vec<RecordBatch>> = (0..3).map(|_| (0..rows / 3 / 500).map(|_| batch(500)).collect()).collect();
    MemTable::try_new(parts[0][0].schema(), parts).unwrap()
}

fn context(rows: usize, groups: usize, with: bool, memory: usize) -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(3);
    config.options_mut().optimizer.enable_window_topn = with;
    let pool = Arc::new(GreedyMemoryPool::new(memory));
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc().unwrap();
    let mut state = SessionStateBuilder::new().with_config(config).with_runtime_env(runtime).with_default_features();
    if with {
        state = state.with_physical_optimizer_rule(Arc::new(LeastFirst));
    }
    let context = SessionContext::new_with_state(state.build());
    context.register_table("t", Arc::new(table(rows, groups))).unwrap();
    context
}

async fn answer(context: &SessionContext, query: &str) -> String {
    pretty_format_batches(&context.sql(query).await.unwrap().collect().await.unwrap()).unwrap().to_string()
}

async fn plan(context: &SessionContext, query: &str) -> String {
    let plan = context.sql(query).await.unwrap().create_physical_plan().await.unwrap();
    displayable(plan.as_ref()).indent(false).to_string()
}

fn query(groups: &str, order: &str, most: usize) -> String {
    // Rows that are equal in the order may take each other's place, so the columns of the order are asked for alone.
    let columns = order.replace(" DESC", "").replace(" NULLS FIRST", "").replace(" NULLS LAST", "");
    let ordered = columns.split(", ").filter(|column| !groups.split(", ").any(|group| group == *column));
    let columns: Vec<&str> = groups.split(", ").chain(ordered).collect();
    let columns = columns.join(", ");
    format!(
        "SELECT {columns}, r FROM (SELECT *, row_number() OVER (PARTITION BY {groups} ORDER BY {order}) AS r FROM t) \
         WHERE r <= {most} ORDER BY {groups}, r"
    )
}

const ORDERS: [&str; 9] = [
    "x",
    "x DESC",
    "x NULLS FIRST",
    "x DESC NULLS LAST",
    "y DESC",
    "n",
    "n DESC NULLS LAST",
    "n NULLS FIRST, x",
    "x DESC, y NULLS FIRST, m",
];

#[tokio::test]
async fn the_same_rows_are_found_as_by_sorting() {
    for groups in [3, 700] {
        let (least, sorted) = (context(60_000, groups, true, 1 << 30), context(60_000, groups, false, 1 << 30));
        for by in ["g", "s", "g, m"] {
            for order in ORDERS {
                for most in [1, 9] {
                    let query = query(by, order, most);
                    assert!(plan(&least, &query).await.contains("LeastExec"), "{query}");
                    assert_eq!(answer(&least, &query).await, answer(&sorted, &query).await, "{groups} groups: {query}");
                }
            }
        }
    }
}

#[tokio::test]
async fn with_a_group_for_each_row_or_without_memory_all_rows_are_let_by() {
    let sorted = context(600_000, 500_000, false, 1 << 30);
    let query = query("g", "x", 2);
    let expected = answer(&sorted, &query).await;
    let least = context(600_000, 500_000, true, 1 << 30);
    assert_eq!(answer(&least, &query).await, expected);
}

#[tokio::test]
async fn what_it_cannot_compare_is_left_to_the_engine() {
    let least = context(3000, 3, true, 1 << 30);
    for query in [query("x", "g", 9), query("g", "s", 9), query("g", "x", 5000)] {
        let plan = plan(&least, &query).await;
        assert!(!plan.contains("LeastExec"), "{query}: {plan}");
    }
    let ranks = query("g", "x", 9).replace("row_number", "rank");
    assert!(!plan(&least, &ranks).await.contains("LeastExec"));
}
