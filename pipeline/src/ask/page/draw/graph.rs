//! The stages and what they read: boxes in rows, each below all that it reads.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::{cut, px};

/// Pixels of a box, and between boxes.
const BOX: (f64, f64) = (176.0, 66.0);
const BETWEEN: (f64, f64) = (18.0, 34.0);
/// Passes that bring boxes nearer to those that they read.
const PASSES: usize = 4;

/// A box.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its first line.
    pub name: String,
    /// The lines below.
    pub lines: [String; 2],
    /// The class that says its state.
    pub class: &'static str,
    /// The boxes that it reads, by their places.
    pub reads: Vec<usize>,
}

/// Draws boxes and arrows.
pub fn graph(nodes: &[Node]) -> Markup {
    let places = places(nodes);
    let rows = places.iter().map(|place| place.0 + 1).max().unwrap_or(0);
    let widest = places.iter().map(|place| place.1 + 1).max().unwrap_or(0);
    let row_length = |row: usize| places.iter().filter(|place| place.0 == row).count();
    let (across, down) = (BOX.0 + BETWEEN.0, BOX.1 + BETWEEN.1);
    let corner = |at: usize| {
        let (row, column) = places[at];
        let indent = (widest - row_length(row)) as f64 * across / 2.0;
        (px(2.0 + indent + column as f64 * across), px(2.0 + row as f64 * down))
    };
    let size = (widest as f64 * across - BETWEEN.0 + 4.0, rows as f64 * down - BETWEEN.1 + 4.0);
    let edges = nodes.iter().enumerate().flat_map(|(to, node)| node.reads.iter().map(move |&from| (from, to)));
    html! {
        div.scroll tabindex="0" role="region" aria-label="the stages, each below those that it reads" {
            svg.graph width=(size.0) height=(size.1) viewBox=(format!("0 0 {} {}", size.0, size.1)) role="img" aria-label=(in_words(nodes)) {
                @for (from, to) in edges {
                    @let (start, end) = (corner(from), corner(to));
                    @let (x1, y1) = (start.0 + BOX.0 / 2.0, start.1 + BOX.1);
                    @let (x2, y2) = (end.0 + BOX.0 / 2.0, end.1);
                    @let bend = (y2 - y1) / 2.0;
                    path.edge d=(format!("M{x1} {y1}C{x1} {} {x2} {} {x2} {}", y1 + bend, y2 - bend, y2 - 5.0)) {}
                    path.head d=(format!("M{x2} {y2}l-4 -7h8z")) {}
                }
                @for (at, node) in nodes.iter().enumerate() {
                    @let (x, y) = corner(at);
                    g class=(format!("stage {}", node.class)) {
                        rect x=(x) y=(y) width=(BOX.0) height=(BOX.1) rx="6" {}
                        text.name x=(x + 10.0) y=(y + 20.0) { (cut(&node.name, 23)) }
                        text x=(x + 10.0) y=(y + 38.0) { (cut(&node.lines[0], 28)) }
                        text x=(x + 10.0) y=(y + 55.0) { (cut(&node.lines[1], 28)) }
                    }
                }
            }
        }
    }
}

fn in_words(nodes: &[Node]) -> String {
    let one = |node: &Node| {
        let reads: Vec<&str> = node.reads.iter().map(|&from| nodes[from].name.as_str()).collect();
        let reads = if reads.is_empty() { String::new() } else { format!(" reads {}", reads.join(", ")) };
        format!("{}{reads}", cut(&node.name, 60))
    };
    nodes.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Each box's row and its place in it. Boxes stand behind those that they read.
fn places(nodes: &[Node]) -> Vec<(usize, usize)> {
    let mut rows: Vec<usize> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let row = node.reads.iter().filter_map(|&from| rows.get(from)).map(|row| row + 1).max();
        rows.push(row.unwrap_or(0));
    }
    let mut order: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    rows.iter().enumerate().for_each(|(at, &row)| order.entry(row).or_default().push(at));
    let mut columns = vec![0.0; nodes.len()];
    for _ in 0..PASSES {
        for boxes in order.values_mut() {
            let middle = |&at: &usize| {
                let reads = &nodes[at].reads;
                let sum: f64 = reads.iter().map(|&from| columns[from]).sum();
                if reads.is_empty() { columns[at] } else { sum / reads.len() as f64 }
            };
            boxes.sort_by(|a, b| middle(a).total_cmp(&middle(b)).then(a.cmp(b)));
            let half = (boxes.len() - 1) as f64 / 2.0;
            boxes.iter().enumerate().for_each(|(place, &at)| columns[at] = place as f64 - half);
        }
    }
    let mut found = vec![(0, 0); nodes.len()];
    for (row, boxes) in order {
        boxes.into_iter().enumerate().for_each(|(place, at)| found[at] = (row, place));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_stand_below_what_they_read() {
        let node =
            |reads: &[usize]| Node { name: String::new(), lines: Default::default(), class: "", reads: reads.to_vec() };
        let nodes = [node(&[]), node(&[]), node(&[1]), node(&[0]), node(&[2, 3])];
        assert_eq!(places(&nodes), [(0, 0), (0, 1), (1, 1), (1, 0), (2, 0)]);
        assert!(places(&[]).is_empty());
    }
}
