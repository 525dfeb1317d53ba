//! How much memory a run needs.

use std::io::Write as _;

use image::{Rgb, RgbImage};
use tessera_tests::{Place, peak_memory};

/// Writes `rows` vectors of `width` numbers around 20 places.
fn vectors(place: &Place, rows: usize, width: usize) {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {width}), }}");
    let padded = format!("{header:<117}\n");
    let mut file = std::io::BufWriter::new(std::fs::File::create(place.path("x.npy")).unwrap());
    file.write_all(b"\x93NUMPY\x01\x00").unwrap();
    file.write_all(&(padded.len() as u16).to_le_bytes()).unwrap();
    file.write_all(padded.as_bytes()).unwrap();
    for row in 0..rows {
        for column in 0..width {
            let noise = (row * 7919 + column * 104_729) % 1009;
            let value = ((row % 20) * (column + 3) % 11) as f32 + noise as f32 / 2018.0;
            file.write_all(&value.to_le_bytes()).unwrap();
        }
    }
    file.flush().unwrap();
}

#[test]
fn k_means_keeps_to_its_memory_with_the_same_clusters() {
    let place = Place::new();
    vectors(&place, 200_000, 96);
    let file = r#"
[stage]
x = { op = "table", path = "x.npy" }
clusters = { op = "kmeans", input = "x", k = 20, iterations = 3 }
"#;
    place.write("pipeline.toml", file);
    assert_eq!(place.tessera("run", &["-q", "--to", "x"]).code, 0);
    let run = |memory: &str| {
        let set = format!("clusters.memory={memory}");
        let command = place.command("run", "pipeline.toml", &["--force", "clusters", "--set", &set]);
        let (answer, peak) = peak_memory(command);
        assert_eq!(answer.code, 0, "{}", answer.err);
        (peak, place.rows("clusters"), answer.err)
    };
    let (whole, clusters, _) = run("4GiB");
    let (bounded, same, said) = run("8MiB");
    assert!(said.contains("features go to a temporary file"), "{said}");
    assert!(same == clusters);
    // The features are 77 MB, and their codes a quarter of that; what batches on their way take differs from run to run.
    assert!(bounded + (40 << 20) < whole, "{bounded} bytes with a bound of 8 MiB, {whole} without one");
}

/// More images take more time, and no more memory: what is in flight is bounded in bytes.
#[test]
fn views_need_the_same_memory_for_few_images_and_for_many() {
    let run = |images: usize| {
        let place = Place::new();
        for at in 0..images {
            let picture = RgbImage::from_fn(400, 400, |x, y| Rgb([(x + at as u32) as u8, y as u8, (x * y) as u8]));
            let name = format!("photos/{at:04}.bmp");
            place.write(&name, []);
            picture.save(place.path(&name)).unwrap();
        }
        let file = r#"
[pipeline]
part_rows = 64
[stage]
images = { op = "images", path = "photos" }
decoded = { op = "decode", input = "images", side = 384 }
features = { op = "hog", input = "decoded", cell = 64 }
"#;
        place.write("pipeline.toml", file);
        let (answer, peak) = peak_memory(place.command("run", "pipeline.toml", &["--threads", "2"]));
        assert_eq!(answer.code, 0, "{}", answer.err);
        peak
    };
    let (few, many) = (run(100), run(500));
    // The images that came later are 192 MB as files, and 177 MB as pixels.
    assert!(many < few + (64 << 20), "{few} bytes for 100 images, {many} for 500");
}

/// A sort of wide rows goes to files, and so do the many first rows of one; a batch has as many rows as its memory is for.
#[test]
fn sorts_of_more_than_a_query_may_take_go_to_files() {
    let (rows, place) = (60_000, Place::new());
    vectors(&place, rows, 1000);
    place.write("pipeline.toml", "[stage]\nx = { op = \"table\", path = \"x.npy\" }\n");
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    let ask = |query: &str| {
        let arguments = [query, "--memory", "48MiB", "--threads", "2", "--format", "csv"];
        let (answer, peak) = peak_memory(place.command("sql", "pipeline.toml", &arguments));
        assert_eq!(answer.code, 0, "{query}: {}", answer.err);
        (answer.out, peak)
    };
    let sorted = |limit: &str| {
        format!(
            "SELECT image_id, array_length(feature) AS n \
             FROM (SELECT * FROM x ORDER BY feature[1], image_id DESC {limit}) ORDER BY 1"
        )
    };
    let (least, same) = ("SELECT image_id FROM x ORDER BY feature[1], image_id DESC OFFSET 1", rows - 1);
    let (count, few) = ask("SELECT count(*) AS n FROM x");
    assert_eq!(count.trim(), format!("n\n{rows}"));
    for query in [sorted("OFFSET 1"), sorted(&format!("LIMIT {same}")), least.to_owned()] {
        let (found, many) = ask(&query);
        assert_eq!(found.lines().count(), rows, "{query}");
        // The features are 240 MB.
        assert!(many < few + (150 << 20), "{query}: {many} bytes, and {few} to count");
    }
}
