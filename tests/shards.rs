//! Data sets whose files hold many images.

use std::fs::{self, File};
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use parquet::arrow::ArrowWriter;
use tessera_tests::bucket::BucketServer;
use tessera_tests::{Place, run};

const FILE: &str = r#"
[pipeline]
part_rows = 8

[stage]
images = { op = "images", path = "set" }
decoded = { op = "decode", input = "images", side = 24 }
gradients = { op = "hog", input = "decoded" }
"#;

/// Some of [`Place::image`]'s images as rows of a file, as Hugging Face's `datasets` writes them.
fn write(place: &Place, file: &str, images: &[usize]) {
    let encoded: Vec<(String, Vec<u8>)> = images
        .iter()
        .map(|&at| {
            let id = place.image(at);
            let bytes = fs::read(place.path("photos").join(&id)).unwrap();
            (id, bytes)
        })
        .collect();
    let bytes: BinaryArray = encoded.iter().map(|(_, bytes)| Some(bytes)).collect();
    let path: StringArray = encoded.iter().map(|(id, _)| Some(id)).collect();
    let classes = ["blue", "green", "red"];
    let class = |id: &str| classes.iter().position(|class| id.starts_with(class)).unwrap() as i64;
    let label: Int64Array = encoded.iter().map(|(id, _)| Some(class(id))).collect();
    let fields = Fields::from(vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)]);
    let image = StructArray::new(fields.clone(), vec![Arc::new(bytes), Arc::new(path)], None);
    let known = r#"{"info": {"features": {"image": {"_type": "Image"},
        "label": {"names": ["blue", "green", "red"], "_type": "ClassLabel"}}}}"#;
    let schema =
        Schema::new(vec![Field::new("image", DataType::Struct(fields), true), Field::new("label", DataType::Int64, true)]);
    let schema = Arc::new(schema.with_metadata([("huggingface".to_owned(), known.to_owned())].into()));
    let columns: Vec<ArrayRef> = vec![Arc::new(image), Arc::new(label)];
    let file = place.path(file);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(file).unwrap(), schema.clone(), None).unwrap();
    writer.write(&RecordBatch::try_new(schema, columns).unwrap()).unwrap();
    writer.close().unwrap();
}

fn made() -> Place {
    let place = Place::new();
    write(&place, "set/train-00000-of-00001.parquet", &(0..20).collect::<Vec<_>>());
    write(&place, "set/test-00000-of-00001.parquet", &(20..25).collect::<Vec<_>>());
    place.write("pipeline.toml", FILE);
    place
}

fn counts(place: &Place) -> [[u64; 3]; 2] {
    let run = place.tessera("run", &["--format", "json"]);
    ["images", "gradients"].map(|stage| {
        let stage = run.stage(stage);
        ["rows_computed", "rows_out", "rows_dropped"].map(|key| stage[key].as_u64().unwrap())
    })
}

/// What was computed of images in rows is what is computed of the same images in a folder.
#[test]
fn images_in_rows_are_those_of_a_folder() {
    let place = made();
    assert_eq!(counts(&place), [[25, 25, 0], [25, 25, 0]]);
    assert!(place.strays("pipeline").is_empty(), "{:?}", place.strays("pipeline"));
    place.write("folder.toml", FILE.replace("\"set\"", "\"photos\""));
    assert_eq!(place.call("run", "folder.toml", &["-q"]).code, 0);
    let rows = |file: &str, id: &str| {
        let query = format!(
            "SELECT i.{id} AS id, i.label, i.width, i.height, i.format, i.bytes, i.digest, g.feature
             FROM images i JOIN gradients g ON i.image_id = g.image_id ORDER BY 1"
        );
        let answer = place.call("sql", file, &["--format", "csv", &query]);
        assert_eq!(answer.code, 0, "{}", answer.err);
        answer.out
    };
    assert_eq!(rows("pipeline.toml", "name"), rows("folder.toml", "image_id"));
    let splits = place.sql("SELECT split, count(*) AS n, count(label) AS labels FROM images GROUP BY 1 ORDER BY 1");
    assert_eq!(format!("{splits:?}").matches("\"n\": Number(20)").count(), 1, "{splits:?}");
}

