//! Opening the data set that a stage names, and saying what is wrong with its keys.

use std::path::{Path, PathBuf};

use glob::Pattern;
use tessera_datasets::folder::naming::{Label, Naming};
use tessera_datasets::formats::{Format, Opened, Options};
use tessera_datasets::masks::Hiding;
use tessera_datasets::tar::is_shards;
use tessera_datasets::{Files, URL_EXAMPLES, URL_SCHEMES, as_url, masks, voc};
use tessera_schemas::{BYTES, IMAGE_ID, PREVIOUS, images, pixels};

use super::Config;
use crate::operator::{BindError, Binding};

/// The data set, and its format.
///
/// # Errors
/// What is wrong with its keys, or with what lies there.
pub(super) fn open(config: &Config, inputs: &Binding<'_>) -> Result<(Format, Opened), Vec<BindError>> {
    let root = inputs.resolve(&config.path);
    there(&root)?;
    let masks = config.masks.as_deref().map(|masks| mask_folder(&root, masks)).transpose()?;
    let faulty = |error: tessera_datasets::Error| vec![BindError::key("path", error.to_string())];
    let recognise = |files: &dyn Files| Format::recognise(files, &root).map_err(faulty);
    let format = match (config.format, &masks) {
        (Some(format), _) => format,
        (None, Some(masks)) => recognise(&Hiding::new(inputs.files, root.join(masks)))?,
        (None, None) => recognise(inputs.files)?,
    };
    if format == Format::Voc {
        check_voc(&config.path, &root)?;
    } else if format == Format::Folder && as_url(&root).is_none() && !root.is_dir() {
        let error = BindError::key("path", format!("`{}` is no folder, and of no format that is known", root.display()));
        return Err(vec![
            error.help("a data set is a folder of images, a Parquet, Arrow or HDF5 file of them, or a list of their paths"),
        ]);
    }
    let options = Options { masks, ..options(config, format)? };
    let opened = format.open(inputs.files, &root, &options).map_err(|error| {
        let error = BindError::key("path", error.to_string());
        vec![if format == Format::Voc { error.help("format = \"folder\" lists images without classes") } else { error }]
    })?;
    if format == Format::Voc {
        check_classes(&opened)?;
    }
    Ok((format, opened))
}

/// Whether anything is there.
fn there(root: &Path) -> Result<(), Vec<BindError>> {
    if let Some(url) = as_url(root) {
        // What lies in a bucket is asked when it is listed.
        let scheme = url.split("://").next().unwrap_or_default();
        if !URL_SCHEMES.contains(&scheme) {
            let error = BindError::key("path", format!("`{url}` is of no object store that is known"));
            return Err(vec![error.help(format!("a data set is a folder, or {URL_EXAMPLES}"))]);
        }
    } else if !root.exists() && !is_shards(&root.to_string_lossy()) {
        // A pattern of tars is no path.
        let error = BindError::key("path", format!("the folder or file `{}` does not exist", root.display()));
        return Err(vec![error.help("a relative path starts from the pipeline file's folder")]);
    }
    Ok(())
}

