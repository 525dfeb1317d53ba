//! A folder of images: one class a sub-folder, or flat.

use arrow::array::RecordBatch;
use tessera_schemas::images::{self, About, Image, Source};

use crate::{Fingerprint, Listed, Version};

/// Endings of the files that count as images; what is in them decides how they are decoded.
pub const EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];
/// Rows of a batch.
pub(crate) const BATCH_ROWS: usize = 8192;

/// The images among what a folder holds. What was left out stays, if images may be among it.
pub fn images(mut listed: Listed) -> Listed {
    listed.files.retain(|entry| is_image(&entry.path));
    listed.left_out.retain(|one| one.is_folder || is_image(&one.path));
    listed
}

/// What to say of a folder of so many files that holds no image.
pub fn no_image(files: usize) -> String {
    format!("no image among {files} files; images end in {}", EXTENSIONS.join(", "))
}

pub(crate) fn is_image(path: &str) -> bool {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    // What begins with its only dot is a hidden file without an ending.
    let extension = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map_or("", |(_, extension)| extension);
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
    Image { image_id: path, source, label, digest: print.digest.to_string().into(), about: about(print) }
}

/// What a file says of itself.
fn about(print: &Fingerprint) -> About<'_> {
    let Fingerprint { entry, digest, header } = print;
    // A link that leads nowhere has neither length nor time.
    let nothing = digest.is_unreadable() && entry.version() == Version::default();
    let there = |value: i64| (!nothing).then_some(value);
    About {
        width: header.width.map(i64::from),
        height: header.height.map(i64::from),
        format: header.format,
        bytes: i64::try_from(entry.size).ok().and_then(there),
        modified_us: there(entry.modified_ns.div_euclid(1000)),
    }
}

#[cfg(test)]
mod tests {
    use tessera_schemas::text;

    use super::*;
    use crate::{Entry, FileDigest, UNREADABLE};

    fn entry(path: &str) -> Entry {
        Entry { path: path.into(), size: 5, modified_ns: 1, ..Entry::default() }
    }

    #[test]
    fn labels_are_first_folders() {
        let entries = ["cat/1.JPG", "cat/deep/2.png", "flat.webp", "notes.txt"].map(entry).to_vec();
        let found = images(Listed { files: entries, left_out: Vec::new() }).files;
        assert_eq!(found.len(), 3);
        let print =
            |entry: Entry| Fingerprint { digest: format!("of {}", entry.path).into(), entry, ..Fingerprint::default() };
        let prints: Vec<Fingerprint> = found.into_iter().map(print).collect();
        let batch = batches(&prints).next().unwrap().unwrap();
        let labels: Vec<Option<&str>> = text(&batch, "label").unwrap().iter().collect();
        assert_eq!(labels, [Some("cat"), Some("cat"), None]);
        let digests: Vec<_> = text(&batch, "digest").unwrap().iter().flatten().collect();
        assert_eq!(digests, ["of cat/1.JPG", "of cat/deep/2.png", "of flat.webp"]);
        let sources: Vec<Source<'_>> = tessera_schemas::images::sources(&batch).unwrap().collect();
        assert_eq!(sources[1], Source { path: "cat/deep/2.png", offset: None, length: Some(5), row: None });
    }

    #[test]
    fn what_was_left_out_stays_if_it_may_hold_images() {
        let one = |path: &str, is_folder| crate::LeftOut { path: path.into(), is_folder, reason: String::new() };
        let left_out = vec![one("a\\xe9.JPG", false), one("b\\xe9.txt", false), one("c\\xe9", true)];
        let listed = images(Listed { files: Vec::new(), left_out: left_out.clone() });
        assert_eq!(listed.left_out, [left_out[0].clone(), left_out[2].clone()]);
        assert_eq!(no_image(2), "no image among 2 files; images end in jpg, jpeg, png, webp, gif, bmp, tif, tiff");
    }

    #[test]
    fn files_tell_what_they_are_and_links_to_nothing_tell_nothing() {
        let header = crate::header::Header { format: Some("png"), width: Some(3), height: None };
        let there = Fingerprint { entry: Entry { modified_ns: -1, ..entry("a.jpg") }, digest: "d".into(), header };
        let about = About { width: Some(3), height: None, format: Some("png"), bytes: Some(5), modified_us: Some(-1) };
        assert_eq!(image(&there, None).about, about);
        let digest = FileDigest::from(format!("{UNREADABLE}not found"));
        let closed = Fingerprint { entry: entry("b.jpg"), digest: digest.clone(), ..Fingerprint::default() };
        assert_eq!(image(&closed, None).about, About { bytes: Some(5), modified_us: Some(0), ..About::default() });
        let path = Entry { path: "c.jpg".into(), ..Entry::default() };
        let nowhere = Fingerprint { entry: path.clone(), digest, ..Fingerprint::default() };
        assert_eq!(image(&nowhere, None).about, About::default());
        let empty = Fingerprint { entry: path, digest: "d".into(), ..Fingerprint::default() };
        assert_eq!(image(&empty, None).about.bytes, Some(0));
    }
}