#[test]
fn a_file_that_changed_costs_what_is_new_in_it() {
    let place = made();
    counts(&place);
    assert_eq!(place.tessera("plan", &["--format", "json"]).actions(), ["images:reuse", "gradients:reuse"]);
    // Three more rows, and two others than before.
    write(&place, "set/test-00000-of-00001.parquet", &[20, 31, 22, 23, 32, 33, 34, 35]);
    assert_eq!(counts(&place), [[5, 28, 0], [5, 28, 0]]);
    write(&place, "set/validation.parquet", &[40, 41]);
    assert_eq!(counts(&place), [[2, 30, 0], [2, 30, 0]]);
    fs::remove_file(place.path("set/train-00000-of-00001.parquet")).unwrap();
    assert_eq!(counts(&place), [[0, 10, 0], [0, 10, 0]]);
    // The same as made at once.
    place.write("fresh.toml", FILE.replace("[pipeline]", "[pipeline]\nname = \"pipeline\"\nstore = \"fresh\""));
    assert_eq!(place.call("run", "fresh.toml", &["-q"]).code, 0);
    assert_eq!(place.digests("pipeline"), place.digests_in("fresh", "pipeline"));
}

/// What is kept of files is looked at before it is believed, and no more than the present files' is kept.
#[test]
fn what_is_kept_of_files_is_checked() {
    let place = made();
    counts(&place);
    let folder = place.path(".tessera/pipeline/images/shards");
    let kept = || fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    assert_eq!(kept().len(), 2);
    for path in kept() {
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        fs::write(&path, bytes).unwrap();
    }
    let before = place.digests("pipeline");
    assert_eq!(place.tessera("run", &["-q", "--force", "images"]).code, 0);
    assert_eq!(place.digests("pipeline"), before);
    write(&place, "set/test-00000-of-00001.parquet", &[50]);
    counts(&place);
    assert_eq!(kept().len(), 2);
}

/// A file that is swapped between listing and decoding is found out, whatever its size and times.
#[test]
fn a_file_that_is_not_what_was_listed_is_refused() {
    let place = made();
    assert_eq!(place.tessera("run", &["-q", "--to", "images"]).code, 0);
    let path = place.path("set/test-00000-of-00001.parquet");
    let (listed, modified) = (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().modified().unwrap());
    // In the middle of the images' bytes.
    let mut bytes = listed.clone();
    bytes[200] ^= 0xff;
    fs::write(&path, &bytes).unwrap();
    File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    let run = place.tessera("run", &["-q"]);
    let features = place.tessera("sql", &["--format", "csv", "SELECT count(*) FROM gradients"]);
    assert!(run.code == 1 || features.out.contains("25"), "{} {}", run.code, run.err);
    fs::write(&path, &listed).unwrap();
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
}

#[test]
fn a_limit_takes_as_many_images() {
    let place = made();
    let run = place.tessera("run", &["--limit", "6", "--format", "json"]);
    assert_eq!(run.stage("images")["rows_out"], 6);
    let more = place.tessera("run", &["--limit", "60", "--format", "json"]);
    assert_eq!(more.stage("gradients")["rows_out"], 25);
}

#[test]
fn keys_of_another_format_are_told() {
    let place = made();
    let refused = |keys: &str| {
        place.write("p.toml", format!("[stage]\nimages = {{ op = \"images\", path = {keys} }}\n"));
        let check = place.call("check", "p.toml", &[]);
        assert_eq!(check.code, 2, "{}", check.out);
        check.err
    };
    let error = refused("\"set\", label = \"path:2\"");
    assert!(error.contains("`label` is for format = \"folder\", and the data set is \"parquet\""), "{error}");
    let error = refused("\"photos\", column = \"image\"");
    assert!(
        error.contains(
            "`column` is for format = \"parquet\" or \"arrow\" or \"hdf5\" or \"list\", and the data set is \"folder\""
        ),
        "{error}"
    );
    let error = refused("\"set\", column = \"picture\"");
    assert!(error.contains("has no column `picture`; it has image, label"), "{error}");
    let error = refused("\"photos\", label = \"regex:(\"");
    assert!(error.contains("unclosed group") && error.contains("path:1"), "{error}");
    let error = refused("\"photos\", exclude = [\"a**b\"]");
    assert!(error.contains("`a**b` is no pattern"), "{error}");
}

