//! The stages and what they read: boxes in rows, each below all that it reads. Arrows that go past a row have a place of their own in it,
//! so that none runs behind a box.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::{cut, px};

/// Pixels of a box, and between boxes.
const BOX: (f64, f64) = (176.0, 66.0);
const BETWEEN: (f64, f64) = (18.0, 34.0);
/// Pixels that the arrows of one box have where they go past a row.
const PASSING: f64 = 14.0;
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
    let layout = Layout::of(nodes);
    let size = layout.size();
    let corner =
        |at: usize| (px(layout.middle(layout.rows[at], Item::Stage(at)) - BOX.0 / 2.0), layout.top(layout.rows[at]));
    let edges = nodes.iter().enumerate().flat_map(|(to, node)| node.reads.iter().map(move |&from| (from, to)));
    html! {
        div.scroll tabindex="0" role="region" aria-label="the stages, each below those that it reads" {
            svg.graph width=(size.0) height=(size.1) viewBox=(format!("0 0 {} {}", size.0, size.1)) role="img" aria-label=(in_words(nodes)) {
                @for (from, to) in edges {
                    @let (x, y) = corner(to);
                    path.edge d=(layout.path(from, to)) {}
                    path.head d=(format!("M{} {y}l-4 -7h8z", px(x + BOX.0 / 2.0))) {}
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

/// What has a place in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    /// A box.
    Stage(usize),
    /// The arrows from a box above to boxes below.
    Passing(usize),
}

impl Item {
    fn width(self) -> f64 {
        match self {
            Self::Stage(_) => BOX.0,
            Self::Passing(_) => PASSING,
        }
    }
}

/// Where boxes and arrows are.
#[derive(Debug)]
struct Layout {
    /// Each box's row.
    rows: Vec<usize>,
    /// The middle of each item of a row, in pixels to the right of the row's own.
    middles: BTreeMap<(usize, Item), f64>,
}

impl Layout {
    /// Boxes stand behind those that they read.
    fn of(nodes: &[Node]) -> Self {
        let mut rows: Vec<usize> = Vec::with_capacity(nodes.len());
        for node in nodes {
            let row = node.reads.iter().filter_map(|&from| rows.get(from)).map(|row| row + 1).max();
            rows.push(row.unwrap_or(0));
        }
        let mut items: BTreeMap<usize, Vec<Item>> = BTreeMap::new();
        for (at, &row) in rows.iter().enumerate() {
            items.entry(row).or_default().push(Item::Stage(at));
            let readers = nodes.iter().zip(&rows).filter(|(node, _)| node.reads.contains(&at)).map(|(_, row)| *row);
            let last = readers.max().unwrap_or(row);
            (row + 1..last).for_each(|row| items.entry(row).or_default().push(Item::Passing(at)));
        }
        let mut layout = Self { rows, middles: BTreeMap::new() };
        for _ in 0..PASSES {
            for (&row, items) in &mut items {
                let wish = |item: &Item| {
                    let reads = match item {
                        Item::Stage(at) => nodes[*at].reads.as_slice(),
                        Item::Passing(from) => std::slice::from_ref(from),
                    };
                    if reads.is_empty() {
                        return layout.middle_of(row, *item);
                    }
                    reads.iter().map(|&from| layout.above(row, from)).sum::<f64>() / reads.len() as f64
                };
                items.sort_by(|a, b| wish(a).total_cmp(&wish(b)).then(a.cmp(b)));
                let mut left = -width(items) / 2.0;
                for &item in items.iter() {
                    layout.middles.insert((row, item), left + item.width() / 2.0);
                    left += item.width() + BETWEEN.0;
                }
            }
        }
        layout
    }

    fn middle_of(&self, row: usize, item: Item) -> f64 {
        self.middles.get(&(row, item)).copied().unwrap_or(0.0)
    }

    /// Where the arrows from a box come into a row.
    fn above(&self, row: usize, from: usize) -> f64 {
        let before = row.saturating_sub(1);
        self.middle_of(before, if self.rows[from] == before { Item::Stage(from) } else { Item::Passing(from) })
    }

    /// Half of the drawing's width.
    fn half(&self) -> f64 {
        self.middles.iter().map(|((_, item), middle)| middle.abs() + item.width() / 2.0).fold(0.0, f64::max) + 2.0
    }

    fn size(&self) -> (f64, f64) {
        let rows = self.rows.iter().map(|row| row + 1).max().unwrap_or(0);
        (px(2.0 * self.half()), px((rows as f64 * (BOX.1 + BETWEEN.1) - BETWEEN.1 + 4.0).max(4.0)))
    }

    /// The middle of an item, in pixels of the drawing.
    fn middle(&self, row: usize, item: Item) -> f64 {
        px(self.half() + self.middle_of(row, item))
    }

    fn top(&self, row: usize) -> f64 {
        px(2.0 + row as f64 * (BOX.1 + BETWEEN.1))
    }

    /// The line of an arrow: it bends between rows, and goes straight past them.
    fn path(&self, from: usize, to: usize) -> String {
        let mut x = self.middle(self.rows[from], Item::Stage(from));
        let mut path = format!("M{x} {}", self.top(self.rows[from]) + BOX.1);
        for row in self.rows[from] + 1..=self.rows[to] {
            let is_last = row == self.rows[to];
            let next = self.middle(row, if is_last { Item::Stage(to) } else { Item::Passing(from) });
            let (start, end) = (self.top(row) - BETWEEN.1, self.top(row));
            let bend = BETWEEN.1 / 2.0;
            let stop = if is_last { end - 5.0 } else { end };
            path.push_str(&format!("C{x} {} {next} {} {next} {stop}", start + bend, end - bend));
            if !is_last {
                path.push_str(&format!("V{}", end + BOX.1));
            }
            x = next;
        }
        path
    }
}

/// Pixels of a row.
fn width(items: &[Item]) -> f64 {
    items.iter().map(|item| item.width()).sum::<f64>() + BETWEEN.0 * items.len().saturating_sub(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(reads: &[usize]) -> Node {
        Node { name: String::new(), lines: Default::default(), class: "", reads: reads.to_vec() }
    }

    #[test]
    fn boxes_stand_below_what_they_read() {
        let nodes = [node(&[]), node(&[]), node(&[1]), node(&[0]), node(&[2, 3])];
        let layout = Layout::of(&nodes);
        assert_eq!(layout.rows, [0, 0, 1, 1, 2]);
        let x = |at: usize| layout.middle(layout.rows[at], Item::Stage(at));
        assert!(x(0) < x(1) && x(3) < x(2) && x(0) == x(3), "{layout:?}");
        assert_eq!(layout.size(), (2.0 * BOX.0 + BETWEEN.0 + 4.0, 3.0 * BOX.1 + 2.0 * BETWEEN.1 + 4.0));
        assert_eq!(Layout::of(&[]).size(), (4.0, 4.0));
    }

    /// 0 is read by each stage of a chain, so that its arrows go past all of them.
    #[test]
    fn no_arrow_runs_behind_a_box() {
        let nodes = [node(&[]), node(&[0]), node(&[0, 1]), node(&[0, 2]), node(&[0, 3]), node(&[1, 4])];
        let layout = Layout::of(&nodes);
        for (row, item) in layout.middles.keys().filter(|(_, item)| matches!(item, Item::Passing(_))) {
            let x = layout.middle(*row, *item);
            let boxes = (0..nodes.len()).filter(|at| layout.rows[*at] == *row);
            for middle in boxes.map(|at| layout.middle(*row, Item::Stage(at))) {
                assert!((x - middle).abs() > BOX.0 / 2.0, "{item:?} in row {row}: {layout:?}");
            }
        }
        // A line that is straight past each row has as many curves as there are gaps.
        let path = layout.path(0, 4);
        assert_eq!((path.matches('C').count(), path.matches('V').count()), (4, 3), "{path}");
        assert_eq!(layout.path(0, 1).matches('V').count(), 0);
    }
}
