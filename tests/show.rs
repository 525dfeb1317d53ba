//! Pictures of tables.

use std::fs;

use image::{Rgb, RgbImage};
use serde_json::Value;
use tessera_tests::Place;

/// The colour of frames around tiles of another image.
const STRANGE: Rgb<u8> = Rgb([230, 40, 40]);

/// Thirty images in two clusters by hand: the odd ones and the even ones, the nearer the smaller their number.
fn place() -> Place {
    let place = Place::new();
    let rows: String = (0..30).map(|at| format!("{},{},{}.5\n", place.image(at), at % 2, at)).collect();
    place.write("rows.csv", format!("image_id,cluster,distance\n{rows}"));
    place.write(
        "pipeline.toml",
        r#"
[pipeline]
part_rows = 8

[stage.images]
op = "images"
path = "photos"

[stage.decoded]
op = "decode"
input = "images"
side = 48

[stage.kept]
op = "decode"
input = "images"
side = 16
keep = true

[stage.crops]
op = "tile"
input = "images"
side = 24
scale = 48

[stage.puzzles]
op = "jigsaw"
input = "decoded"
permutations = 20
gray = 0.0

[stage.random]
op = "weights"
network = "small"

[stage.rows]
op = "table"
path = "rows.csv"

[stage.assigned]
op = "sql"
inputs = { r = "rows", d = "decoded" }
query = "SELECT r.image_id, r.cluster, r.distance FROM r JOIN d USING (image_id)"
"#,
    );
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    place
}

fn show(place: &Place, arguments: &[&str]) -> (Vec<Value>, RgbImage) {
    let more = ["-o", "out.png", "--force", "--format", "json"];
    let shown = place.tessera("show", &[arguments, &more].concat());
    let legend = shown.json().as_array().unwrap().clone();
    (legend, image::open(place.path("out.png")).unwrap().into_rgb8())
}

#[test]
fn puzzles_stand_beside_their_images() {
    let place = place();
    let (legend, picture) = show(&place, &["puzzles", "-n", "6"]);
    assert_eq!(legend.len(), 6);
    let rows = place.sql("SELECT image_id, permutation, occluded FROM puzzles");
    let mut strange = 0;
    for entry in &legend {
        let row = rows.iter().find(|row| row["image_id"] == entry["image_id"]).unwrap();
        assert_eq!(row["permutation"], entry["permutation"]);
        strange += row["occluded"].as_u64().unwrap().count_ones();
    }
    // 48 px: cells of 16, tiles of 12. Each frame is two pixels wide.
    let frame = 12 * 12 - 8 * 8;
    let framed = picture.pixels().filter(|pixel| **pixel == STRANGE).count();
    assert_eq!(framed, strange as usize * frame);
    assert!(strange > 0, "none of six puzzles has a tile of another image");
    // The first image as it was decoded.
    let id = legend[0]["image_id"].as_str().unwrap();
    let pixels = place.sql(&format!("SELECT pixels FROM decoded WHERE image_id = '{id}'"));
    let values = &pixels[0]["pixels"];
    let at = |x: u32, y: u32| [0, 1, 2].map(|c| values[(y * 48 + x) as usize * 3 + c].as_u64().unwrap() as u8);
    for (x, y) in [(0, 0), (47, 0), (13, 29), (47, 47)] {
        assert_eq!(picture.get_pixel(6 + x, 6 + y).0, at(x, y), "{x}, {y}");
    }
    // Beside it its tiles of 12 pixels, row by row, two pixels apart: the middle of each.
    let tiles = place.sql(&format!("SELECT tiles FROM puzzles WHERE image_id = '{id}'"));
    for number in 0..9 {
        let [x, y] = [number % 3, number / 3].map(|at| at * 14 + 6);
        let middle = |c: u32| tiles[0]["tiles"][((number * 12 + 6) * 12 + 6) as usize * 3 + c as usize].as_u64();
        let found = picture.get_pixel(6 + 48 + 6 + x, 6 + y).0;
        assert_eq!(found.map(|value| Some(value.into())), [0, 1, 2].map(middle), "tile {number}");
    }
}

#[test]
fn sheets_show_images_all_over_the_table() {
    let place = place();
    let (legend, picture) = show(&place, &["decoded", "-n", "9"]);
    let mut classes: Vec<&str> =
        legend.iter().map(|entry| entry["image_id"].as_str().unwrap().split('/').next().unwrap()).collect();
    classes.dedup();
    assert_eq!((legend.len(), classes), (9, vec!["blue", "green", "red"]));
    assert_eq!(picture.dimensions(), (6 + 3 * 54, 6 + 3 * 54));
    let (kept, picture) = show(&place, &["kept", "-n", "4"]);
    assert_eq!((kept.len(), picture.dimensions()), (4, (6 + 2 * 22, 6 + 2 * 22)));
    let (crops, _) = show(&place, &["crops", "-n", "5"]);
    assert!(crops.len() == 5 && crops.iter().all(|crop| crop["image_id"].as_str().unwrap().contains('#')), "{crops:?}");
    let (all, _) = show(&place, &["decoded", "-n", "100"]);
    assert_eq!(all.len(), 30);
}

#[test]
fn clusters_show_their_nearest_images() {
    let place = place();
    let (legend, picture) = show(&place, &["assigned", "-n", "3"]);
    let seen: Vec<_> =
        legend.iter().map(|entry| (entry["cluster"].as_i64().unwrap(), entry["distance"].as_f64().unwrap())).collect();
    assert_eq!(seen, [(0, 0.5), (0, 2.5), (0, 4.5), (1, 1.5), (1, 3.5), (1, 5.5)]);
    assert_eq!(picture.height(), 6 + 2 * 54);
    let (one, _) = show(&place, &["assigned", "-n", "2", "--clusters", "1"]);
    assert_eq!(one.len(), 2);
    // The images are there: the first in its class's colour, more green than red.
    let margin = picture.width() - (6 + 3 * 54);
    let Rgb([red, green, _]) = *picture.get_pixel(margin + 6 + 20, 6 + 20);
    assert!(green > red, "image 0 is green: {red} {green}");
    let Rgb([red, green, _]) = *picture.get_pixel(margin + 6 + 20, 6 + 54 + 20);
    assert!(red > green, "image 1 is red: {red} {green}");
}

