//! How fast, and in how much memory.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use super::super::super::tests::{folder, peak};
use super::super::super::{self as tables, Reading};
use super::super::{ColumnType, CsvOptions};
use crate::local::LocalFiles;
use crate::{Error, Files as _, Fingerprint};

/// `TESSERA_TABLE` names a table file to read in place of a CSV file of a million rows that is made.
#[test]
#[ignore = "measures"]
fn rates() {
    let dir = folder(&[]);
    let path = std::env::var("TESSERA_TABLE").map(PathBuf::from).unwrap_or_else(|_| {
        let line = |n: usize| {
            let score = (n as f64).sin() * 1000.0;
            let code = n % 1000;
            format!(
                "images/{n:07}.jpg,{code:05},{},{score},\"a longer caption, number {n} of them all\"\n",
                n * 7919 % 1_000_003
            )
        };
        let path = dir.path().join("a.csv");
        let lines: String = (0..1_000_000).map(line).collect();
        fs::write(&path, format!("path,code,n,score,caption\n{lines}")).unwrap();
        path
    });
    let root = path.parent().unwrap();
    let entries = tables::tables(root, LocalFiles.list(&path).unwrap()).unwrap();
    let megabytes = entries.iter().map(|entry| entry.size).sum::<u64>() as f64 / 1e6;
    let timed = |what: &str, start: Instant| {
        let seconds = start.elapsed().as_secs_f64();
        println!("{what}: {megabytes:.0} MB in {seconds:.2} s, {:.0} MB/s; {}", megabytes / seconds, peak());
    };
    let start = Instant::now();
    let schema = tables::schema(&LocalFiles, root, &entries, &Reading::default()).unwrap();
    timed("columns and types", start);
    if path.extension().is_some_and(|ending| ending == "csv") {
        let types = schema.fields().iter().map(|field| (field.name().clone(), ColumnType::Text));
        let types = types.filter(|(name, _)| name != "image_id").collect();
        let said = Reading { csv: CsvOptions { types, ..CsvOptions::default() }, ..Reading::default() };
        let start = Instant::now();
        tables::schema(&LocalFiles, root, &entries, &said).unwrap();
        timed("columns whose types are said", start);
    }
    let prints: Vec<_> = entries.into_iter().map(|entry| Fingerprint { entry, ..Fingerprint::default() }).collect();
    let (mut rows, start) = (0, Instant::now());
    let mut count = |batch: arrow::array::RecordBatch| {
        rows += batch.num_rows();
        Ok::<_, Error>(())
    };
    tables::read(&LocalFiles, root, &prints, &schema, &Reading::default(), &mut count).unwrap();
    timed("rows, and their number before", start);
    println!("{rows} rows x {} columns", schema.fields().len());
}
