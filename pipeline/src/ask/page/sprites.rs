//! Small images of many, a row or two of a cluster's in one JPEG: a browser opens thousands of those at once, and would not as many images.
//!
//! Each image is decoded once, by the stage of pixels that the clusters come from, and kept as a small square until all have come. Nothing
//! of a file gets onto a page but pixels that are encoded anew.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use tessera_schemas::pixels;
use turbojpeg::{Compressor, PixelFormat, Subsamp};

use crate::ask::show::{pictures, read_pictures};
use crate::engine::catalog::Catalog;
use crate::watch::interrupt::Interrupted;
use crate::watch::progress::Bar;

/// Images beside each other.
pub const ACROSS: usize = 6;
/// Sides of small images, in pixels, and the bytes that one takes about in a page (base64 of JPEG at the best quality).
const SIDES: [(usize, usize); 3] = [(96, 2700), (64, 1350), (48, 850)];
/// Qualities of JPEG, from the best.
const QUALITIES: [i32; 5] = [75, 65, 55, 45, 35];
/// Where there is no image.
const EMPTY: u8 = 128;

/// A cluster's images, each with its slot: slot 7 is the second of the second row.
pub type Wanted = (i64, Vec<(usize, String)>);

/// The images of clusters.
pub struct Sprites {
    /// Pixels a side of one image.
    pub side: usize,
    /// By cluster: a JPEG in base64, and how many rows it has.
    pub of: HashMap<i64, (String, usize)>,
    /// Images that could not be had.
    pub missing: usize,
}

/// Reads and encodes the images of clusters, so that they take about `room` bytes of a page. If those of all clusters do not fit, the first
/// ones' are read.
///
/// # Errors
/// The clusters come from no stage of pixels, or it fails.
pub async fn read(catalog: &Arc<Catalog>, node: usize, clusters: &[Wanted], room: usize, bar: &Bar) -> Result<Sprites> {
    let count = |clusters: &[Wanted]| clusters.iter().map(|(_, images)| images.len()).sum::<usize>();
    let fits = SIDES.into_iter().find(|(_, bytes)| count(clusters) * bytes <= room);
    // The smallest at a lower quality takes half of that.
    let (side, bytes) = fits.unwrap_or((SIDES[2].0, SIDES[2].1 / 2));
    let most = (0..=clusters.len()).rev().find(|&most| count(&clusters[..most]) * bytes <= room).unwrap_or(0);
    let clusters = &clusters[..most];
    let small = Arc::new(small(catalog, node, clusters, side, bar).await?);
    let missing = clusters.iter().flat_map(|(_, images)| images).filter(|(_, id)| !small.contains_key(id)).count();
    let (catalog, clusters) = (catalog.clone(), clusters.to_vec());
    let of = tokio::task::spawn_blocking(move || {
        for quality in QUALITIES {
            let of = encoded(&clusters, &small, side, quality, catalog.engine.threads)?;
            if quality == QUALITIES[QUALITIES.len() - 1] || of.values().map(|(jpeg, _)| jpeg.len()).sum::<usize>() <= room {
                return Ok(of);
            }
        }
        anyhow::Ok(HashMap::new())
    });
    Ok(Sprites { side, of: of.await.context("the images could not be encoded")??, missing })
}

/// Each wanted image as a square of `side`.
async fn small(
    catalog: &Arc<Catalog>,
    node: usize,
    clusters: &[Wanted],
    side: usize,
    bar: &Bar,
) -> Result<HashMap<String, Vec<u8>>> {
    let wanted: BTreeSet<&str> = clusters.iter().flat_map(|(_, images)| images).map(|(_, id)| id.as_str()).collect();
    let mut small: HashMap<String, Vec<u8>> = HashMap::with_capacity(wanted.len());
    if wanted.is_empty() {
        return Ok(small);
    }
    let stage = pictures(catalog, node)?;
    let (height, width) = pixels::size(&catalog.schema(stage))?;
    let mut resizer = Resizer::new();
    // As `show` finds them: a crop's id begins with its image's.
    let behind = |id: &str| wanted.range::<str, _>((Bound::Included(id), Bound::Unbounded)).next().copied();
    let leads = |id: &str| behind(id).is_some_and(|next| next.starts_with(id));
    read_pictures(catalog, stage, leads, |id, pixels| {
        if catalog.engine.interrupt.asked() {
            return Err(Interrupted.into());
        }
        if wanted.contains(id) && !small.contains_key(id) {
            small.insert(id.to_owned(), square(&mut resizer, pixels, (height, width), side)?);
            bar.at(small.len() as u64, wanted.len() as u64, "images");
        }
        Ok(small.len() < wanted.len())
    })
    .await?;
    Ok(small)
}

