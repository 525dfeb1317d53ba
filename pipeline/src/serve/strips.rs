//! Small images: many in one JPEG, and single ones. Each is decoded once by the stage of pixels that its table comes from; requests that come
//! while some are being read are read together next.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use fast_image_resize::Resizer;
use tessera_schemas::pixels;
use tokio::task::spawn_blocking;
use turbojpeg::{Compressor, PixelFormat, Subsamp};

use super::site::{Now, Site};
use crate::ask::page::sprites::{ACROSS, sheet, square};
use crate::ask::show::{pictures, read_pictures};
use crate::engine::catalog::Catalog;

/// Pixels a side of a small image.
pub const SIDE: usize = 96;
/// Small images that are kept, 27 kB each.
const KEPT: usize = 3000;
/// Images that are read at once.
const BATCH: usize = 600;
/// The quality of JPEGs.
const QUALITY: i32 = 80;

/// The pixels of a small image; none if it could not be had.
type Small = Option<Arc<[u8]>>;
/// Of which generation, of which stage of pixels, which image.
type Key = (Arc<str>, usize, String);

/// Small images.
#[derive(Default)]
pub struct Strips {
    kept: Mutex<Kept>,
    /// Held while images are read.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Kept {
    by_image: HashMap<Key, (Small, u64)>,
    /// Images that somebody waits for.
    wanted: BTreeSet<Key>,
    clock: u64,
}

impl Strips {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Small images of a table, by their ids; those that could not be had are left out.
    ///
    /// # Errors
    /// The table comes from no stage of pixels, or that one fails.
    pub async fn of(&self, now: &Now, node: usize, ids: &[String]) -> Result<HashMap<String, Arc<[u8]>>> {
        let stage = pictures(&now.catalog, node)?;
        let key = |id: &String| (now.version.clone(), stage, id.clone());
        let mut missing: Vec<Key> = Vec::new();
        {
            let mut kept = self.kept();
            missing.extend(ids.iter().map(key).filter(|key| !kept.by_image.contains_key(key)));
            kept.wanted.extend(missing.iter().cloned());
        }
        if !missing.is_empty() {
            let _turn = self.turn.lock().await;
            // Whoever read before may have read these as well.
            missing.retain(|key| !self.kept().by_image.contains_key(key));
            if !missing.is_empty() {
                self.read(&now.catalog, stage, missing).await?;
            }
        }
        Ok(self.kept().used(ids.iter().map(key)))
    }

    /// Reads what is missing, and what others want of the same stage.
    async fn read(&self, catalog: &Arc<Catalog>, stage: usize, missing: Vec<Key>) -> Result<()> {
        let version = missing[0].0.clone();
        let mut all: BTreeSet<String> = missing.into_iter().map(|(.., id)| id).collect();
        let own = all.clone();
        {
            let mut kept = self.kept();
            let same = |key: &&Key| key.0 == version && key.1 == stage;
            let others: Vec<Key> = kept.wanted.iter().filter(same).take(BATCH.saturating_sub(all.len())).cloned().collect();
            for key in others {
                kept.wanted.remove(&key);
                all.insert(key.2);
            }
            // What nobody can wait for any more.
            kept.wanted.retain(|key| key.0 == version);
        }
        let found = match read(catalog, stage, &all).await {
            // One that fails is not to hide those that others want.
            Err(_) if all.len() > own.len() => {
                all = own;
                read(catalog, stage, &all).await?
            }
            found => found?,
        };
        let mut kept = self.kept();
        for id in all {
            let small = found.get(&id).cloned();
            kept.keep((version.clone(), stage, id), small);
        }
        Ok(())
    }
}

impl Kept {
    fn keep(&mut self, key: Key, small: Small) {
        self.clock += 1;
        self.wanted.remove(&key);
        self.by_image.insert(key, (small, self.clock));
        if self.by_image.len() > KEPT {
            // A third at once: it is seldom.
            let mut used: Vec<u64> = self.by_image.values().map(|(_, used)| *used).collect();
            let (_, limit, _) = used.select_nth_unstable(KEPT / 3);
            let limit = *limit;
            self.by_image.retain(|_, (_, used)| *used > limit);
        }
    }

