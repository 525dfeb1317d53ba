use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::{
    ArrayRef, DictionaryArray, Float32Array, Int32Array, ListArray, StringArray, StringViewArray, StructArray,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema as Columns};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};

use super::*;
use crate::local::LocalFiles;

/// Columns of every layout that compressed buffers have: plain, nested, text, views, a dictionary.
fn table(rows: i32) -> RecordBatch {
    let numbers = || (0..rows).map(|at| (at % 5 > 0).then_some(at % 3));
    let words = || (0..rows).map(|at| (at % 4 > 0).then(|| format!("a word that is long, number {}", at % 9)));
    let lists =
        ListArray::from_iter_primitive::<Int32Type, _, _>((0..rows).map(|at| (at % 6 > 0).then(|| vec![Some(at), None])));
    let numbered: ArrayRef = Arc::new(numbers().collect::<Int32Array>());
    let field = Arc::new(Field::new("inner", DataType::Int32, true));
    let words = words().collect::<Vec<_>>();
    let dictionary: DictionaryArray<Int32Type> = words.iter().map(Option::as_deref).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("plain", Arc::new(Float32Array::from_iter_values((0..rows).map(|at| at as f32 / 8.0))) as ArrayRef, true),
        ("numbers", numbered.clone(), true),
        ("words", Arc::new(StringArray::from(words.clone())), true),
        ("views", Arc::new(words.into_iter().collect::<StringViewArray>()), true),
        ("lists", Arc::new(lists), true),
        ("inside", Arc::new(StructArray::from(vec![(field, numbered)])), true),
        ("dictionary", Arc::new(dictionary), true),
    ])
    .unwrap()
}

fn options(compression: Option<CompressionType>) -> IpcWriteOptions {
    IpcWriteOptions::default().try_with_compression(compression).unwrap()
}

fn file(batch: &RecordBatch, compression: Option<CompressionType>) -> Vec<u8> {
    let mut writer = FileWriter::try_new_with_options(Vec::new(), batch.schema_ref(), options(compression)).unwrap();
    writer.write(batch).unwrap();
    writer.write(&batch.slice(1, 2)).unwrap();
    writer.into_inner().unwrap()
}

fn stream(batch: &RecordBatch, compression: Option<CompressionType>) -> Vec<u8> {
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), batch.schema_ref(), options(compression)).unwrap();
    writer.write(batch).unwrap();
    writer.write(&batch.slice(1, 2)).unwrap();
    writer.into_inner().unwrap()
}

/// Reads a file as a stage does, what panics included: its batches, or what is wrong.
fn read(dir: &tempfile::TempDir, bytes: &[u8]) -> Result<Vec<RecordBatch>, String> {
    let path = dir.path().join("t.arrow");
    std::fs::write(&path, bytes).unwrap();
    let raw = Raw { files: &LocalFiles, path: &path, size: bytes.len() as u64 };
    let work = AssertUnwindSafe(|| super::super::guard(raw, || batches(raw, 0..u64::MAX)?.collect::<Result<Vec<_>, _>>()));
    let read = catch_unwind(work).expect("the guard catches").map_err(|error| error.to_string());
    if let Err(error) = &read {
        assert!(error.contains("t.arrow: "), "{error}");
    }
    read
}

const COMPRESSIONS: [Option<CompressionType>; 3] = [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)];

#[test]
fn files_and_streams_of_every_compression_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let batch = table(500);
    for compression in COMPRESSIONS {
        for bytes in [file(&batch, compression), stream(&batch, compression)] {
            assert_eq!(read(&dir, &bytes), Ok(vec![batch.clone(), batch.slice(1, 2)]), "{compression:?}");
        }
        let cut = stream(&batch, compression);
        // Without the end that a stream may lack.
        assert_eq!(read(&dir, &cut[..cut.len() - 8]).map(|batches| batches.len()), Ok(2));
        assert!(read(&dir, &cut[..cut.len() - 9]).unwrap_err().contains("ends early"));
    }
    let columns = Columns::new(vec![Field::new("n", DataType::Int32, true)]);
    let none = RecordBatch::new_empty(Arc::new(columns.clone()));
    let empty = StreamWriter::try_new(Vec::new(), &columns).unwrap().into_inner().unwrap();
    assert_eq!(read(&dir, &empty), Ok(vec![]));
    let mut writer = StreamWriter::try_new(Vec::new(), &columns).unwrap();
    writer.write(&none).unwrap();
    assert_eq!(read(&dir, &writer.into_inner().unwrap()), Ok(vec![none]));
}

