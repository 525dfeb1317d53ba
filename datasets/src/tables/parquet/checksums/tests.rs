use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::{ParquetMetaDataBuilder, ParquetMetaDataReader, ParquetMetaDataWriter};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};

use super::*;
use crate::local::LocalFiles;
use crate::tables::{self, Reading};
use crate::{Error, Files as _, Fingerprint};

/// Compact's type of numbers of 32 bits.
const I32: u8 = 5;

/// A file of two columns in two row groups.
fn written(version: WriterVersion, compression: Compression) -> Vec<u8> {
    let words: ArrayRef =
        Arc::new(StringArray::from_iter((0..900).map(|at| (at % 7 > 0).then(|| format!("word {}", at % 31)))));
    let numbers: ArrayRef = Arc::new(UInt64Array::from_iter_values((0..900).map(|at| at * at * 7919)));
    let batch = RecordBatch::try_from_iter([("words", words), ("numbers", numbers)]).unwrap();
    let properties = WriterProperties::builder()
        .set_writer_version(version)
        .set_compression(compression)
        .set_max_row_group_row_count(Some(500))
        .set_data_page_row_count_limit(100)
        .set_write_batch_size(50)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_offset_index_disabled(true)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

/// The same file with a checksum in each page's header; `wrong` says of the page of each number whether its is another.
fn with_checksums(file: &[u8], wrong: impl Fn(usize) -> bool) -> (Vec<u8>, usize) {
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&Bytes::copy_from_slice(file)).unwrap();
    let (mut out, mut pages) = (file[..4].to_vec(), 0);
    let mut groups = Vec::new();
    for group in metadata.row_groups() {
        let mut columns = Vec::new();
        for column in group.columns() {
            let (offset, length) = column.byte_range();
            let (first, start) = (out.len() as i64, offset as usize);
            let mut chunk = &file[start..start + length as usize];
            let mut data = None;
            while let Some(Page { header, size, .. }) = page(chunk) {
                let place = out.len() as i64;
                let dictionary = insert(&mut out, &chunk[..header], &chunk[header..header + size], wrong(pages));
                data = data.or((!dictionary).then_some(place));
                chunk = &chunk[header + size..];
                pages += 1;
            }
            assert!(chunk.is_empty());
            let builder = column.clone().into_builder().set_total_compressed_size(out.len() as i64 - first);
            let builder = builder.set_data_page_offset(data.unwrap());
            let builder = builder.set_dictionary_page_offset(column.dictionary_page_offset().map(|_| first));
            columns.push(builder.build().unwrap());
        }
        groups.push(group.clone().into_builder().set_column_metadata(columns).build().unwrap());
    }
    let metadata = ParquetMetaDataBuilder::new(metadata.file_metadata().clone()).set_row_groups(groups).build();
    let mut footer = Vec::new();
    ParquetMetaDataWriter::new(&mut footer, &metadata).finish().unwrap();
    out.extend(footer);
    (out, pages)
}

/// Appends a page, its checksum behind its third field, and says whether it is a dictionary.
fn insert(out: &mut Vec<u8>, header: &[u8], bytes: &[u8], wrong: bool) -> bool {
    let mut compact = Compact { bytes: header, at: 0 };
    let (mut field, mut dictionary) = (0, false);
    while field < 3 {
        let kind = compact.field(&mut field).unwrap().unwrap();
        match field {
            1 => dictionary = compact.number().unwrap() == 2,
            _ => compact.skip(kind, 1).unwrap(),
        }
    }
    out.extend(&header[..compact.at]);
    let checksum = (crc32fast::hash(bytes) ^ u32::from(wrong)) as i32;
    out.push(0x10 | I32);
    let mut value = ((checksum << 1) ^ (checksum >> 31)) as u32;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    // The next field is one nearer to the last.
    out.push(header[compact.at] - 0x10);
    out.extend(&header[compact.at + 1..]);
    out.extend(bytes);
    dictionary
}

