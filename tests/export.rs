//! Tables as files for other programs.

use std::fs;

use tessera_tests::Place;

fn place() -> Place {
    let place = Place::new();
    place.images(7).write(
        "pipeline.toml",
        r#"
[pipeline]
part_rows = 3

[stage.images]
op = "images"
path = "photos"

[stage.decoded]
op = "decode"
input = "images"
side = 16

[stage.features]
op = "hog"
input = "decoded"
cell = 4

[stage.counts]
op = "sql"
input = "images"
query = "SELECT label FROM images GROUP BY label"
"#,
    );
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    place
}

/// What lies in a folder beside the pipeline's own files.
fn files(place: &Place) -> Vec<String> {
    let all = fs::read_dir(place.path("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut all: Vec<String> =
        all.filter(|name| !["photos", "pipeline.toml", ".tessera"].contains(&name.as_str())).collect();
    all.sort();
    all
}

#[test]
fn parquet_is_the_table() {
    let place = place();
    let wrote = place.tessera("export", &["features", "-o", "f.parquet"]);
    assert_eq!((wrote.code, wrote.out.as_str()), (0, ""), "{}", wrote.err);
    assert!(wrote.err.contains("f.parquet: 7 rows of 2 columns, "), "{}", wrote.err);
    // Another pipeline reads it back, with the same rows.
    place.write("back.toml", "[stage.back]\nop = \"table\"\npath = \"f.parquet\"\n");
    assert_eq!(place.call("run", "back.toml", &["-q"]).code, 0);
    let back = place.call("sql", "back.toml", &["--format", "csv", "SELECT * FROM back ORDER BY image_id"]);
    let rows = place.rows("features");
    assert_eq!(back.out, rows);
    // So are the parts of the store, for whoever reads Parquet.
    fs::create_dir(place.path("parts")).unwrap();
    for part in fs::read_dir(place.path(".tessera/pipeline/features/parts")).unwrap().map(|part| part.unwrap()) {
        fs::copy(part.path(), place.path("parts").join(part.file_name())).unwrap();
    }
    place.write("parts.toml", "[stage.taken]\nop = \"table\"\npath = \"parts\"\n");
    assert_eq!(place.call("run", "parts.toml", &["-q"]).code, 0);
    assert_eq!(place.call("sql", "parts.toml", &["--format", "csv", "SELECT * FROM taken ORDER BY image_id"]).out, rows);
    // A view, part of it, in the order asked for.
    let view = ["decoded", "-q", "-o", "d.parquet", "--columns", "pixels,image_id"];
    assert_eq!(place.tessera("export", &view).code, 0);
    let file = fs::File::open(place.path("d.parquet")).unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let names: Vec<_> = reader.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["pixels", "image_id"]);
    assert_eq!(reader.schema().field(0).metadata()["tessera.shape"], "16,16,3");
    let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    let ids = batches.iter().flat_map(|batch| {
        tessera_schemas::text(batch, "image_id").unwrap().iter().flatten().map(str::to_owned).collect::<Vec<_>>()
    });
    let ids: Vec<String> = ids.collect();
    assert!(ids.len() == 7 && ids.is_sorted(), "{ids:?}");
}

#[test]
fn csv_spreads_vectors() {
    let place = place();
    assert_eq!(place.tessera("export", &["features", "-q", "-o", "f.csv"]).code, 0);
    let csv = fs::read_to_string(place.path("f.csv")).unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 8);
    assert!(lines[0].starts_with("image_id,feature_0,feature_1,"), "{}", lines[0]);
    let rows = place.sql("SELECT image_id, feature FROM features ORDER BY image_id");
    for (row, line) in rows.iter().zip(&lines[1..]) {
        let mut fields = line.split(',');
        assert_eq!(fields.next(), row["image_id"].as_str());
        let found: Vec<f32> = fields.map(|field| field.parse().unwrap()).collect();
        let expected = row["feature"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32);
        assert_eq!(found, expected.collect::<Vec<_>>(), "{}", row["image_id"]);
    }
    assert_eq!(place.tessera("export", &["images", "-q", "-o", "i.csv"]).code, 0);
    let images = fs::read_to_string(place.path("i.csv")).unwrap();
    let header =
        "image_id,source.path,source.offset,source.length,source.row,label,digest,width,height,format,bytes,modified";
    assert!(images.starts_with(&format!("{header}\nblue/0002.png,blue/")), "{images}");
}

