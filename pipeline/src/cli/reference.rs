//! What `operators` and `schema` print: the operators, their keys and the networks, as their code tells of them.

pub mod markdown;
mod schema;

use std::io::Write;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};
use tessera_operators::OPERATORS;
use tessera_operators::operator::{Port, PortKind};
use tessera_operators::reference::{Key, Layer, networks, pytorch, written};
use tessera_operators::spec::Spec;

use super::Usage;
use super::markdown::table;
use super::summary::{numbers, print_columns, texts};
use crate::ask::sql::output::Format;
use crate::declare::faults::closest;
use crate::watch::progress::tell;

pub use schema::schema;

/// Columns of a line of text at most.
const WIDTH: usize = 80;
/// Columns before what is said of a key.
const INDENT: usize = 20;

/// List the operators, or describe one.
#[derive(Debug, Args)]
pub struct Operators {
    /// The one to describe.
    name: Option<String>,
    /// List the networks that `train`, `weights` and `infer` know, with their layers.
    #[arg(long, conflicts_with = "name")]
    networks: bool,
    /// With --networks: the side of the images, in pixels.
    #[arg(long, default_value_t = 224, requires = "networks", value_parser = clap::value_parser!(u32).range(1..=8192), value_name = "PIXELS")]
    side: u32,
    /// With --networks: print those that torchvision does not have as a Python module for PyTorch, which loads exported weights.
    #[arg(long, requires = "networks", conflicts_with_all = ["side", "format"])]
    pytorch: bool,
    /// How they are printed.
    #[arg(long, value_enum, default_value_t)]
    format: PageFormat,
}

/// How operators are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum PageFormat {
    /// Pages to read in a terminal.
    #[default]
    Text,
    /// One JSON document.
    Json,
    /// CSV with a header line.
    Csv,
    /// Markdown.
    Markdown,
}

impl Operators {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        let chosen: Vec<&dyn Spec> = match &self.name {
            None => OPERATORS.to_vec(),
            Some(name) => vec![find(name)?],
        };
        match self.format {
            _ if self.pytorch => out.write_all(pytorch().as_bytes())?,
            _ if self.networks => layers(out, self.side as usize, self.format)?,
            PageFormat::Json => writeln!(out, "{}", Value::Array(chosen.into_iter().map(told).collect()))?,
            PageFormat::Text if self.name.is_some() => chosen.into_iter().try_for_each(|operator| page(out, operator))?,
            PageFormat::Text => {
                let width = OPERATORS.iter().map(|operator| operator.name().len()).max().unwrap_or_default();
                for operator in chosen {
                    entry(out, operator.name(), operator.summary(), width + 2)?;
                }
                writeln!(out, "\n`tessera operators NAME` describes one, and `tessera operators --networks` the networks.")?;
            }
            PageFormat::Markdown => {
                let pages: Vec<String> = chosen.into_iter().map(markdown::page).collect();
                write!(out, "{}", pages.join("\n"))?;
            }
            PageFormat::Csv => {
                let names = |operator: &&dyn Spec| operator.fields().join(", ");
                let columns = vec![
                    ("operator", texts(chosen.iter().map(|operator| operator.name()))),
                    ("does", texts(chosen.iter().map(|operator| operator.summary()))),
                    ("inputs", texts(chosen.iter().map(|operator| inputs(*operator).join(", ")))),
                    ("keys", texts(chosen.iter().map(names))),
                ];
                print_columns(out, columns, Format::Csv)?;
            }
        }
        Ok(())
    }
}

/// The operator of that name.
fn find(name: &str) -> Result<&'static dyn Spec> {
    let Some(operator) = tessera_operators::find(name) else {
        let names: Vec<&str> = OPERATORS.iter().map(|operator| operator.name()).collect();
        let hint = closest(name, &names).map(|close| format!("did you mean `{close}`? ")).unwrap_or_default();
        bail!(Usage(format!("unknown operator `{name}`; {hint}operators: {}", names.join(", "))));
    };
    Ok(operator)
}

