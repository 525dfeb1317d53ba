//! Values of the pipeline file: TOML as JSON, environment variables put in, places noted.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Number, Value};
use toml::Spanned;
use toml::de::DeValue;

use super::{Reader, Text, entries};
use crate::declare::faults::Fault;

impl Reader {
    pub(super) fn whole_number(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<u64> {
        let span = value.span();
        let found = self.value(value, "", &mut BTreeMap::new());
        let number = found.as_u64();
        if number.is_none() {
            self.fault(span, format!("`{key}` should be a whole number of at least 0, found {found}"));
        }
        number
    }

    pub(super) fn text(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<Text> {
        match self.value(value, "", &mut BTreeMap::new()) {
            Value::String(text) => Some(Text { text, span: value.span() }),
            other => {
                self.fault(value.span(), format!("`{key}` should be a string, found {other}"));
                None
            }
        }
    }

    /// A TOML value as JSON, its places noted under its path.
    pub(crate) fn value(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        path: &str,
        places: &mut BTreeMap<String, Range<usize>>,
    ) -> Value {
        places.insert(path.to_owned(), value.span());
        match value.get_ref() {
            DeValue::String(text) => Value::String(self.interpolate(text, value.span())),
            DeValue::Integer(number) => {
                let parse = |text: &str| i64::from_str_radix(text, number.radix()).ok();
                match parse(number.as_str()) {
                    Some(number) => Value::Number(number.into()),
                    None => {
                        self.fault(value.span(), format!("the number {number} is too large"));
                        Value::Null
                    }
                }
            }
            DeValue::Float(number) => match number.as_str().parse().ok().and_then(Number::from_f64) {
                Some(number) => Value::Number(number),
                None => {
                    self.fault(value.span(), format!("{number} is no finite number"));
                    Value::Null
                }
            },
            DeValue::Boolean(truth) => Value::Bool(*truth),
            DeValue::Datetime(time) => Value::String(time.to_string()),
            DeValue::Array(items) => Value::Array(
                items.iter().enumerate().map(|(i, item)| self.value(item, &format!("{path}[{i}]"), places)).collect(),
            ),
            DeValue::Table(table) => Value::Object(
                entries(table)
                    .into_iter()
                    .map(|(key, item)| {
                        let key = key.get_ref().to_string();
                        let value = self.value(item, &format!("{path}.{key}"), places);
                        (key, value)
                    })
                    .collect(),
            ),
        }
    }

    /// Puts environment variables in for `${NAME}`; `$${` stays `${`.
    fn interpolate(&mut self, text: &str, span: Range<usize>) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let (before, behind) = (&rest[..at], &rest[at + 2..]);
            if let Some(before) = before.strip_suffix('$') {
                out.push_str(before);
                out.push_str("${");
                rest = behind;
                continue;
            }
            out.push_str(before);
            let Some(end) = behind.find('}') else {
                self.fault(span, "`${` without its `}`");
                return out;
            };
            let name = &behind[..end];
            match std::env::var(name) {
                Ok(value) => out.push_str(&value),
                Err(_) => {
                    let fault = Fault::new(span.clone(), format!("the environment variable `{name}` is not set"));
                    self.faults
                        .push(fault.help("`${NAME}` takes its value from the environment; `$${` writes a plain `${`"));
                }
            }
            rest = &behind[end + 1..];
        }
        out.push_str(rest);
        out
    }
}
