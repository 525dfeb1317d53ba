//! Import files: what Label Studio and FiftyOne read of a table.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use tessera_tests::{Place, clustered};

/// A name with what means something in a URL, in JSON or to a shell.
const ODD: &str = "a b+#?&%25 ż\".png";

/// Ten images in three clusters, one of them with an odd name, and a table of numbers that are none.
fn made() -> Place {
    let place = Place::new();
    place.images(9);
    fs::copy(place.path("photos/red/0001.png"), place.path("photos/red").join(ODD)).unwrap();
    let scored = r#"
[stage.scored]
op = "sql"
inputs = { images = "images", assigned = "assigned" }
query = '''
SELECT i.image_id, i.source, i.label, i.modified, a.cluster, CAST('NaN' AS DOUBLE) AS score, a.cluster > 0 AS late,
       CASE WHEN a.cluster > 0 THEN CAST(a.cluster AS VARCHAR) END AS class, 5 AS tags
FROM images i JOIN assigned a ON i.image_id = a.image_id'''
"#;
    place.write("pipeline.toml", clustered(4, false) + scored);
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    place
}

fn export(place: &Place, arguments: &[&str]) -> String {
    let wrote = place.tessera("export", arguments);
    assert_eq!((wrote.code, wrote.out.as_str()), (0, ""), "{arguments:?}: {}", wrote.err);
    wrote.err
}

fn read(place: &Place, file: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(place.path(file)).unwrap()).unwrap()
}