#[test]
fn headers_of_all_kinds_of_pages_are_read() {
    let compressions = [Compression::UNCOMPRESSED, Compression::ZSTD(ZstdLevel::default()), Compression::LZ4_RAW];
    for (version, compression) in
        [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0].into_iter().flat_map(|v| compressions.map(|c| (v, c)))
    {
        let file = written(version, compression);
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&Bytes::from(file.clone())).unwrap();
        for column in metadata.row_groups().iter().flat_map(|group| group.columns()) {
            let (start, length) = column.byte_range();
            let chunk = &file[start as usize..][..length as usize];
            let (mut at, mut count) = (0, 0);
            while let Some(Page { header, size, checksum, .. }) = page(&chunk[at..]) {
                assert_eq!(checksum, None);
                at += header + size;
                count += 1;
            }
            assert!(at == chunk.len() && count >= 4, "{count} pages end at {at} of {}", chunk.len());
            assert_eq!(check(chunk), Ok(()));
        }
    }
}

#[test]
fn headers_that_are_none_end_the_walk() {
    let endless = [&[0x19, 0xf5][..], &[0xff; 9], &[0x01]].concat();
    let deep = [0x1c; 4000];
    for bytes in [&[][..], &[0x15], &[0x15, 0x80], &[0x1b, 1, 0x55], &[0], &endless, &deep] {
        assert_eq!((page(bytes), check(bytes)), (None, Ok(())), "{bytes:?}");
    }
}

/// Reads a file as a stage does: its rows, or what is wrong.
fn rows(file: &[u8]) -> Result<usize, String> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.parquet"), file).unwrap();
    let read = || -> Result<usize, Error> {
        let entries = tables::tables(dir.path(), LocalFiles.list(dir.path())?)?;
        let schema = tables::schema(&LocalFiles, dir.path(), &entries, &Reading::default())?;
        let prints: Vec<_> = entries.into_iter().map(|entry| Fingerprint { entry, ..Fingerprint::default() }).collect();
        let mut rows = 0;
        tables::read(&LocalFiles, dir.path(), &prints, &schema, &Reading::default(), &mut |batch| {
            rows += batch.num_rows();
            Ok::<_, Error>(())
        })?;
        Ok(rows)
    };
    read().map_err(|error| error.to_string())
}

#[test]
fn a_page_that_does_not_fit_its_checksum_is_named() {
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        let file = written(version, Compression::UNCOMPRESSED);
        let (sound, pages) = with_checksums(&file, |_| false);
        assert_eq!((rows(&file), rows(&sound)), (Ok(900), Ok(900)));
        for page in 0..pages {
            let said = rows(&with_checksums(&file, |at| at == page).0).unwrap_err();
            assert!(said.contains("a.parquet: is damaged: column ") && said.contains("does not fit its checksum"), "{said}");
        }
        // A digit of a number that no decoder would miss.
        let place = sound.windows(7).position(|bytes| bytes == b"word 12").unwrap();
        let mut damaged = sound.clone();
        damaged[place + 6] ^= 1;
        assert!(rows(&damaged).unwrap_err().contains("column \"words\""), "{:?}", rows(&damaged));
        let place = file.windows(7).position(|bytes| bytes == b"word 12").unwrap();
        let mut unseen = file.clone();
        unseen[place + 6] ^= 1;
        assert_eq!(rows(&unseen), Ok(900), "without checksums nothing tells");
    }
}

/// A file whose first page claims to be of so many bytes, and whose row group claims so many rows.
fn claiming(bytes: i64, rows: i64) -> Vec<u8> {
    let word: ArrayRef = Arc::new(StringArray::from_iter_values(["word"; 3]));
    let batch = RecordBatch::try_from_iter([("word", word)]).unwrap();
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).set_dictionary_enabled(false).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    let file = writer.into_inner().unwrap();
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&Bytes::copy_from_slice(&file)).unwrap();
    let group = metadata.row_group(0);
    let (start, length) = group.column(0).byte_range();
    let (start, end) = (start as usize, (start + length) as usize);
    let mut compact = Compact { bytes: &file[start..end], at: 0 };
    let mut field = 0;
    assert_eq!((compact.field(&mut field), compact.number()), (Some(Some(I32)), Some(0)));
    assert_eq!(compact.field(&mut field), Some(Some(I32)));
    let before = start + compact.at;
    compact.number().unwrap();
    let (mut out, behind) = (file[..before].to_vec(), &file[start + compact.at..end]);
    let mut number = (bytes << 1) as u64;
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
    out.extend(behind);
    let column = group.column(0).clone().into_builder().set_total_compressed_size((out.len() - start) as i64);
    let group = group.clone().into_builder().set_num_rows(rows).set_column_metadata(vec![column.build().unwrap()]);
    let builder = ParquetMetaDataBuilder::new(metadata.file_metadata().clone());
    let metadata = builder.set_row_groups(vec![group.build().unwrap()]).build();
    ParquetMetaDataWriter::new(&mut out, &metadata).finish().unwrap();
    out
}