#[test]
fn safetensors_has_a_tensor_a_column() {
    let place = place();
    let wrote = place.tessera("export", &["features", "-o", "f.safetensors"]);
    assert!(wrote.err.contains("7 rows") && wrote.err.contains("their text: f.ids.csv"), "{}", wrote.err);
    let bytes = fs::read(place.path("f.safetensors")).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let tensors: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let feature = &tensors["feature"];
    let rows = place.sql("SELECT image_id, feature FROM features ORDER BY image_id");
    let length = rows[0]["feature"].as_array().unwrap().len();
    assert_eq!((&feature["dtype"], &feature["shape"]), (&"F32".into(), &serde_json::json!([7, length])));
    let values: Vec<f32> = bytes[8 + header..].as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    assert_eq!(values.len(), 7 * length);
    let expected = rows.iter().flat_map(|row| row["feature"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32));
    assert_eq!(values, expected.collect::<Vec<_>>());
    let ids: Vec<&str> = rows.iter().map(|row| row["image_id"].as_str().unwrap()).collect();
    assert_eq!(fs::read_to_string(place.path("f.ids.csv")).unwrap(), format!("image_id\n{}\n", ids.join("\n")));
    // A view's rows are counted first, and its tensor has the pixels' shape.
    assert_eq!(place.tessera("export", &["decoded", "-q", "-o", "d.safetensors"]).code, 0);
    let bytes = fs::read(place.path("d.safetensors")).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let tensors: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    assert_eq!(tensors["pixels"]["shape"], serde_json::json!([7, 16, 16, 3]));
    assert_eq!(bytes.len(), 8 + header + 7 * 16 * 16 * 3);
}

#[test]
fn weights_keep_their_names() {
    let place = Place::new();
    let header = r#"{"a.bias":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"n":{"dtype":"I64","shape":[],"data_offsets":[8,16]}}"#;
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend([1.5f32, -2.0].iter().flat_map(|value| value.to_le_bytes()));
    file.extend(7i64.to_le_bytes());
    place.write("in.safetensors", &file);
    place.write(
        "pipeline.toml",
        "[stage.given]\nop = \"weights\"\npath = \"in.safetensors\"\nmean = [0.5, 0.25, 0.5]\n\
         deviation = [0.5, 0.5, 1.0]\n",
    );
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    let wrote = place.tessera("export", &["given", "-o", "out.safetensors"]);
    assert!(wrote.err.contains("out.safetensors: 2 tensors"), "{}", wrote.err);
    let bytes = fs::read(place.path("out.safetensors")).unwrap();
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let written: serde_json::Value = serde_json::from_slice(&bytes[8..end]).unwrap();
    assert_eq!(
        written,
        serde_json::json!({
            "__metadata__": {"format": "pt", "mean": "0.5,0.25,0.5", "deviation": "0.5,0.5,1"},
            "n": {"dtype": "I64", "shape": [], "data_offsets": [0, 8]},
            "a.bias": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]},
        })
    );
    assert_eq!(bytes[end..], [&file[file.len() - 8..], &file[file.len() - 16..file.len() - 8]].concat());
    // What was written can be read as weights again, with the same rows.
    let before = place.digests("pipeline");
    let again = place.tessera("run", &["--format", "json", "--set", "given.path=out.safetensors"]);
    assert_eq!(again.actions(), ["given:run"]);
    assert!(place.digests("pipeline") == before);
}

