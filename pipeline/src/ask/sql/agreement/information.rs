//! Mutual information of two labellings, normalised and adjusted for chance, in nats.
//!
//! Vinh, Epps and Bailey 2010, "Information theoretic measures for clusterings comparison", equation 24a for the
//! expectation. scikit-learn sums the hypergeometric law through log-factorials, of which each has an error of 1e-9 at a
//! million rows; here the law is walked from its mode and divided by its sum, which needs none and is exact to rounding.

use std::collections::BTreeMap;

use super::contingency::Table;

/// Mutual information over the mean of the two entropies: 1 for labellings that differ in names only.
pub fn normalized(table: &Table) -> f64 {
    if table.is_one_to_one() {
        return 1.0;
    }
    // Not both are constant here, so the mean is positive.
    mutual(table) / mean_entropy(table)
}

/// Mutual information less its expectation over all labellings of the same sizes, over the most that this can be.
pub fn adjusted(table: &Table) -> f64 {
    if table.is_one_to_one() {
        return 1.0;
    }
    if table.rows.len() == 1 || table.columns.len() == 1 {
        return 0.0;
    }
    let expected = expected_mutual(&table.rows, &table.columns, table.total);
    away_from_zero(mutual(table) - expected) / away_from_zero(mean_entropy(table) - expected)
}

/// Keeps a difference that rounding made zero from being divided by, as scikit-learn does.
fn away_from_zero(difference: f64) -> f64 {
    if difference < 0.0 { difference.min(-f64::EPSILON) } else { difference.max(f64::EPSILON) }
}

fn mutual(table: &Table) -> f64 {
    let total = table.total as f64;
    let cells = table.cells.iter().map(|cell| {
        let independent = table.rows[cell.row] as f64 * table.columns[cell.column] as f64 / total;
        cell.count as f64 / total * (cell.count as f64 / independent).ln()
    });
    // Rounding can take the sum below its bound.
    cells.sum::<f64>().max(0.0)
}

fn mean_entropy(table: &Table) -> f64 {
    (entropy(&table.rows, table.total) + entropy(&table.columns, table.total)) / 2.0
}

fn entropy(sizes: &[u64], total: u64) -> f64 {
    let share = |size: u64| size as f64 / total as f64;
    -sizes.iter().map(|&size| share(size) * share(size).ln()).sum::<f64>()
}

/// Expected mutual information of two labellings with these sizes, drawn at random.
///
/// It depends on sizes only, so equal ones are computed once: at most ~2 million pairs of sizes for a million rows.
fn expected_mutual(rows: &[u64], columns: &[u64], total: u64) -> f64 {
    let (rows, columns) = (distinct(rows), distinct(columns));
    let largest = |sizes: &[(u64, u64)]| sizes.last().map_or(0, |&(size, _)| size);
    let overlap = largest(&rows).min(largest(&columns));
    let logs: Vec<f64> = (0..=overlap).map(|count| (count as f64).ln()).collect();
    let mut sum = 0.0;
    for &(row, row_repeats) in &rows {
        for &(column, column_repeats) in &columns {
            sum += row_repeats as f64 * column_repeats as f64 * expected_cell(row, column, total, &logs);
        }
    }
    sum
}

/// Each size and how often it occurs, ascending.
fn distinct(sizes: &[u64]) -> Vec<(u64, u64)> {
    let mut repeats = BTreeMap::new();
    for &size in sizes {
        *repeats.entry(size).or_default() += 1;
    }
    repeats.into_iter().collect()
}

/// Expected share of one cell in the mutual information: `count / total * ln(total * count / (row * column))` under the
/// hypergeometric law of the count. `logs` are the logarithms of 0, 1, …
fn expected_cell(row: u64, column: u64, total: u64, logs: &[f64]) -> f64 {
    /// Against the mode's. The law falls faster than a geometric series from here on, so all that is left out is below
    /// rounding.
    const NEGLIGIBLE: f64 = 1e-20;

    let [r, c, n] = [row, column, total].map(|size| size as f64);
    let independent = (r * c / n).ln();
    let information = |count: u64| if count == 0 { 0.0 } else { count as f64 * (logs[count as usize] - independent) };
    // P(count + 1) / P(count); zero at the largest count, and infinite just below the smallest.
    let ratio = |count: u64| {
        let k = count as f64;
        (r - k) * (c - k) / ((k + 1.0) * ((total + count + 1 - row - column) as f64))
    };

    let (smallest, largest) = ((row + column).saturating_sub(total), row.min(column));
    let mode = (((r + 1.0) * (c + 1.0) / (n + 2.0)) as u64).clamp(smallest, largest);
    let (mut mass, mut sum) = (1.0, information(mode));
    let mut weight = 1.0;
    for count in mode..largest {
        weight *= ratio(count);
        mass += weight;
        sum += weight * information(count + 1);
        if weight < NEGLIGIBLE {
            break;
        }
    }
    weight = 1.0;
    for count in (smallest..mode).rev() {
        weight /= ratio(count);
        mass += weight;
        sum += weight * information(count);
        if weight < NEGLIGIBLE {
            break;
        }
    }
    sum / mass / n
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All 6! orders of one labelling against the other, equally likely: the definition.
    #[test]
    fn the_expectation_is_the_mean_over_all_permutations() {
        let left = [0, 0, 0, 1, 1, 2];
        let mut right = [0, 0, 1, 1, 1, 1];
        let (mut sum, mut orders) = (0.0, 0);
        permutations(&mut right, 0, &mut |right| {
            let mut counts = [[0; 2]; 3];
            for (row, column) in left.iter().zip(right) {
                counts[*row][*column] += 1;
            }
            sum += mutual(&Table::dense(&counts));
            orders += 1;
        });
        assert_eq!(orders, 720);
        let expected = expected_mutual(&[3, 2, 1], &[2, 4], 6);
        assert!((expected - sum / 720.0).abs() < 1e-14, "{expected} against {}", sum / 720.0);
    }

    fn permutations(items: &mut [usize; 6], fixed: usize, visit: &mut dyn FnMut(&[usize; 6])) {
        if fixed == items.len() {
            return visit(items);
        }
        for other in fixed..items.len() {
            items.swap(fixed, other);
            permutations(items, fixed + 1, visit);
            items.swap(fixed, other);
        }
    }

    /// Whatever the order, singletons tell everything about the other labelling.
    #[test]
    fn singletons_leave_nothing_to_chance() {
        let expected = expected_mutual(&[1; 1000], &[250, 750], 1000);
        assert!((expected - entropy(&[250, 750], 1000)).abs() < 1e-13);
    }

    #[test]
    fn independent_labellings_score_zero() {
        let table = Table::dense(&[[10, 20], [20, 40]]);
        assert!(normalized(&table).abs() < 1e-15);
        assert!(adjusted(&table) < 0.0);
    }
}