#[test]
fn claims_of_pages_and_row_groups_are_not_believed() {
    let claims = |bytes, rows| crate::tables::tests::refusal(&[("a.parquet", claiming(bytes, rows))]);
    let error = claims(i64::from(i32::MAX), 3);
    let (before, size) = error.split_once("which its ").unwrap();
    assert_eq!(
        before,
        "a.parquet: is damaged: column \"word\", row group 0: the page at byte 4 claims to be of 2147483647 bytes, "
    );
    assert!(size.ends_with(" packed ones cannot be"), "{size}");
    assert_eq!(claims(24, -3), "a.parquet: its footer promises -3 rows, and its row groups -3");
    assert_eq!(claims(24, 4), "a.parquet: row group 0 has 3 rows, and claims 4");
    assert_eq!(crate::tables::tests::table(&[("a.parquet", claiming(24, 3))]).unwrap().num_rows(), 3);
    // Nor are they where some of the rows are asked for.
    let some = |bytes, rows| {
        let reading = crate::tables::Reading { rows: Some("1:4".parse().unwrap()), ..Default::default() };
        crate::tables::tests::table_as(&[("a.parquet", claiming(bytes, rows))], &reading)
    };
    assert_eq!(some(24, 3).unwrap().num_rows(), 2);
    assert!(some(i64::from(i32::MAX), 3).unwrap_err().to_string().contains("packed ones cannot be"));
    assert!(some(24, -3).unwrap_err().to_string().contains("its footer promises -3 rows"));
    let error = some(24, 4).unwrap_err().to_string();
    assert!(error.contains("insufficient rows read from array reader - expected 3, got 2"), "{error}");
}

/// A dictionary's values are made room for before they are read.
#[test]
fn a_dictionary_has_no_more_values_than_bytes() {
    // A dictionary page of 8 bytes, packed 8 as well, whose header claims so many values.
    let page = |values: u8| {
        let header = [0x15, 4, 0x15, 16, 0x15, 16, 0x4c, 0x15, values, 0x15, 0, 0, 0];
        [&header[..], &[0; 8]].concat()
    };
    assert_eq!(check(&page(2)), Ok(()));
    assert_eq!(check(&page(16)), Ok(()));
    let wrong = |values: &str| Err((0, format!("claims to hold {values} values, which its 8 bytes cannot be")));
    assert_eq!(check(&page(18)), wrong("9"));
    assert_eq!(check(&page(1)), wrong("-1"));
}

/// The reader of pages goes by the numbers of fields: their types, and what else stands in a byte that ends a struct, say nothing to it.
#[test]
fn headers_are_read_as_the_reader_of_pages_reads_them() {
    // Of 2^30 bytes, which are packed as 8.
    let unpacked = [0x80, 0x80, 0x80, 0x80, 8];
    let header = |kind: u8, end: u8| [&[0x15, 0, 0x10 | kind][..], &unpacked, &[0x15, 16, end], &[0; 8]].concat();
    let more = |field: &[u8]| [&[0x15, 0, 0x15][..], &unpacked, &[0x15, 16], field, &[0], &[0; 8]].concat();
    let claims = Err((0, "claims to be of 1073741824 bytes, which its 8 packed ones cannot be".to_owned()));
    for (kind, end) in [(5, 0), (6, 0), (3, 0), (12, 0), (5, 0x30)] {
        assert_eq!(check(&header(kind, end)), claims, "type {kind}, end {end}");
    }
    // A map, an identifier, a list of truth values, a number of too many bytes, and a data page's header with numbers of other types.
    let fields: [&[u8]; 5] = [
        &[0x9b, 1, 0x55, 2, 4],
        &[&[0x9d][..], &[7; 16]].concat(),
        &[0x99, 0x31],
        &[&[0x95][..], &[0x80; 12], &[0]].concat(),
        &[0x2c, 0x16, 0, 0x13, 0, 0],
    ];
    for field in fields {
        assert_eq!(check(&more(field)), claims, "{field:?}");
    }
}
