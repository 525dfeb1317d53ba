//! `[pipeline]`: what holds for all stages.

use std::ops::Range;
use std::path::Path;

use tessera_datasets::local::joined;
use tessera_datasets::{URL_EXAMPLES, URL_SCHEMES, as_url};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{PipelineFile, Reader, entries};
use crate::declare::faults::Fault;

/// The file in a store that says who writes to it.
const LOCK: &str = "lock";
/// The most that `part_rows` may say.
const MOST_PART_ROWS: u64 = 1_000_000_000;
/// The keys.
const PIPELINE_KEYS: [&str; 4] = ["name", "store", "seed", "part_rows"];

impl Reader {
    pub(super) fn pipeline(&mut self, file: &mut PipelineFile, table: &DeTable<'_>) {
        for (key, value) in entries(table) {
            match value.get_ref() {
                // `store.path = "…"` is a table `store` to TOML.
                DeValue::Table(keys) => self.dotted(key.get_ref(), key.span(), keys),
                _ => self.pipeline_key(file, key.get_ref(), key.span(), value),
            }
        }
    }

    /// Complains of keys of `[pipeline]` that are written with points, or as a table of their own.
    fn dotted(&mut self, key: &str, span: Range<usize>, keys: &DeTable<'_>) {
        let inner = entries(keys).first().map(|(inner, _)| format!(".{}", inner.get_ref())).unwrap_or_default();
        let fault = Fault::new(span, format!("[pipeline] has no key `{key}{inner}`"));
        self.faults.push(match key {
            "pipeline" => fault.help("keys in [pipeline] are written without its name, such as seed = 17"),
            "stage" | "sweep" => fault.help(format!("[{key}] is a table of its own: write [{key}{inner}] above its keys")),
            key if PIPELINE_KEYS.contains(&key) => fault.help(format!("`{key}` has one value, and no keys of its own")),
            key => fault.known(key, PIPELINE_KEYS),
        });
    }

    pub(super) fn pipeline_key(
        &mut self,
        file: &mut PipelineFile,
        key: &str,
        key_span: Range<usize>,
        value: &Spanned<DeValue<'_>>,
    ) {
        match key {
            "name" => {
                if let Some(name) = self.text(key, value) {
                    if name.text.is_empty() || name.text.contains(['/', '\\', '@']) || name.text.starts_with('.') {
                        let message = "a pipeline's name names a folder of its store: no slashes, no leading dot, no `@`";
                        self.fault(name.span, message);
                    } else if name.text.eq_ignore_ascii_case(LOCK) {
                        self.fault(
                            name.span,
                            format!("`{}` cannot name a pipeline: the store's lock has this name", name.text),
                        );
                    } else {
                        file.name = name.text;
                    }
                }
            }
            "store" => {
                if let Some(store) = self.text(key, value) {
                    let known = |url: &str| URL_SCHEMES.contains(&url.split("://").next().unwrap_or_default());
                    match as_url(Path::new(&store.text)) {
                        Some(url) if !known(url) => {
                            let fault =
                                Fault::new(store.span, format!("the store `{url}` is of no object store that is known"));
                            self.faults.push(fault.help(format!("a store is a folder, or {URL_EXAMPLES}")));
                        }
                        _ => file.store = joined(&file.base, Path::new(&store.text)),
                    }
                }
            }
            "seed" => {
                if let Some(seed) = self.whole_number(key, value) {
                    file.seed = seed;
                }
            }
            "part_rows" => match self.whole_number(key, value) {
                Some(0) => self.fault(value.span(), "a part has at least one row"),
                Some(rows) if rows > MOST_PART_ROWS => {
                    self.fault(value.span(), format!("`part_rows` is {rows}, and {MOST_PART_ROWS} is the most"));
                }
                Some(rows) => file.part_rows = Some(rows as usize),
                None => {}
            },
            other => {
                self.faults
                    .push(Fault::new(key_span, format!("unknown key `{other}` of [pipeline]")).known(other, PIPELINE_KEYS));
            }
        }
    }
}
