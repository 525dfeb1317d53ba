//! In how many clusters neighbours are looked for.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::reference::number_or_text;

/// A number of clusters, or all images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probes {
    /// All images.
    All,
    /// Those of so many clusters.
    Some(usize),
}

impl JsonSchema for Probes {
    fn schema_name() -> Cow<'static, str> {
        "Probes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        number_or_text()
    }
}

impl Serialize for Probes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => to.serialize_str("all"),
            Self::Some(probes) => to.serialize_u64(*probes as u64),
        }
    }
}

impl<'de> Deserialize<'de> for Probes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Probes;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number of clusters, or \"all\"")
            }
            fn visit_u64<E: de::Error>(self, probes: u64) -> Result<Probes, E> {
                usize::try_from(probes)
                    .map(Probes::Some)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(probes), &self))
            }
            fn visit_i64<E: de::Error>(self, probes: i64) -> Result<Probes, E> {
                usize::try_from(probes)
                    .map(Probes::Some)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(probes), &self))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Probes, E> {
                if text == "all" { Ok(Probes::All) } else { Err(E::invalid_value(de::Unexpected::Str(text), &self)) }
            }
        }
        from.deserialize_any(Number)
    }
}