    fn used(&mut self, keys: impl Iterator<Item = Key>) -> HashMap<String, Arc<[u8]>> {
        let mut found = HashMap::new();
        for key in keys {
            self.clock += 1;
            if let Some((small, used)) = self.by_image.get_mut(&key) {
                *used = self.clock;
                if let Some(small) = small {
                    found.insert(key.2, small.clone());
                }
            }
        }
        found
    }
}

/// Decodes images and makes them small.
async fn read(catalog: &Arc<Catalog>, stage: usize, wanted: &BTreeSet<String>) -> Result<HashMap<String, Arc<[u8]>>> {
    let size = pixels::size(&catalog.schema(stage))?;
    let mut resizer = Resizer::new();
    let mut small: HashMap<String, Arc<[u8]>> = HashMap::with_capacity(wanted.len());
    // A crop's id begins with its image's.
    let behind = |id: &str| wanted.range::<str, _>((Bound::Included(id), Bound::Unbounded)).next();
    let leads = |id: &str| behind(id).is_some_and(|next| next.starts_with(id));
    read_pictures(catalog, stage, leads, |id, pixels| {
        if wanted.contains(id) && !small.contains_key(id) {
            small.insert(id.to_owned(), square(&mut resizer, pixels, size, SIDE)?.into());
        }
        Ok(small.len() < wanted.len())
    })
    .await?;
    Ok(small)
}

/// Images beside each other, six in a row, as a JPEG.
///
/// # Errors
/// As [`Strips::of`].
pub async fn strip(site: &Site, now: &Now, node: usize, images: Vec<(usize, String)>) -> Result<Vec<u8>> {
    let ids: Vec<String> = images.iter().map(|(_, id)| id.clone()).collect();
    let small = site.strips.of(now, node, &ids).await?;
    let rows = images.iter().map(|(slot, _)| slot / ACROSS + 1).max().unwrap_or(1);
    let work = move || jpeg(&sheet(&images, &small, SIDE, rows), (rows * SIDE, ACROSS * SIDE));
    spawn_blocking(work).await.context("the images could not be encoded")?
}

/// One small image as a JPEG; none if it could not be had.
///
/// # Errors
/// As [`Strips::of`].
pub async fn single(site: &Site, now: &Now, node: usize, id: &str) -> Result<Option<Vec<u8>>> {
    let small = site.strips.of(now, node, &[id.to_owned()]).await?;
    let Some(small) = small.get(id).cloned() else { return Ok(None) };
    spawn_blocking(move || jpeg(&small, (SIDE, SIDE)).map(Some)).await.context("the image could not be encoded")?
}

/// Pixels (`height x width x 3`) as a JPEG.
///
/// # Errors
/// The encoder refuses them.
pub fn jpeg(pixels: &[u8], (height, width): (usize, usize)) -> Result<Vec<u8>> {
    let mut compressor = Compressor::new()?;
    compressor.set_quality(QUALITY)?;
    compressor.set_subsamp(Subsamp::Sub2x2)?;
    let image = turbojpeg::Image { pixels, width, pitch: width * 3, height, format: PixelFormat::RGB };
    Ok(compressor.compress_to_vec(image)?)
}

/// A picture as an answer. A browser may keep it if it asked for it by the generation that it is of.
pub fn picture(kind: &'static str, bytes: Vec<u8>, is_asked: bool) -> Response {
    let keep = if is_asked { "private, max-age=604800, immutable" } else { "no-store" };
    let headers =
        [(header::CONTENT_TYPE, HeaderValue::from_static(kind)), (header::CACHE_CONTROL, HeaderValue::from_static(keep))];
    (headers, bytes).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_images_are_kept() {
        let mut kept = Kept::default();
        let key = |at: usize| (Arc::from("v"), 0, at.to_string());
        for at in 0..KEPT + 10 {
            kept.keep(key(at), (at % 7 > 0).then(|| Arc::from([1u8, 2].as_slice())));
            assert!(kept.by_image.len() <= KEPT);
        }
        let found = kept.used([key(1), key(KEPT + 9), key(KEPT)].into_iter());
        assert!(!found.contains_key("1") && found.contains_key(&(KEPT + 9).to_string()));
    }
}
