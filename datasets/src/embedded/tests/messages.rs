//! Arrow files of images.

use arrow::array::{BinaryViewArray, BinaryViewBuilder, DictionaryArray};
use arrow::datatypes::Int8Type;
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};

use super::*;
use crate::formats::Format;
use crate::tables::ipc::index::Index;
use crate::tables::ipc::message;
use crate::tables::raw::Raw;

const CODECS: [Option<CompressionType>; 3] = [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)];

/// A file of some batches; a stream, if its name ends in `arrow`.
fn save(path: &Path, batches: &[RecordBatch], codec: Option<CompressionType>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let (schema, file) = (batches[0].schema(), std::fs::File::create(path).unwrap());
    let options = IpcWriteOptions::default().try_with_compression(codec).unwrap();
    if path.extension().unwrap() == "arrow" {
        let mut writer = StreamWriter::try_new_with_options(file, &schema, options).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.finish().unwrap();
    } else {
        let mut writer = FileWriter::try_new_with_options(file, &schema, options).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.finish().unwrap();
    }
}

fn open(path: &Path) -> Embedded {
    Embedded::open(&LocalFiles, path, Kind::Arrow, None).unwrap()
}

/// Each image's bytes, as `decode` gets them, are those that its row was made of.
fn check_bytes(embedded: &Embedded, rows: &RecordBatch) {
    let sources: Vec<Source<'_>> = images::sources(rows).unwrap().collect();
    let mut order: Vec<usize> = (0..sources.len()).map(|at| at * 7 % sources.len()).collect();
    order.push(0);
    let wanted: Vec<Source<'_>> = order.iter().map(|at| sources[*at].clone()).collect();
    let found = embedded.access().read_each(&LocalFiles, embedded.root(), embedded.root(), &wanted);
    let digests = texts(rows, "digest");
    assert_eq!(found.len(), order.len());
    for (at, bytes) in order.into_iter().zip(found) {
        let bytes = bytes.unwrap();
        assert_eq!(
            (FileDigest::of(&blake3::hash(&bytes)).to_string(), Some(bytes.len() as u64)),
            (digests[at].clone(), sources[at].length)
        );
    }
}

#[test]
fn rows_of_streams_and_files_are_those_of_parquet() {
    let dir = TempDir::new().unwrap();
    write(&dir.path().join("a.parquet"), &table(0..200, 9), true);
    let parquet = Embedded::open(&LocalFiles, &dir.path().join("a.parquet"), Kind::Parquet, None).unwrap();
    let (expected, left_out) = read(&parquet).unwrap();
    for codec in CODECS {
        for ending in ["arrow", "feather"] {
            let path = dir.path().join(format!("a.{ending}"));
            save(&path, &[table(0..70, 9), table(70..70, 0), table(70..71, 9), table(71..200, 9)], codec);
            let embedded = open(&path);
            let (rows, lacking) = read(&embedded).unwrap();
            assert_eq!(rows.schema(), expected.schema());
            for (at, field) in rows.schema().fields().iter().enumerate().filter(|(_, field)| field.name() != "source") {
                let name = field.name();
                if name == "image_id" {
                    let ids = texts(&expected, name).iter().map(|id| id.replace("parquet", ending)).collect::<Vec<_>>();
                    assert_eq!(texts(&rows, name), ids);
                } else {
                    assert_eq!(rows.column(at), expected.column(at), "{name} {ending} {codec:?}");
                }
            }
            assert_eq!(lacking.len(), left_out.len());
            assert_eq!(lacking[1].path, format!("a.{ending}/009"));
            let sources: Vec<Source<'_>> = images::sources(&rows).unwrap().collect();
            assert!(sources.iter().all(|source| source.offset.is_some() == codec.is_none() && source.row.is_some()));
            check_bytes(&embedded, &rows);
        }
    }
}

