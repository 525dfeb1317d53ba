//! Schemas as text: an Arrow IPC stream without rows, in base64.

use std::io::Cursor;

use anyhow::Result;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A schema that is written as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextSchema(pub SchemaRef);

impl TextSchema {
    fn encode(&self) -> Result<String> {
        Ok(BASE64_STANDARD.encode(StreamWriter::try_new(Vec::new(), &self.0)?.into_inner()?))
    }

    fn decode(text: &str) -> Result<Self> {
        Ok(Self(StreamReader::try_new(Cursor::new(BASE64_STANDARD.decode(text)?), None)?.schema()))
    }
}

impl Serialize for TextSchema {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.encode().map_err(S::Error::custom)?.serialize(to)
    }
}

impl<'de> Deserialize<'de> for TextSchema {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::decode(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// A schema that may not be known.
pub(super) mod known {
    use super::*;

    pub fn serialize<S: Serializer>(schema: &Option<SchemaRef>, to: S) -> Result<S::Ok, S::Error> {
        schema.clone().map(TextSchema).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SchemaRef>, D::Error> {
        Ok(Option::<TextSchema>::deserialize(from)?.map(|schema| schema.0))
    }
}