#[test]
fn weights_show_their_first_filters() {
    let place = place();
    let (legend, picture) = show(&place, &["random"]);
    assert!(legend.is_empty(), "filters are no images");
    // 32 filters of 3 x 3, each weight 11 pixels a side: 6 columns, 6 rows.
    assert_eq!(picture.dimensions(), (6 + 6 * 39, 6 + 6 * 39));
    assert_eq!(show(&place, &["random", "-n", "4"]).1.dimensions(), (6 + 2 * 39, 6 + 2 * 39));
    let colours: std::collections::BTreeSet<_> = picture.pixels().map(|pixel| pixel.0).collect();
    assert!(colours.len() > 200, "{} colours", colours.len());
    assert_eq!(picture.get_pixel(6, 6), picture.get_pixel(16, 16), "one weight");
}

#[test]
fn what_cannot_be_shown() {
    let place = place();
    for (arguments, code, said) in [
        (
            &["images"][..],
            1,
            "the table of stage `images` cannot be drawn: puzzles, pixels, assignments and weights can; here: decoded,",
        ),
        (&["rows"], 1, "stage `rows` comes from no stage of pixels"),
        (&["puzzle"], 2, "did you mean `puzzles`?"),
        (&["decoded", "--clusters", "1"], 1, "stage `decoded` has no clusters to choose from"),
        (&["assigned", "--clusters", "7"], 1, "no image of stage `assigned` is in cluster 7"),
    ] {
        let answer = place.tessera("show", &[arguments, &["-o", "out.png"]].concat());
        assert_eq!(answer.code, code, "{arguments:?}: {}", answer.err);
        assert!(answer.err.contains(said), "{said}: {}", answer.err);
        assert!(!place.path("out.png").exists());
    }
    let wrong = place.tessera("show", &["decoded", "-o", "out.gif"]);
    assert!(wrong.code == 2 && wrong.err.contains("out.gif names no picture: .png, .jpg and .webp do"), "{}", wrong.err);
    place.write("out.png", "mine");
    let refused = place.tessera("show", &["decoded", "-o", "out.png"]);
    assert!(refused.code == 1 && refused.err.contains("out.png is there already"), "{}", refused.err);
    assert_eq!(fs::read_to_string(place.path("out.png")).unwrap(), "mine");
    let quiet = place.tessera("show", &["decoded", "-n", "3", "-o", "quiet.png", "-q", "--format", "csv"]);
    assert_eq!((quiet.code, quiet.err.as_str(), quiet.out.lines().count()), (0, "", 4));
}

/// A picture is of the format that its ending names, and `-` is a PNG on standard output, alone.
#[test]
fn pictures_have_the_format_of_their_ending() {
    let place = place();
    for (name, format) in
        [("a.png", image::ImageFormat::Png), ("a.jpg", image::ImageFormat::Jpeg), ("a.webp", image::ImageFormat::WebP)]
    {
        assert_eq!(place.tessera("show", &["decoded", "-q", "-o", name]).code, 0);
        assert_eq!(image::guess_format(&fs::read(place.path(name)).unwrap()).unwrap(), format, "{name}");
    }
    let mut command = place.command("show", "pipeline.toml", &["decoded", "-q", "-o", "-"]);
    let output = command.output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    assert!(output.stdout == fs::read(place.path("a.png")).unwrap());
    assert!(!place.path("-").exists());
}

/// How large a picture would be is known before any image is read.
#[test]
fn a_picture_has_a_bound() {
    let place = Place::new();
    place.images(60).write(
        "pipeline.toml",
        r#"
[stage]
images = { op = "images", path = "photos" }
decoded = { op = "decode", input = "images", side = 4096 }
"#,
    );
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    let shown = place.tessera("show", &["decoded", "-n", "60", "-o", "out.png"]);
    let said = "images of 4096 x 4096 pixels would make a picture of 32822 x 32822, and 268435456 pixels are the most: ask for fewer by -n";
    assert!(shown.code == 1 && shown.err.contains(said), "{}", shown.err);
    let webp = place.tessera("show", &["decoded", "-n", "10", "-o", "out.webp"]);
    let said = "16414 x 12312, and such a file has at most 16383 pixels a side: write a .png";
    assert!(webp.code == 1 && webp.err.contains(said), "{}", webp.err);
}

/// The first scan ends as soon as it has nine puzzles, with work in its queues; the second one, of their images, must not find them full.
#[test]
fn a_picture_of_few_puzzles_of_many_is_drawn_every_time() {
    let place = Place::new();
    for at in 0..60 {
        place.image(at);
    }
    place.write(
        "pipeline.toml",
        r#"
[stage]
images = { op = "images", path = "photos" }
decoded = { op = "decode", input = "images", side = 255 }
puzzles = { op = "jigsaw", input = "decoded", permutations = 20 }
"#,
    );
    assert_eq!(place.tessera("run", &["-q", "--threads", "2"]).code, 0);
    for turn in 0..8 {
        let shown = place.tessera("show", &["puzzles", "-n", "9", "-o", "puzzles.png", "--force", "--threads", "2"]);
        assert_eq!(shown.code, 0, "turn {turn}: {}", shown.err);
    }
}
