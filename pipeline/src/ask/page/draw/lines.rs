//! Lines over an axis of numbers or of names, with their deviations.

use maud::{Markup, html};

use super::axis::Axis;
use super::{colour, cut, px, shown};
use crate::ask::page::answer::short;

/// Pixels of a chart, and of what is around it: above, to the right, below, to the left.
const SIZE: (f64, f64) = (360.0, 220.0);
const AROUND: (f64, f64, f64, f64) = (12.0, 26.0, 38.0, 52.0);
/// Ticks of an axis of values.
const TICKS: usize = 4;
/// Names or settings that are written below a chart; of more, some are left out.
const WRITTEN: usize = 8;
/// Points of a line that are marked, each with its values.
const MARKED: usize = 40;

/// Where, what, and the deviation.
pub type Point = (f64, f64, Option<f64>);

/// Points of one thing, from left to right.
#[derive(Debug, Clone, Default)]
pub struct Line {
    /// What it is.
    pub name: String,
    /// The class that gives it its colour.
    pub class: String,
    /// Whether it is drawn with dashes.
    pub dashed: bool,
    /// Its points.
    pub points: Vec<Point>,
}

/// What is below a chart.
#[derive(Debug, Clone)]
pub enum Below {
    /// Numbers at which something was measured.
    Numbers,
    /// Settings that were tried, and no others.
    Settings,
    /// Names, at 0, 1, 2, …
    Names(Vec<String>),
}

/// A chart.
#[derive(Debug, Clone)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// What is below it, and what that is called.
    pub below: (Below, String),
    /// Its lines.
    pub lines: Vec<Line>,
}

/// Gives lines colours by their places.
pub fn coloured(lines: &mut [Line]) {
    lines.iter_mut().enumerate().for_each(|(at, line)| line.class = colour(at));
}

/// Draws a chart.
pub fn chart(chart: &Chart) -> Markup {
    let (above, right, under, left) = AROUND;
    let (width, height) = (SIZE.0 - left - right, SIZE.1 - above - under);
    let points = || chart.lines.iter().flat_map(|line| line.points.iter().copied());
    let across = match &chart.below.0 {
        Below::Numbers => Axis::over(points().map(|(x, ..)| x), TICKS),
        Below::Settings => Axis::of_settings(&points().map(|(x, ..)| x).collect::<Vec<_>>()),
        Below::Names(names) => Axis::of_settings(&(0..names.len()).map(|at| at as f64).collect::<Vec<_>>()),
    };
    let spread = points().flat_map(|(_, y, deviation)| {
        let deviation = deviation.filter(|deviation| deviation.is_finite()).unwrap_or(0.0);
        [y - deviation, y + deviation]
    });
    let up = Axis::over(spread, TICKS);
    let x = |value: f64| px(left + across.place(value) * width);
    let y = |value: f64| px(above + (1.0 - up.place(value)) * height);
    let every = across.ticks.len().div_ceil(WRITTEN);
    let below = |value: f64| match &chart.below.0 {
        Below::Names(names) => names.get(value as usize).map_or_else(String::new, |name| cut(name, 9).into_owned()),
        _ => short(value),
    };
    html! {
        figure.chart {
            figcaption { (shown(&chart.title)) }
            svg viewBox=(format!("0 0 {} {}", SIZE.0, SIZE.1)) role="img" aria-label=(description(chart)) {
                @for &tick in &up.ticks {
                    line.grid x1=(left) x2=(SIZE.0 - right) y1=(y(tick)) y2=(y(tick)) {}
                    text.tick x=(left - 6.0) y=(px(y(tick) + 4.0)) text-anchor="end" { (short(tick)) }
                }
                @for (at, &tick) in across.ticks.iter().enumerate() {
                    @if at % every == 0 {
                        text.tick x=(x(tick)) y=(SIZE.1 - under + 15.0) text-anchor="middle" { (below(tick)) }
                    }
                }
                text.axis x=(px(left + width / 2.0)) y=(SIZE.1 - 5.0) text-anchor="middle" { (cut(&chart.below.1, 40)) }
                @for line in &chart.lines { (drawn(line, &x, &y)) }
            }
            @if chart.lines.len() > 1 { (legend(&chart.lines)) }
        }
    }
}

/// What a chart shows, in words.
fn description(chart: &Chart) -> String {
    let one = |line: &Line| match (line.points.first(), line.points.last()) {
        (Some(first), Some(last)) if line.points.len() > 1 => {
            format!("{} from {} to {}", cut(&line.name, 60), short(first.1), short(last.1))
        }
        (Some(only), _) => format!("{} {}", cut(&line.name, 60), short(only.1)),
        _ => format!("{} without values", cut(&line.name, 60)),
    };
    let lines: Vec<String> = chart.lines.iter().take(12).map(one).collect();
    format!("{} over {}: {}", cut(&chart.title, 80), cut(&chart.below.1, 40), lines.join("; "))
}

fn drawn(line: &Line, x: &dyn Fn(f64) -> f64, y: &dyn Fn(f64) -> f64) -> Markup {
    // What is no number breaks a line.
    let pieces: Vec<&[Point]> =
        line.points.split(|(x, y, _)| !x.is_finite() || !y.is_finite()).filter(|piece| !piece.is_empty()).collect();
    let path = |piece: &[Point]| {
        piece.iter().map(|(at, value, _)| format!("{},{}", x(*at), y(*value))).collect::<Vec<_>>().join(" ")
    };
    let class = format!("line {}{}", line.class, if line.dashed { " dashed" } else { "" });
    let points = || pieces.iter().flat_map(|piece| piece.iter());
    let spread = |deviation: &Option<f64>| deviation.filter(|deviation| deviation.is_finite() && *deviation > 0.0);
    html! {
        g class=(class) {
            @for piece in &pieces {
                @let band: Vec<_> = piece.iter().filter_map(|(at, value, by)| Some((*at, *value, spread(by)?))).collect();
                @if band.len() > 1 {
                    @let upper = band.iter().map(|(at, value, by)| format!("{},{}", x(*at), y(value + by)));
                    @let lower = band.iter().rev().map(|(at, value, by)| format!("{},{}", x(*at), y(value - by)));
                    polygon.band points=(upper.chain(lower).collect::<Vec<_>>().join(" ")) {}
                }
                @if piece.len() > 1 { polyline points=(path(piece)) {} }
            }
            @if line.points.len() <= MARKED {
                @for (at, value, deviation) in points() {
                    @if let Some(by) = spread(deviation) {
                        line x1=(x(*at)) x2=(x(*at)) y1=(y(value - by)) y2=(y(value + by)) {}
                    }
                    circle cx=(x(*at)) cy=(y(*value)) r="3" {
                        title { (cut(&line.name, 60)) ": " (short(*value)) @if let Some(by) = deviation { " ± " (short(*by)) } }
                    }
                }
            }
        }
    }
}

fn legend(lines: &[Line]) -> Markup {
    html! {
        ul.legend {
            @for line in lines.iter().filter(|line| line.class != "rest") {
                li class=(line.class) {
                    svg aria-hidden="true" width="18" height="8" {
                        line class=(if line.dashed { "dashed" } else { "whole" }) x1="0" x2="18" y1="4" y2="4" {}
                    }
                    " " (shown(&line.name))
                }
            }
            @let rest = lines.iter().filter(|line| line.class == "rest").count();
            @if rest > 0 { li.rest { svg aria-hidden="true" width="18" height="8" { line x1="0" x2="18" y1="4" y2="4" {} } " " (rest) " more" } }
        }
    }
}
