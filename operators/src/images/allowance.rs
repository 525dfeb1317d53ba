//! How many of the images that were listed before may be gone.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::reference::number_or_text;

/// A number of images, `250`, or a share of them, `"10%"`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Allowance {
    /// A number of images.
    Images(u64),
    /// A share of the images in percent, 0 to 100.
    Percent(f64),
}

impl JsonSchema for Allowance {
    fn schema_name() -> Cow<'static, str> {
        "Allowance".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        number_or_text()
    }
}

impl Allowance {
    /// The most of `images` that may be gone.
    pub fn of(self, images: u64) -> u64 {
        match self {
            Self::Images(most) => most,
            // 29 % of 100 is not 28.999...: what is left over comes from rounding.
            Self::Percent(percent) => (images as f64 * percent / 100.0 + 1e-9) as u64,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let percent: f64 = text.trim().strip_suffix('%')?.trim().parse().ok()?;
        (0.0..=100.0).contains(&percent).then_some(Self::Percent(percent))
    }
}

impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Images(most) => write!(f, "{most}"),
            Self::Percent(percent) => write!(f, "\"{percent}%\""),
        }
    }
}

impl<'de> Deserialize<'de> for Allowance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Allowance;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of images, such as 250, or a share of them, such as \"10%\"")
            }
            fn visit_u64<E: de::Error>(self, most: u64) -> Result<Allowance, E> {
                Ok(Allowance::Images(most))
            }
            fn visit_i64<E: de::Error>(self, most: i64) -> Result<Allowance, E> {
                u64::try_from(most).map(Allowance::Images).map_err(|_| E::invalid_value(de::Unexpected::Signed(most), &self))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Allowance, E> {
                Allowance::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

impl Serialize for Allowance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Images(most) => serializer.serialize_u64(*most),
            Self::Percent(percent) => serializer.serialize_str(&format!("{percent}%")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn numbers_and_shares_are_read() {
        let read = |value: Value| serde_json::from_value::<Allowance>(value);
        for (value, of) in [(json!(7), 7), (json!(0), 0), (json!("10%"), 100), (json!(" 2.55 %"), 25), (json!("100%"), 1000)]
        {
            let allowance = read(value.clone()).unwrap();
            assert_eq!(allowance.of(1000), of, "{value}");
            assert_eq!(read(serde_json::to_value(allowance).unwrap()).unwrap(), allowance);
        }
        assert_eq!(read(json!("29%")).unwrap().of(100), 29);
        assert_eq!((Allowance::Images(7).to_string(), Allowance::Percent(2.5).to_string()), ("7".into(), "\"2.5%\"".into()));
        for wrong in [json!("10"), json!("ten%"), json!("101%"), json!("-1%"), json!("nan%"), json!(-1), json!(0.1)] {
            let message = read(wrong.clone()).unwrap_err().to_string();
            assert!(message.contains("a number of images, such as 250, or a share of them"), "{wrong}: {message}");
        }
    }
}