#[test]
fn nothing_is_overwritten_and_nothing_half_written() {
    let place = place();
    place.write("f.csv", "mine");
    let refuse = |more: &[&str], code: i32, said: &str| {
        let answer = place.tessera("export", more);
        assert_eq!(answer.code, code, "{more:?}: {}", answer.err);
        assert!(answer.err.contains(said), "{said}: {}", answer.err);
        assert_eq!(files(&place), ["f.csv"], "{more:?}");
        assert_eq!(fs::read_to_string(place.path("f.csv")).unwrap(), "mine");
    };
    refuse(&["features", "-o", "f.csv"], 1, "f.csv is there already: --force overwrites it");
    refuse(
        &["features", "-o", "f.txt"],
        2,
        "the ending of f.txt names no format: parquet, arrow, csv, npy, h5 and safetensors do",
    );
    refuse(&["feature", "-o", "g.csv"], 2, "did you mean `features`?");
    refuse(&["features", "-o", "g.csv", "--columns", "image_id,x"], 2, "there is no column `x`; columns: image_id, feature");
    refuse(&["features", "-o", "absent/g.csv"], 1, "cannot write to absent/g.csv");
    refuse(&["counts", "-o", "g.safetensors"], 1, "none of the columns label is numeric");
    refuse(&["decoded", "-o", "g.csv", "--set", "decoded.side=100"], 1, "30002 columns are more than the 16384");
    // An image that can no longer be read, half-way.
    place.write("photos/red/0004.png", "no image");
    refuse(&["decoded", "-o", "g.parquet"], 1, "image `red/0004.png`");
    assert_eq!(place.tessera("export", &["features", "-q", "-o", "f.csv", "--force"]).code, 0);
    assert!(fs::read_to_string(place.path("f.csv")).unwrap().starts_with("image_id,feature_0,"));
}

#[test]
fn links_and_devices_are_left_alone() {
    let place = place();
    place.write("f.csv", "mine");
    std::os::unix::fs::symlink(place.path("f.csv"), place.path("link.csv")).unwrap();
    let answer = place.tessera("export", &["features", "-o", "link.csv", "--force"]);
    assert_eq!(answer.code, 1, "{}", answer.err);
    assert!(answer.err.contains("link.csv is no plain file: name another"), "{}", answer.err);
    assert!(fs::symlink_metadata(place.path("link.csv")).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(place.path("f.csv")).unwrap(), "mine");
}

/// `-` is standard output, for what goes from its beginning to its end and for what does not.
#[test]
fn tables_go_to_standard_output() {
    let place = place();
    let bytes = |command: &str, more: &[&str]| {
        let output = place.command(command, "pipeline.toml", more).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{more:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    for format in ["csv", "parquet", "arrow", "npy", "hdf5"] {
        let file = format!("out.{format}");
        let columns = if format == "npy" { "feature" } else { "image_id,feature" };
        let table = ["features", "-q", "--columns", columns];
        bytes("export", &[&table[..], &["-o", &file]].concat());
        let written = bytes("export", &[&table[..], &["-o", "-", "--format", format]].concat());
        // HDF5 notes times.
        assert!(written == fs::read(place.path(&file)).unwrap() || format == "hdf5" && !written.is_empty(), "{format}");
    }
    let answer = bytes("sql", &["SELECT 1 AS one", "-o", "-", "--format", "parquet"]);
    assert!(answer.starts_with(b"PAR1") && answer.ends_with(b"PAR1"));
    assert_eq!(bytes("sql", &["SELECT 1 AS one", "-o", "-", "--format", "csv"]), b"one\n1\n");
    assert!(!place.path("-").exists());
    for (more, said) in [
        (&["features", "-o", "-"][..], "--format parquet, csv or another says it"),
        (&["images", "--images", "-"], "--images writes files"),
    ] {
        let wrong = place.tessera("export", more);
        assert!(wrong.code == 2 && wrong.err.contains(said), "{said}: {}", wrong.err);
    }
}
