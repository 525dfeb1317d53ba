//! What `images` tells of files, and files that cannot be listed or have names that speak to a terminal.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use image::{Rgb, RgbImage};
use serde_json::{Value, json};
use tessera_tests::{Answer, Place};

const FILE: &str = r#"
[pipeline]
part_rows = 4

[stage.images]
op = "images"
path = "photos"

[stage.decoded]
op = "decode"
input = "images"
side = 24
on_error = "drop"

[stage.kept]
op = "decode"
input = "images"
side = 32
on_error = "drop"
keep = true

[stage.features]
op = "hog"
input = "decoded"
"#;

const ALL_REUSED: [&str; 3] = ["images:reuse", "kept:reuse", "features:reuse"];

fn place(images: usize) -> Place {
    let place = Place::new();
    place.images(images).write("pipeline.toml", FILE);
    place
}

fn ran(place: &Place, arguments: &[&str]) -> Answer {
    let answer = place.tessera("run", &[&["--format", "json"], arguments].concat());
    assert_eq!(answer.code, 0, "{}", answer.err);
    answer
}

fn date(path: &Path, seconds: u64) {
    let time = UNIX_EPOCH + Duration::from_secs(seconds);
    fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn files_tell_their_size_format_length_and_time() {
    let place = Place::new();
    place.write("pipeline.toml", FILE);
    let picture = RgbImage::from_fn(50, 30, |x, y| Rgb([x as u8, y as u8, 9]));
    let formats = [("jpg", "jpeg"), ("png", "png"), ("gif", "gif"), ("bmp", "bmp"), ("webp", "webp"), ("tif", "tiff")];
    fs::create_dir(place.path("photos")).unwrap();
    for (ending, _) in formats {
        picture.save(place.path(&format!("photos/a.{ending}"))).unwrap();
        date(&place.path(&format!("photos/a.{ending}")), 1_700_000_000);
    }
    fs::copy(place.path("photos/a.png"), place.path("photos/misnamed.jpg")).unwrap();
    place.write("photos/text.jpg", "no picture");
    place.write("photos/cut.png", &fs::read(place.path("photos/a.png")).unwrap()[..20]);
    symlink("nowhere.jpg", place.path("photos/link.jpg")).unwrap();
    symlink("self.jpg", place.path("photos/self.jpg")).unwrap();
    let rows = place.sql_after_run("SELECT image_id, width, height, format, bytes, modified FROM images");
    let of = |id: &str| rows.iter().find(|row| row["image_id"] == id).unwrap_or_else(|| panic!("{id}: {rows:?}"));
    for (ending, format) in formats {
        let (id, bytes) = (format!("a.{ending}"), fs::metadata(place.path(&format!("photos/a.{ending}"))).unwrap().len());
        let told = json!({
            "image_id": id, "width": 50, "height": 30, "format": format, "bytes": bytes, "modified": "2023-11-14T22:13:20Z"
        });
        assert_eq!(*of(&id), told);
    }
    let told = |id: &str| ["width", "height", "format", "bytes"].map(|column| of(id)[column].clone());
    assert_eq!(told("misnamed.jpg")[..3], [json!(50), json!(30), json!("png")]);
    assert_eq!(told("text.jpg"), [Value::Null, Value::Null, Value::Null, json!(10)]);
    assert_eq!(told("cut.png"), [Value::Null, Value::Null, json!("png"), json!(20)]);
    for link in ["link.jpg", "self.jpg"] {
        assert_eq!(told(link), [Value::Null, Value::Null, Value::Null, Value::Null]);
        assert_eq!(of(link)["modified"], Value::Null);
    }
    let small =
        place.sql("SELECT image_id FROM images WHERE width * height < 2000 AND format <> 'gif' ORDER BY modified, 1");
    assert_eq!(small.len(), 6, "{small:?}");
    let dropped = place.sql("SELECT image_id FROM dropped WHERE stage = 'decoded' ORDER BY 1");
    assert_eq!(dropped, ["cut.png", "link.jpg", "self.jpg", "text.jpg"].map(|id| json!({ "image_id": id })));
    // Pixels have a size of their own.
    let schema = place.sql(
        "SELECT column_name AS n FROM information_schema.columns WHERE table_name = 'decoded' ORDER BY ordinal_position",
    );
    assert_eq!(schema, ["image_id", "pixels", "label"].map(|name| json!({ "n": name })));
}

#[test]
fn a_time_alone_makes_no_reader_anew() {
    let place = place(9);
    ran(&place, &[]);
    assert_eq!(ran(&place, &[]).actions(), ALL_REUSED);
    let id = "red/0004.png";
    date(&place.path(&format!("photos/{id}")), 1_000_000_000);
    let again = ran(&place, &[]);
    assert_eq!(again.actions(), ["images:update", "kept:reuse", "features:reuse"]);
    assert_eq!(again.stage("images")["rows_computed"], 1);
    let modified = format!("SELECT modified FROM images WHERE image_id = '{id}'");
    assert_eq!(place.sql(&modified), [json!({ "modified": "2001-09-09T01:46:40Z" })]);
    assert_eq!(ran(&place, &[]).actions(), ALL_REUSED);
    // Another image: the parts of which a file was touched hold as well.
    place.image(9);
    let more = ran(&place, &[]);
    for reader in ["kept", "features"] {
        assert_eq!(more.stage(reader)["rows_computed"], 1, "{}", more.out);
    }
    // As the same files in another place have it.
    fs::rename(place.path("photos"), place.path("old")).unwrap();
    place.images(10);
    let copied = ran(&place, &[]);
    assert_eq!(copied.actions(), ["images:update", "kept:reuse", "features:reuse"], "all have another time");
    let newest = place.sql("SELECT min(modified) > now() - INTERVAL '1 day' AS new FROM images");
    assert_eq!(newest, [json!({ "new": true })]);
}

/// Puts things beside the images that cannot be listed: a name that is not UTF-8, as a file and as a folder, and a folder whose path
/// is too long.
fn unlistable(place: &Place) {
    let photos = place.path("photos");
    fs::copy(photos.join("red/0001.png"), photos.join(OsStr::from_bytes(b"red/caf\xe9.png"))).unwrap();
    fs::write(photos.join(OsStr::from_bytes(b"red/caf\xe9.txt")), "no image").unwrap();
    fs::create_dir(photos.join(OsStr::from_bytes(b"\xffolder"))).unwrap();
    fs::create_dir(photos.join("empty")).unwrap();
    symlink("..", photos.join("red/up")).unwrap();
    let script = "mkdir deep; cd deep; n=$(printf %0200d 0); for at in $(seq 25); do mkdir $n && cd -P $n 2>/dev/null || exit 1; done";
    assert!(Command::new("sh").args(["-c", script]).current_dir(&photos).status().unwrap().success());
}

#[test]
fn what_cannot_be_listed_ends_no_run_and_is_told() {
    let place = place(6);
    unlistable(&place);
    let run = ran(&place, &["-q"]);
    assert_eq!((&run.stage("images")["rows_out"], &run.stage("images")["rows_dropped"]), (&json!(6), &json!(3)));
    for told in
        ["warning: stage `images` drops `red/caf\\xe9.png`: the name is not UTF-8", "`\\xffolder`", "File name too long"]
    {
        assert!(run.err.contains(told), "{told}: {}", run.err);
    }
    let dropped = "SELECT image_id, reason LIKE '%UTF-8%' AS name FROM dropped WHERE stage = 'images' ORDER BY image_id";
    let rows = place.sql(dropped);
    assert_eq!(rows[0], json!({ "image_id": "\\xffolder", "name": true }));
    assert_eq!(rows[2], json!({ "image_id": "red/caf\\xe9.png", "name": true }));
    assert!(rows.len() == 3 && rows[1]["image_id"].as_str().unwrap().starts_with("deep/000"), "{rows:?}");
    let again = ran(&place, &[]);
    assert_eq!(again.actions(), ALL_REUSED);
    assert!(again.err.contains("drops `red/caf\\xe9.png`"), "as long as it lasts: {}", again.err);

    // Whoever wants none left out says so.
    let edit = |from: &str, to: &str| {
        let text = fs::read_to_string(place.path("pipeline.toml")).unwrap();
        assert!(text.contains(from));
        place.write("pipeline.toml", text.replace(from, to));
    };
    edit("path = \"photos\"\n", "path = \"photos\"\non_error = \"fail\"\n");
    let failed = place.tessera("run", &[]);
    assert_eq!((failed.code, failed.out.as_str()), (1, ""));
    let said = "photos/\\xffolder: the name is not UTF-8, and names in tables are: rename it (and 2 more like it)";
    assert!(failed.err.contains(said), "{}", failed.err);

    fs::remove_dir(place.path("photos").join(OsStr::from_bytes(b"\xffolder"))).unwrap();
    fs::remove_dir_all(place.path("photos/deep")).unwrap();
    edit("on_error = \"fail\"\n", "");
    fs::rename(place.path("photos").join(OsStr::from_bytes(b"red/caf\xe9.png")), place.path("photos/red/café.png")).unwrap();
    let whole = ran(&place, &[]);
    assert_eq!((&whole.stage("images")["rows_out"], &whole.stage("images")["rows_dropped"]), (&json!(7), &json!(0)));
    assert!(place.sql(dropped).is_empty() && !whole.err.contains("drops `"), "{}", whole.err);
}

#[test]
fn an_empty_folder_ends_no_run() {
    let place = Place::new();
    place.write("pipeline.toml", FILE);
    fs::create_dir(place.path("photos")).unwrap();
    let run = ran(&place, &[]);
    assert_eq!(run.stage("features")["rows_out"], 0);
    assert!(run.err.contains("stage `images` drops `.`: no image among 0 files; images end in jpg"), "{}", run.err);
    place.image(0);
    assert_eq!(ran(&place, &[]).stage("features")["rows_out"], 1);
    fs::remove_dir_all(place.path("photos/green")).unwrap();
    let gone = place.tessera("run", &[]);
    assert!(gone.code == 1 && gone.err.contains("the folder holds no image any more"), "{}", gone.err);
    assert_eq!(ran(&place, &["--set", "images.max_removed=\"100%\""]).stage("features")["rows_out"], 0);
    place.write("pipeline.toml", FILE.replace("path = \"photos\"", "path = \"photos\"\non_error = \"fail\""));
    let failed = place.tessera("run", &[]);
    assert!(failed.code == 1 && failed.err.contains("photos: no image among 0 files"), "{}", failed.err);
}

/// Nothing of a name's control characters reaches people's screens, wherever the name turns up; programs get it as it is.
#[test]
fn names_do_not_speak_to_the_terminal() {
    let place = place(4);
    let name = "\u{1b}[2Jred\u{9b}31m\nblue\u{202e}";
    let escaped = "\\u{1b}[2Jred\\u{9b}31m\\nblue\\u{202e}";
    fs::create_dir(place.path("photos").join(name)).unwrap();
    fs::copy(place.path("photos/red/0001.png"), place.path("photos").join(name).join("\u{7}.png")).unwrap();
    place.write(&format!("photos/{name}/broken\u{1b}c.jpg"), "no image");
    let photos = place.path("photos");
    fs::write(photos.join(OsStr::from_bytes(b"\x1b]0;title\x07\xff.jpg")), "").unwrap();
    let clean = |what: &str, text: &str| {
        let bad = text.chars().find(|c| c.is_control() && *c != '\n' && *c != '\t' || *c == '\u{202e}');
        assert_eq!(bad, None, "{what}: {text:?}");
    };
    let mut shown = Vec::new();
    let mut call = |command: &str, arguments: &[&str]| {
        let answer = place.tessera(command, arguments);
        clean(command, &answer.out);
        clean(command, &answer.err);
        shown.push(format!("{}{}", answer.out, answer.err));
        answer.code
    };
    assert_eq!(call("run", &[]), 0);
    assert_eq!(call("sql", &["SELECT * FROM images"]), 0);
    assert_eq!(call("sql", &["SELECT * FROM dropped"]), 0);
    assert_eq!(call("sql", &["SELECT image_id, pixels FROM decoded"]), 0);
    assert_eq!(
        call("sql", &["SELECT 1 AS \"a\u{1b}[31m\", make_array('\u{1b}c') AS l, arrow_cast('\u{1b}c', 'Utf8View') AS v"]),
        0
    );
    assert_eq!(call("sql", &["SELECT image_id FROM \"\u{1b}[31m\""]), 1);
    assert_eq!(call("show", &["decoded", "-n", "9", "-o", "out\u{1b}.png"]), 0);
    assert_eq!(call("show", &["nothing\u{1b}", "-o", "out2.png"]), 2);
    // What the parser of the command line refuses.
    assert_eq!(call("plan", &["--format", "\u{1b}[2J"]), 2);
    assert_eq!(call("plan", &["--\u{1b}[2J"]), 2);
    assert_eq!(call("sql", &["SELECT 1", "--limit", "\u{9b}31m"]), 2);
    place.image(4);
    assert_eq!(call("plan", &[]), 0);
    assert_eq!(call("run", &["--set", "decoded.on_error=\"fail\"", "--force", "features"]), 1);
    assert_eq!(call("run", &[]), 0);
    assert_eq!(call("diff", &["images", "--rows"]), 0);
    assert_eq!(call("check", &["--set", "images.path=\"\\u001b[2J\""]), 2);
    assert_eq!(call("check", &["--set", "images.\"\\u001b[2J\"=1"]), 2);
    let (with, count) = (shown.iter().filter(|text| text.contains("\\u{1b}[2J")).count(), shown.len());
    assert!(with >= 5, "{with} of {count} outputs name it: {shown:?}");
    assert!(shown[1].contains(escaped), "{}", shown[1]);
    place.write("odd.toml", "[stage.images]\nop = \"images\u{1b}[2J\"\npath = \"\u{9b}31m\r x\"\n");
    let odd = place.call("check", "odd.toml", &[]);
    assert_eq!(odd.code, 2);
    clean("check", &odd.err);
    let made = Command::new(tessera_tests::binary())
        .arg("init")
        .arg(&photos)
        .current_dir(&photos)
        .args(["-o", "../init.toml"])
        .output();
    let made = made.unwrap();
    assert!(made.status.success());
    clean("init", &String::from_utf8_lossy(&made.stdout));

    let id = format!("{name}/\u{7}.png");
    assert!(place.sql("SELECT image_id FROM images").contains(&json!({ "image_id": id })), "JSON is exact");
    let csv = place.tessera("sql", &["--format", "csv", "SELECT image_id FROM images"]);
    assert!(csv.out.contains(&id), "and so is CSV");
}

#[test]
fn images_of_two_folders_in_one_table_are_read() {
    let place = Place::new();
    place.images(6);
    fs::rename(place.path("photos"), place.path("one")).unwrap();
    place.images(9);
    fs::rename(place.path("photos"), place.path("two")).unwrap();
    // Of one name in both folders, and different.
    fs::copy(place.path("one/red/0001.png"), place.path("two/green/0000.png")).unwrap();
    fs::remove_file(place.path("one/blue/0005.png")).unwrap();
    place.write(
        "pipeline.toml",
        r#"
[stage]
one = { op = "images", path = "one" }
two = { op = "images", path = "two" }
decoded = { op = "decode", input = "both", side = 24 }
features = { op = "hog", input = "decoded" }

[stage.both]
op = "sql"
inputs = { a = "one", b = "two" }
query = """
SELECT 'one/' || image_id AS image_id, source, label, digest FROM a UNION ALL
SELECT 'two/' || image_id, source, label, digest FROM b"""
"#,
    );
    assert_eq!(ran(&place, &[]).stage("features")["rows_out"], 14);
    let shades = place.sql(
        "SELECT image_id, CAST(pixels[1] AS INT) > CAST(pixels[2] AS INT) AS red FROM decoded \
         WHERE image_id LIKE '%green/0000.png' OR image_id = 'two/blue/0005.png' ORDER BY 1",
    );
    let red = |id: &str, red: bool| json!({ "image_id": id, "red": red });
    assert_eq!(shades, [red("one/green/0000.png", false), red("two/blue/0005.png", false), red("two/green/0000.png", true)]);
    fs::copy(place.path("two/red/0007.png"), place.path("two/blue/0008.png")).unwrap();
    let asked = place.tessera("sql", &["SELECT image_id, pixels FROM decoded"]);
    assert!(asked.code == 1 && asked.err.contains("`two/blue/0008.png`"), "{}", asked.err);
}