/// The schema's bytes can say of a map that it holds numbers.
#[test]
fn types_that_no_array_has_are_damage() {
    let dir = tempfile::tempdir().unwrap();
    for kind in
        [DataType::Map(Arc::new(Field::new("entries", DataType::Float32, false)), false), DataType::FixedSizeBinary(-1)]
    {
        let columns = Columns::new(vec![Field::new("n", kind.clone(), true)]);
        let empty = StreamWriter::try_new(Vec::new(), &columns).unwrap().into_inner().unwrap();
        let path = dir.path().join("t.arrow");
        std::fs::write(&path, &empty).unwrap();
        let raw = Raw { files: &LocalFiles, path: &path, size: empty.len() as u64 };
        let index = super::super::guard(raw, || index::Index::of(raw)).map(|index| index.rows());
        let error = index.unwrap_err().to_string();
        assert!(error.contains("t.arrow: is damaged") && read(&dir, &empty).unwrap_err() == error, "{kind}: {error}");
    }
}

/// Where the buffers of a file's blocks begin.
fn buffers(bytes: &[u8]) -> Vec<usize> {
    let end = bytes.len() - 10;
    let length = read_footer_length(bytes[end..].try_into().unwrap()).unwrap();
    let footer = root_as_footer(&bytes[end - length..end]).unwrap();
    let blocks = footer.dictionaries().into_iter().flatten().chain(footer.recordBatches().into_iter().flatten());
    let mut places = Vec::new();
    for block in blocks {
        let (start, head) = (block.offset() as usize, block.metaDataLength() as usize);
        let message = root_as_message(&bytes[start + 8..start + head]).unwrap();
        let batch = message.header_as_record_batch();
        let batch = batch.or_else(|| message.header_as_dictionary_batch()?.data()).unwrap();
        let buffers = batch.buffers().into_iter().flatten().filter(|buffer| buffer.length() > 0);
        places.extend(buffers.map(|buffer| start + head + buffer.offset() as usize));
    }
    places
}

#[test]
fn what_a_compressed_buffer_claims_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    for compression in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
        let bytes = file(&table(300), Some(compression));
        let places = buffers(&bytes);
        assert!(places.len() > 20, "{}", places.len());
        for place in places {
            let true_claim = i64::from_le_bytes(bytes[place..place + 8].try_into().unwrap());
            for claim in [i64::MAX, 1 << 62, 1 << 45, 1 << 40, 1 << 34, 1 << 30, true_claim + 1, -2, i64::MIN] {
                let mut wrong = bytes.clone();
                wrong[place..place + 8].copy_from_slice(&claim.to_le_bytes());
                let said = read(&dir, &wrong).expect_err("its length is another");
                let named = claim <= true_claim + 1 || said.contains(&format!("claims to be of {claim} bytes"));
                assert!(named, "{claim}: {said}");
            }
        }
    }
}

/// A column of zeros is a thousand times as long as its compressed bytes.
#[test]
fn true_claims_are_believed_however_large() {
    let dir = tempfile::tempdir().unwrap();
    let zeros: ArrayRef = Arc::new(Float32Array::from(vec![0.0; 6 << 20]));
    let batch = RecordBatch::try_from_iter([("zeros", zeros)]).unwrap();
    for compression in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
        let mut writer =
            FileWriter::try_new_with_options(Vec::new(), batch.schema_ref(), options(Some(compression))).unwrap();
        writer.write(&batch).unwrap();
        let bytes = writer.into_inner().unwrap();
        assert!(bytes.len() < 200_000);
        assert!(read(&dir, &bytes) == Ok(vec![batch.clone()]));
        let place = *buffers(&bytes).last().unwrap();
        let mut wrong = bytes;
        wrong[place..place + 8].copy_from_slice(&((24 << 20) + 4_i64).to_le_bytes());
        assert!(read(&dir, &wrong).unwrap_err().contains("claims to be of 25165828 bytes"));
    }
}

/// Every number of a small file, its lengths among them, in turn made enormous: an error or other rows, and no end of the process.
#[test]
fn numbers_anywhere_in_a_file_may_be_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let batch = table(20);
    let mut refused = 0;
    for compression in [None, Some(CompressionType::ZSTD)] {
        for bytes in [file(&batch, compression), stream(&batch, compression)] {
            for place in (0..bytes.len() - 8).step_by(4) {
                for number in [i64::MAX, 1 << 44, -1] {
                    let mut wrong = bytes.clone();
                    wrong[place..place + 8].copy_from_slice(&number.to_le_bytes());
                    refused += usize::from(read(&dir, &wrong).is_err());
                }
            }
        }
    }
    assert!(refused > 3000, "{refused}");
}
