//! What of a JSON file is kept.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::de::{Deserializer, Error as _, Unexpected};
use serde::{Deserialize, de};

use super::super::{excerpt, sides};

/// A file; what else it has is passed over as it is read.
#[derive(Debug, Deserialize)]
pub struct Document {
    pub images: Vec<Image>,
    /// `None` if nobody said what the images show, as for COCO's test images.
    pub annotations: Option<Vec<Annotation>>,
    #[serde(default)]
    categories: Vec<Category>,
}

#[derive(Debug, Deserialize)]
pub struct Image {
    pub id: i64,
    /// With `/` between its parts.
    #[serde(deserialize_with = "path")]
    pub file_name: String,
}

#[derive(Debug, Deserialize)]
pub struct Annotation {
    /// Some programs leave it out.
    id: Option<i64>,
    #[serde(rename = "image_id")]
    pub image: i64,
    #[serde(rename = "category_id")]
    pub category: i64,
    #[serde(rename = "bbox", deserialize_with = "edges")]
    pub sides: [f32; 4],
    #[serde(rename = "iscrowd", default, deserialize_with = "flag")]
    pub is_crowd: bool,
}

#[derive(Debug, Deserialize)]
struct Category {
    id: i64,
    name: String,
}

/// A path as other systems and programs write it: `.\train\a.jpg`.
fn path<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let path = String::deserialize(from)?;
    let path = if path.contains('\\') { path.replace('\\', "/") } else { path };
    Ok(path.strip_prefix("./").map(str::to_owned).unwrap_or(path))
}

/// The edges of a box that is written as a corner and a size.
fn edges<'de, D: Deserializer<'de>>(from: D) -> Result<[f32; 4], D::Error> {
    struct Numbers;
    impl<'de> de::Visitor<'de> for Numbers {
        type Value = [f64; 4];
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list of 4 numbers")
        }
        fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<[f64; 4], A::Error> {
            let (mut numbers, mut count) = ([0.0; 4], 0);
            while let Some(number) = list.next_element::<f64>()? {
                if let Some(place) = numbers.get_mut(count) {
                    *place = number;
                }
                count += 1;
            }
            if count == numbers.len() { Ok(numbers) } else { Err(A::Error::invalid_length(count, &self)) }
        }
    }
    let [x, y, width, height] = from.deserialize_seq(Numbers)?;
    if let Some(size) = [width, height].into_iter().find(|size| *size < 0.0) {
        return Err(D::Error::invalid_value(Unexpected::Float(size), &"a width and a height of 0 or more"));
    }
    sides([x, y, x + width, y + height]).ok_or_else(|| D::Error::custom("the numbers of `bbox` are too large"))
}

/// 0 or 1; some programs write it as a boolean.
fn flag<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    struct Flag;
    impl de::Visitor<'_> for Flag {
        type Value = bool;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("0 or 1")
        }
        fn visit_bool<E>(self, value: bool) -> Result<bool, E> {
            Ok(value)
        }
        fn visit_u64<E: de::Error>(self, value: u64) -> Result<bool, E> {
            match value {
                0 | 1 => Ok(value == 1),
                _ => Err(E::invalid_value(Unexpected::Unsigned(value), &self)),
            }
        }
    }
    from.deserialize_any(Flag)
}

impl Document {
    /// The document, with its annotations in the order of their images' numbers, and as they were within an image.
    ///
    /// # Errors
    /// A number occurs twice, or an annotation names an image or a category that is not there.
    pub fn checked(mut self) -> Result<Self, String> {
        let mut images = HashSet::with_capacity(self.images.len());
        for image in &self.images {
            if !images.insert(image.id) {
                return Err(format!("two images have the id {} (the second is `{}`)", image.id, excerpt(&image.file_name)));
            }
        }
        let mut categories = HashSet::new();
        for category in &self.categories {
            if !categories.insert(category.id) {
                let name = excerpt(&category.name);
                return Err(format!("two categories have the id {} (the second is `{name}`)", category.id));
            }
        }
        let annotations = self.annotations.as_deref_mut().unwrap_or_default();
        let mut ids = HashSet::with_capacity(annotations.len());
        for (number, one) in (1..).zip(&*annotations) {
            let fail = |what: String| match one.id {
                Some(id) => Err(format!("annotation {number} (its id is {id}): {what}")),
                None => Err(format!("annotation {number}: {what}")),
            };
            if one.id.is_some_and(|id| !ids.insert(id)) {
                return fail("another one before it has the same id".to_owned());
            }
            if !images.contains(&one.image) {
                return fail(format!("no image has the id {}", one.image));
            }
            if !categories.contains(&one.category) {
                let known: Vec<String> = self.categories.iter().map(|known| known.id.to_string()).collect();
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                return fail(format!("no category has the id {} (there are: {})", one.category, super::some(&known)));
            }
        }
        annotations.sort_by_key(|one| one.image);
        Ok(self)
    }

    /// The categories' names.
    pub fn labels(&self) -> HashMap<i64, Arc<str>> {
        self.categories.iter().map(|category| (category.id, category.name.as_str().into())).collect()
    }
}
