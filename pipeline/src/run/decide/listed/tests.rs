use std::path::Path;

use tessera_datasets::layout::{Found, Role};
use tessera_datasets::{Files, Listed};
use tessera_operators::operator::RunError;

use super::*;

#[test]
fn a_sample_is_of_all_folders_and_grows() {
    let paths: Vec<String> = (0..300).map(|at| format!("{}/{at}.jpg", ["cat", "dog", "owl"][at % 3])).collect();
    let sample = |count| sample(paths.iter().map(String::as_str), count);
    let (few, more) = (sample(30), sample(60));
    assert_eq!((few.len(), more.len(), sample(0).len(), sample(999).len()), (30, 60, 0, 300));
    assert!(few.is_subset(&more));
    let mut hashes: Vec<_> = (0..300).map(|at| (*blake3::hash(paths[at].as_bytes()).as_bytes(), at)).collect();
    hashes.sort_unstable();
    assert!(hashes[..30].iter().all(|(_, at)| few.contains(at)), "those with the smallest hashes");
    for folder in ["cat/", "dog/", "owl/"] {
        assert!(few.iter().filter(|&&at| paths[at].starts_with(folder)).count() >= 4, "{folder}: {few:?}");
    }
}

/// Files of which those in the folder `images` make rows, if any does.
struct Some {
    images: bool,
}

impl Source for Some {
    fn root(&self) -> &Path {
        Path::new("")
    }

    fn lists_images(&self) -> bool {
        self.images
    }

    fn role(&self, path: &str) -> Role {
        if self.images && path.starts_with("images/") { Role::Image } else { Role::Beside }
    }

    fn list(&self, _: &dyn Files) -> Result<Listed, RunError> {
        Ok(Listed::default())
    }

    fn read(
        &self,
        _: &dyn Files,
        _: &[Fingerprint],
        _: &mut dyn FnMut(Found) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        Ok(())
    }
}

fn entry(path: &str) -> Entry {
    Entry { path: path.into(), size: 3, modified_ns: -5, ..Entry::default() }
}

/// Keys of published snapshots depend on it: another value here would have all data sets read anew.
#[test]
fn a_key_of_files_stays_what_it_is() {
    let print =
        |path: &str, digest: &str| Fingerprint { entry: entry(path), digest: digest.into(), ..Fingerprint::default() };
    let hex = "0123456789abcdef0123456789abcdef";
    let prints =
        [print("about.txt", hex), print("images/a.jpg", hex), print("images/b.jpg", "unreadable: permission denied")];
    let left_out = [left_out("images", LeftOut { path: "c".into(), is_folder: true, reason: "closed".into() })];
    let key = |images| listing_key(&Some { images }, &prints, &left_out);
    let framed = |texts: &[&str]| {
        let bytes: Vec<u8> =
            texts.iter().flat_map(|text| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()).collect();
        crate::store::key::short(&blake3::hash(&bytes))
    };
    let rest = ["left out", "c", "closed"];
    let rows = [
        &["about.txt", hex, "images/a.jpg", hex, "3", "-5", "images/b.jpg"][..],
        &["unreadable: permission denied", "3", "-5"],
    ];
    assert_eq!(key(true), framed(&[rows[0], rows[1], &rest].concat()));
    let rows = ["about.txt", hex, "images/a.jpg", hex, "images/b.jpg", "unreadable: permission denied"];
    assert_eq!(key(false), framed(&[&rows[..], &rest].concat()));
    assert_eq!([key(true), key(false)], ["9f207405d5d6de25fb3bf4f54377a5dd", "5b85e261e4ae736536ceeceb2c84dada"]);
}

#[test]
fn a_limit_chooses_among_files_that_make_rows() {
    let paths = ["about.txt", "images/a.jpg", "images/b.jpg", "images/c.jpg", "more.txt"];
    let (chosen, there) = limited(paths.map(entry).to_vec(), 1, &Some { images: true });
    assert_eq!(there.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), paths[1..4]);
    assert_eq!((chosen.len(), &*chosen[0].path, &*chosen[2].path), (3, paths[0], paths[4]));
}