/// The keys that say what is left open; each belongs to a format.
fn options(config: &Config, format: Format) -> Result<Options, Vec<BindError>> {
    let mut errors = Vec::new();
    let of_folder = [
        ("label", config.label.is_some()),
        ("splits", config.splits.is_some()),
        ("include", !config.include.is_empty()),
        ("exclude", !config.exclude.is_empty()),
    ];
    let of_rows = [("column", config.column.is_some())];
    let mut belong = |keys: &[(&str, bool)], to: &[Format]| {
        for (key, _) in keys.iter().filter(|(_, given)| *given && !to.contains(&format)) {
            let name = |format: &Format| serde_json::to_string(format).unwrap_or_default();
            let to = to.iter().map(name).collect::<Vec<_>>().join(" or ");
            let message = format!("`{key}` is for format = {to}, and the data set is {}", name(&format));
            errors.push(BindError::key(key, message));
        }
    };
    belong(&of_folder, &[Format::Folder]);
    belong(&[("ids", config.ids.is_some())], &[Format::WebDataset]);
    belong(&of_rows, &[Format::Parquet, Format::Arrow, Format::Hdf5, Format::List]);
    belong(&[("masks", config.masks.is_some())], &Format::WITH_MASKS);
    let mut patterns = |key: &str, texts: &[String]| -> Vec<Pattern> {
        let pattern = |text: &String| match Pattern::new(text) {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                let message = format!("`{text}` is no pattern: {} (at byte {})", error.msg, error.pos);
                errors.push(BindError::key(key, message).help("such as \"*.jpg\", \"2024/**\" or \"**/thumb_*\""));
                None
            }
        };
        texts.iter().filter_map(pattern).collect()
    };
    let (include, exclude) = (patterns("include", &config.include), patterns("exclude", &config.exclude));
    let label = config.label.as_deref().map_or(Ok(Label::default()), str::parse).unwrap_or_else(|message: String| {
        let help = "\"path:1\" is the first folder of the path, \"regex:^(\\w+)_\" what the group matches, \"none\" none";
        errors.push(BindError::key("label", message).help(help));
        Label::None
    });
    if !errors.is_empty() {
        return Err(errors);
    }
    let naming = Naming { label, include, exclude };
    let ids = config.ids.unwrap_or_default();
    Ok(Options { naming, splits: config.splits, column: config.column.clone(), ids, masks: None })
}

/// The folder of masks, as paths have it.
fn mask_folder(root: &Path, masks: &Path) -> Result<String, Vec<BindError>> {
    let Some(folder) = masks::folder(masks) else {
        let message = format!("`{}` is no folder within the data set's", masks.display());
        let help = "it starts from `path`, as \"SegmentationClass\" does: let `path` be the folder of both images and masks";
        return Err(vec![BindError::key("masks", message).help(help)]);
    };
    let place = root.join(&folder);
    if as_url(root).is_none() && root.is_dir() && !place.is_dir() {
        let message = format!("the folder `{}` does not exist", place.display());
        return Err(vec![BindError::key("masks", message).help("it starts from `path`")]);
    }
    Ok(folder)
}

/// Whether a folder has what VOC's have.
fn check_voc(path: &Path, root: &Path) -> Result<(), Vec<BindError>> {
    let is_remote = as_url(root).is_some();
    let is_lacking = |folder: &&str| !is_remote && !root.join(folder).is_dir();
    let lacking: Vec<&str> = [voc::IMAGES, voc::SETS].into_iter().filter(is_lacking).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let message = format!("the folder `{}` has no {}", root.display(), lacking.join(" and no "));
    let help = match within(root) {
        Some(inner) => format!("`{}` has: try path = {:?}", inner.display(), path.join(&inner)),
        None => format!("format \"voc\" needs a folder such as VOC2007, with {} and {}", voc::IMAGES, voc::SETS),
    };
    Err(vec![BindError::key("path", message).help(help)])
}

/// Whether each class may be a column.
fn check_classes(opened: &Opened) -> Result<(), Vec<BindError>> {
    let schema = images::schema();
    let taken: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let taken = [&taken[..], &[IMAGE_ID, voc::SPLIT, BYTES, PREVIOUS, pixels::PIXELS]].concat();
    let columns = opened.layout.schema();
    let classes = tessera_schemas::presence::names(&columns);
    let errors: Vec<BindError> = classes
        .into_iter()
        .filter(|class| taken.contains(&class.as_str()))
        .map(|class| {
            let message = format!("the class `{class}` of `{}` has the name of a column that images have", voc::SETS);
            BindError::key("path", message).help(format!("rename its files, `{class}_*.txt`"))
        })
        .collect();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// The data set that lies in the folder, or in one of it, such as `VOCdevkit`: relative to it, the first by name.
fn within(root: &Path) -> Option<PathBuf> {
    let inner = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
        let mut folders: Vec<PathBuf> = entries.map(|entry| folder.join(entry.file_name())).collect();
        folders.sort();
        folders
    };
    let below = inner(Path::new(""));
    let deeper = below.iter().flat_map(|folder| inner(folder));
    below.iter().cloned().chain(deeper).find(|folder| {
        let folder = root.join(folder);
        folder.join(voc::IMAGES).is_dir() && folder.join(voc::SETS).is_dir()
    })
}