/// Columns of every layout before and behind the images: their buffers are passed over.
#[test]
fn images_lie_behind_columns_of_all_kinds() {
    let dir = TempDir::new().unwrap();
    let count = 40;
    let words = |at: usize| format!("a word that is too long for its view, {at}");
    let strings: StringArray = (0..count).map(|at| Some(words(at))).collect();
    let views: arrow::array::StringViewArray = (0..count).map(|at| Some(words(at))).collect();
    let dictionary: DictionaryArray<Int8Type> = (0..count).map(|at| ["red", "green"][at % 2]).collect();
    let lists = arrow::array::ListArray::from_iter_primitive::<arrow::datatypes::Float32Type, _, _>(
        (0..count).map(|at| Some(vec![Some(at as f32); at % 3])),
    );
    let fixed = arrow::array::FixedSizeListArray::from_iter_primitive::<arrow::datatypes::Float32Type, _, _>(
        (0..count).map(|at| Some(vec![Some(at as f32); 2])),
        2,
    );
    let nothing = arrow::array::NullArray::new(count);
    // Short ones lie within their views.
    let bytes = |at: usize| if at.is_multiple_of(4) { vec![at as u8; at % 12] } else { bytes_of(at) };
    let images: [ArrayRef; 3] = [
        Arc::new((0..count).map(|at| (at != 5).then(|| bytes(at))).collect::<BinaryArray>()),
        Arc::new((0..count).map(|at| (at != 5).then(|| bytes(at))).collect::<LargeBinaryArray>()),
        Arc::new((0..count).map(|at| (at != 5).then(|| bytes(at))).collect::<BinaryViewArray>()),
    ];
    for image in images {
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("words", Arc::new(strings.clone()) as ArrayRef, true),
            ("views", Arc::new(views.clone()), true),
            ("color", Arc::new(dictionary.clone()), true),
            ("lists", Arc::new(lists.clone()), true),
            ("fixed", Arc::new(fixed.clone()), true),
            ("nothing", Arc::new(nothing.clone()), true),
            ("jpg", image.clone(), true),
            ("more", Arc::new(views.clone()), true),
        ])
        .unwrap();
        for codec in CODECS {
            for ending in ["arrow", "feather"] {
                let path = dir.path().join(format!("a.{ending}"));
                save(&path, &[batch.slice(0, 17), batch.slice(17, 23)], codec);
                let embedded = open(&path);
                let (rows, left_out) = read(&embedded).unwrap();
                let what = format!("{} {ending} {codec:?}", image.data_type());
                assert_eq!((rows.num_rows(), &*left_out[0].path), (count - 1, &*format!("a.{ending}/05")), "{what}");
                let kept: Vec<usize> = (0..count).filter(|at| *at != 5).collect();
                for name in ["words", "views", "more"] {
                    assert_eq!(texts(&rows, name), kept.iter().map(|at| words(*at)).collect::<Vec<_>>(), "{what} {name}");
                }
                let colors = kept.iter().map(|at| ["red", "green"][at % 2]).collect::<Vec<_>>();
                assert_eq!(texts(&rows, "color"), colors, "{what}");
                let digest = |at: &usize| FileDigest::of(&blake3::hash(&bytes(*at))).to_string();
                assert_eq!(texts(&rows, "digest"), kept.iter().map(digest).collect::<Vec<_>>(), "{what}");
                check_bytes(&embedded, &rows);
            }
        }
    }
}

/// Any number of views may lead to the same bytes.
#[test]
fn rows_that_share_a_long_image_come_few_at_a_time() {
    let mut images = BinaryViewBuilder::new();
    let block = images.append_block(vec![7; 20 << 20].into());
    (0..14).for_each(|_| images.try_append_view(block, 0, 20 << 20).unwrap());
    let batch = RecordBatch::try_from_iter([("jpg", Arc::new(images.finish()) as ArrayRef)]).unwrap();
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.feather");
    save(&path, &[batch], None);
    let size = std::fs::metadata(&path).unwrap().len();
    let reader = Reader::open(Kind::Arrow, &LocalFiles, &path, size).unwrap();
    let found =
        reader.all("jpg").unwrap().map(|batch| batch.unwrap()).map(|batch| (batch.others.num_rows(), batch.images.len()));
    assert_eq!(found.collect::<Vec<_>>(), [(13, 13), (1, 1)]);
}

