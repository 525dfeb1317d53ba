//! Addresses of pages: names of others are parts of a path, and may have any character.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What stays as it is in a part of a path and in a value of a query.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'@').remove(b',');

/// A name as a part of a path, or as a value.
pub fn part(name: &str) -> String {
    utf8_percent_encode(name, PLAIN).to_string()
}

/// A page below a way, about things of these names.
pub fn below(way: &str, names: &[&str]) -> String {
    names.iter().fold(way.to_owned(), |path, name| format!("{path}/{}", part(name)))
}

/// An image's page. Browsers take `..` for the folder above, so that an id's slashes are no slashes of the path.
pub fn image(id: &str) -> String {
    below("/image", &[id])
}

/// An image of a table as a small picture.
pub fn thumb(stage: &str, id: &str, version: &str) -> String {
    format!("{}?v={version}", below("/thumb", &[stage, id]))
}

/// An address with a query.
pub fn with(path: &str, values: &[(&str, &str)]) -> String {
    let values: Vec<String> = values.iter().map(|(key, value)| format!("{key}={}", part(value))).collect();
    if values.is_empty() { path.to_owned() } else { format!("{path}?{}", values.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_part_of_a_path() {
        assert_eq!(image("a/../b c?.jpg"), "/image/a%2F..%2Fb%20c%3F.jpg");
        assert_eq!(below("/clusters", &["assigned@k=2,seed=1", "7"]), "/clusters/assigned@k%3D2,seed%3D1/7");
        assert_eq!(with("/sql", &[("q", "SELECT '&' + 1")]), "/sql?q=SELECT%20%27%26%27%20%2B%201");
    }
}
