//! A stage's keys to an operator's config, with every fault found and each named by its path.

use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use serde_json::{Map, Value};

use crate::operator::{At, BindError};

/// The field names of a config, from its `Deserialize` implementation.
pub fn fields<C: DeserializeOwned>() -> &'static [&'static str] {
    struct Names<'a>(&'a mut &'static [&'static str]);
    #[derive(Debug)]
    struct Stop;
    impl std::fmt::Display for Stop {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("names taken")
        }
    }
    impl std::error::Error for Stop {}
    impl de::Error for Stop {
        fn custom<T: std::fmt::Display>(_: T) -> Self {
            Self
        }
    }
    impl<'de> Deserializer<'de> for Names<'_> {
        type Error = Stop;
        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
            Err(Stop)
        }
        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Stop> {
            *self.0 = fields;
            Err(Stop)
        }
        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }
    let mut names: &'static [&'static str] = &[];
    let _ = C::deserialize(Names(&mut names));
    names
}

/// The largest values of keys that hold numbers, by key. What is beyond one is a slip, or would only be found out when memory or time
/// has run out.
pub type Limits = &'static [(&'static str, f64)];

/// Reads a config, or says everything that is wrong with it.
///
/// # Errors
/// Unknown keys, wrong values, values beyond their limits and missing keys, each at its key.
pub fn parse<C: DeserializeOwned>(keys: Map<String, Value>, limits: Limits) -> Result<C, Vec<BindError>> {
    match read(keys, limits) {
        (Some(config), errors) if errors.is_empty() => Ok(config),
        (_, errors) => Err(errors),
    }
}

/// Reads a config and all that is wrong with it: the keys that are right make one, if they are all that has to be there.
pub fn read<C: DeserializeOwned>(mut keys: Map<String, Value>, limits: Limits) -> (Option<C>, Vec<BindError>) {
    let known = fields::<C>();
    let mut errors = Vec::new();
    keys.retain(|key, value| {
        let before = errors.len();
        if let Some((_, limit)) = limits.iter().find(|(limited, _)| limited == key) {
            beyond(key, value, *limit, &mut errors);
        }
        if !known.contains(&key.as_str()) {
            let error = BindError { at: At::Unknown(key.clone()), message: format!("unknown key `{key}`"), help: None };
            errors.push(error.help(format!("known: {}", known.join(", "))));
        }
        errors.len() == before
    });
    loop {
        let error = match serde_path_to_error::deserialize::<_, C>(Value::Object(keys.clone())) {
            Ok(config) => return (Some(config), errors),
            Err(error) => error,
        };
        let path = error.path().to_string();
        let message = error.into_inner().to_string();
        let key = path.split(['.', '[']).next().unwrap_or_default().to_owned();
        if keys.remove(&key).is_some() {
            errors.push(BindError::key(&path, format!("`{path}`: {}", plain(&message))));
            continue;
        }
        // Nothing left to take away: a key is missing, unless it was taken away just now for its wrong value.
        if !errors.iter().any(|error| faulted(error).is_some_and(|key| message.contains(&format!("`{key}`")))) {
            errors.push(BindError::stage(message));
        }
        return (None, errors);
    }
}

/// The key that an error is about.
pub fn faulted(error: &BindError) -> Option<&str> {
    match &error.at {
        At::Key(path) => path.split(['.', '[']).next(),
        _ => None,
    }
}

/// Complains about numbers beyond a limit: the value, or some of a list.
fn beyond(path: &str, value: &Value, limit: f64, errors: &mut Vec<BindError>) {
    match value {
        Value::Number(number) if number.as_f64().is_none_or(|found| found.abs() > limit) => {
            errors.push(BindError::key(path, format!("`{path}` is {number}, and {limit} is the most")));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| beyond(&format!("{path}[{at}]"), item, limit, errors));
        }
        _ => {}
    }
}

