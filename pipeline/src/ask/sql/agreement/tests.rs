use arrow::array::{
    BooleanArray, DictionaryArray, Float64Array, Int8Array, Int32Array, Int64Array, LargeStringArray, NullArray,
    RecordBatch, StringArray, StringViewArray, UInt16Array,
};
use arrow::datatypes::{Int32Type, Schema};
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::*;

const ALL: &str = "nmi(a, b), ami(a, b), ari(a, b), purity(a, b), accuracy(a, b)";

/// SplitMix64: the labellings below are the same in any language.
fn mix(seed: u64) -> u64 {
    let x = seed.wrapping_add(0x9E3779B97F4A7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58476D1CE4E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D049BB133111EB);
    x ^ (x >> 31)
}

/// Clusters of uneven sizes, and labels that follow them in `agree` per cent of the rows.
fn labellings(rows: u64, clusters: u64, labels: u64, agree: u64) -> (Vec<i32>, Vec<i32>) {
    let draw = |row: u64| {
        let [cluster, follow, label] = [0, 1, 2].map(|purpose| mix(3 * row + purpose));
        let cluster = (cluster % clusters).min(cluster / clusters % clusters);
        let label = if follow % 100 < agree { cluster % labels } else { label % labels };
        (cluster as i32, label as i32)
    };
    (0..rows).map(draw).unzip()
}

/// A session with the aggregates and table `t (a, b)` in as many partitions as `parts`.
fn session(parts: Vec<(ArrayRef, ArrayRef)>) -> SessionContext {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(parts.len()));
    for aggregate in all() {
        context.register_udaf(aggregate);
    }
    let field = |name: &str, column: &ArrayRef| Field::new(name, column.data_type().clone(), true);
    let schema = Arc::new(Schema::new(vec![field("a", &parts[0].0), field("b", &parts[0].1)]));
    let batch = |(a, b)| vec![RecordBatch::try_new(Arc::clone(&schema), vec![a, b]).expect("two equal columns")];
    let parts = parts.into_iter().map(batch).collect();
    context.register_table("t", Arc::new(MemTable::try_new(schema, parts).unwrap())).unwrap();
    context
}

fn of_columns(a: impl Array + 'static, b: impl Array + 'static) -> SessionContext {
    session(vec![(Arc::new(a), Arc::new(b))])
}

fn of_integers(a: &[i32], b: &[i32]) -> SessionContext {
    of_columns(Int32Array::from(a.to_vec()), Int32Array::from(b.to_vec()))
}

async fn query(context: &SessionContext, sql: &str) -> Vec<Vec<Option<f64>>> {
    let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
    let row = |batch: &RecordBatch, row| {
        let cells = batch.columns().iter().map(|column| column.as_primitive::<arrow::datatypes::Float64Type>());
        cells.map(|column| column.is_valid(row).then(|| column.value(row))).collect()
    };
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|at| row(batch, at)).collect::<Vec<_>>()).collect()
}

async fn scores(context: &SessionContext) -> Vec<f64> {
    let rows = query(context, &format!("SELECT {ALL} FROM t")).await;
    rows[0].iter().map(|score| score.expect("the table has rows")).collect()
}

fn assert_close(found: &[f64], expected: [f64; 5]) {
    for ((found, expected), measure) in found.iter().zip(expected).zip(Measure::ALL) {
        assert!((found - expected).abs() < 1e-9, "{}: {found} instead of {expected}", measure.name());
    }
}

