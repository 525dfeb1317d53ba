//! The rows of a shard.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use serde::de::IgnoredAny;
use tessera_schemas::images::{self, About, Image, Source};

use super::rule::{self, Ids, Labels, Rule};
use super::tape::{Packing, Raw};
use super::walk::{Part, Walk};
use crate::header::Header;
use crate::layout::Found;
use crate::{Error, FileDigest, Files, Fingerprint, UNREADABLE, folder};

/// Bytes that an image may have: all of them are in memory at once.
const MOST_BYTES: u64 = 1 << 30;
/// Bytes that the text of a member may have.
const MOST_TEXT: u64 = 16 << 20;
/// Bytes of text that the rows of a batch have, if they are several.
const BATCH_TEXT: usize = 32 << 20;

/// The text of a sample's members: first the label, if it is a member, then the columns.
type Texts = Vec<Option<String>>;

/// An image and its sample's text.
struct Row {
    part: Part,
    digest: FileDigest,
    header: Header,
    texts: Rc<Texts>,
}

/// The sample whose members come.
#[derive(Default)]
struct Sample {
    key: String,
    images: Vec<(Part, FileDigest, Header)>,
    texts: Texts,
}

/// The rows of one shard, as they are made.
pub struct Rows<'a> {
    rule: &'a Rule,
    schema: SchemaRef,
    shard: &'a str,
    walk: Walk<'a>,
    /// The place of an ending's text.
    places: HashMap<&'a str, usize>,
    sample: Sample,
    ready: VecDeque<Row>,
    ready_text: usize,
    /// Hashes of the images' names, which may be many.
    names: HashSet<FileDigest>,
    is_over: bool,
}

impl<'a> Rows<'a> {
    /// The rows of a shard.
    ///
    /// # Errors
    /// Memory for unpacking cannot be had.
    pub fn open(
        files: &'a dyn Files,
        root: &Path,
        rule: &'a Rule,
        schema: SchemaRef,
        print: &'a Fingerprint,
        packing: Packing,
    ) -> Result<Self, Error> {
        let shard = &*print.entry.path;
        let raw = Raw { files, path: root.join(shard), size: print.entry.size };
        let mut walk = Walk::open(raw, shard, packing)?;
        let unreadable = print.digest.to_string().strip_prefix(UNREADABLE).map(str::to_owned);
        if let Some(why) = &unreadable {
            walk.leave_out(None, why);
        }
        let endings = rule.columns.iter().map(|column| column.ending.as_str());
        let label = Some(rule::LABEL).filter(|_| rule.labels == Labels::Cls);
        let places = label.into_iter().chain(endings).enumerate().map(|(place, ending)| (ending, place)).collect();
        Ok(Self {
            rule,
            schema,
            shard,
            walk,
            places,
            sample: Sample::default(),
            ready: VecDeque::new(),
            ready_text: 0,
            names: HashSet::new(),
            is_over: unreadable.is_some(),
        })
    }

    /// Reads members until rows for a batch are ready, or the shard is over.
    fn advance(&mut self) -> Result<(), Error> {
        while !self.is_over && self.ready.len() < folder::BATCH_ROWS && self.ready_text < BATCH_TEXT {
            let Some(part) = self.walk.next(&|ending| self.places.contains_key(ending))? else {
                self.is_over = true;
                self.end_sample();
                return Ok(());
            };
            if self.sample.key != part.key() {
                self.end_sample();
                self.sample.texts = vec![None; self.places.len()];
                part.key().clone_into(&mut self.sample.key);
            }
            if part.is_image {
                self.image(part)?
            } else {
                self.text(&part)?
            }
            if self.sample.images.len() >= folder::BATCH_ROWS {
                // These are rather the files of a folder, whose names have dots, than a sample.
                self.end_images();
            }
        }
        Ok(())
    }

    fn image(&mut self, part: Part) -> Result<(), Error> {
        if part.size > MOST_BYTES {
            self.walk.leave_out(Some(&part.path), format!("it has {} bytes; images have up to {MOST_BYTES}", part.size));
            return Ok(());
        }
        let Some(bytes) = self.walk.bytes(&part)? else { return Ok(()) };
        let (digest, header) = (FileDigest::of(&blake3::hash(bytes)), Header::of(bytes));
        if self.names.insert(FileDigest::of(&blake3::hash(part.path.as_bytes()))) {
            self.sample.images.push((part, digest, header));
        } else {
            self.walk.leave_out(Some(&part.path), "an image before it in the shard has the same name");
        }
        Ok(())
    }