/// serde's words without Rust's names of types.
fn plain(message: &str) -> String {
    let names = [
        ("usize", "a whole number"),
        ("u64", "a whole number"),
        ("u32", "a whole number"),
        ("f64", "a number"),
        ("f32", "a number"),
    ];
    names.iter().fold(message.to_owned(), |text, (rust, plain)| {
        text.replace(&format!("expected {rust}"), &format!("expected {plain}"))
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        k: usize,
        #[serde(default)]
        rates: Vec<f64>,
        #[serde(default)]
        names: Vec<String>,
    }

    fn faults(json: &str) -> Vec<(At, String)> {
        let Value::Object(keys) = serde_json::from_str(json).unwrap() else { panic!("not an object") };
        let errors = parse::<Config>(keys, &[("k", 1000.0), ("rates", 0.5)]).unwrap_err();
        errors.into_iter().map(|error| (error.at, error.message)).collect()
    }

    #[test]
    fn names_come_from_the_type() {
        assert_eq!(fields::<Config>(), ["k", "rates", "names"]);
    }

    #[test]
    fn all_faults_are_found() {
        let found = faults(r#"{"kk": 1, "rates": [0.1, "x"], "names": 3, "k": 2}"#);
        assert_eq!(found[1].1, "`rates[1]`: invalid type: string \"x\", expected a number");
        let at: Vec<_> = found.iter().map(|fault| fault.0.clone()).collect();
        assert_eq!(at, [At::Unknown("kk".into()), At::Key("rates[1]".into()), At::Key("names".into())], "{found:?}");
    }

    #[test]
    fn what_is_right_makes_a_config_beside_what_is_wrong() {
        let read = |json| match json {
            Value::Object(keys) => read::<Config>(keys, &[("k", 1000.0)]),
            _ => panic!("not an object"),
        };
        let (config, errors) = read(serde_json::json!({"k": 3, "kk": 1, "names": 3, "rates": [0.5]}));
        let config = config.unwrap();
        assert_eq!((config.k, config.rates, config.names.len(), errors.len()), (3, vec![0.5], 0, 2));
        let (config, errors) = read(serde_json::json!({"k": 3000, "names": 3}));
        assert!(config.is_none() && errors.len() == 2, "{errors:?}");
    }

    #[test]
    fn numbers_beyond_their_limits_are_named() {
        let found = faults(r#"{"k": 1001, "rates": [0.5, 0.6, -1e300]}"#);
        let told = [
            ("k", "`k` is 1001, and 1000 is the most"),
            ("rates[1]", "`rates[1]` is 0.6, and 0.5 is the most"),
            ("rates[2]", "`rates[2]` is -1e+300, and 0.5 is the most"),
        ];
        assert_eq!(found, told.map(|(at, message)| (At::Key(at.into()), message.to_owned())));
        assert_eq!(faults(r#"{"k": 9223372036854775807}"#)[0].1, "`k` is 9223372036854775807, and 1000 is the most");
    }

    #[test]
    fn a_missing_key_is_named_once() {
        assert_eq!(faults("{}"), [(At::Stage, "missing field `k`".to_owned())]);
        assert_eq!(faults(r#"{"k": "many"}"#).len(), 1);
        #[derive(Debug, Deserialize)]
        struct Listed {
            #[serde(rename = "words")]
            _words: Vec<String>,
        }
        let Value::Object(keys) = serde_json::json!({ "words": ["a", 3] }) else { unreachable!() };
        let errors = parse::<Listed>(keys, &[]).unwrap_err();
        assert_eq!(errors.iter().map(|error| &error.at).collect::<Vec<_>>(), [&At::Key("words[1]".into())]);
    }

    #[test]
    fn a_good_one_passes() {
        let Value::Object(keys) = serde_json::json!({"k": 3}) else { unreachable!() };
        let config = parse::<Config>(keys, &[("k", 3.0)]).unwrap();
        assert_eq!((config.k, config.rates.len(), config.names.len()), (3, 0, 0));
    }
}