/// The inputs' names.
fn inputs(operator: &dyn Spec) -> Vec<String> {
    let one = |port: &Port| match port.kind {
        PortKind::Named => "any stages, by names of your choice".to_owned(),
        _ if port.required => port.name.to_owned(),
        _ => format!("{} (optional)", port.name),
    };
    operator.inputs().iter().map(one).collect()
}

/// The columns that an input has to have.
fn needed(port: &Port) -> String {
    let columns = port.columns.iter().map(|column| format!("`{}` ({})", column.name, column.kind.describe()));
    let columns: Vec<String> = columns.collect();
    match &columns[..] {
        [] => "Any table.".to_owned(),
        columns => format!("It has {}.", columns.join(", ")),
    }
}

/// All that there is to say of an operator.
fn page(out: &mut dyn Write, operator: &dyn Spec) -> Result<()> {
    entry(out, "", &format!("{}: {}", operator.name(), operator.summary()), 0)?;
    writeln!(out, "\nExample\n")?;
    operator.example().lines().try_for_each(|line| writeln!(out, "  {line}"))?;
    if !operator.inputs().is_empty() {
        writeln!(out, "\nInputs\n")?;
        for port in operator.inputs() {
            let name = if port.kind == PortKind::Named { "of your choice" } else { port.name };
            let optional = if port.required { "" } else { "Optional. " };
            entry(out, &format!("  {name}"), &format!("{optional}{}", needed(port)), INDENT)?;
        }
    }
    let keys = operator.keys();
    if !keys.is_empty() {
        writeln!(out, "\nKeys\n")?;
        keys.iter().try_for_each(|key| describe(out, key))?;
    }
    writeln!(out, "\nTable\n")?;
    for (name, about) in operator.output() {
        let name = format!("  {name}");
        if about.is_empty() { writeln!(out, "{name}")? } else { entry(out, &name, about, INDENT)? }
    }
    writeln!(out)?;
    let kept = if operator.view() {
        "It is a view: computed when it is read, unless the stage has `keep = true`."
    } else {
        "It is kept as a snapshot."
    };
    entry(out, "", kept, 2)?;
    if operator.seeded() {
        entry(out, "", "It draws random numbers, by the pipeline's `seed` or the stage's own.", 2)?;
    }
    Ok(())
}

fn describe(out: &mut dyn Write, key: &Key) -> Result<()> {
    let default = match &key.default {
        _ if key.is_required => "; required".to_owned(),
        Some(default) => format!("; default {}", written(default)),
        None => String::new(),
    };
    entry(out, &format!("  {}", key.name), &format!("{}{default}", key.values_in_words()), INDENT)?;
    entry(out, "", &key.meaning, INDENT)?;
    let width = key.values.iter().map(|choice| choice.value.len() + 4).max().unwrap_or_default().min(INDENT);
    for choice in key.values.iter().filter(|choice| !choice.meaning.is_empty()) {
        let name = format!("{:INDENT$}\"{}\"", "", choice.value);
        entry(out, &name, &choice.meaning, INDENT + width)?;
    }
    Ok(())
}