    fn text(&mut self, part: &Part) -> Result<(), Error> {
        let Some(&place) = self.places.get(part.ending.as_str()) else { return Ok(()) };
        let said = if part.size > MOST_TEXT {
            Err(format!("it has {} bytes; text has up to {MOST_TEXT}", part.size))
        } else {
            let Some(bytes) = self.walk.bytes(part)? else { return Ok(()) };
            text(bytes, rule::last(&part.ending) == "json")
        };
        let known = &mut self.sample.texts[place];
        match said {
            Ok(_) if known.is_some() => self.walk.leave_out(Some(&part.path), "its sample has such a member already"),
            Ok(text) => *known = Some(text),
            Err(why) => self.walk.leave_out(Some(&part.path), why),
        }
        Ok(())
    }

    fn end_sample(&mut self) {
        self.end_images();
        self.sample.texts.clear();
    }

    /// The sample's images become rows: those with plain endings first.
    fn end_images(&mut self) {
        let mut images = std::mem::take(&mut self.sample.images);
        images.sort_by_key(|(part, ..)| part.ending.contains('.'));
        let texts = Rc::new(if images.is_empty() { Texts::new() } else { self.sample.texts.clone() });
        self.ready_text += texts_bytes(&texts) * images.len();
        let rows = images.into_iter().map(|(part, digest, header)| Row { part, digest, header, texts: texts.clone() });
        self.ready.extend(rows);
    }

    /// A batch of the rows that are ready.
    fn batch(&mut self) -> Result<RecordBatch, Error> {
        let mut bytes = 0;
        let mut fits = |row: &Row| {
            bytes += texts_bytes(&row.texts);
            bytes <= BATCH_TEXT
        };
        let count = self.ready.iter().take(folder::BATCH_ROWS).map_while(|row| fits(row).then_some(())).count().max(1);
        let rows: Vec<Row> = self.ready.drain(..count.min(self.ready.len())).collect();
        self.ready_text -= rows.iter().map(|row| texts_bytes(&row.texts)).sum::<usize>();
        let ids: Vec<String> = match self.rule.ids {
            Ids::Name => Vec::new(),
            Ids::Path => rows.iter().map(|row| format!("{}/{}", self.shard, row.part.path)).collect(),
        };
        let id = |at: usize| ids.get(at).map_or(rows[at].part.path.as_str(), String::as_str);
        let images = images::batch((0..rows.len()).map(|at| self.image_of(&rows[at], id(at))));
        let first = usize::from(self.rule.labels == Labels::Cls);
        let text = |place: usize| -> ArrayRef {
            Arc::new(rows.iter().map(|row| row.texts[place].as_deref()).collect::<StringArray>())
        };
        let batch = images.map_err(|error| error.to_string()).and_then(|images| {
            let columns = images.columns().iter().cloned().chain((first..self.places.len()).map(text)).collect();
            RecordBatch::try_new(self.schema.clone(), columns).map_err(|error| error.to_string())
        });
        batch.map_err(|error| Error::format(self.shard, error))
    }

    fn image_of<'r>(&'r self, Row { part, digest, header, texts }: &'r Row, image_id: &'r str) -> Image<'r> {
        let label = match &self.rule.labels {
            Labels::Cls => texts[0].as_deref().map(str::trim),
            Labels::Folder { within } => {
                let inner = within.as_deref().and_then(|within| part.path.strip_prefix(within)?.strip_prefix('/'));
                inner.unwrap_or(&part.path).split_once('/').map(|(first, _)| first)
            }
        };
        let source = Source { path: self.shard, offset: Some(part.offset), length: Some(part.size), row: None };
        let about = About {
            width: header.width.map(i64::from),
            height: header.height.map(i64::from),
            format: header.format,
            bytes: i64::try_from(part.size).ok(),
            modified_us: part.modified_us,
        };
        Image { image_id, source, label, digest: digest.to_string().into(), about }
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<Found, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(error) = self.advance() {
            // What came before the failure is not all that there is: nothing more is told.
            self.is_over = true;
            self.ready.clear();
            self.walk.left_out.clear();
            return Some(Err(error));
        }
        if self.ready.is_empty() && self.walk.left_out.is_empty() {
            return None;
        }
        let left_out = std::mem::take(&mut self.walk.left_out);
        Some(self.batch().map(|rows| Found { rows, left_out }))
    }
}

fn texts_bytes(texts: &Texts) -> usize {
    texts.iter().flatten().map(String::len).sum()
}

/// The text of a member, or why it has none.
fn text(bytes: &[u8], is_json: bool) -> Result<String, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it should be UTF-8 text".to_owned())?;
    if is_json {
        serde_json::from_str::<IgnoredAny>(text).map_err(|error| format!("it should be JSON: {error}"))?;
    }
    Ok(text.to_owned())
}