/// A batch's buffers may each claim to be all of it.
#[test]
fn buffers_that_lie_in_each_other_are_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.feather");
    let numbers = |at: usize| Arc::new((0..100).map(|row| row + at as i64).collect::<Int64Array>()) as ArrayRef;
    let image: BinaryArray = (0..100).map(|at| Some(bytes_of(at))).collect();
    let columns = (0..8).map(|at| (format!("n{at}"), numbers(at)));
    let batch = RecordBatch::try_from_iter(columns.chain([("jpg".to_owned(), Arc::new(image) as ArrayRef)])).unwrap();
    save(&path, &[batch], None);
    let mut bytes = std::fs::read(&path).unwrap();
    let size = bytes.len() as u64;
    let raw = Raw { files: &LocalFiles, path: &path, size };
    let place = Index::of(raw).unwrap().messages[0];
    let head = bytes[place.at as usize..][..place.head as usize].to_vec();
    let message = message(raw, &head).unwrap();
    let buffers = message.header_as_record_batch().unwrap().buffers().unwrap();
    let start = buffers.bytes().as_ptr() as usize - head.as_ptr() as usize + place.at as usize;
    for buffer in bytes[start..start + 16 * 16].as_chunks_mut::<16>().0 {
        buffer[..8].copy_from_slice(&0_u64.to_le_bytes());
        buffer[8..].copy_from_slice(&place.body.to_le_bytes());
    }
    std::fs::write(&path, bytes).unwrap();
    let reader = Reader::open(Kind::Arrow, &LocalFiles, &path, size).unwrap();
    let error = reader.all("jpg").unwrap().next().unwrap().err().unwrap().to_string();
    assert!(
        error.contains("the buffers of the batch at byte ") && error.ends_with(&format!("it has {}", place.body)),
        "{error}"
    );
}

/// A folder as `save_to_disk` leaves it: what `state.json` does not name is no part of the data set.
#[test]
fn what_was_saved_is_what_its_state_names() {
    let dir = TempDir::new().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    for (split, rows) in [("train", 0..20), ("test", 20..25)] {
        save(&dir.path().join(split).join("data-00000-of-00001.arrow"), &[table(rows, 0)], None);
        write(
            &format!("{split}/state.json"),
            r#"{"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": null}"#,
        );
        write(&format!("{split}/dataset_info.json"), "{}");
    }
    write("dataset_dict.json", r#"{"splits": ["train", "test"]}"#);
    save(&dir.path().join("train/cache-0123.arrow"), &[table(0..20, 0)], None);
    assert_eq!(Format::recognise(&LocalFiles, dir.path()).unwrap(), Format::Arrow);
    let embedded = open(dir.path());
    let (rows, left_out) = read(&embedded).unwrap();
    assert_eq!((rows.num_rows(), left_out.len()), (25, 0));
    let splits = texts(&rows, "split");
    assert_eq!((&*splits[4], &*splits[5], &*texts(&rows, "label")[5]), ("test", "train", "cat"));
    let listed = embedded.list(&LocalFiles).unwrap();
    assert_eq!(listed.aside, [("arrow".into(), 1)].into());
    // A file that should be there is told.
    std::fs::remove_file(dir.path().join("test/data-00000-of-00001.arrow")).unwrap();
    let listed = embedded.list(&LocalFiles).unwrap();
    assert_eq!(&*listed.left_out[0].path, "test/data-00000-of-00001.arrow");
    let indexed = r#"{"_data_files": [{"filename": "a.arrow"}], "_indices_data_files": [{"filename": "indices.arrow"}]}"#;
    write("test/state.json", indexed);
    let error = Embedded::open(&LocalFiles, dir.path(), Kind::Arrow, None).unwrap_err().to_string();
    assert!(error.contains("test/state.json: says that rows are chosen by an index"), "{error}");
}

/// Class names that the files themselves do not have are in `dataset_info.json`, which the table then depends on.
#[test]
fn classes_are_named_beside_the_files() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("data-00000-of-00001.arrow");
    let bare = table(0..6, 0);
    let schema = Arc::new(bare.schema().as_ref().clone().with_metadata([].into()));
    save(&path, &[RecordBatch::try_new(schema, bare.columns().to_vec()).unwrap()], None);
    let label = |path: &Path| texts(&read(&open(path)).unwrap().0, "label");
    assert_eq!(label(dir.path())[..3], ["0", "1", "0"]);
    let features =
        r#"{"features": {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}"#;
    std::fs::write(dir.path().join("dataset_info.json"), features).unwrap();
    for path in [dir.path(), &path] {
        assert_eq!(label(path)[..3], ["cat", "dog", "cat"]);
        let embedded = open(path);
        let roles: Vec<(String, Role)> = embedded
            .list(&LocalFiles)
            .unwrap()
            .files
            .iter()
            .map(|file| (file.path.to_string(), embedded.role(&file.path)))
            .collect();
        assert_eq!(roles[1], ("dataset_info.json".to_owned(), Role::Beside));
        assert_eq!((roles.len(), roles[0].1), (2, Role::Shard));
    }
}

