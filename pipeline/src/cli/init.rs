//! `tessera init`: a pipeline file for a folder of images, which works as it stands.

mod estimate;
mod fill;
mod found;
mod label_file;
mod place;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use tessera_datasets::local::joined;
use tessera_schemas::printable;

use super::{Session, Usage, counted};
use crate::ask::export::NewFile;
use crate::declare::faults::Faults;
use crate::declare::file::PipelineFile;
use fill::{Filled, Way};
use found::Found;

/// What `init --help` says at its end.
pub(super) const HELP: &str = "\
The pipeline works as it stands: features of each image, clusters of them, and each image's cluster. By default a small network learns
its features from puzzles, which takes minutes to hours; --features hog needs no training and takes seconds; --model has a network of
your own compute them. It recognises data sets of PASCAL VOC, COCO, YOLO and ImageNet, halves (train, val, test), and a file of labels
(labels.csv) beside or among the images. Then the pipeline is tried on a few images, to say how long a run will take.
Examples:
  tessera init photos
  tessera init ~/photos --features hog
  tessera init photos --model dinov2.ts
  tessera init photos --label
  tessera init /data/photos -o experiments/photos.toml";

/// Sides of images that a model is tried with, in pixels, the usual ones first.
const MODEL_SIDES: [u32; 8] = [224, 256, 384, 128, 96, 64, 48, 32];

/// Which folder, and where the pipeline goes.
#[derive(Debug, Args)]
pub struct Init {
    /// The folder of images.
    #[arg(value_name = "FOLDER", value_hint = clap::ValueHint::DirPath)]
    folder: PathBuf,
    /// The pipeline file to write.
    #[arg(long, short, value_name = "FILE", default_value = "pipeline.toml", value_hint = clap::ValueHint::FilePath)]
    output: PathBuf,
    /// Where features come from.
    #[arg(long, value_enum, default_value_t)]
    features: Features,
    /// A TorchScript model whose output is an image's features, in place of a network that is trained.
    #[arg(long, value_name = "FILE", conflicts_with = "features", value_hint = clap::ValueHint::FilePath)]
    model: Option<PathBuf>,
    /// Name clusters: with stages that give the names to images, and learn from them.
    #[arg(long)]
    label: bool,
    /// Do not try the pipeline on a few images to say how long a run will take.
    #[arg(long)]
    no_trial: bool,
    /// Print it instead, and try nothing.
    #[arg(long)]
    stdout: bool,
    /// Overwrite a file that is there.
    #[arg(long)]
    force: bool,
}

/// Where features come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Features {
    /// A small network that learns to solve puzzles of the images.
    #[default]
    Puzzles,
    /// Histograms of oriented gradients: nothing is trained.
    Hog,
}

impl Init {
    pub(super) fn run(self, out: &mut dyn Write, threads: Option<u16>) -> Result<()> {
        // As the pipeline file's keys are read: `~` may come from a shell that left it.
        let folder = joined(Path::new(""), &self.folder);
        let found = Found::look(&folder)?;
        let base = if self.stdout { Path::new("") } else { self.output.parent().unwrap_or(Path::new("")) };
        let labels = label_file::find(&folder, &found)?;
        let named = |path: &Path| place::from(base, path);
        let label_path =
            labels.as_ref().map(|labels| named(&place::beside(&self.folder, &labels.path, &folder))).transpose()?;
        let filled = Filled {
            found: &found,
            path: named(&self.folder)?,
            labels: labels.as_ref().zip(label_path),
            named: self.label,
            way: match (&self.model, self.features) {
                (Some(model), _) => Way::Model { file: named(model)?, side: MODEL_SIDES[0] },
                (None, Features::Hog) => Way::Hog,
                (None, Features::Puzzles) => Way::Puzzles,
            },
        };
        if self.stdout {
            write!(out, "{}", filled.text())?;
            return Ok(());
        }
        let filled = self.checked(filled, threads)?;
        let text = filled.text();
        let file = NewFile::create(&self.output, self.force)?;
        file.file()?.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", self.output.display()))?;
        file.finish()?;
        found.tell(out)?;
        if let Some((labels, path)) = &filled.labels {
            writeln!(out, "{}", labels.sentence(path))?;
        }
        writeln!(out, "wrote {}", printable(&self.output.to_string_lossy()))?;
        if !self.no_trial {
            out.flush()?;
            estimate::tell(out, &self.output, &filled, threads)?;
        }
        next(out, &filled, &self.output)
    }

    /// The same with a side that the model takes, if there is a model.
    ///
    /// # Errors
    /// The pipeline would not bind: what is wrong with the model, or with the data set.
    fn checked<'a>(&self, mut filled: Filled<'a>, threads: Option<u16>) -> Result<Filled<'a>> {
        let mut first = None;
        for side in MODEL_SIDES {
            if let Way::Model { side: tried, .. } = &mut filled.way {
                *tried = side;
            }
            let file = PipelineFile::parse(&self.output, filled.text(), &[])?;
            match Session::of(file, threads, None) {
                Ok(_) => return Ok(filled),
                Err(error) => first = first.or(Some(error)),
            }
            if !matches!(filled.way, Way::Model { .. }) {
                break;
            }
        }
        let Some(error) = first else { return Ok(filled) };
        match error.downcast_ref::<Faults>() {
            Some(faults) => {
                let said: Vec<&str> = faults.faults.iter().map(|fault| fault.message.as_str()).collect();
                Err(Usage(format!("a pipeline of this folder would not work: {}", said.join("; "))).into())
            }
            None => Err(error),
        }
    }
}

/// What to do next.
fn next(out: &mut dyn Write, filled: &Filled<'_>, file: &Path) -> Result<()> {
    let file = file.to_string_lossy();
    let file = printable(&file);
    // As many clusters as a trial can have.
    let fewer = if filled.clusters() > TRIED / 2 { format!(" --set clusters.k={}", TRIED / 10) } else { String::new() };
    writeln!(out, "next:\n  tessera run {file} --limit {TRIED}{fewer}    # a trial on {}", counted(TRIED, "image"))?;
    writeln!(out, "  tessera run {file}\n  tessera show {file} assigned -o clusters.png")?;
    if filled.has_label() {
        let (from, of) = match filled.labels {
            Some(_) => ("labelled", "WHERE label IS NOT NULL"),
            None => ("assigned JOIN images USING (image_id)", ""),
        };
        let query = format!("SELECT nmi(cluster, label), purity(cluster, label) FROM {from} {of}");
        writeln!(out, "  tessera sql {file} \"{}\"", query.trim_end())?;
    }
    if filled.named {
        writeln!(out, "  tessera serve {file} --edit    # and name clusters at /label")?;
    }
    if filled.can_probe() {
        writeln!(
            out,
            "to measure how well the features tell the labels apart, take the # away from the last lines of {file}"
        )?;
    }
    Ok(())
}

/// Images of the trial that is proposed.
const TRIED: usize = 100;
