//! How often each pair of values occurs.

use std::collections::HashMap;
use std::hash::Hash;

/// Counts of pairs of values as they come, in no order. Mergeable by adding another's cells.
#[derive(Debug, Default)]
pub struct Contingency {
    left: Values,
    right: Values,
    counts: HashMap<(usize, usize), u64>,
}

impl Contingency {
    pub fn add(&mut self, left: &[u8], right: &[u8], count: u64) {
        let cell = (self.left.number(left), self.right.number(right));
        *self.counts.entry(cell).or_default() += count;
    }

    /// The cells that are not zero: left value, right value, count.
    pub fn cells(&self) -> impl Iterator<Item = (&[u8], &[u8], u64)> {
        let (left, right) = (self.left.by_number(), self.right.by_number());
        self.counts.iter().map(move |(&(row, column), &count)| (left[row], right[column], count))
    }

    /// The same counts in the values' order, so that sums over them do not depend on how the rows came.
    pub fn table(&self) -> Table {
        let (left, right) = (self.left.ranks(), self.right.ranks());
        let mut cells: Vec<Cell> = self
            .counts
            .iter()
            .map(|(&(row, column), &count)| Cell { row: left[row], column: right[column], count })
            .collect();
        cells.sort_unstable_by_key(|cell| (cell.row, cell.column));
        Table::new(left.len(), right.len(), cells)
    }

    /// Bytes on the heap. Constant time: it is asked for after every batch and group.
    pub fn size(&self) -> usize {
        self.left.size() + self.right.size() + map_size(&self.counts)
    }
}

/// The distinct values of one column, numbered as they were first seen.
#[derive(Debug, Default)]
struct Values {
    numbers: HashMap<Box<[u8]>, usize>,
    bytes: usize,
}

impl Values {
    fn number(&mut self, value: &[u8]) -> usize {
        if let Some(&number) = self.numbers.get(value) {
            return number;
        }
        let number = self.numbers.len();
        self.numbers.insert(value.into(), number);
        self.bytes += value.len();
        number
    }

    fn by_number(&self) -> Vec<&[u8]> {
        let mut values = vec![&[][..]; self.numbers.len()];
        for (value, &number) in &self.numbers {
            values[number] = value;
        }
        values
    }

    /// Number to place among the sorted values.
    fn ranks(&self) -> Vec<usize> {
        let mut sorted: Vec<(&[u8], usize)> = self.numbers.iter().map(|(value, &number)| (&value[..], number)).collect();
        sorted.sort_unstable();
        let mut ranks = vec![0; sorted.len()];
        for (rank, (_, number)) in sorted.into_iter().enumerate() {
            ranks[number] = rank;
        }
        ranks
    }

    fn size(&self) -> usize {
        self.bytes + map_size(&self.numbers)
    }
}

/// Bytes of a map's slots: each has a control byte, and an eighth of them stays free.
fn map_size<K: Eq + Hash, V>(map: &HashMap<K, V>) -> usize {
    map.capacity() * 8 / 7 * (size_of::<(K, V)>() + 1)
}

/// A contingency table: its cells that are not zero, by row and then column, and its margins.
#[derive(Debug, PartialEq)]
pub struct Table {
    pub cells: Vec<Cell>,
    /// The sum of each row; no sum is zero.
    pub rows: Vec<u64>,
    /// The sum of each column; no sum is zero.
    pub columns: Vec<u64>,
    pub total: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    pub row: usize,
    pub column: usize,
    pub count: u64,
}

impl Table {
    fn new(rows: usize, columns: usize, cells: Vec<Cell>) -> Self {
        let (mut rows, mut columns) = (vec![0; rows], vec![0; columns]);
        for cell in &cells {
            rows[cell.row] += cell.count;
            columns[cell.column] += cell.count;
        }
        let total = rows.iter().sum();
        Self { cells, rows, columns, total }
    }

    /// Whether each row has one column and each column one row: the labellings differ in names only.
    pub fn is_one_to_one(&self) -> bool {
        self.cells.len() == self.rows.len() && self.cells.len() == self.columns.len()
    }

    /// The table of dense rows, zeros left out.
    #[cfg(test)]
    pub fn dense<const N: usize>(rows: &[[u64; N]]) -> Self {
        let cells = rows
            .iter()
            .enumerate()
            .flat_map(|(row, counts)| counts.iter().enumerate().map(move |(column, &count)| Cell { row, column, count }));
        Self::new(rows.len(), N, cells.filter(|cell| cell.count > 0).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_is_independent_of_order_and_of_merging() {
        let pairs = [("b", "x"), ("a", "y"), ("b", "x"), ("c", "x"), ("a", "x")];
        let (mut forward, mut first, mut second) = (Contingency::default(), Contingency::default(), Contingency::default());
        for (left, right) in pairs {
            forward.add(left.as_bytes(), right.as_bytes(), 1);
        }
        for (position, (left, right)) in pairs.into_iter().rev().enumerate() {
            let half = if position < 2 { &mut first } else { &mut second };
            half.add(left.as_bytes(), right.as_bytes(), 1);
        }
        for (left, right, count) in first.cells() {
            second.add(left, right, count);
        }
        assert_eq!(forward.table(), Table::dense(&[[1, 1], [2, 0], [1, 0]]));
        assert_eq!(second.table(), forward.table());
    }

    #[test]
    fn the_reported_size_grows_with_distinct_pairs_only() {
        let mut pairs = Contingency::default();
        for row in 0..1000u32 {
            pairs.add(&(row % 10).to_be_bytes(), &(row % 7).to_be_bytes(), 1);
        }
        let few = pairs.size();
        for row in 0..1000u32 {
            pairs.add(&(row % 10).to_be_bytes(), &(row % 7).to_be_bytes(), 1);
        }
        assert_eq!(pairs.size(), few);
        for row in 0..1000u32 {
            pairs.add(&row.to_be_bytes(), &row.to_be_bytes(), 1);
        }
        assert!(pairs.size() > few + 1000 * (2 * size_of::<u32>() + size_of::<((usize, usize), u64)>()));
    }
}
