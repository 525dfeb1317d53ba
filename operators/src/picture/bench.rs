//! How fast JPEGs become pixels on one thread, beside libjpeg-turbo alone. `DATA` names a folder of JPEGs.

use std::fs;
use std::path::Path;
use std::time::Instant;

use turbojpeg::{Decompressor, PixelFormat};

use super::*;

/// All files below a folder, sorted.
fn files(folder: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: &std::path::PathBuf| if path.is_dir() { files(path) } else { vec![fs::read(path).unwrap()] };
    paths.iter().flat_map(read).collect()
}

/// The best of five passes, in images a second.
fn rate(images: &[Vec<u8>], mut work: impl FnMut(&[u8])) -> f64 {
    let pass = |_| {
        let start = Instant::now();
        images.iter().for_each(|bytes| work(bytes));
        images.len() as f64 / start.elapsed().as_secs_f64()
    };
    (0..5).map(pass).fold(0.0, f64::max)
}

#[test]
#[ignore = "a benchmark"]
fn decode_rates() {
    let Ok(folder) = std::env::var("DATA") else {
        println!("decode_rates: set DATA to a folder of JPEGs");
        return;
    };
    let images = files(Path::new(&folder));
    let mut jpeg = Decompressor::new().unwrap();
    let mut buffer = Vec::new();
    let bare = rate(&images, |bytes| {
        let header = jpeg.read_header(bytes).unwrap();
        let (width, height, format) = (header.width, header.height, PixelFormat::RGB);
        let pixels = sized(&mut buffer, width * height * 3);
        jpeg.decompress(bytes, turbojpeg::Image { pixels, width, pitch: width * 3, height, format }).unwrap();
    });
    println!("{} images, one thread: libjpeg-turbo alone, at full size: {bare:.0} images/s", images.len());
    let mut decoder = Decoder::new(MAX_MEGAPIXELS);
    for side in [64, 128, 224, 255] {
        let mut out = vec![0; side * side * 3];
        let rate = rate(&images, |bytes| decoder.square(bytes, side, &mut out).map(|_| ()).unwrap());
        println!("decode, side {side}: {rate:.0} images/s, {:.2} of libjpeg-turbo alone", rate / bare);
    }
}

#[test]
#[ignore = "for comparisons of two versions"]
fn digest_of_a_folder() {
    let Ok(folder) = std::env::var("DATA") else {
        println!("digest_of_a_folder: set DATA to a folder of images");
        return;
    };
    let mut decoder = Decoder::new(MAX_MEGAPIXELS);
    let (mut digest, mut refused) = (blake3::Hasher::new(), 0);
    let mut out = vec![0; 96 * 96 * 3];
    let images = files(Path::new(&folder));
    for bytes in images.iter().filter(|bytes| image::guess_format(bytes).is_ok()) {
        match decoder.square(bytes, 96, &mut out) {
            Ok(_) => drop(digest.update(&out)),
            Err(reason) => {
                refused += 1;
                println!("{reason}");
            }
        }
    }
    println!("{} files, {refused} refused, pixels {}", images.len(), digest.finalize().to_hex());
}
