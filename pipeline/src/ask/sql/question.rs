//! A query's text, and values for its parameters: `WHERE cluster = $c` with `c=3`.

use datafusion::common::{ScalarValue, plan_datafusion_err, plan_err};
use datafusion::dataframe::DataFrame;
use datafusion::error::Result;

/// A query.
#[derive(Debug, Clone)]
pub struct Question {
    /// Its text.
    pub text: String,
    /// Names of parameters, without `$`, and values as they were written.
    pub values: Vec<(String, String)>,
}

impl From<&str> for Question {
    fn from(text: &str) -> Self {
        Self { text: text.to_owned(), values: Vec::new() }
    }
}

impl Question {
    /// Puts the values in. One has the type that the query asks for at its place, as of a column that it is compared with; where the query
    /// says nothing of that, a number, `true` or `false` as they are written, else text.
    ///
    /// # Errors
    /// A parameter has no value, a value no parameter, or a value is none of the type.
    pub fn fill(&self, frame: DataFrame) -> Result<DataFrame> {
        let wanted = frame.logical_plan().get_parameter_types()?;
        let mut names: Vec<&str> = wanted.keys().map(|id| id.trim_start_matches('$')).collect();
        names.sort_unstable();
        let is_given = |name: &str| self.values.iter().any(|(given, _)| given == name);
        if let Some(name) = names.iter().find(|name| !is_given(name)) {
            return plan_err!("the query has the parameter `${name}` and no value for it: --param {name}=VALUE gives one");
        }
        if let Some((name, _)) = self.values.iter().find(|(name, _)| !names.contains(&name.as_str())) {
            let known: Vec<String> = names.iter().map(|name| format!("${name}")).collect();
            let known = if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) };
            return plan_err!("the query has no parameter `${name}`, which --param names; {known}");
        }
        if names.is_empty() {
            return Ok(frame);
        }
        let value = |(name, text): &(String, String)| {
            let text = text.as_str();
            let value = match wanted.get(&format!("${name}")) {
                Some(Some(kind)) => ScalarValue::Utf8(Some(text.to_owned())).cast_to(kind).map_err(|_| {
                    plan_datafusion_err!("--param {name}: `{text}` is no {kind}, which the query takes there")
                })?,
                _ => guessed(text),
            };
            Ok((name.clone(), value))
        };
        frame.with_param_values(self.values.iter().map(value).collect::<Result<Vec<_>>>()?)
    }
}

/// A value by how it is written. What would be another text as a number, such as `007`, is text.
fn guessed(text: &str) -> ScalarValue {
    match (text.parse::<i64>(), text.parse::<f64>(), text.parse::<bool>()) {
        (Ok(number), ..) if number.to_string() == text => number.into(),
        (Err(_), Ok(number), _) if number.is_finite() => number.into(),
        (.., Ok(truth)) => truth.into(),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_they_are_written_as() {
        assert_eq!(guessed("3"), ScalarValue::Int64(Some(3)));
        assert_eq!(guessed("-0.5"), ScalarValue::Float64(Some(-0.5)));
        assert_eq!(guessed("true"), ScalarValue::Boolean(Some(true)));
        for text in ["007", "a b", "", "nan", "inf", "True"] {
            assert_eq!(guessed(text), ScalarValue::from(text), "{text}");
        }
    }
}
