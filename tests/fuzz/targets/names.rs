//! The file of names that people gave clusters.

#![no_main]

use std::path::Path;

use tessera_datasets::names::{HEADER, Names};

tessera_fuzz::fuzz!(|data| {
    let Some((how, data)) = data.split_first() else { return };
    let header = format!("{HEADER}\n");
    let text = if how & 1 == 0 { data.to_vec() } else { [header.as_bytes(), data].concat() };
    let path = Path::new("names.csv");
    match Names::parse(path, &text) {
        Ok(names) => {
            let written = names.text();
            assert_eq!(Names::parse(path, written.as_bytes()).ok().as_ref(), Some(&names), "{written}");
            assert_eq!(written.lines().count(), names.all().len() + 1, "{written}");
        }
        Err(error) => {
            let said = error.to_string();
            assert!(!said.contains(|c: char| c.is_control()), "{said:?}");
        }
    }
});
