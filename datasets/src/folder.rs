//! A folder of images: one class a sub-folder, or flat.

use std::path::Path;

use arrow::array::RecordBatch;
use tessera_schemas::images::{self, Image, Source};

use crate::{Entry, Error, Fingerprint};

/// Endings of the files that count as images; what is in them decides how they are decoded.
pub const EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];
/// Rows of a batch.
pub(crate) const BATCH_ROWS: usize = 8192;

/// The images of a folder's files.
///
/// # Errors
/// There is none; the message says what was there instead.
pub fn images(root: &Path, entries: Vec<Entry>) -> Result<Vec<Entry>, Error> {
    let others = entries.len();
    let images: Vec<Entry> = entries.into_iter().filter(|entry| is_image(&entry.path)).collect();
    if images.is_empty() {
        let message = format!("no image among {others} files; images end in {}", EXTENSIONS.join(", "));
        return Err(Error::format(root, message));
    }
    Ok(images)
}

pub(crate) fn is_image(path: &str) -> bool {
    let extension = Path::new(path).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension))
}

/// The images table, by `image_id`; an image's label is the first folder of its path.
///
/// # Errors
/// Arrow refuses the columns (never).
pub fn batches(prints: &[Fingerprint]) -> impl Iterator<Item = Result<RecordBatch, tessera_schemas::SchemaError>> + '_ {
    prints.chunks(BATCH_ROWS).map(|chunk| {
        images::batch(chunk.iter().map(|print| image(print, print.entry.path.split_once('/').map(|(first, _)| first))))
    })
}

/// The image that a file is.
pub(crate) fn image<'a>(print: &'a Fingerprint, label: Option<&'a str>) -> Image<'a> {
    let path = &print.entry.path;
    let source = Source { path, offset: None, length: Some(print.entry.size), row: None };
    Image { image_id: path, source, label, digest: &print.digest }
}

#[cfg(test)]
mod tests {
    use tessera_schemas::text;

    use super::*;

    fn entry(path: &str) -> Entry {
        Entry { path: path.into(), size: 5, modified_ns: 1 }
    }

    #[test]
    fn labels_are_first_folders() {
        let entries = ["cat/1.JPG", "cat/deep/2.png", "flat.webp", "notes.txt"].map(entry).to_vec();
        let found = images(Path::new("x"), entries).unwrap();
        assert_eq!(found.len(), 3);
        let prints: Vec<Fingerprint> =
            found.into_iter().map(|entry| Fingerprint { digest: format!("of {}", entry.path), entry }).collect();
        let batch = batches(&prints).next().unwrap().unwrap();
        let labels: Vec<Option<&str>> = text(&batch, "label").unwrap().iter().collect();
        assert_eq!(labels, [Some("cat"), Some("cat"), None]);
        let digests: Vec<_> = text(&batch, "digest").unwrap().iter().flatten().collect();
        assert_eq!(digests, ["of cat/1.JPG", "of cat/deep/2.png", "of flat.webp"]);
        let sources: Vec<Source<'_>> = tessera_schemas::images::sources(&batch).unwrap().collect();
        assert_eq!(sources[1], Source { path: "cat/deep/2.png", offset: None, length: Some(5), row: None });
    }

    #[test]
    fn no_image_is_an_error_that_says_what_is_there() {
        let error = images(Path::new("photos"), vec![entry("a.txt"), entry("b.pdf")]).unwrap_err().to_string();
        assert_eq!(error, "photos: no image among 2 files; images end in jpg, jpeg, png, webp, gif, bmp, tif, tiff");
    }
}
