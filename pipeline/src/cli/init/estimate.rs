//! How long a run will take on this machine, measured on a few images before it is begun.
//!
//! The pipeline runs over some of the images, in a store of its own that goes afterwards: once over very few, for what is loaded and started only
//! once, and then over two samples of different sizes. What a stage takes grows with the rows that it works on, so the two tell what a row takes.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use arrow::datatypes::DataType;
use tessera_schemas::features::FEATURE;

use super::super::Session;
use super::fill::{Filled, Way};
use crate::declare::file::{Override, PipelineFile};
use crate::run::{self, Options};
use crate::store::attempt;
use crate::watch::interrupt::Interrupted;
use crate::watch::progress::{Reporter, tell as say};

/// Images of the first, the smaller and the larger sample.
const SAMPLES: [usize; 3] = [4, 16, 64];
/// Epochs of the larger sample: more steps of the training.
const EPOCHS: usize = 3;
/// Seconds that the smaller sample may take if the larger one is to follow.
const PATIENCE: f64 = 5.0;
/// Iterations of k-means until clusters come to rest, and what a core multiplies and adds in a second: as far as that is known before.
const ITERATIONS: f64 = 20.0;
const MULTIPLIED: f64 = 5e10;
/// Seconds that nobody plans with.
const FEW: f64 = 5.0;
/// The stages whose time is measured, and what it goes to.
const TOLD: [(&str, &str); 3] = [("pretext", "training"), ("features", "features"), ("images", "reading the images")];

/// A folder for a store, which goes with this.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What the stages took over a sample.
struct Sample {
    images: usize,
    epochs: usize,
    seconds: BTreeMap<String, f64>,
    /// Values of a feature.
    values: usize,
    threads: usize,
}

/// Says how long a run of a file will take. That the trial failed is told as well: so will a run.
///
/// # Errors
/// It was interrupted, or the output is closed.
pub fn tell(out: &mut dyn Write, file: &Path, filled: &Filled<'_>, threads: Option<u16>) -> Result<()> {
    let images = filled.found.images;
    if images < 2 {
        return Ok(());
    }
    if std::io::stderr().is_terminal() {
        say("trying it on a few images, to say how long a run will take …");
    }
    let measured = match measure(file, filled, threads) {
        Ok(measured) => measured,
        Err(error) if error.is::<Interrupted>() => return Err(error),
        Err(error) => {
            say(format_args!("note: a trial on a few of the images failed, and so may a run: {error:#}"));
            return Ok(());
        }
    };
    let of = |stage: &str| expected(&measured, stage, images, filled.epochs());
    let mut parts: Vec<(f64, &str)> = TOLD.iter().map(|(stage, what)| (of(stage), *what)).collect();
    parts.extend(measured.last().map(|last| {
        let distances = (images * filled.clusters() * last.values) as f64;
        (distances * 2.0 * ITERATIONS / (MULTIPLIED * last.threads as f64), "clusters")
    }));
    let total: f64 = parts.iter().map(|(seconds, _)| seconds).sum();
    if total < FEW {
        writeln!(out, "a run will take a few seconds on this machine")?;
        return Ok(());
    }
    parts.sort_by(|a, b| b.0.total_cmp(&a.0));
    let most: Vec<String> = match parts.iter().filter(|(seconds, _)| *seconds >= total / 10.0).collect::<Vec<_>>()[..] {
        [(_, what)] => vec![format!("nearly all of it {what}")],
        ref several => several.iter().map(|(seconds, what)| format!("{} of {what}", span(*seconds))).collect(),
    };
    writeln!(out, "a run will take about {} on this machine: {}", span(total), most.join(", "))?;
    if matches!(filled.way, Way::Puzzles) && total > 120.0 {
        writeln!(out, "`init --features hog` writes one that needs no training")?;
    }
    Ok(())
}