#[test]
fn halves_and_left_aside_files_of_a_folder_are_told() {
    let place = Place::new();
    for (at, half) in [(0, "train"), (1, "train"), (2, "val")] {
        let id = place.image(at);
        let to = place.path(&format!("set/{half}/{id}"));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::rename(place.path("photos").join(id), to).unwrap();
    }
    for name in ["a.heic", "b.HEIC", "c.mov", "notes"] {
        place.write(&format!("set/train/{name}"), "x");
    }
    place.write("pipeline.toml", FILE);
    let run = place.tessera("run", &[]);
    let told = "images: 4 files are left aside: 2 .heic, 1 without an ending, 1 .mov";
    assert!(run.err.contains(told), "{}", run.err);
    let rows = place.sql("SELECT split, label FROM images ORDER BY image_id");
    assert_eq!(rows.len(), 3);
    assert_eq!((&rows[0]["split"], &rows[2]["split"]), (&"train".into(), &"validation".into()));
    assert!(rows.iter().all(|row| ["green", "red", "blue"].contains(&row["label"].as_str().unwrap())), "{rows:?}");
    assert!(place.tessera("run", &[]).err.lines().all(|line| !line.contains("left aside")), "nothing is new");
}

/// A tar of [`Place::image`]'s images, each with its class, as `tar` writes it.
fn tar(place: &Place, name: &str, images: &[usize], more: &[&str]) {
    let folder = place.path("members");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    for &at in images {
        let id = place.image(at);
        fs::copy(place.path("photos").join(&id), folder.join(format!("{at:05}.png"))).unwrap();
        fs::write(folder.join(format!("{at:05}.cls")), id.split('/').next().unwrap()).unwrap();
    }
    fs::create_dir_all(place.path("set")).unwrap();
    let to = place.path(&format!("set/{name}"));
    let mut names: Vec<String> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let call = std::process::Command::new("tar").arg("-C").arg(folder).args(more).arg("-cf").arg(to).args(names).status();
    assert!(call.unwrap().success());
}

/// What is computed of images in tars, packed or not, is what is computed of the same images in a folder.
#[test]
fn images_in_tars_are_those_of_a_folder() {
    let place = Place::new();
    place.write("pipeline.toml", FILE);
    tar(&place, "a-000.tar", &(0..9).collect::<Vec<_>>(), &[]);
    tar(&place, "a-001.tar.gz", &(9..14).collect::<Vec<_>>(), &["-z"]);
    assert_eq!(counts(&place), [[14, 14, 0], [14, 14, 0]]);
    place.write("folder.toml", FILE.replace("\"set\"", "\"photos\""));
    assert_eq!(place.call("run", "folder.toml", &["-q"]).code, 0);
    let rows = |file: &str| {
        let query = "SELECT i.label, i.width, i.format, i.bytes, i.digest, g.feature
             FROM images i JOIN gradients g ON i.image_id = g.image_id ORDER BY i.digest";
        let answer = place.call("sql", file, &["--format", "csv", query]);
        assert_eq!(answer.code, 0, "{}", answer.err);
        answer.out
    };
    assert_eq!(rows("pipeline.toml"), rows("folder.toml"));
    assert_eq!(place.sql("SELECT image_id FROM images ORDER BY 1")[13]["image_id"], "00013.png");
    // A shard more costs a shard; one that is packed and gone leaves nothing that is needed.
    tar(&place, "a-002.tar", &[20, 21], &[]);
    assert_eq!(counts(&place), [[2, 16, 0], [2, 16, 0]]);
    let garbage = place.tessera("gc", &["--delete"]);
    assert!(garbage.code == 0 && garbage.out.contains("unpacked"), "{} {}", garbage.out, garbage.err);
    assert_eq!(fs::read_dir(place.path(".tessera/.unpacked")).unwrap().count(), 0);
    let forced = place.tessera("run", &["--force", "gradients", "--format", "json"]);
    assert_eq!(forced.stage("gradients")["rows_computed"], 16, "it is unpacked again");
    // One pattern for some of them.
    place.write(
        "some.toml",
        FILE.replace("\"set\"", "\"set/a-{001..002}.tar\"").replace("a-{001..002}.tar", "a-00{0,2}.tar"),
    );
    let some = place.call("run", "some.toml", &["--format", "json"]);
    assert_eq!(some.stage("gradients")["rows_out"], 11);
}

