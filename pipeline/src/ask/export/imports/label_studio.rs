//! Label Studio: a JSON list of tasks with predictions, and the labelling configuration that they fit.
//!
//! Files of a disk are served by Label Studio itself, below the folder that its `LOCAL_FILES_DOCUMENT_ROOT` names; a URL there is the path
//! from that folder on. The folder of a storage has to lie below it, so that it is by default the one that the data set's folder lies in.
//! Objects of buckets are named as they are: their keys are not percent-encoded in `s3://` and the like.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, IntoInnerError, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use quick_xml::Writer;
use serde_json::{Value, json};
use tessera_datasets::as_url;
use tessera_schemas::printable;

use super::super::NewFile;
use super::super::json::{self as members, Members};
use super::places::{Places, parent};
use super::{Items, Told, Wanted, Written, sorted};

/// The name of the image, in a task's data and in the configuration.
pub(super) const IMAGE: &str = "image";
/// The names of what is labelled.
const CLASS: &str = "label";
const BOX: &str = "boxes";
/// What stays as it is in a query: what Label Studio's own URLs have so.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');
/// Schemes of Azure, which Label Studio has another name for.
const AZURE: [&str; 4] = ["az", "azure", "abfs", "abfss"];

/// A file of tasks that is being written.
pub(super) struct Tasks {
    to: PathBuf,
    file: NewFile,
    out: BufWriter<File>,
    /// The configuration, where there is something to label.
    config: Option<(PathBuf, NewFile)>,
    /// What predictions are of.
    model: String,
    /// The folder that files are served from; none if none lies on a disk.
    root: Option<PathBuf>,
    classes: Option<BTreeSet<String>>,
    labels: Option<BTreeSet<String>>,
    is_first: bool,
}

impl Tasks {
    pub(super) fn create(model: String, to: &Path, wanted: &Wanted, told: &Told, places: &Places) -> Result<Self> {
        if to.extension().is_none_or(|ending| !ending.eq_ignore_ascii_case("json")) {
            bail!("Label Studio imports a file that ends in .json, and {} does not: -o tasks.json", to.display());
        }
        let root = match &wanted.document_root {
            Some(root) => Some(std::path::absolute(root)?),
            None => places.folder()?.map(|folder| parent(&folder).to_owned()),
        };
        let file = NewFile::create(to, wanted.force)?;
        let beside = to.with_extension("xml");
        let config = match told.by.is_some() || told.boxes {
            true => Some((beside.clone(), NewFile::create(&beside, wanted.force)?)),
            false => None,
        };
        let mut out = BufWriter::with_capacity(1 << 20, file.file()?);
        out.write_all(b"[")?;
        let classes = told.by.as_ref().map(|_| BTreeSet::new());
        let labels = told.boxes.then(BTreeSet::new);
        Ok(Self { to: to.to_owned(), file, out, config, model, root, classes, labels, is_first: true })
    }

    pub(super) fn write(&mut self, items: &mut Items<'_>) -> Result<()> {
        let options = members::options();
        let (told, rows) = (items.told, items.rows);
        let columns = told.fields().filter_map(|field| Some((field, rows.column_by_name(field.name())?)));
        let mut data = Members::of(columns, &options)?;
        let mut line = Vec::new();
        for row in 0..rows.num_rows() {
            line.clear();
            line.extend_from_slice(if self.is_first { &b"\n"[..] } else { &b",\n"[..] });
            self.is_first = false;
            line.extend_from_slice(b"{\"data\":{\"image\":");
            serde_json::to_writer(&mut line, &url(&items.addresses[row], self.root.as_deref())?)?;
            data.write(row, &mut line);
            line.extend_from_slice(b"},\"predictions\":");
            let result = self.result(items, row)?;
            let predictions = match result.is_empty() {
                true => json!([]),
                false => json!([{ "model_version": self.model, "result": result }]),
            };
            serde_json::to_writer(&mut line, &predictions)?;
            line.push(b'}');
            self.out.write_all(&line).with_context(|| format!("cannot write {}", self.to.display()))?;
        }
        Ok(())
    }

    /// The predictions for an image: its class, and its boxes in percent. An empty text is no class, for nobody could choose it.
    fn result(&mut self, items: &mut Items<'_>, row: usize) -> Result<Vec<Value>> {
        let mut result = Vec::new();
        if let Some(class) = items.class(row).filter(|class| !class.is_empty()) {
            note(&mut self.classes, class)?;
            result.push(json!({
                "id": "class", "from_name": CLASS, "to_name": IMAGE, "type": "choices", "value": { "choices": [class] },
            }));
        }
        let size = items.size(row);
        for (at, one) in items.rectangles(row)?.unwrap_or_default().iter().enumerate() {
            note(&mut self.labels, one.label)?;
            let (width, height) = size.context("boxes have a size")?;
            result.push(json!({
                "id": format!("box{at}"), "from_name": BOX, "to_name": IMAGE, "type": "rectanglelabels",
                "original_width": width, "original_height": height, "image_rotation": 0,
                "value": {
                    "x": 100.0 * one.left, "y": 100.0 * one.top, "width": 100.0 * one.width, "height": 100.0 * one.height,
                    "rotation": 0, "rectanglelabels": [one.label],
                },
            }));
        }
        Ok(result)
    }