/// Values of scikit-learn and SciPy for the same labellings, in the order of [`ALL`] (`tests/peers/golden/labellings.py`).
#[tokio::test]
async fn equals_scikit_learn() {
    type Case = ((u64, u64, u64, u64), [f64; 5]);
    let cases: [Case; 5] = [
        (
            (12, 3, 3, 50),
            [0.14130490354962505, 0.02059909626906879, 0.06691800188501414, 0.5833333333333334, 0.5833333333333334],
        ),
        ((1000, 13, 7, 40), [0.163868507632908, 0.14913244193128336, 0.11817363757831616, 0.479, 0.372]),
        ((5000, 40, 40, 0), [0.0444845912588703, -0.0004255759993826569, -0.00012414119702852837, 0.059, 0.0558]),
        ((20000, 200, 100, 70), [0.6223567094570421, 0.5786229289663188, 0.3869763275665904, 0.7082, 0.53345]),
        ((3000, 2500, 10, 90), [0.4544398771611018, 0.1774921293711563, 0.007329818266904803, 0.925, 0.018]),
    ];
    for ((rows, clusters, labels, agree), expected) in cases {
        let (a, b) = labellings(rows, clusters, labels, agree);
        assert_close(&scores(&of_integers(&a, &b)).await, expected);
    }
}

/// What scikit-learn defines where the formulas divide zero by zero.
#[tokio::test]
async fn the_limits_are_scikit_learns() {
    let fifty: Vec<i32> = (0..50).collect();
    let thirds: Vec<i32> = (0..50).map(|row| row % 3).collect();
    let cases: [(&[i32], &[i32], [f64; 5]); 7] = [
        (&[1; 5], &[1; 5], [1.0; 5]),
        (&[5], &[7], [1.0; 5]),
        (&[1; 5], &[0, 1, 2, 3, 4], [0.0, 0.0, 0.0, 0.2, 0.2]),
        (&[1; 5], &[0, 0, 1, 1, 1], [0.0, 0.0, 0.0, 0.6, 0.6]),
        (&fifty, &fifty, [1.0; 5]),
        (&fifty, &thirds, [0.4383866538402066, 0.0, 0.0, 1.0, 0.06]),
        (&[0, 0, 1, 1], &[1, 1, 0, 0], [1.0; 5]),
    ];
    for (a, b, expected) in cases {
        assert_close(&scores(&of_integers(a, b)).await, expected);
    }
}

#[tokio::test]
async fn a_partitioned_table_gives_the_same_bits() {
    let (a, b) = labellings(4000, 60, 30, 60);
    let whole = scores(&of_integers(&a, &b)).await;
    let rows: Vec<(i32, i32)> = a.into_iter().zip(b).rev().collect();
    let part = |rows: &[(i32, i32)]| {
        let (a, b): (Vec<i32>, Vec<i32>) = rows.iter().copied().unzip();
        (Arc::new(Int32Array::from(a)) as ArrayRef, Arc::new(Int32Array::from(b)) as ArrayRef)
    };
    let parted = session(rows.chunks(700).map(part).collect());
    let plan = parted.sql(&format!("EXPLAIN SELECT {ALL} FROM t")).await.unwrap().to_string().await.unwrap();
    assert!(plan.contains("mode=Partial") && plan.contains("mode=Final"), "{plan}");
    assert_eq!(scores(&parted).await, whole);
}

#[tokio::test]
async fn groups_and_filters_are_told_apart() {
    let (a, b) = labellings(3000, 12, 5, 50);
    let every_second = |rows: &[i32], from: usize| rows.iter().copied().skip(from).step_by(2).collect::<Vec<i32>>();
    let mut expected = Vec::new();
    for from in [0, 1] {
        let context = of_integers(&every_second(&a, from), &every_second(&b, from));
        expected.push(scores(&context).await.into_iter().map(Some).collect::<Vec<_>>());
    }
    // `a` carries the group beside the label, in four partitions of alternating rows.
    let part = |part: usize| {
        let rows = (0..a.len()).filter(|at| at % 4 == part);
        let (left, right): (Vec<i32>, Vec<i32>) = rows.map(|at| (a[at] + 100 * (at % 2) as i32, b[at])).unzip();
        (Arc::new(Int32Array::from(left)) as ArrayRef, Arc::new(Int32Array::from(right)) as ArrayRef)
    };
    let context = session((0..4).map(part).collect());
    let grouped = format!("SELECT {ALL} FROM t GROUP BY a / 100 ORDER BY a / 100");
    assert_eq!(query(&context, &grouped).await, expected);
    let filtered = query(&context, "SELECT nmi(a, b) FILTER (WHERE a >= 100) FROM t").await;
    assert_eq!(filtered, [[expected[1][0]]]);
}