/// Tars and Parquet files in a bucket, packed or not, are those of a disk; one that is new is all that is fetched whole.
#[test]
fn shards_in_a_bucket_are_those_of_a_disk() {
    let (place, bucket) = (Place::new(), BucketServer::new());
    place.write("disk.toml", FILE);
    let put = |name: &str| bucket.put(&format!("set/{name}"), fs::read(place.path("set").join(name)).unwrap());
    let call = |command: &str, file: &str, arguments: &[&str]| {
        let answer = run(bucket.reached_by(place.command(command, file, arguments)));
        assert_eq!(answer.code, 0, "{file}: {}", answer.err);
        answer
    };
    let same = |file: &str| {
        let rows = |file: &str| {
            let query = "SELECT i.image_id, i.label, i.width, i.format, i.bytes, i.digest, g.feature
                 FROM images i JOIN gradients g USING (image_id) ORDER BY 1";
            call("sql", file, &["--format", "csv", query]).out
        };
        call("run", "disk.toml", &["-q"]);
        assert_eq!(rows(file), rows("disk.toml"));
    };
    tar(&place, "a-000.tar", &(0..9).collect::<Vec<_>>(), &[]);
    tar(&place, "a-001.tar.gz", &(9..14).collect::<Vec<_>>(), &["-z"]);
    ["a-000.tar", "a-001.tar.gz"].into_iter().for_each(put);
    let file = FILE.replace("[pipeline]", "[pipeline]\nstore = \"tables\"");
    place.write("bucket.toml", file.replace("\"set\"", "\"s3://bucket/set\""));
    let unsaid = run(bucket.reached_by(place.command("run", "bucket.toml", &["-q"])));
    assert!(unsaid.code == 1 && unsaid.err.contains("no image among 2 files; "), "{}", unsaid.err);
    assert!(unsaid.err.contains(": `format = \"webdataset\"` reads the images in them"), "{}", unsaid.err);
    place.write("bucket.toml", file.replace("\"set\"", "\"s3://bucket/set\", format = \"webdataset\""));
    call("run", "bucket.toml", &["-q"]);
    same("bucket.toml");
    tar(&place, "a-002.tar", &[20, 21], &[]);
    put("a-002.tar");
    let more = call("run", "bucket.toml", &["--format", "json"]);
    assert_eq!(["images", "gradients"].map(|stage| more.stage(stage)["rows_computed"].as_u64()), [Some(2), Some(2)]);
    same("bucket.toml");
    let pattern = FILE.replace("[pipeline]", "[pipeline]\nstore = \"some\"");
    place.write("some.toml", pattern.replace("\"set\"", "\"s3://bucket/set/a-00{0,2}.tar\""));
    assert_eq!(call("run", "some.toml", &["--format", "json"]).stage("gradients")["rows_out"], 11);
    // One that is cut off keeps what stands before.
    let whole = bucket.get("set/a-000.tar");
    bucket.put("set/a-000.tar", whole[..whole.len() * 2 / 3].to_vec());
    let cut = call("run", "some.toml", &["--format", "json"]);
    let left = cut.stage("gradients")["rows_out"].as_u64().unwrap();
    assert!((6..11).contains(&left), "{left}");

    fs::remove_dir_all(place.path("set")).unwrap();
    write(&place, "set/train-00000-of-00001.parquet", &(0..20).collect::<Vec<_>>());
    put("train-00000-of-00001.parquet");
    let rows = FILE.replace("[pipeline]", "[pipeline]\nstore = \"rows\"");
    place.write("rows.toml", rows.replace("\"set\"", "\"s3://bucket/set/train-00000-of-00001.parquet\""));
    call("run", "rows.toml", &["-q"]);
    same("rows.toml");
}