    pub(super) fn finish(mut self, written: &mut Written) -> Result<()> {
        self.out.write_all(b"\n]\n")?;
        self.out.into_inner().map_err(IntoInnerError::into_error)?;
        if let Some((path, file)) = self.config {
            file.file()?.write_all(&config(self.classes.map(sorted), self.labels.map(sorted))?)?;
            written.bytes += file.finish()?;
            written.beside.push(format!("labelling configuration: {}", path.display()));
        }
        if let Some(root) = &self.root {
            written.beside.push(format!("it takes LOCAL_FILES_DOCUMENT_ROOT={}", printable(&root.to_string_lossy())));
        }
        written.bytes += self.file.finish()?;
        Ok(())
    }
}

/// Keeps the name of a class that XML can hold.
fn note(names: &mut Option<BTreeSet<String>>, name: &str) -> Result<()> {
    if let Some(names) = names
        && !names.contains(name)
    {
        if name.chars().any(|c| c.is_control() || ['\u{fffe}', '\u{ffff}'].contains(&c)) {
            bail!("the class `{}` has characters that Label Studio's configuration cannot hold", printable(name));
        }
        names.insert(name.to_owned());
    }
    Ok(())
}

/// Where Label Studio finds a file or an object.
fn url(address: &str, root: Option<&Path>) -> Result<String> {
    if let Some(url) = as_url(Path::new(address)) {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        return Ok(match scheme {
            "s3a" => format!("s3://{rest}"),
            scheme if AZURE.contains(&scheme) => {
                let (place, key) = rest.split_once('/').unwrap_or((rest, ""));
                format!("azure-blob://{}/{key}", place.split('@').next().unwrap_or(place))
            }
            _ => url.to_owned(),
        });
    }
    let Some(root) = root else {
        bail!("the images lie in several folders: --document-root names the one above them that Label Studio serves");
    };
    let below = Path::new(address).strip_prefix(root).ok().and_then(Path::to_str);
    let below = below.with_context(|| {
        format!(
            "{} does not lie below {}: --document-root names a folder above all images",
            printable(address),
            root.display()
        )
    })?;
    Ok(format!("/data/local-files/?d={}", utf8_percent_encode(below, PLAIN)))
}

/// The labelling configuration.
fn config(classes: Option<Vec<String>>, labels: Option<Vec<String>>) -> Result<Vec<u8>> {
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    writer.create_element("View").write_inner_content(|view| {
        view.create_element("Image").with_attributes([("name", IMAGE), ("value", "$image")]).write_empty()?;
        if let Some(classes) = &classes {
            let choices = [("name", CLASS), ("toName", IMAGE), ("choice", "single"), ("showInline", "true")];
            view.create_element("Choices").with_attributes(choices).write_inner_content(|choices| {
                for class in classes {
                    choices.create_element("Choice").with_attribute(("value", class.as_str())).write_empty()?;
                }
                Ok(())
            })?;
        }
        if let Some(labels) = &labels {
            let rectangles = [("name", BOX), ("toName", IMAGE)];
            view.create_element("RectangleLabels").with_attributes(rectangles).write_inner_content(|rectangles| {
                for label in labels {
                    rectangles.create_element("Label").with_attribute(("value", label.as_str())).write_empty()?;
                }
                Ok(())
            })?;
        }
        Ok(())
    })?;
    let mut text = writer.into_inner();
    text.push(b'\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_from_the_document_root_on() {
        let url = |address: &str| url(address, Some(Path::new("/data"))).map_err(|error| error.to_string());
        assert_eq!(url("/data/set/a b+#?&%ż.png"), Ok("/data/local-files/?d=set/a%20b%2B%23%3F%26%25%C5%BC.png".into()));
        assert!(url("/other/a.png").unwrap_err().starts_with("/other/a.png does not lie below /data: --document-root "));
        assert_eq!(url("s3://b/a b%.png"), Ok("s3://b/a b%.png".into()));
        assert_eq!(url("s3a://b/a.png"), Ok("s3://b/a.png".into()));
        assert_eq!(url("abfss://box@account.dfs.core.windows.net/a.png"), Ok("azure-blob://box/a.png".into()));
        assert_eq!(url("az://box/x/a.png"), Ok("azure-blob://box/x/a.png".into()));
    }

    #[test]
    fn the_configuration_names_what_tasks_predict() {
        let names = |names: &[&str]| sorted(names.iter().map(|&name| name.to_owned()).collect());
        let text =
            String::from_utf8(config(Some(names(&["10", "9"])), Some(names(&["a<\"b\"&c", "9", "10"]))).unwrap()).unwrap();
        assert_eq!(
            text,
            r#"<View>
  <Image name="image" value="$image"/>
  <Choices name="label" toName="image" choice="single" showInline="true">
    <Choice value="9"/>
    <Choice value="10"/>
  </Choices>
  <RectangleLabels name="boxes" toName="image">
    <Label value="10"/>
    <Label value="9"/>
    <Label value="a&lt;&quot;b&quot;&amp;c"/>
  </RectangleLabels>
</View>
"#
        );
        assert!(note(&mut Some(BTreeSet::new()), "a\nb").is_err());
    }
}
