//! Ids of images as they are compared.
//!
//! Tables keep ids as they were written. Two ids name the same image if their canonical forms are equal: macOS lists `é` as `e` and an
//! accent where a table of labels has one character, and `./a.jpg` is the file `a.jpg`.

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizerBorrowed;

/// The canonical form of an id: Unicode's NFC, without `./` at its start, however often it stands there.
///
/// Backslashes, letters' case, spaces, and `./` or `../` further on are kept: ids that differ in them are different ids. The canonical
/// form of a canonical form is itself. Nothing is copied if nothing changes.
pub fn canonical(id: &str) -> Cow<'_, str> {
    // Composing characters neither makes nor removes a dot or a slash at the start.
    let mut rest = id;
    while let Some(shorter) = rest.strip_prefix("./") {
        rest = shorter.trim_start_matches('/');
    }
    const { ComposingNormalizerBorrowed::new_nfc() }.normalize(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accents_are_composed_and_the_current_folder_is_dropped() {
        let cases = [
            ("a.jpg", "a.jpg"),
            ("./a.jpg", "a.jpg"),
            ("././a/b.jpg", "a/b.jpg"),
            (".//a.jpg", "a.jpg"),
            ("./", ""),
            ("cafe\u{301}/1.jpg", "caf\u{e9}/1.jpg"),
            ("./e\u{301}", "\u{e9}"),
            ("\u{1100}\u{1161}", "\u{ac00}"),
            // The Ångström sign is a letter with a ring.
            ("\u{212b}", "\u{c5}"),
            // What only looks alike stays: the ligature, full-width letters.
            ("\u{fb01}", "\u{fb01}"),
            ("\u{ff21}", "\u{ff21}"),
            (".a", ".a"),
            ("../a", "../a"),
            ("a/./b", "a/./b"),
            ("/a", "/a"),
            (".\\a", ".\\a"),
            ("A.JPG", "A.JPG"),
            (" a", " a"),
            ("", ""),
        ];
        for (id, form) in cases {
            assert_eq!(canonical(id), form, "{id:?}");
        }
        // A dot that carries an accent is no folder.
        assert_eq!(canonical(".\u{338}/a"), ".\u{338}/a");
        assert_eq!(canonical("./\u{338}a"), canonical(&canonical("./\u{338}a")));
        assert!(matches!(canonical("./a.jpg"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn canonical_forms_are_their_own(id in "[./]{0,4}\\PC{0,12}") {
            let once = canonical(&id).into_owned();
            prop_assert_eq!(canonical(&once), once.as_str());
        }
    }
}