/// A name, and behind it words in lines that begin at a column.
fn entry(out: &mut dyn Write, name: &str, words: &str, column: usize) -> Result<()> {
    let mut line = name.to_owned();
    if !line.is_empty() && line.chars().count() + 1 > column {
        writeln!(out, "{line}")?;
        line.clear();
    }
    let mut is_empty = true;
    for word in words.split_whitespace() {
        let length = line.chars().count().max(column) + usize::from(!is_empty) + word.chars().count();
        if !is_empty && length > WIDTH {
            writeln!(out, "{line}")?;
            line.clear();
            is_empty = true;
        }
        if is_empty {
            line = format!("{line:column$}");
        } else {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    Ok(writeln!(out, "{line}")?)
}

/// The same for a program.
fn told(operator: &dyn Spec) -> Value {
    let input = |port: &Port| {
        let column =
            |column: &tessera_operators::operator::Column| json!({ "name": column.name, "type": column.kind.describe() });
        let name = (port.kind != PortKind::Named).then_some(port.name);
        json!({ "name": name, "required": port.required, "columns": port.columns.iter().map(column).collect::<Vec<_>>() })
    };
    let key = |key: &Key| {
        let values: Vec<Value> =
            key.values.iter().map(|choice| json!({ "value": choice.value, "meaning": choice.meaning })).collect();
        json!({
            "name": key.name, "type": key.kind, "values": values, "required": key.is_required, "default": key.default,
            "meaning": key.meaning,
        })
    };
    json!({
        "name": operator.name(), "summary": operator.summary(), "version": operator.version(), "example": operator.example(),
        "inputs": operator.inputs().iter().map(input).collect::<Vec<_>>(),
        "keys": operator.keys().iter().map(key).collect::<Vec<_>>(),
        "columns": operator.output().iter().map(|(name, about)| json!({ "name": name, "meaning": about })).collect::<Vec<_>>(),
        "view": operator.view(), "seeded": operator.seeded(),
    })
}

/// The networks' layers.
fn layers(out: &mut dyn Write, side: usize, format: PageFormat) -> Result<()> {
    let (layers, faults) = networks(side);
    let shape = |shape: &[usize]| shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
    let values = |layer: &Layer| layer.shape.iter().product::<usize>();
    let format = match format {
        PageFormat::Text => Format::Text,
        PageFormat::Json => Format::Json,
        PageFormat::Csv => Format::Csv,
        PageFormat::Markdown => {
            let row = |layer: &Layer| {
                let names = [layer.network, layer.layer].map(str::to_owned);
                names
                    .into_iter()
                    .chain([shape(&layer.shape), values(layer).to_string(), layer.parameters.to_string()])
                    .collect()
            };
            let rows: Vec<Vec<String>> = layers.iter().map(row).collect();
            write!(out, "{}", table(&["network", "layer", "shape", "values", "parameters"], &rows))?;
            faults.iter().for_each(tell);
            return Ok(());
        }
    };
    let columns = vec![
        ("network", texts(layers.iter().map(|layer| layer.network))),
        ("layer", texts(layers.iter().map(|layer| layer.layer))),
        ("shape", texts(layers.iter().map(|layer| shape(&layer.shape)))),
        ("values", numbers(layers.iter().map(|layer| Some(values(layer) as i64)))),
        ("parameters", numbers(layers.iter().map(|layer| Some(layer.parameters as i64)))),
    ];
    print_columns(out, columns, format)?;
    faults.iter().for_each(tell);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_filled_and_not_overfilled() {
        let mut out = Vec::new();
        let words = "word ".repeat(40) + &"x".repeat(90);
        entry(&mut out, "  a_key", &words, 12).unwrap();
        entry(&mut out, "  a_key_of_a_long_name", "its words", 12).unwrap();
        let lines: Vec<String> = String::from_utf8(out).unwrap().lines().map(str::to_owned).collect();
        assert!(lines[0].starts_with("  a_key     word word") && lines[0].len() > 74, "{}", lines[0]);
        assert!(lines[1].starts_with("            word"), "{}", lines[1]);
        assert!(lines.iter().all(|line| line.len() <= WIDTH || !line.trim().contains(' ')), "{lines:?}");
        assert_eq!(lines[lines.len() - 2..], ["  a_key_of_a_long_name", "            its words"]);
    }

    #[test]
    fn pages_fit_a_terminal() {
        for operator in OPERATORS {
            let mut out = Vec::new();
            page(&mut out, *operator).unwrap();
            let text = String::from_utf8(out).unwrap();
            for line in text.lines() {
                let is_example = operator.example().lines().any(|example| line.trim_start() == example);
                assert!(is_example || line.chars().count() <= WIDTH, "{}: {line}", operator.name());
                assert_eq!(line, line.trim_end());
            }
        }
    }
}