/// A stream that is cut keeps its whole batches, and says that it is cut.
#[test]
fn a_cut_stream_keeps_what_stands_before() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.arrow");
    save(&path, &[table(0..20, 0), table(20..40, 0), table(40..60, 0)], None);
    let whole = std::fs::read(&path).unwrap();
    let mut kept = std::collections::BTreeSet::new();
    for end in (0..whole.len()).step_by(499) {
        std::fs::write(&path, &whole[..end]).unwrap();
        let Ok(embedded) = Embedded::open(&LocalFiles, &path, Kind::Arrow, None) else { continue };
        let (rows, left_out) = read(&embedded).unwrap();
        assert_eq!((left_out.len(), &*left_out[0].path), (1, "a.arrow"), "{end} bytes");
        assert!(left_out[0].reason.starts_with("is over within a "), "{}", left_out[0].reason);
        kept.insert(rows.num_rows());
        if rows.num_rows() > 0 {
            check_bytes(&embedded, &rows);
        }
    }
    assert_eq!(kept.into_iter().collect::<Vec<_>>(), [0, 20, 40]);
}

/// Whatever bytes are flipped: an error that names the file, or images that are what they were listed as.
#[test]
fn damaged_arrow_files_are_told_and_nothing_panics() {
    let dir = TempDir::new().unwrap();
    let mut refused = 0;
    for (codec, ending) in
        [(None, "arrow"), (Some(CompressionType::ZSTD), "arrow"), (Some(CompressionType::LZ4_FRAME), "feather")]
    {
        let path = dir.path().join(format!("a.{ending}"));
        save(&path, &[table(0..5, 0), table(5..9, 4)], codec);
        let whole = std::fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(23).chain((0..whole.len().min(900)).step_by(3)) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            std::fs::write(&path, &bytes).unwrap();
            let outcome = Embedded::open(&LocalFiles, &path, Kind::Arrow, None).and_then(|embedded| {
                let (rows, _) = read(&embedded)?;
                let sources: Vec<Source<'_>> = images::sources(&rows).unwrap().collect();
                let found = embedded.access().read_each(&LocalFiles, dir.path(), dir.path(), &sources);
                for (bytes, digest) in found.into_iter().zip(texts(&rows, "digest")) {
                    assert_eq!(FileDigest::of(&blake3::hash(&bytes?)).to_string(), digest);
                }
                Ok(())
            });
            if let Err(error) = outcome {
                assert!(error.to_string().contains(&format!("a.{ending}")), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 100, "{refused}");
}

/// Tables that are no images, those that `export` writes among them.
#[test]
fn other_tables_are_not_mistaken_for_images() {
    let dir = TempDir::new().unwrap();
    let listed = images::batch([Image {
        image_id: "a.jpg",
        source: Source { path: "a.jpg", offset: None, length: None, row: None },
        label: None,
        digest: "0".into(),
        about: About { width: None, height: None, format: None, bytes: Some(7), modified_us: None },
    }])
    .unwrap();
    save(&dir.path().join("images.feather"), &[listed], None);
    assert_eq!(Format::recognise(&LocalFiles, dir.path()).unwrap(), Format::Folder);
    let refused = Embedded::open(&LocalFiles, dir.path(), Kind::Arrow, None).unwrap_err().to_string();
    assert!(refused.contains("images.feather: has no column of images"), "{refused}");
    save(&dir.path().join("images.feather"), &[table(0..2, 0)], None);
    assert_eq!(Format::recognise(&LocalFiles, dir.path()).unwrap(), Format::Arrow);
    let empty = TempDir::new().unwrap();
    let error = Embedded::open(&LocalFiles, empty.path(), Kind::Arrow, None).unwrap_err().to_string();
    assert!(error.ends_with("no Arrow file among 0 files; their names end in arrow or feather"), "{error}");
}
