//! Drawing a pipeline.

use std::io::Write;

use anyhow::Result;
use tessera_schemas::printable;

use crate::declare::plan::Plan;

/// A way to draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Drawing {
    /// Lines of text.
    #[default]
    Text,
    /// Graphviz.
    Dot,
    /// Mermaid, as Markdown viewers show it.
    Mermaid,
}

/// Draws the stages and their edges.
pub fn draw(out: &mut dyn Write, plan: &Plan, drawing: Drawing) -> Result<()> {
    let nodes = &plan.graph.nodes;
    match drawing {
        Drawing::Text => {
            let width = nodes.iter().map(|node| node.name.len()).max().unwrap_or(0);
            for node in nodes {
                let inputs: Vec<&str> = node.edges.iter().map(|edge| nodes[edge.from].name.as_str()).collect();
                let reads = if inputs.is_empty() { String::new() } else { format!(" <- {}", inputs.join(", ")) };
                let view = if node.view { ", view" } else { "" };
                writeln!(out, "{:width$}  ({}{view}){reads}", node.name, node.spec.name())?;
            }
        }
        Drawing::Dot => {
            writeln!(out, "digraph {:?} {{\n  rankdir=LR;\n  node [shape=box];", plan.graph.file.name)?;
            for node in nodes {
                let style = if node.view { ", style=dashed" } else { "" };
                writeln!(out, "  {} [label=\"{}\\n{}\"{style}];", quoted(&node.name), node.name, node.spec.name())?;
            }
            for node in nodes {
                for edge in &node.edges {
                    let (from, to) = (quoted(&nodes[edge.from].name), quoted(&node.name));
                    writeln!(out, "  {from} -> {to} [label={:?}];", edge.name)?;
                }
            }
            writeln!(out, "}}")?;
        }
        Drawing::Mermaid => {
            writeln!(out, "graph LR")?;
            // Names of stages have no capital letters.
            let id = |at: usize| if is_cell(&nodes[at].name) { format!("C{at}") } else { nodes[at].name.clone() };
            for (at, node) in nodes.iter().enumerate() {
                let (open, close) = if node.view { ("([", "])") } else { ("[", "]") };
                writeln!(out, "  {}{open}\"{}: {}\"{close}", id(at), node.name, node.spec.name())?;
            }
            for (at, node) in nodes.iter().enumerate() {
                for edge in &node.edges {
                    writeln!(out, "  {} -- {} --> {}", id(edge.from), printable(&edge.name), id(at))?;
                }
            }
        }
    }
    Ok(())
}

/// Whether a name is that of a swept stage's cell, which neither language takes for an identifier.
fn is_cell(name: &str) -> bool {
    name.contains('@')
}

fn quoted(name: &str) -> String {
    if is_cell(name) { format!("{name:?}") } else { name.to_owned() }
}