#[test]
fn what_of_a_shard_cannot_be_read_is_told_and_the_rest_stays() {
    let place = Place::new();
    place.write("pipeline.toml", FILE);
    tar(&place, "a.tar", &(0..9).collect::<Vec<_>>(), &[]);
    let path = place.path("set/a.tar");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() * 2 / 3]).unwrap();
    let run = place.tessera("run", &[]);
    assert_eq!(run.code, 0, "{}", run.err);
    let left = place.sql("SELECT count(*) AS n FROM gradients")[0]["n"].as_u64().unwrap();
    assert!((4..8).contains(&left), "{left}");
    let dropped = place.sql("SELECT image_id, reason FROM dropped WHERE stage = 'images'");
    assert_eq!(dropped.len(), 1, "{dropped:?}");
    assert!(dropped[0]["image_id"].as_str().unwrap().starts_with("a.tar"), "{dropped:?}");
    place.write("strict.toml", FILE.replace("path = \"set\"", "path = \"set\", on_error = \"fail\""));
    let strict = place.call("run", "strict.toml", &["-q"]);
    assert_eq!(strict.code, 1);
    assert!(strict.err.contains("a.tar"), "{}", strict.err);
    fs::write(&path, &whole).unwrap();
    assert_eq!(counts(&place)[1][1], 9);
    assert_eq!(place.sql("SELECT * FROM dropped").len(), 0);
    // Two of one name are no data set.
    tar(&place, "b.tar", &[0, 30], &[]);
    let twice = place.tessera("run", &["-q"]);
    assert_eq!(twice.code, 1);
    assert!(twice.err.contains("an image named `00000.png` is in a.tar and in b.tar: ids = \"path\""), "{}", twice.err);
    place.write("pipeline.toml", FILE.replace("path = \"set\"", "path = \"set\", ids = \"path\""));
    assert_eq!(counts(&place)[1][1], 11);
    assert_eq!(place.sql("SELECT image_id FROM images ORDER BY 1 LIMIT 1")[0]["image_id"], "a.tar/00000.png");
}

/// Pixels in HDF5, and CIFAR's own files.
#[test]
fn arrays_are_images() {
    let place = Place::new();
    place.images(6).write("folder.toml", FILE.replace("\"set\"", "\"photos\""));
    assert_eq!(place.call("run", "folder.toml", &["-q"]).code, 0);
    place.write(
        "pixels.toml",
        format!("{}whole = {{ op = \"decode\", input = \"images\", side = 64 }}\n", FILE.replace("\"set\"", "\"photos\"")),
    );
    let to = ["whole", "-o", "pixels.h5", "-q"];
    assert_eq!(place.call("export", "pixels.toml", &to).code, 1, "nothing was made");
    assert_eq!(place.call("run", "pixels.toml", &["-q"]).code, 0);
    assert_eq!(place.call("export", "pixels.toml", &to).code, 0);
    place.write("pipeline.toml", FILE.replace("\"set\"", "\"pixels.h5\""));
    assert_eq!(counts(&place), [[6, 6, 0], [6, 6, 0]]);
    assert_eq!(place.sql("SELECT count(*) AS n FROM gradients")[0]["n"], 6);
    let labels = place.sql("SELECT label FROM images ORDER BY image_id");
    assert!(labels.iter().all(|row| row["label"].is_string()), "{labels:?}");
    // A record is a class and three planes of 32 x 32.
    let record = |at: u8| [&[at % 10][..], &vec![at * 3; 1024], &vec![at * 5; 1024], &vec![at * 7; 1024]].concat();
    place.write("cifar/data_batch_1.bin", (0..20).flat_map(record).collect::<Vec<u8>>());
    place.write("cifar/test_batch.bin", (20..25).flat_map(record).collect::<Vec<u8>>());
    let names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
    place.write("cifar/batches.meta.txt", names.join("\n"));
    place.write("cifar.toml", FILE.replace("\"set\"", "\"cifar\""));
    let run = place.call("run", "cifar.toml", &["--format", "json"]);
    assert_eq!(run.stage("gradients")["rows_out"], 25);
    let query = "SELECT split, label, width, format FROM images WHERE image_id = 'test_batch.bin/1'";
    let answer = place.call("sql", "cifar.toml", &["--format", "csv", query]);
    assert_eq!(answer.out, "split,label,width,format\ntest,automobile,32,ppm\n", "{}", answer.err);
}