#[tokio::test]
async fn any_groupable_type_serves() {
    let a = [3, 1, 3, 1, 2, 2, 0, 0, 3, 1];
    let b = [1, 1, 1, 0, 0, 0, 1, 0, 1, 1];
    let expected = scores(&of_integers(&a, &b)).await;
    let names: Vec<String> = a.iter().map(|value| format!("class {value}, long enough to leave a view")).collect();
    let flags = BooleanArray::from(b.map(|value| value == 1).to_vec());
    let sides = StringArray::from(b.map(|value| ["no", "yes"][value as usize]).to_vec());
    let names = || names.iter().map(String::as_str);
    let columns: Vec<(ArrayRef, ArrayRef)> = vec![
        (Arc::new(Int8Array::from(a.map(|value| value as i8).to_vec())), Arc::new(flags.clone())),
        (Arc::new(Int64Array::from(a.map(i64::from).to_vec())), Arc::new(sides.clone())),
        (Arc::new(UInt16Array::from(a.map(|value| value as u16).to_vec())), Arc::new(sides)),
        (Arc::new(LargeStringArray::from_iter_values(names())), Arc::new(flags.clone())),
        (Arc::new(StringViewArray::from_iter_values(names())), Arc::new(flags.clone())),
        (Arc::new(names().collect::<DictionaryArray<Int32Type>>()), Arc::new(flags)),
        (Arc::new(Float64Array::from(a.map(f64::from).to_vec())), {
            // Zero and minus zero are one value, as in GROUP BY.
            let zeros = [0.0, -0.0].into_iter().cycle();
            Arc::new(Float64Array::from_iter_values(b.iter().zip(zeros).map(|(&b, zero)| if b == 0 { zero } else { 1.0 })))
        }),
    ];
    for (a, b) in columns {
        let of = format!("{}, {}", a.data_type(), b.data_type());
        let scores = scores(&session(vec![(a, b)])).await;
        // The values sort differently as text, so the sums are rounded differently.
        assert!(scores.iter().zip(&expected).all(|(score, expected)| (score - expected).abs() < 1e-12), "{of}: {scores:?}");
    }
}

#[tokio::test]
async fn rows_with_a_null_are_left_out() {
    let a = Int32Array::from(vec![Some(0), Some(0), Some(1), Some(1), None, Some(9), Some(1)]);
    let b = StringArray::from(vec![Some("x"), Some("x"), Some("y"), Some("y"), Some("z"), None, Some("x")]);
    let bare = of_columns(Int32Array::from(vec![0, 0, 1, 1, 1]), StringArray::from(vec!["x", "x", "y", "y", "x"]));
    assert_eq!(scores(&of_columns(a, b)).await, scores(&bare).await);
}

#[tokio::test]
async fn without_rows_the_answer_is_null() {
    let nothing = vec![vec![None; 5]];
    assert_eq!(query(&of_integers(&[], &[]), &format!("SELECT {ALL} FROM t")).await, nothing);
    let nulls = of_columns(NullArray::new(3), Int32Array::from(vec![1, 2, 3]));
    assert_eq!(query(&nulls, &format!("SELECT {ALL} FROM t")).await, nothing);
}

#[tokio::test]
async fn purity_and_accuracy_take_cluster_then_label() {
    let context = of_integers(&[0, 1, 2, 3], &[0, 0, 1, 1]);
    let straight = query(&context, "SELECT purity(a, b), purity(b, a), accuracy(a, b) FROM t").await;
    assert_eq!(straight, [[Some(1.0), Some(0.5), Some(0.5)]]);
    assert_eq!(query(&context, "SELECT purity(label => a, cluster => b) FROM t").await, [[Some(0.5)]]);
}

#[tokio::test]
async fn distinct_is_refused() {
    let context = of_integers(&[0, 1], &[0, 1]);
    let frame = context.sql("SELECT nmi(DISTINCT a, b) FROM t").await.unwrap();
    let error = frame.collect().await.unwrap_err().to_string();
    assert!(error.contains("nmi(DISTINCT …)"), "{error}");
}