/// The file that a URL of Label Studio's names, as its server finds it.
fn served(root: PathBuf, url: &str) -> PathBuf {
    let path = url.strip_prefix("/data/local-files/?d=").unwrap_or_else(|| panic!("{url}"));
    assert!(path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~/%".contains(&byte)), "{path}");
    let mut pieces = path.split('%');
    let mut bytes = pieces.next().unwrap().as_bytes().to_vec();
    for piece in pieces {
        bytes.push(u8::from_str_radix(&piece[..2], 16).unwrap());
        bytes.extend(&piece.as_bytes()[2..]);
    }
    root.join(String::from_utf8(bytes).unwrap())
}

#[test]
fn label_studio_gets_tasks_with_predictions() {
    let place = made();
    let told = export(&place, &["assigned", "--format", "label-studio", "--by", "cluster", "-o", "tasks.json"]);
    let root = place.path("");
    let root = root.to_str().unwrap().trim_end_matches('/');
    let expected = format!("labelling configuration: tasks.xml; it takes LOCAL_FILES_DOCUMENT_ROOT={root}\n");
    assert!(told.contains("tasks.json: 10 images of 5 columns, ") && told.ends_with(&expected), "{told}");
    let tasks = read(&place, "tasks.json");
    let rows = place.sql("SELECT * FROM assigned ORDER BY image_id");
    let tasks: BTreeMap<&str, &Value> =
        tasks.as_array().unwrap().iter().map(|task| (task["data"]["image_id"].as_str().unwrap(), task)).collect();
    assert_eq!(tasks.len(), 10);
    let snapshot = place.sql("SELECT snapshot FROM stages WHERE stage = 'assigned'")[0]["snapshot"].clone();
    for row in rows {
        let id = row["image_id"].as_str().unwrap();
        let task = tasks[id];
        let file = served(place.path(""), task["data"]["image"].as_str().unwrap());
        assert_eq!(file, place.path("photos").join(id));
        assert!(file.is_file(), "{}", file.display());
        for column in ["cluster", "distance", "second_cluster", "second_distance"] {
            assert_eq!(task["data"][column], row[column], "{column} of {id}");
        }
        let [prediction] = &task["predictions"].as_array().unwrap()[..] else { panic!("{task}") };
        let model = format!("assigned {}", &snapshot.as_str().unwrap()[..12]);
        assert_eq!(prediction["model_version"], model);
        let result = json!([{
            "id": "class", "from_name": "label", "to_name": "image", "type": "choices",
            "value": { "choices": [row["cluster"].to_string()] },
        }]);
        assert_eq!(prediction["result"], result);
    }
    let config = fs::read_to_string(place.path("tasks.xml")).unwrap();
    let choices: Vec<&str> = config.lines().filter(|line| line.contains("<Choice ")).map(str::trim).collect();
    assert_eq!(choices, [0, 1, 2].map(|cluster| format!("<Choice value=\"{cluster}\"/>")));
    assert!(config.contains(r#"<Image name="image" value="$image"/>"#) && config.contains(r#"name="label" toName="image""#));
    // Another root, and only the columns that are asked for.
    let some = ["assigned", "--format", "label-studio", "--by", "cluster", "-o", "t.json", "-q", "--columns", "distance"];
    assert_eq!(export(&place, &[&some[..], &["--document-root", "photos"]].concat()), "");
    let first = &read(&place, "t.json")[0]["data"];
    assert_eq!(first.as_object().unwrap().keys().collect::<Vec<_>>(), ["image", "image_id", "distance"]);
    assert!(served(place.path("photos"), first["image"].as_str().unwrap()).is_file());
    // What has no class has no prediction, and what is no number is null.
    let told = export(&place, &["scored", "--format", "label-studio", "--by", "class", "-o", "s.json"]);
    assert!(!told.contains("left out"), "{told}");
    for task in read(&place, "s.json").as_array().unwrap() {
        assert_eq!(task["data"]["score"], Value::Null);
        let cluster = task["data"]["cluster"].as_i64().unwrap();
        assert_eq!(task["predictions"].as_array().unwrap().len(), usize::from(cluster > 0), "{task}");
    }
}

#[test]
fn fiftyone_gets_samples_and_their_fields() {
    let place = made();
    let told = export(&place, &["scored", "--format", "fiftyone", "--by", "label", "-o", "set"]);
    assert!(
        told.contains("set: 10 images of 7 columns, ")
            && told.contains("left out, for the format has no place for them: tags"),
        "{told}"
    );
    let (metadata, samples) = (read(&place, "set/metadata.json"), read(&place, "set/samples.json"));
    assert_eq!(metadata["classes"], json!({ "label": ["blue", "green", "red"] }));
    let fields = metadata["sample_fields"].as_array().unwrap();
    let kinds: BTreeMap<&str, &str> = fields
        .iter()
        .map(|field| (field["name"].as_str().unwrap(), field["ftype"].as_str().unwrap().rsplit_once('.').unwrap().1))
        .collect();
    for (name, kind) in [
        ("filepath", "StringField"),
        ("image_id", "StringField"),
        ("label", "EmbeddedDocumentField"),
        ("modified", "DateTimeField"),
        ("cluster", "IntField"),
        ("score", "FloatField"),
        ("late", "BooleanField"),
        ("class", "StringField"),
    ] {
        assert_eq!(kinds.get(name), Some(&kind), "{name}");
    }
    let samples = samples["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 10);
    let query = "SELECT image_id, label, cluster, CAST(modified AS BIGINT) / 1000 AS ms FROM scored";
    let rows = place.sql(query);
    for row in rows {
        let id = row["image_id"].as_str().unwrap();
        let sample = samples.iter().find(|sample| sample["image_id"] == id).unwrap();
        let path = PathBuf::from(sample["filepath"].as_str().unwrap());
        assert!(path.is_absolute() && path.ends_with(format!("photos/{id}")) && path.is_file(), "{}", path.display());
        assert_eq!((&sample["label"]["_cls"], &sample["label"]["label"]), (&"Classification".into(), &row["label"]));
        assert_eq!((&sample["cluster"], &sample["score"]), (&row["cluster"], &Value::Null));
        assert_eq!(sample["modified"]["$date"]["$numberLong"], row["ms"].to_string());
    }
    // The same once more is the same, byte by byte.
    let before = fs::read(place.path("set/samples.json")).unwrap();
    let again = place.tessera("export", &["scored", "--format", "fiftyone", "--by", "label", "-o", "set"]);
    assert!(again.code == 1 && again.err.contains("the folder set is not empty: --force overwrites"), "{}", again.err);
    export(&place, &["scored", "--format", "fiftyone", "--by", "label", "-o", "set", "--force"]);
    assert_eq!(fs::read(place.path("set/samples.json")).unwrap(), before);
}

#[test]
fn boxes_come_as_parts_of_their_images() {
    let place = Place::new();
    place.images(3);
    for at in 0..3 {
        let id = ["green/0000.png", "red/0001.png", "blue/0002.png"][at];
        fs::create_dir_all(place.path("set")).unwrap();
        fs::rename(place.path("photos").join(id), place.path("set").join(format!("{at}.png"))).unwrap();
    }
    let images = [0, 1, 2].map(|at| json!({ "id": at, "file_name": format!("{at}.png"), "width": 72, "height": 64 }));
    let annotations = json!({
        "images": images,
        "categories": [{ "id": 1, "name": "cat" }, { "id": 2, "name": "dog & <co>" }],
        "annotations": [
            { "id": 1, "image_id": 0, "category_id": 1, "bbox": [18, 16, 36, 8], "iscrowd": 0 },
            { "id": 2, "image_id": 0, "category_id": 2, "bbox": [0, 0, 72, 64], "iscrowd": 1 },
            { "id": 3, "image_id": 1, "category_id": 2, "bbox": [36, 32, 9, 32], "iscrowd": 0 },
        ],
    });
    place.write("set/_annotations.coco.json", annotations.to_string());
    place.write("pipeline.toml", "stage.images = { op = \"images\", path = \"set\", format = \"coco\" }\n");
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    export(&place, &["images", "--format", "label-studio", "-o", "tasks.json", "-q"]);
    let tasks = read(&place, "tasks.json");
    let regions = tasks[0]["predictions"][0]["result"].as_array().unwrap();
    assert_eq!(
        regions[0],
        json!({
            "id": "box0", "from_name": "boxes", "to_name": "image", "type": "rectanglelabels",
            "original_width": 72, "original_height": 64, "image_rotation": 0,
            "value": { "x": 25.0, "y": 25.0, "width": 50.0, "height": 12.5, "rotation": 0, "rectanglelabels": ["cat"] },
        })
    );
    assert_eq!((regions.len(), &regions[1]["value"]["width"]), (2, &json!(100.0)));
    assert_eq!((&tasks[2]["predictions"], &tasks[2]["data"]["width"]), (&json!([]), &json!(72)));
    let config = fs::read_to_string(place.path("tasks.xml")).unwrap();
    assert!(config.contains("<Label value=\"cat\"/>\n    <Label value=\"dog &amp; &lt;co&gt;\"/>"), "{config}");
    assert!(!config.contains("Choices"), "{config}");
    export(&place, &["images", "--format", "fiftyone", "-o", "fifty", "-q"]);
    let samples = read(&place, "fifty/samples.json");
    let sample = &samples["samples"][0];
    let boxes: Vec<_> = sample["boxes"]["detections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["label"].clone(), one["bounding_box"].clone(), one["difficult"].clone()))
        .collect();
    assert_eq!(
        boxes,
        [
            (json!("cat"), json!([0.25, 0.25, 0.5, 0.125]), json!(false)),
            (json!("dog & <co>"), json!([0.0, 0.0, 1.0, 1.0]), json!(true)),
        ]
    );
    assert_eq!(sample["metadata"], json!({ "_cls": "ImageMetadata", "width": 72, "height": 64 }));
    assert_eq!(read(&place, "fifty/metadata.json")["classes"], json!({ "boxes": ["cat", "dog & <co>"] }));
    let without = ["images", "--format", "fiftyone", "-o", "plain", "-q", "--columns", "split"];
    export(&place, &without);
    assert!(read(&place, "plain/samples.json")["samples"][0].get("boxes").is_none());
}

/// Images in a tar have no files of their own, until they are copied.
#[test]
fn copies_are_referred_to_where_they_lie() {
    let place = Place::new();
    place.images(4);
    let mut tar = std::process::Command::new("tar");
    tar.arg("-C").arg(place.path("photos")).arg("-cf").arg(place.path("a.tar")).args(["green", "red", "blue"]);
    assert!(tar.status().unwrap().success());
    place.write("pipeline.toml", "stage.images = { op = \"images\", path = \"a.tar\" }\n");
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    for (format, to) in [("fiftyone", "set"), ("label-studio", "tasks.json")] {
        let refused = place.tessera("export", &["images", "--format", format, "--by", "label", "-o", to]);
        assert_eq!(refused.code, 1, "{format}");
        assert!(refused.err.contains("has no file of its own: --images FOLDER writes each to a file"), "{}", refused.err);
        let with = ["images", "--images", &format!("{format}-copies"), "--format", format, "--by", "label", "-o", to];
        let told = export(&place, &with);
        assert!(
            told.contains(&format!("{format}-copies: 4 images\n")) && told.contains(&format!("{to}: 4 images")),
            "{told}"
        );
    }
    for sample in read(&place, "set/samples.json")["samples"].as_array().unwrap() {
        let path = PathBuf::from(sample["filepath"].as_str().unwrap());
        assert!(path.starts_with(place.path("fiftyone-copies")) && path.is_file(), "{}", path.display());
        assert!(path.parent().unwrap().ends_with(sample["label"]["label"].as_str().unwrap()), "{}", path.display());
    }
    for task in read(&place, "tasks.json").as_array().unwrap() {
        let path = served(place.path(""), task["data"]["image"].as_str().unwrap());
        assert!(path.starts_with(place.path("label-studio-copies")) && path.is_file(), "{}", path.display());
    }
}

#[test]
fn options_that_do_not_go_together_are_refused() {
    let place = made();
    for (arguments, code, said) in [
        (&["assigned", "--format", "coco", "-o", "x"][..], 2, "fiftyone, label-studio"),
        (&["assigned", "--format", "fiftyone", "--images", "x"], 2, "--output says where the import file is written"),
        (&["assigned", "--format", "fiftyone", "--images", "x.tar", "-o", "y"], 2, "--images FOLDER"),
        (&["assigned", "--images", "x", "-o", "x.csv"], 2, "--images writes images alone"),
        (&["assigned", "--by", "cluster", "-o", "x.csv"], 2, "it goes with --images, --format fiftyone or"),
        (&["assigned", "--document-root", "x", "--format", "fiftyone", "-o", "y"], 2, "goes with --format label-studio"),
        (&["assigned", "-o", "x.json"], 2, "or --format says it: fiftyone, label-studio"),
        (&["assigned", "--format", "label-studio", "-o", "x.csv"], 1, "ends in .json, and x.csv does not: -o tasks.json"),
        (&["assigned", "--format", "fiftyone", "-o", "x.json"], 1, "-o names a folder"),
        (
            &["assigned", "--format", "fiftyone", "--by", "breed", "-o", "x"],
            1,
            "no column `breed` of classes; columns: image_id, ",
        ),
        (&["gradients", "--format", "fiftyone", "--by", "feature", "-o", "x"], 1, "which is no class"),
        (&["clusters", "--format", "fiftyone", "-o", "x"], 1, "has no `image_id`"),
        (&["scored", "--format", "fiftyone", "--by", "tags", "-o", "x"], 1, "FiftyOne has no field `tags` of a user's"),
        (
            &["assigned", "--format", "label-studio", "-o", "x.json", "--document-root", "elsewhere"],
            1,
            "--document-root names a folder above all images",
        ),
    ] {
        let refused = place.tessera("export", arguments);
        assert_eq!(refused.code, code, "{arguments:?}: {}", refused.err);
        assert!(refused.err.contains(said), "{arguments:?}: {}", refused.err);
        assert!(!["x", "y", "x.json", "x.xml"].iter().any(|name| place.path(name).is_file()), "{arguments:?}");
    }
}