/// Runs the samples.
fn measure(file: &Path, filled: &Filled<'_>, threads: Option<u16>) -> Result<Vec<Sample>> {
    let scratch = Scratch(std::env::temp_dir().join(format!("tessera-init-{}", attempt())));
    let mut measured = Vec::new();
    for (at, images) in SAMPLES.into_iter().enumerate() {
        let (images, epochs) = (images.min(filled.found.images), if at == 2 { EPOCHS } else { 1 });
        let set = |stage: &str, key: &str, value: usize| Override {
            stage: stage.to_owned(),
            key: key.to_owned(),
            value: value.to_string(),
        };
        let mut overrides = vec![set("clusters", "k", 2)];
        if matches!(filled.way, Way::Puzzles) {
            overrides.push(set("pretext", "epochs", epochs));
        }
        let mut parsed = PipelineFile::parse(file, filled.text(), &overrides)?;
        // Each has its own, so that none goes on from another's.
        parsed.store = scratch.0.join(at.to_string());
        let session = Session::of(parsed, threads, u32::try_from(images).ok())?;
        session.catalog.engine.interrupt.install()?;
        // So few images may have no label.
        let to = if filled.labels.is_some() { vec!["assigned".to_owned()] } else { Vec::new() };
        let options = Options { to, force: Vec::new() };
        let _lock = session.catalog.store.lock(&|line| say(line))?;
        let report = session.runtime.block_on(run::run(&session.catalog, &options, Reporter::silent()))?;
        let seconds = report.stages.into_iter().map(|stage| (stage.stage, stage.seconds)).collect();
        let features = session.stage("features")?;
        let values = match session.catalog.plan.stages[features].schema.column_with_name(FEATURE) {
            Some((_, field)) => match field.data_type() {
                DataType::FixedSizeList(_, values) => usize::try_from(*values).unwrap_or(0),
                _ => 0,
            },
            None => 0,
        };
        measured.push(Sample { images, epochs, seconds, values, threads: session.catalog.engine.threads });
        if at == 1 && report.seconds > PATIENCE {
            break;
        }
    }
    Ok(measured)
}

/// What a stage will take: what it takes once, and what it takes a row.
fn expected(measured: &[Sample], stage: &str, images: usize, epochs: usize) -> f64 {
    let units = |images: usize, epochs: usize| (if stage == "pretext" { images * epochs } else { images }) as f64;
    let of = |sample: &Sample| (units(sample.images, sample.epochs), sample.seconds.get(stage).copied().unwrap_or(0.0));
    let all = units(images, epochs);
    match measured {
        [_, small, large] if of(large).0 > of(small).0 => {
            let ((few, short), (many, long)) = (of(small), of(large));
            // Noise may make the larger one the faster.
            let rate = ((long - short) / (many - few)).max(0.1 * long / many);
            long + rate * (all - many).max(0.0)
        }
        [.., only] => of(only).1 * (all / of(only).0.max(1.0)).max(1.0),
        [] => 0.0,
    }
}

/// A span of time, as exactly as it can be told.
fn span(seconds: f64) -> String {
    let (number, unit) = match seconds {
        s if s < 1.5 => (1.0, "second"),
        s if s < 20.0 => (s.round(), "seconds"),
        s if s < 90.0 => ((s / 5.0).round() * 5.0, "seconds"),
        s if s < 5400.0 => ((s / 60.0).round(), "minutes"),
        s => ((s / 3600.0).round(), "hours"),
    };
    format!("{number} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(images: usize, epochs: usize, seconds: f64) -> Sample {
        let seconds = BTreeMap::from([("pretext".to_owned(), seconds), ("features".to_owned(), seconds)]);
        Sample { images, epochs, seconds, values: 4, threads: 2 }
    }

    #[test]
    fn time_grows_with_the_rows() {
        // 2 seconds, and 0.1 a row.
        let measured = [sample(4, 1, 9.0), sample(16, 1, 3.6), sample(64, 3, 21.2)];
        assert!((expected(&measured, "pretext", 1000, 10) - 1002.0).abs() < 1e-6);
        assert!((expected(&measured, "pretext", 64, 3) - 21.2).abs() < 1e-6);
        assert!(
            (expected(&measured[..2], "features", 32, 1) - 7.2).abs() < 1e-6,
            "the first sample says only what is loaded"
        );
        assert!((expected(&[sample(16, 1, 8.0)], "features", 32, 1) - 16.0).abs() < 1e-6);
        assert_eq!(expected(&measured, "absent", 1000, 1), 0.0);
        let noisy = [sample(4, 1, 1.0), sample(16, 1, 1.0), sample(64, 1, 0.64)];
        assert!((expected(&noisy, "features", 1064, 1) - 1.64).abs() < 1e-6);
    }

    #[test]
    fn spans_are_told_as_exactly_as_they_are_known() {
        let told = [0.2, 7.4, 42.0, 89.0, 700.0, 5000.0, 9000.0].map(span);
        assert_eq!(told, ["1 second", "7 seconds", "40 seconds", "90 seconds", "12 minutes", "83 minutes", "3 hours"]);
    }
}
