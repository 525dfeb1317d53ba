//! The best one-to-one assignment of a table's rows to its columns (the Hungarian problem).
//!
//! Jonker and Volgenant's shortest augmenting paths, on the cells that are not zero: a row that gets no such cell stays
//! unassigned, which is worth as much as a zero. Memory grows with those cells, time with the smaller side times a
//! Dijkstra search over them that mostly ends early. Integers throughout, so the optimum is exact.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::contingency::Table;

/// Sum of the counts of the heaviest set of cells of which no two share a row or a column.
pub fn heaviest_matching(table: &Table) -> u64 {
    let edges = table.cells.iter().map(|cell| (cell.row, cell.column, cell.count));
    // Each row of the matrix costs a search: let the shorter side be the rows.
    let matrix = if table.rows.len() <= table.columns.len() {
        Matrix::new(table.rows.len(), table.columns.len(), edges)
    } else {
        Matrix::new(table.columns.len(), table.rows.len(), edges.map(|(row, column, count)| (column, row, count)))
    };
    Matching::of(&matrix).weight(&matrix)
}

/// Weights by row, zeros left out.
struct Matrix {
    rows: Vec<Vec<(usize, i64)>>,
    columns: usize,
}

impl Matrix {
    fn new(rows: usize, columns: usize, edges: impl Iterator<Item = (usize, usize, u64)>) -> Self {
        let mut matrix = Self { rows: vec![Vec::new(); rows], columns };
        for (row, column, count) in edges {
            matrix.rows[row].push((column, count as i64));
        }
        matrix
    }
}

/// Assigned rows and columns, and the dual prices that prove it best for the rows assigned so far.
///
/// The cost of a cell is `top of its row - weight`, that of staying alone `top of the row`; for every cell
/// `cost >= row_price + column_price`, with equality on assigned ones.
struct Matching {
    column_of: Vec<Option<usize>>,
    row_of: Vec<Option<usize>>,
    row_price: Vec<i64>,
    column_price: Vec<i64>,
}

/// Where a path of alternating cells ends: at a column that is free, or at a row that gives its column up.
enum End {
    Column(usize),
    Alone(usize),
}

impl Matching {
    fn of(matrix: &Matrix) -> Self {
        let mut matching = Self {
            column_of: vec![None; matrix.rows.len()],
            row_of: vec![None; matrix.columns],
            row_price: vec![0; matrix.rows.len()],
            column_price: vec![0; matrix.columns],
        };
        let tops: Vec<i64> =
            matrix.rows.iter().map(|row| row.iter().map(|&(_, weight)| weight).max().unwrap_or(0)).collect();
        let mut search = Search::new(matrix.columns);
        for start in 0..matrix.rows.len() {
            matching.assign(start, matrix, &tops, &mut search);
        }
        matching
    }

    /// Gives `start` a column, or leaves it or another row alone, by the cheapest change of the matching.
    fn assign(&mut self, start: usize, matrix: &Matrix, tops: &[i64], search: &mut Search) {
        search.clear();
        let (mut row, mut distance) = (start, 0);
        let mut alone = (i64::MAX, start);
        let end = loop {
            let base = distance - self.row_price[row];
            alone = alone.min((base + tops[row], row));
            for &(column, weight) in &matrix.rows[row] {
                search.reach(column, row, base + tops[row] - weight - self.column_price[column]);
            }
            let Some((near, column)) = search.nearest(alone.0) else {
                distance = alone.0;
                break End::Alone(alone.1);
            };
            distance = near;
            match self.row_of[column] {
                Some(next) => row = next,
                None => break End::Column(column),
            }
        };

        self.row_price[start] += distance;
        for &column in &search.settled {
            let slack = distance - search.distance[column];
            self.column_price[column] -= slack;
            if let Some(row) = self.row_of[column] {
                self.row_price[row] += slack;
            }
        }

        let mut free = match end {
            End::Column(column) => column,
            End::Alone(row) => match self.column_of[row].take() {
                Some(column) => column,
                None => return,
            },
        };
        loop {
            let row = search.from[free];
            self.row_of[free] = Some(row);
            match self.column_of[row].replace(free) {
                Some(column) => free = column,
                None => return,
            }
        }
    }

    fn weight(&self, matrix: &Matrix) -> u64 {
        let assigned = matrix.rows.iter().zip(&self.column_of);
        let weights = assigned.flat_map(|(row, &assigned)| {
            row.iter().filter(move |&&(column, _)| assigned == Some(column)).map(|&(_, weight)| weight as u64)
        });
        weights.sum()
    }
}

/// Dijkstra's search over columns. Kept between searches, and cleared where it was touched only.
struct Search {
    distance: Vec<i64>,
    /// The row from which the column was reached at that distance.
    from: Vec<usize>,
    done: Vec<bool>,
    touched: Vec<usize>,
    settled: Vec<usize>,
    queue: BinaryHeap<Reverse<(i64, usize)>>,
}

impl Search {
    fn new(columns: usize) -> Self {
        Self {
            distance: vec![i64::MAX; columns],
            from: vec![0; columns],
            done: vec![false; columns],
            touched: Vec::new(),
            settled: Vec::new(),
            queue: BinaryHeap::new(),
        }
    }

    fn clear(&mut self) {
        for column in self.touched.drain(..) {
            self.distance[column] = i64::MAX;
            self.done[column] = false;
        }
        self.settled.clear();
        self.queue.clear();
    }

    fn reach(&mut self, column: usize, row: usize, distance: i64) {
        if distance >= self.distance[column] {
            return;
        }
        if self.distance[column] == i64::MAX {
            self.touched.push(column);
        }
        self.distance[column] = distance;
        self.from[column] = row;
        self.queue.push(Reverse((distance, column)));
    }

    /// Settles the nearest column that is not settled yet, if it is nearer than `limit`.
    fn nearest(&mut self, limit: i64) -> Option<(i64, usize)> {
        while let Some(Reverse((distance, column))) = self.queue.pop().filter(|Reverse((near, _))| *near < limit) {
            if !self.done[column] {
                self.done[column] = true;
                self.settled.push(column);
                return Some((distance, column));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_is_not_enough() {
        assert_eq!(heaviest_matching(&Table::dense(&[[10, 9], [9, 0]])), 18);
    }

    #[test]
    fn a_heavy_cell_is_worth_leaving_a_row_alone() {
        assert_eq!(heaviest_matching(&Table::dense(&[[10, 1], [3, 0]])), 10);
    }

    /// Against every assignment, on small tables of many shapes with many ties and zeros.
    #[test]
    fn equals_exhaustive_search() {
        let mut state = 1u64;
        for _ in 0..2000 {
            let mut counts = [[0; 5]; 4];
            for count in counts.iter_mut().flatten() {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                *count = (state >> 60).saturating_sub(7);
            }
            let transposed: [[u64; 4]; 5] = std::array::from_fn(|column| std::array::from_fn(|row| counts[row][column]));
            let best = exhaustive(&counts, 0);
            assert_eq!(heaviest_matching(&Table::dense(&counts)), best, "{counts:?}");
            assert_eq!(heaviest_matching(&Table::dense(&transposed)), best, "{transposed:?}");
        }
    }

    fn exhaustive(rows: &[[u64; 5]], used: u32) -> u64 {
        let Some((row, rest)) = rows.split_first() else { return 0 };
        let taken = (0..5).filter(|column| used >> column & 1 == 0);
        taken.map(|column| row[column] + exhaustive(rest, used | 1 << column)).max().expect("five columns, four rows")
    }
}
