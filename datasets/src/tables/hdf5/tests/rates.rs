//! How fast, and in how much memory: figures for `make bench`.

use std::time::Instant;

use tessera_schemas::features;

use super::*;
use crate::tables::hdf5::write::Writer;
use crate::tables::tests::peak;

/// `TESSERA_HDF5` names a file with a dataset `features` to read in place of one that is made, of `TESSERA_HDF5_MB`.
#[test]
#[ignore = "measures"]
fn rates() {
    let (width, batch_rows) = (9600, 256);
    let megabytes = std::env::var("TESSERA_HDF5_MB").ok().and_then(|text| text.parse().ok()).unwrap_or(256_usize);
    let dir = tempfile::tempdir().unwrap();
    let made = dir.path().join("a.h5");
    let given = std::env::var("TESSERA_HDF5").ok().map(PathBuf::from);
    if given.is_none() {
        // As of a network's last layer: a third of them zero, the others positive.
        let values = (0..batch_rows * width).map(|at| (at as u32).wrapping_mul(0x9e37_79b9) >> 8);
        let values: Vec<f32> = values.map(|bits| if bits % 3 == 0 { 0.0 } else { bits as f32 / 1e6 }).collect();
        let batch = RecordBatch::try_from_iter([("features", features::array(values, width))]).unwrap();
        let mut writer = Writer::create(&made, &batch.schema(), 2).unwrap();
        let batches = megabytes * 1_000_000 / (batch_rows * width * 4);
        let start = Instant::now();
        for _ in 0..batches {
            writer.write(&batch).unwrap();
        }
        writer.finish().unwrap();
        println!("writing: {:.0} MB/s on 2 threads; {}", megabytes as f64 / start.elapsed().as_secs_f64(), peak());
    }
    let path = given.unwrap_or(made);
    for threads in [1, 2] {
        let entries = tables(&path, LocalFiles.list(&path).unwrap()).unwrap();
        let (root, reading) = (path.parent().unwrap(), Reading { datasets: one("features"), threads, ..Reading::default() });
        let schema = schema(&LocalFiles, root, &entries, &reading).unwrap();
        let prints: Vec<_> = entries.into_iter().map(|entry| Fingerprint { entry, ..Fingerprint::default() }).collect();
        let (start, mut bytes) = (Instant::now(), 0);
        read(&LocalFiles, root, &prints, &schema, &reading, &mut |batch| {
            bytes += vector(&batch, "feature").unwrap().0.len() * 4;
            Ok::<_, Error>(())
        })
        .unwrap();
        let seconds = start.elapsed().as_secs_f64();
        println!("reading: {:.0} MB/s on {threads} threads; {}", bytes as f64 / 1e6 / seconds, peak());
    }
}
