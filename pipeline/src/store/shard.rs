//! What was found in a file that holds many images, as a file: Arrow's, with a checksum behind it that is looked at first.

use std::io::Cursor;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use tessera_datasets::LeftOut;
use tessera_datasets::layout::Found;

/// Key of the metadata for what is no row.
const LEFT_OUT: &str = "tessera.left_out";

/// The bytes that are kept.
pub(super) fn encode(found: &Found) -> Result<Vec<u8>> {
    let Found { rows, left_out } = found;
    let left_out: Vec<(&str, bool, &str)> =
        left_out.iter().map(|LeftOut { path, is_folder, reason }| (&**path, *is_folder, &**reason)).collect();
    let mut metadata = rows.schema().metadata().clone();
    metadata.insert(LEFT_OUT.to_owned(), serde_json::to_string(&left_out)?);
    let schema = Arc::new(Schema::new_with_metadata(rows.schema().fields().clone(), metadata));
    let mut writer = FileWriter::try_new(Vec::new(), &schema)?;
    writer.write(&RecordBatch::try_new(schema, rows.columns().to_vec())?)?;
    let mut bytes = writer.into_inner()?;
    let checksum = blake3::hash(&bytes);
    bytes.extend_from_slice(checksum.as_bytes());
    Ok(bytes)
}

/// What was kept, if the bytes are still those.
pub(super) fn decode(bytes: &[u8]) -> Option<Found> {
    let (whole, checksum) = bytes.split_last_chunk::<{ blake3::OUT_LEN }>()?;
    if blake3::hash(whole) != *checksum {
        return None;
    }
    let mut reader = FileReader::try_new(Cursor::new(whole), None).ok()?;
    let mut metadata = reader.schema().metadata().clone();
    let left_out: Vec<(String, bool, String)> = serde_json::from_str(&metadata.remove(LEFT_OUT)?).ok()?;
    let schema = Arc::new(Schema::new_with_metadata(reader.schema().fields().clone(), metadata));
    let rows = reader.next()?.ok()?;
    let rows = RecordBatch::try_new(schema, rows.columns().to_vec()).ok()?;
    let left_out = left_out.into_iter().map(|(path, is_folder, reason)| LeftOut { path, is_folder, reason });
    Some(Found { rows, left_out: left_out.collect() })
}

#[cfg(test)]
mod tests {
    use tessera_schemas::images;

    use super::*;

    #[test]
    fn what_was_found_comes_back_and_flipped_bits_are_seen() {
        let source = images::Source { path: "a.tar", offset: Some(512), length: Some(3), row: None };
        let image = images::Image {
            image_id: "1.jpg",
            source,
            label: Some("cat"),
            digest: "00".into(),
            about: images::About::default(),
        };
        let left_out = vec![LeftOut { path: "a.tar/2.jpg".into(), is_folder: false, reason: "it is cut".into() }];
        let found = Found { rows: images::batch([image]).unwrap(), left_out };
        let bytes = encode(&found).unwrap();
        let back = decode(&bytes).unwrap();
        assert_eq!((back.rows, back.left_out), (found.rows, found.left_out));
        for at in (0..bytes.len()).step_by(7) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            assert!(decode(&flipped).is_none() && decode(&bytes[..at]).is_none(), "byte {at}");
        }
    }
}
