//! One XML file.
//!
//! Of all that it has, `annotation/object` is looked at, and in it `name`, `difficult` (false if it is missing) and `bndbox`. Parts
//! of an object (`annotation/object/part`) have boxes of their own, which are not those of an object. An object that has a polygon
//! alone gets the box around it. No entity is expanded but those of XML itself, and nothing outside of the file is read.

use std::sync::Arc;

use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::Event;
use quick_xml::reader::Reader;

use super::super::{Object, excerpt, line_of, sides};

/// How deep elements may lie in each other: VOC's lie four deep.
const DEPTH: usize = 32;
/// The four sides of a box, in the order in which they are kept.
const SIDES: [&str; 4] = ["xmin", "ymin", "xmax", "ymax"];

/// The objects of a file.
///
/// # Errors
/// It is no such file; the message has the line.
pub fn objects(text: &str) -> Result<Vec<Object>, String> {
    let mut reader = Reader::from_str(text);
    let config = reader.config_mut();
    config.expand_empty_elements = true;
    config.check_comments = true;
    let mut state = State::default();
    let mut place = Place { text: text.as_bytes(), at: 0, line: 1 };
    loop {
        // Where the event begins: text before it ended the one before.
        let line = place.line_at(reader.buffer_position());
        let event = reader.read_event();
        let failed = |message: String| format!("line {line}: {message}");
        match event {
            Err(error) => return Err(format!("line {}: {error}", place.line_at(reader.error_position()))),
            Ok(Event::Eof) => {
                return match (state.path.last(), state.has_root) {
                    (Some(open), _) => Err(failed(format!("the file ends within <{open}>"))),
                    (None, false) => Err("it has no <annotation>; an empty one says that an image shows nothing".to_owned()),
                    (None, true) => Ok(state.objects),
                };
            }
            Ok(Event::Decl(declared)) => {
                let encoding = declared.encoding().and_then(Result::ok);
                let encoding = encoding.map(|name| String::from_utf8_lossy(&name).into_owned());
                let is_right = |name: &String| name.eq_ignore_ascii_case("utf-8") || name.eq_ignore_ascii_case("us-ascii");
                if let Some(other) = encoding.filter(|name| !is_right(name) && !text.is_ascii()) {
                    return Err(failed(format!("it says that it is {}; save it as UTF-8", excerpt(&other))));
                }
            }
            Ok(Event::Start(tag)) => state.open(&String::from_utf8_lossy(tag.name().as_ref()), line).map_err(failed)?,
            Ok(Event::End(_)) => state.close().map_err(failed)?,
            Ok(Event::Text(part)) => state.text.push_str(&String::from_utf8_lossy(&part)),
            Ok(Event::CData(part)) => state.text.push_str(&String::from_utf8_lossy(&part)),
            Ok(Event::GeneralRef(entity)) => {
                let name = String::from_utf8_lossy(&entity).into_owned();
                let char = entity.resolve_char_ref().map_err(|error| failed(error.to_string()))?;
                match (char, resolve_xml_entity(&name)) {
                    (Some(char), _) => state.text.push(char),
                    (None, Some(text)) => state.text.push_str(text),
                    (None, None) => return Err(failed(format!("`&{};` is not expanded: write what it is", excerpt(&name)))),
                }
            }
            Ok(Event::Comment(_) | Event::PI(_) | Event::DocType(_) | Event::Empty(_)) => {}
        }
    }
}

/// A place in a text, and its line.
struct Place<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
}

impl Place<'_> {
    /// The line of a place that is this one or lies behind it, which becomes this one: each line is counted once.
    fn line_at(&mut self, at: u64) -> usize {
        let at = usize::try_from(at).map_or(self.text.len(), |at| at.clamp(self.at, self.text.len()));
        self.line += line_of(&self.text[self.at..at]) - 1;
        self.at = at;
        self.line
    }
}

#[derive(Default)]
struct State {
    /// Names of the elements that are open.
    path: Vec<String>,
    has_root: bool,
    /// What stands in the innermost one.
    text: String,
    object: Open,
    objects: Vec<Object>,
}

/// An object as far as it was read.
#[derive(Default)]
struct Open {
    line: usize,
    name: Option<String>,
    difficult: Option<bool>,
    has_box: bool,
    sides: [Option<f64>; 4],
    /// The least and the greatest coordinates of a polygon's points.
    polygon: Option<[f64; 4]>,
}

