//! SQL aggregates that say how well two labellings of the same rows agree.
//!
//! | function | meaning | equals |
//! | --- | --- | --- |
//! | `nmi(a, b)` | mutual information over the mean entropy | scikit-learn's `normalized_mutual_info_score` (arithmetic) |
//! | `ami(a, b)` | the same, less what chance gives | scikit-learn's `adjusted_mutual_info_score` (arithmetic) |
//! | `ari(a, b)` | pairs of rows that both put together or apart, less what chance gives | scikit-learn's `adjusted_rand_score` |
//! | `purity(cluster, label)` | share of rows whose label is the commonest of their cluster | its definition |
//! | `accuracy(cluster, label)` | share of rows that are right when each cluster is one label, and each label one cluster at most, at its best | scipy's `linear_sum_assignment` |
//!
//! **Input**: two columns of any types that `GROUP BY` takes, not necessarily the same. A row in which either is null is
//! left out. Values are the same where `GROUP BY` would put them in one group. **Output**: a Float64, null without rows.
//!
//! Grouping, `FILTER` and several partitions work as for any aggregate; `DISTINCT` is refused, as it would count pairs.
//! Memory grows with the number of distinct pairs, not of rows, and is reported to the engine's memory pool. The
//! contingency table is put in the order of its values before anything is summed, so the result is the same to the last
//! bit for any order and partitioning of the rows.