/// The middle of an image (`height x width x 3`), resized.
///
/// # Errors
/// The pixels are fewer than the size says.
pub fn square(resizer: &mut Resizer, pixels: &[u8], (height, width): (usize, usize), side: usize) -> Result<Vec<u8>> {
    let image = ImageRef::new(width as u32, height as u32, pixels, PixelType::U8x3)?;
    let mut out = Image::new(side as u32, side as u32, PixelType::U8x3);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).fit_into_destination(None);
    resizer.resize(&image, &mut out, &options)?;
    Ok(out.into_vec())
}

/// The images of each cluster as one JPEG, on so many threads.
fn encoded(
    clusters: &[Wanted],
    small: &HashMap<String, Vec<u8>>,
    side: usize,
    quality: i32,
    threads: usize,
) -> Result<HashMap<i64, (String, usize)>> {
    let share = clusters.len().div_ceil(threads.max(1)).max(1);
    let work = |clusters: &[Wanted]| -> Result<Vec<(i64, (String, usize))>> {
        let mut compressor = Compressor::new()?;
        compressor.set_quality(quality)?;
        compressor.set_subsamp(Subsamp::Sub2x2)?;
        compressor.set_optimize(true)?;
        let one = |(cluster, images): &Wanted| {
            let rows = images.iter().map(|(slot, _)| slot / ACROSS + 1).max().unwrap_or(1);
            let pixels = sheet(images, small, side, rows);
            let (width, height) = (ACROSS * side, rows * side);
            let image =
                turbojpeg::Image { pixels: pixels.as_slice(), width, pitch: width * 3, height, format: PixelFormat::RGB };
            let jpeg = compressor.compress_to_vec(image)?;
            Ok((*cluster, (STANDARD.encode(jpeg), rows)))
        };
        clusters.iter().map(one).collect()
    };
    let work = &work;
    let found: Vec<Result<Vec<_>>> = thread::scope(|scope| {
        let started: Vec<_> = clusters.chunks(share).map(|clusters| scope.spawn(move || work(clusters))).collect();
        let joined = started.into_iter().map(|thread| thread.join());
        joined.map(|found| found.unwrap_or_else(|_| anyhow::bail!("a thread panicked while it encoded images"))).collect()
    });
    let mut all = HashMap::with_capacity(clusters.len());
    for found in found {
        all.extend(found?);
    }
    Ok(all)
}

/// Images beside each other, each at its slot; gray where there is none.
pub fn sheet<P: AsRef<[u8]>>(images: &[(usize, String)], small: &HashMap<String, P>, side: usize, rows: usize) -> Vec<u8> {
    let width = ACROSS * side * 3;
    let mut sheet = vec![EMPTY; width * rows * side];
    for (slot, id) in images {
        let Some(image) = small.get(id) else { continue };
        let corner = slot / ACROSS * side * width + slot % ACROSS * side * 3;
        for (row, line) in image.as_ref().chunks_exact(side * 3).enumerate() {
            sheet[corner + row * width..][..line.len()].copy_from_slice(line);
        }
    }
    sheet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_lie_at_their_slots() {
        let small = HashMap::from([("a".to_owned(), vec![10; 12]), ("b".to_owned(), vec![200; 12])]);
        let images = [(0, "a".to_owned()), (7, "b".to_owned()), (8, "gone".to_owned())];
        let sheet = sheet(&images, &small, 2, 2);
        let pixel = |x: usize, y: usize| sheet[(y * ACROSS * 2 + x) * 3];
        assert_eq!([pixel(0, 0), pixel(1, 1), pixel(2, 0)], [10, 10, EMPTY]);
        assert_eq!([pixel(2, 2), pixel(3, 3), pixel(4, 2), pixel(0, 2)], [200, 200, EMPTY, EMPTY]);
    }

    #[test]
    fn an_image_is_cut_to_a_square() {
        // Two rows of eight: the middle four are bright, and what is left and right of them is cut off.
        let line: Vec<u8> = (0..8).flat_map(|x| [if (3..5).contains(&x) { 200 } else { 0 }; 3]).collect();
        let found = square(&mut Resizer::new(), &line.repeat(2), (2, 8), 2).unwrap();
        assert_eq!(found, [200; 12]);
    }
}
