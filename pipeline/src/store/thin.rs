//! Parts without some of the rows of their files.
//!
//! A part's file never changes. When few of its rows leave the table, the new manifest lists the same file and says which of its rows are
//! gone ([`Part::gone`]); every reader skips those. When many are gone, the rest is written anew ([`few_gone`]). So a table whose rows
//! come and go grows by the rows that come.

use anyhow::{Context as _, Result, ensure};
use arrow::array::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection};
use tessera_schemas::digest::{Digest, TableDigest};
use tessera_schemas::metrics;

use super::{Manifest, Part, StageStore, key, part};

/// One row of so many may be gone from a file.
const ONE_GONE_IN: u64 = 4;

/// Whether few enough rows of a file are gone, if so many of it remain.
pub fn few_gone(file_rows: u64, remain: u64) -> bool {
    remain > 0 && (file_rows - remain) * ONE_GONE_IN <= file_rows
}

/// The format of a manifest that lists some parts.
pub fn format_of(parts: &[Part]) -> u32 {
    match parts {
        _ if parts.iter().any(|part| part.block_bytes.is_some()) => 3,
        _ if parts.iter().any(|part| !part.gone.is_empty()) => 2,
        _ => 1,
    }
}

impl Part {
    /// What tells the part's rows from those of every other part: the name of its file, and which rows of that are gone.
    pub fn content(&self) -> String {
        if self.gone.is_empty() {
            return self.file.clone();
        }
        let places: Vec<String> = self.gone.iter().map(u32::to_string).collect();
        format!("{} without {}", self.file, key::hash(places.iter().map(String::as_str)))
    }

    /// Rows in its file, those that are gone among them.
    pub fn file_rows(&self) -> u64 {
        self.rows + self.gone.len() as u64
    }

    /// The rows of its file that are in the table; none if all are.
    pub fn selection(&self) -> Option<RowSelection> {
        if self.gone.is_empty() {
            return None;
        }
        let (mut ranges, mut from) = (Vec::new(), 0);
        for end in self.gone.iter().map(|&place| place as usize).chain([self.file_rows() as usize]) {
            ranges.push(from..end);
            from = end + 1;
        }
        let rows = self.file_rows() as usize;
        Some(RowSelection::from_consecutive_ranges(ranges.into_iter().filter(|range| !range.is_empty()), rows))
    }
}

impl StageStore {
    /// A part without some of its rows, `go`, which are counted as a reader counts them and in order. Of its file no more is read than
    /// those rows.
    ///
    /// # Errors
    /// The part is [`Damaged`](super::Damaged) or gone, or lacks one of these rows.
    pub fn without(&self, part: &Part, go: &[u32]) -> Result<Part> {
        if go.is_empty() {
            return Ok(part.clone());
        }
        let remain: Vec<u32> =
            (0..part.file_rows() as u32).filter(|place| part.gone.binary_search(place).is_err()).collect();
        let places = go.iter().map(|&row| remain.get(row as usize).copied().context("a part lacks a row"));
        let places: Vec<u32> = places.collect::<Result<_>>()?;
        ensure!(places.is_sorted_by(|a, b| a < b), "rows of a part go in their order, each once");
        let going = TableDigest::of(&self.rows_at(part, &places)?)?;
        let mut rest = part.clone();
        for (name, text) in &mut rest.digests {
            let mut digest: Digest = text.parse().map_err(anyhow::Error::msg)?;
            digest -= *going.columns.get(name).with_context(|| format!("{} lacks `{name}`", self.part(part).display()))?;
            *text = digest.to_string();
        }
        rest.rows -= places.len() as u64;
        rest.gone.extend(places);
        rest.gone.sort_unstable();
        Ok(rest)
    }

    /// Rows of a part's file, by their places, with the columns that have digests.
    fn rows_at(&self, part: &Part, places: &[u32]) -> Result<RecordBatch> {
        let (only, rows) = (places.iter().map(|&place| place as usize..place as usize + 1), part.file_rows() as usize);
        self.reading(part, |reader| {
            let builder = ParquetRecordBatchReaderBuilder::try_new(reader)?;
            let fields = builder.schema().fields().iter().enumerate();
            let digested = fields.filter(|(_, field)| part.digests.contains_key(field.name())).map(|(at, _)| at);
            let mask = ProjectionMask::roots(builder.parquet_schema(), digested);
            let selection = RowSelection::from_consecutive_ranges(only, rows);
            part::collect(builder.with_projection(mask).with_row_selection(selection))
        })
    }

    /// The current snapshot in files that have its rows and no others, for programs that read files and no manifest. Where rows of some are
    /// gone, those are written anew and published, under the same key, as a rewrite of the snapshot. The store must be locked.
    ///
    /// # Errors
    /// The stage has no snapshot, a part is [`Damaged`](super::Damaged), or the disk says no.
    pub fn compact(&self) -> Result<Manifest> {
        let manifest = self.current()?.context("there is no snapshot")?;
        if manifest.parts.iter().all(|part| part.gone.is_empty()) {
            return Ok(manifest);
        }
        let whole = |part: &Part| if part.gone.is_empty() { Ok(part.clone()) } else { self.whole(part) };
        let parts = manifest.parts.iter().map(whole).collect::<Result<Vec<_>>>()?;
        let id = self.new_snapshot(&manifest.key);
        let metrics = match &manifest.metrics {
            Some(_) => Some(self.write_metrics(&id, &metrics::renamed(&self.metrics(&manifest)?, &manifest.stage, &id)?)?),
            None => None,
        };
        let rewrite_of = Some(manifest.original().to_owned());
        let whole = Manifest { format: format_of(&parts), id, parts, metrics, rewrite_of, ..manifest };
        self.publish(&whole)?;
        Ok(whole)
    }