impl State {
    /// An element begins.
    fn open(&mut self, name: &str, line: usize) -> Result<(), String> {
        match self.path.len() {
            0 if self.has_root => return Err(format!("<{}> follows the end of <annotation>", excerpt(name))),
            0 if name != "annotation" => {
                return Err(format!("it begins with <{}> and not with <annotation>", excerpt(name)));
            }
            0 => self.has_root = true,
            1 if name == "object" => self.object = Open { line, ..Open::default() },
            2 if self.path[1] == "object" && name == "bndbox" && std::mem::replace(&mut self.object.has_box, true) => {
                return Err("the object has a second <bndbox>".to_owned());
            }
            DEPTH => return Err(format!("elements lie more than {DEPTH} deep in each other")),
            _ => {}
        }
        self.path.push(name.to_owned());
        self.text.clear();
        Ok(())
    }

    /// The innermost element ends.
    fn close(&mut self) -> Result<(), String> {
        let name = self.path.pop().unwrap_or_default();
        let text = std::mem::take(&mut self.text);
        let text = text.trim();
        let object = &mut self.object;
        let above: Vec<&str> = self.path.iter().skip(1).map(String::as_str).collect();
        match (&above[..], name.as_str()) {
            ([], "object") => {
                let object = std::mem::take(object).finish()?;
                self.objects.push(object);
            }
            (["object"], "name") => {
                if text.is_empty() {
                    return Err("<name> is empty".to_owned());
                }
                if object.name.replace(text.to_owned()).is_some() {
                    return Err("the object has a second <name>".to_owned());
                }
            }
            (["object"], "difficult") => {
                let value = match text.to_ascii_lowercase().as_str() {
                    "1" | "true" => true,
                    "" | "0" | "false" => false,
                    _ => return Err(format!("<difficult> should be 0 or 1, found `{}`", excerpt(text))),
                };
                if object.difficult.replace(value).is_some() {
                    return Err("the object has a second <difficult>".to_owned());
                }
            }
            (["object", "bndbox"], side) => {
                if let Some(at) = SIDES.iter().position(|known| *known == side) {
                    let value = number(side, text)?;
                    if object.sides[at].replace(value).is_some() {
                        return Err(format!("the box has a second <{side}>"));
                    }
                }
            }
            (["object", "polygon", ..], name) => {
                let first = match name.as_bytes() {
                    [b'x', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => 0,
                    [b'y', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => 1,
                    _ => return Ok(()),
                };
                let value = number(name, text)?;
                let [start, end] = [f64::INFINITY, f64::NEG_INFINITY];
                let around = object.polygon.get_or_insert([start, start, end, end]);
                around[first] = around[first].min(value);
                around[first + 2] = around[first + 2].max(value);
            }
            _ => {}
        }
        Ok(())
    }
}

fn number(name: &str, text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|value| (*value as f32).is_finite());
    value.ok_or_else(|| format!("<{name}> should be a number, found `{}`", excerpt(text)))
}

impl Open {
    fn finish(self) -> Result<Object, String> {
        let Self { line, name, difficult, has_box, sides: found, polygon } = self;
        let of = format!("the object of line {line}");
        let label: Arc<str> = name.ok_or_else(|| format!("{of} has no <name>"))?.into();
        let edges = if has_box {
            let mut edges = [0.0; 4];
            for ((edge, found), side) in edges.iter_mut().zip(found).zip(SIDES) {
                *edge = found.ok_or_else(|| format!("the box of {of} has no <{side}>"))?;
            }
            edges
        } else {
            let around = polygon.filter(|edges| edges.iter().all(|edge| edge.is_finite()));
            around.ok_or_else(|| format!("{of} has neither a <bndbox> nor a <polygon>"))?
        };
        for (from, to) in [(0, 2), (1, 3)] {
            if edges[from] > edges[to] {
                let (less, more) = (SIDES[from], SIDES[to]);
                return Err(format!("<{less}> of {of} is {}, which is more than its <{more}>, {}", edges[from], edges[to]));
            }
        }
        let [x0, y0, x1, y1] = edges;
        // Pixels count from 1, and the last one belongs to the box.
        let sides = sides([x0 - 1.0, y0 - 1.0, x1, y1]).ok_or_else(|| format!("the box of {of} is too large"))?;
        Ok(Object { sides, label, difficult: difficult.unwrap_or_default() })
    }
}
