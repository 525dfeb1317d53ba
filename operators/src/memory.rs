//! How much memory an operator may take.

mod group;

use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::operator::Sink;
use crate::reference::number_or_text;

/// The share of the machine's free memory that is taken where nothing is said.
const SHARE: f64 = 0.75;

/// A number of bytes: `2147483648`, `"2GiB"`, `"500 MB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Memory(pub u64);

impl JsonSchema for Memory {
    fn schema_name() -> Cow<'static, str> {
        "Memory".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        number_or_text()
    }
}

impl Memory {
    /// Three quarters of what is free on this machine, and of what its control groups leave to the process; no end where the system
    /// does not say.
    pub fn free() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let machine = available(&read("/proc/meminfo"));
        let group = group::left(Path::new("/sys/fs/cgroup"), &read("/proc/self/cgroup"));
        let least = machine.into_iter().chain(group).min();
        Self(least.map_or(u64::MAX, |bytes| (bytes as f64 * SHARE) as u64))
    }

    /// Whether `needed` bytes must go to files, of which `stored` then lie there, under what a stage's key `memory` says, or else what
    /// is free. Tells the user if so; then it is how many bytes may be held.
    pub fn exceeded(asked: Option<Self>, needed: Self, stored: Self, sink: &mut dyn Sink) -> Option<usize> {
        let (budget, whose) = match asked {
            Some(memory) => (memory, "`memory` is"),
            None => (Self::free(), "what is free is"),
        };
        (needed > budget).then(|| {
            sink.say(&format!(
                "features go to a temporary file of {stored} in the store: {whose} {budget}, and {needed} are needed"
            ));
            usize::try_from(budget.0).unwrap_or(usize::MAX)
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let at = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let (number, unit) = text.split_at(at);
        let factor = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1.0,
            "kb" => 1e3,
            "mb" => 1e6,
            "gb" => 1e9,
            "tb" => 1e12,
            "kib" | "k" => (1u64 << 10) as f64,
            "mib" | "m" => (1u64 << 20) as f64,
            "gib" | "g" => (1u64 << 30) as f64,
            "tib" | "t" => (1u64 << 40) as f64,
            _ => return None,
        };
        let bytes = number.parse::<f64>().ok()? * factor;
        (bytes >= 1.0 && bytes < u64::MAX as f64).then_some(Self(bytes as u64))
    }
}

/// `MemAvailable` in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 as f64 / (1u64 << 30) as f64 {
            gib if gib >= 1.0 => write!(f, "{gib:.1} GiB"),
            gib => write!(f, "{:.1} MiB", gib * 1024.0),
        }
    }
}

impl FromStr for Memory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = || text.trim().parse().ok().filter(|bytes| *bytes > 0).map(Self);
        Self::parse(text).or_else(plain).ok_or_else(|| format!("`{text}` is no number of bytes such as 2GiB or 500MB"))
    }
}

impl Serialize for Memory {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Memory {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Memory;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes such as \"2GiB\" or \"500MB\"")
            }
            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Memory, E> {
                Ok(Memory(bytes))
            }
            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Memory, E> {
                u64::try_from(bytes).map(Memory).map_err(|_| E::invalid_value(de::Unexpected::Signed(bytes), &self))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Memory, E> {
                Memory::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        from.deserialize_any(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let parse = |text| serde_json::from_str::<Memory>(text).map(|memory| memory.0);
        assert_eq!(parse("\"2GiB\"").unwrap(), 2 << 30);
        assert_eq!(parse("\"1.5 gb\"").unwrap(), 1_500_000_000);
        assert_eq!(parse("\"512 MiB\"").unwrap(), 512 << 20);
        assert_eq!(parse("4096").unwrap(), 4096);
        for wrong in ["\"2 apples\"", "\"\"", "\"-1GB\"", "-5", "\"GiB\"", "true"] {
            assert!(parse(wrong).unwrap_err().to_string().contains("bytes such as"), "{wrong}");
        }
        assert_eq!((Memory(3 << 29).to_string(), Memory(5 << 20).to_string()), ("1.5 GiB".into(), "5.0 MiB".into()));
    }

    #[test]
    fn free_memory_is_found() {
        assert_eq!(available("MemTotal:  9 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        assert_eq!(available("nothing"), None);
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
        let total = available(&meminfo.replace("MemTotal:", "MemAvailable:")).unwrap();
        assert!((1 << 20..total).contains(&Memory::free().0), "{} of {total}", Memory::free().0);
    }
}
