//! Figures of probes: by layer beside the paper's, and by class.

use anyhow::Result;
use arrow::array::Array as _;
use maud::{Markup, html};

use super::Shown;
use crate::ask::page::answer::name;
use crate::ask::page::draw::bars::{Bar, bars};
use crate::ask::page::draw::colour;
use crate::ask::page::draw::lines::{Below, Chart, Line, chart};
use crate::ask::page::subjects::Subject;

/// Top-1 on ImageNet with conv1 to conv5 of AlexNet, in percent: Noroozi et al. 2018, table 4.
const PAPER: [(&str, [f64; 5]); 5] = [
    ("paper: supervised", [19.3, 36.3, 44.2, 48.3, 50.5]),
    ("paper: CC+vgg-Jigsaw++", [19.2, 32.0, 37.3, 37.1, 34.6]),
    ("paper: CC+Jigsaw++", [18.9, 30.5, 35.7, 35.4, 32.2]),
    ("paper: Jigsaw++", [18.2, 28.7, 34.1, 33.2, 28.0]),
    ("paper: random", [11.6, 17.1, 16.9, 16.3, 14.1]),
];

/// The chosen classifiers on the test images, by layer, with the paper's for layers of the same names.
pub fn layers_sql(subject: &Subject) -> Vec<String> {
    let axes: Vec<String> = subject.axes.iter().map(|axis| format!("CAST({} AS VARCHAR)", name(axis))).collect();
    let who = if axes.is_empty() { "'here'".to_owned() } else { format!("concat_ws(', ', {})", axes.join(", ")) };
    let of_paper = |(who, values): &(&str, [f64; 5])| {
        let one = |(at, percent): (usize, &f64)| format!("('{who}', 'conv{}', {:.3})", at + 1, percent / 100.0);
        values.iter().enumerate().map(one).collect::<Vec<_>>().join(", ")
    };
    let paper: Vec<String> = PAPER.iter().map(of_paper).collect();
    vec![format!(
        "WITH here AS (
  SELECT {who} AS who, layer, metric, CAST(avg(value) AS REAL) AS value, CAST(stddev(value) AS REAL) AS deviation, count(*) AS seeds
  FROM {} WHERE chosen AND split = 'test' AND class IS NULL AND metric IN ('top1', 'map') GROUP BY {who}, layer, metric),
paper (who, layer, value) AS (VALUES
  {})
SELECT who, layer, metric, value, deviation, seeds FROM here
UNION ALL
SELECT who, layer, 'top1', CAST(value AS REAL), NULL, NULL FROM paper
WHERE layer IN (SELECT layer FROM here WHERE metric = 'top1')
ORDER BY metric, who, layer",
        subject.table(),
        paper.join(",\n  ")
    )]
}

/// A line for each that was probed, and one for each of the paper's.
pub fn layers(page: &Shown<'_>) -> Result<Option<Markup>> {
    let answer = &page.answers[0];
    let [who, layers, metrics] = ["who", "layer", "metric"].map(|name| answer.texts(name));
    let (who, layers, metrics) = (who?, layers?, metrics?);
    let (values, deviations) = (answer.numbers("value")?, answer.numbers("deviation")?);
    let mut charts: Vec<(String, Vec<String>, Vec<Line>)> = Vec::new();
    for row in 0..answer.len() {
        let at = charts.iter().position(|(metric, ..)| metric == metrics.value(row)).unwrap_or_else(|| {
            charts.push((metrics.value(row).to_owned(), Vec::new(), Vec::new()));
            charts.len() - 1
        });
        let (_, places, lines) = &mut charts[at];
        if !places.iter().any(|layer| layer == layers.value(row)) {
            places.push(layers.value(row).to_owned());
            places.sort();
        }
        let at = lines.iter().position(|line| line.name == who.value(row)).unwrap_or_else(|| {
            let dashed = who.value(row).starts_with("paper: ");
            lines.push(Line { name: who.value(row).to_owned(), dashed, ..Line::default() });
            lines.len() - 1
        });
        let deviation = deviations.is_valid(row).then(|| deviations.value(row));
        // The place among the layers is known when all were seen.
        lines[at].points.push((row as f64, values.value(row), deviation));
    }
    let drawn = charts.into_iter().map(|(metric, places, mut lines)| {
        let place = |row: f64| places.iter().position(|layer| layer == layers.value(row as usize)).unwrap_or(0) as f64;
        for line in &mut lines {
            line.points.iter_mut().for_each(|point| point.0 = place(point.0));
            line.points.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        lines.sort_by_key(|line| line.dashed);
        lines.iter_mut().enumerate().for_each(|(at, line)| line.class = colour(at));
        let title = if metric == "top1" { "top-1 accuracy".to_owned() } else { "mean average precision".to_owned() };
        chart(&Chart { title, below: (Below::Names(places), "layer".to_owned()), lines })
    });
    let drawn: Vec<Markup> = drawn.collect();
    Ok((!drawn.is_empty()).then(|| html! { div.charts { @for chart in &drawn { (chart) } } }))
}

/// Each class's average precision.
pub fn precision_sql(subject: &Subject) -> Vec<String> {
    let table = subject.table();
    vec![format!(
        "SELECT layer, class, value FROM {table}
WHERE chosen AND split = 'test' AND metric = 'ap' AND layer = (
  SELECT layer FROM {table} WHERE chosen AND split = 'test' AND metric = 'map' ORDER BY value DESC, layer LIMIT 1)
ORDER BY value DESC, class"
    )]
}

/// Bars.
pub fn precision(page: &Shown<'_>) -> Result<Option<Markup>> {
    let answer = &page.answers[0];
    let (layers, classes, values) = (answer.texts("layer")?, answer.texts("class")?, answer.numbers("value")?);
    let bar = |row: usize| Bar {
        name: vec![classes.value(row).to_owned(), layers.value(row).to_owned()],
        value: values.is_valid(row).then(|| values.value(row)),
        written: None,
    };
    let rows: Vec<Bar> = (0..answer.len()).map(bar).collect();
    Ok((!rows.is_empty()).then(|| bars(&["class", "layer", "average precision"], &rows)))
}