    /// A part in a file of its own, without rows that are gone.
    ///
    /// # Errors
    /// The part is [`Damaged`](super::Damaged) or gone, or the disk says no.
    pub fn whole(&self, part: &Part) -> Result<Part> {
        let written = self.anew(part, &self.read(part)?)?;
        ensure!(
            (written.rows, &written.digests) == (part.rows, &part.digests),
            "the rows of {} are not those that the manifest says",
            self.part(part).display()
        );
        Ok(written)
    }

    /// A part in a file of its own, with these rows in place of its own.
    ///
    /// # Errors
    /// The disk says no.
    pub fn anew(&self, part: &Part, rows: &RecordBatch) -> Result<Part> {
        let mut writer = self.write(&part.key, rows.schema())?;
        writer.write(rows)?;
        let written = writer.finish()?.entry(&part.key, &part.recipe, part.made_from.clone(), part.dropped.clone());
        self.wrote(&written);
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray, UInt32Array};
    use arrow::compute::take_record_batch;
    use proptest::prelude::*;
    use tessera_schemas::{IMAGE_ID, features, text};

    use super::*;
    use crate::store::Store;

    fn table(rows: usize) -> RecordBatch {
        let ids: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!("{row:05}.jpg"))));
        let some: ArrayRef = Arc::new((0..rows).map(|row| (row % 3 > 0).then_some(row as i64)).collect::<Int64Array>());
        let vectors = features::array((0..rows * 2).map(|at| at as f32).collect(), 2);
        RecordBatch::try_from_iter_with_nullable([(IMAGE_ID, ids, false), ("some", some, true), ("feature", vectors, false)])
            .unwrap()
    }

    fn written(store: &StageStore, rows: &RecordBatch) -> Part {
        let mut writer = store.write("key", rows.schema()).unwrap();
        writer.write(rows).unwrap();
        writer.finish().unwrap().entry("key", "", Vec::new(), Vec::new())
    }

    #[test]
    fn a_quarter_may_be_gone() {
        assert_eq!(
            [(8, 8), (8, 6), (8, 5), (1, 0), (0, 0)].map(|(all, remain)| few_gone(all, remain)),
            [true, true, false, false, false]
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Whatever goes, step by step, what is read and what the manifest says of it are those of the rows that remain.
        #[test]
        fn what_remains_is_read(rows in 1_usize..3000, steps in proptest::collection::vec(proptest::collection::vec(any::<u32>(), 0..40), 1..4)) {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::new(dir.path(), "p").stage("rows");
            let mut remain = table(rows);
            let mut part = written(&store, &remain);
            let mut contents = vec![part.content()];
            for step in steps {
                let count = remain.num_rows() as u32;
                let mut go: Vec<u32> = step.into_iter().filter(|_| count > 0).map(|row| row % count).collect();
                go.sort_unstable();
                go.dedup();
                part = store.without(&part, &go).unwrap();
                let stay: UInt32Array = (0..count).filter(|row| go.binary_search(row).is_err()).collect();
                remain = take_record_batch(&remain, &stay).unwrap();
                let read = store.read(&part).unwrap();
                prop_assert_eq!(read.columns(), remain.columns());
                prop_assert_eq!(part.digest().unwrap(), TableDigest::of(&remain).unwrap());
                prop_assert_eq!(part.file_rows(), rows as u64);
                prop_assert_eq!(contents.contains(&part.content()), go.is_empty());
                contents.push(part.content());
                let ids = store.read_columns(&part, &[IMAGE_ID]).unwrap();
                prop_assert_eq!(text(&ids, IMAGE_ID).unwrap(), text(&remain, IMAGE_ID).unwrap());
            }
            let whole = store.whole(&part).unwrap();
            prop_assert!(whole.gone.is_empty() && whole.file != part.file);
            let read = store.read(&whole).unwrap();
            prop_assert_eq!(read.columns(), remain.columns());
            prop_assert_eq!([format_of(&[whole]), format_of(&[part.clone()])], [1, if part.gone.is_empty() { 1 } else { 2 }]);
        }
    }

    #[test]
    fn what_a_part_lacks_does_not_go() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path(), "p").stage("rows");
        let part = written(&store, &table(3));
        for go in [&[3][..], &[1, 1], &[2, 1]] {
            assert!(store.without(&part, go).is_err(), "{go:?}");
        }
        let less = store.without(&part, &[0, 2]).unwrap();
        assert_eq!(
            (less.gone.as_slice(), store.without(&less, &[0]).unwrap().gone.as_slice()),
            (&[0, 2][..], &[0, 1, 2][..])
        );
    }
}
