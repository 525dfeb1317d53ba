use super::super::*;
use crate::local::LocalFiles;

#[test]
#[ignore = "prints"]
fn prints() {
    let path = std::env::var("H5").unwrap();
    let which = std::env::var("D").unwrap_or_default();
    let path = Path::new(&path);
    let root = path.parent().unwrap();
    let entries = tables(path, LocalFiles.list(path).unwrap()).unwrap();
    let datasets = match which.as_str() {
        "" => Datasets::All,
        one if one.contains('=') => {
            Datasets::Columns(one.split(',').map(|p| p.split_once('=').unwrap()).map(|(a, b)| (a.into(), b.into())).collect())
        }
        one => Datasets::One(one.into()),
    };
    let reading = Reading { datasets, threads: 2 };
    let schema = match schema(&LocalFiles, root, &entries, &reading) {
        Ok(schema) => schema,
        Err(error) => return println!("ERR {error}"),
    };
    println!("{:?}", schema.fields().iter().map(|field| format!("{}: {}", field.name(), told(field))).collect::<Vec<_>>());
    let prints: Vec<_> = entries.into_iter().map(|entry| Fingerprint { entry, ..Fingerprint::default() }).collect();
    let mut rows = 0;
    let mut first = None;
    let mut writer = std::env::var("OUT").ok().map(|p| {
        ::parquet::arrow::ArrowWriter::try_new(std::fs::File::create(p).unwrap(), schema.clone(), None).unwrap()
    });
    let read = read(&LocalFiles, root, &prints, &schema, &reading, &mut |batch| {
        rows += batch.num_rows();
        if let Some(w) = &mut writer {
            w.write(&batch).unwrap();
        }
        first.get_or_insert(batch.slice(0, 2.min(batch.num_rows())));
        Ok::<_, Error>(())
    });
    if let Some(w) = writer {
        w.close().unwrap();
    }
    match read {
        Ok(()) => println!("{rows} rows"),
        Err(error) => println!("ERR {error}"),
    }
}