mod assignment;
mod contingency;
mod information;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, LargeBinaryArray, UInt64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, UInt64Type};
use arrow::row::{RowConverter, SortField};
use datafusion::common::utils::{SingleRowListArrayBuilder, normalize_float_zero};
use datafusion::common::{Result, ScalarValue, not_impl_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

use contingency::{Contingency, Table};

/// The five aggregates, to be registered in a session.
pub fn all() -> Vec<AggregateUDF> {
    Measure::ALL.into_iter().map(|measure| AggregateUDF::from(Agreement::new(measure))).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Measure {
    Nmi,
    Ami,
    Ari,
    Purity,
    Accuracy,
}

impl Measure {
    const ALL: [Self; 5] = [Self::Nmi, Self::Ami, Self::Ari, Self::Purity, Self::Accuracy];

    fn name(self) -> &'static str {
        match self {
            Self::Nmi => "nmi",
            Self::Ami => "ami",
            Self::Ari => "ari",
            Self::Purity => "purity",
            Self::Accuracy => "accuracy",
        }
    }

    fn parameters(self) -> [&'static str; 2] {
        match self {
            Self::Nmi | Self::Ami | Self::Ari => ["a", "b"],
            Self::Purity | Self::Accuracy => ["cluster", "label"],
        }
    }

    /// The measure of a table that has at least one row counted in it.
    fn of(self, table: &Table) -> f64 {
        match self {
            Self::Nmi => information::normalized(table),
            Self::Ami => information::adjusted(table),
            Self::Ari => adjusted_rand(table),
            Self::Purity => purity(table),
            Self::Accuracy => assignment::heaviest_matching(table) as f64 / table.total as f64,
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Agreement {
    measure: Measure,
    signature: Signature,
}

impl Agreement {
    fn new(measure: Measure) -> Self {
        let signature = Signature::any(2, Volatility::Immutable)
            .with_parameter_names(measure.parameters().map(String::from).to_vec())
            .expect("two names for two arguments");
        Self { measure, signature }
    }
}

impl AggregateUDFImpl for Agreement {
    fn name(&self) -> &str {
        self.measure.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        for (argument, parameter) in arguments.iter().zip(self.measure.parameters()) {
            if !RowConverter::supports_fields(&[SortField::new(argument.clone())]) {
                return plan_err!("{}: `{parameter}` must be a type that GROUP BY takes, found {argument}", self.name());
            }
        }
        Ok(DataType::Float64)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return not_impl_err!("{}(DISTINCT …): every row counts in a measure of agreement", self.name());
        }
        Ok(Box::new(AgreementAccumulator::new(
            self.measure,
            args.expr_fields[0].data_type(),
            args.expr_fields[1].data_type(),
        )?))
    }

    /// The non-zero cells of the contingency table: three lists of equal length.
    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let list = |name: &str, of: DataType| {
            Arc::new(Field::new_list(format_state_name(args.name, name), Field::new_list_field(of, true), true))
        };
        Ok(vec![list("left", DataType::LargeBinary), list("right", DataType::LargeBinary), list("count", DataType::UInt64)])
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// Counts pairs of values. A value is known by its bytes in arrow's row format, whatever its type.
#[derive(Debug)]
struct AgreementAccumulator {
    measure: Measure,
    left: RowConverter,
    right: RowConverter,
    pairs: Contingency,
}

impl AgreementAccumulator {
    fn new(measure: Measure, left: &DataType, right: &DataType) -> Result<Self> {
        let converter = |column: &DataType| RowConverter::new(vec![SortField::new(column.clone())]);
        Ok(Self { measure, left: converter(left)?, right: converter(right)?, pairs: Contingency::default() })
    }
}

impl Accumulator for AgreementAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let present = NullBuffer::union(values[0].logical_nulls().as_ref(), values[1].logical_nulls().as_ref());
        // GROUP BY holds 0.0 and -0.0 for one value; their bytes differ.
        let left = self.left.convert_columns(&[normalize_float_zero(&values[0])])?;
        let right = self.right.convert_columns(&[normalize_float_zero(&values[1])])?;
        for row in 0..values[0].len() {
            if present.as_ref().is_none_or(|present| present.is_valid(row)) {
                self.pairs.add(left.row(row).as_ref(), right.row(row).as_ref(), 1);
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [left, right, count] = [0, 1, 2].map(|state| states[state].as_list::<i32>());
        for group in 0..left.len() {
            let (left, right, count) = (left.value(group), right.value(group), count.value(group));
            let (left, right) = (left.as_binary::<i64>(), right.as_binary::<i64>());
            for (cell, &count) in count.as_primitive::<UInt64Type>().values().iter().enumerate() {
                self.pairs.add(left.value(cell), right.value(cell), count);
            }
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let list = |array: ArrayRef| SingleRowListArrayBuilder::new(array).build_list_scalar();
        Ok(vec![
            list(Arc::new(LargeBinaryArray::from_iter_values(self.pairs.cells().map(|(left, _, _)| left)))),
            list(Arc::new(LargeBinaryArray::from_iter_values(self.pairs.cells().map(|(_, right, _)| right)))),
            list(Arc::new(UInt64Array::from_iter_values(self.pairs.cells().map(|(_, _, count)| count)))),
        ])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let table = self.pairs.table();
        Ok(ScalarValue::Float64((table.total > 0).then(|| self.measure.of(&table))))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.left.size() + self.right.size() + self.pairs.size()
    }
}

/// Share of rows whose column is the commonest of their row.
fn purity(table: &Table) -> f64 {
    let mut commonest = vec![0; table.rows.len()];
    for cell in &table.cells {
        commonest[cell.row] = cell.count.max(commonest[cell.row]);
    }
    commonest.iter().sum::<u64>() as f64 / table.total as f64
}

/// The adjusted Rand index: agreement on ordered pairs of rows, in integers up to the last division.
fn adjusted_rand(table: &Table) -> f64 {
    let squares = |sizes: &mut dyn Iterator<Item = u64>| sizes.map(|size| i128::from(size).pow(2)).sum::<i128>();
    let together = squares(&mut table.cells.iter().map(|cell| cell.count));
    let only_left = squares(&mut table.rows.iter().copied()) - together;
    let only_right = squares(&mut table.columns.iter().copied()) - together;
    if only_left == 0 && only_right == 0 {
        return 1.0;
    }
    let total = i128::from(table.total);
    let apart = total.pow(2) - together - only_left - only_right;
    let both = together - total;
    let observed = both * apart - only_left * only_right;
    let greatest = (both + only_left) * (only_left + apart) + (both + only_right) * (only_right + apart);
    2.0 * observed as f64 / greatest as f64
}

#[cfg(test)]
mod tests;
