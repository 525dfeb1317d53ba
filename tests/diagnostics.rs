//! Wrong pipeline files: every fault at its place, all at once, before anything is read.

use tessera_tests::Place;

/// A file whose faults are checked for; lines are numbered from its first.
fn faults(text: &str) -> String {
    let place = Place::new();
    place.images(3).write("pipeline.toml", text);
    let answer = place.tessera("check", &[]);
    assert_eq!(answer.code, 2, "{}{}", answer.out, answer.err);
    assert_eq!(answer.out, "", "errors are no data");
    assert!(!place.path(".tessera").exists(), "nothing ran");
    assert_eq!(place.tessera("run", &[]).code, 2, "`run` refuses what `check` refuses");
    answer.err
}

const IMAGES: &str = "[stage.images]\nop = \"images\"\npath = \"photos\"\n";

/// Asserts that faults contain each of the texts.
#[track_caller]
fn contains(found: &str, texts: &[&str]) {
    for text in texts {
        assert!(found.contains(text), "`{text}` is not in:\n{found}");
    }
}

#[test]
fn an_unknown_operator() {
    let found = faults("[stage.images]\nop = \"imags\"\npath = \"photos\"\n");
    let expected = "  × unknown operator `imags`
   ╭─[pipeline.toml:2:6]
 1 │ [stage.images]
 2 │ op = \"imags\"
   ·      ───────
 3 │ path = \"photos\"
   ╰────
  help: did you mean `images`? known: ";
    contains(&found, &[expected, "1 fault in pipeline.toml"]);
}

#[test]
fn an_unknown_key() {
    let found = faults(&format!("{IMAGES}[stage.decoded]\nop = \"decode\"\ninput = \"images\"\nsides = 64\nside = 64\n"));
    contains(
        &found,
        &[
            "unknown key `sides`",
            "[pipeline.toml:7:1]",
            "· ─────\n",
            "did you mean `side`? known: side, on_error, max_megapixels",
        ],
    );
}

#[test]
fn wrong_values() {
    let found = faults(&format!("{IMAGES}[stage.decoded]\nop = \"decode\"\ninput = \"images\"\nside = \"big\"\n"));
    contains(
        &found,
        &["stage `decoded`: `side`: invalid type: string \"big\", expected a whole number", "[pipeline.toml:7:8]"],
    );
    let found = faults(&format!("{IMAGES}[stage.decoded]\nop = \"decode\"\ninput = \"images\"\nside = 0\n"));
    contains(&found, &["side is 0, and should be 1 to 8192 px", "[pipeline.toml:7:8]"]);
    let found = faults(&format!("{IMAGES}[stage.decoded]\nop = \"decode\"\ninput = \"images\"\n"));
    contains(&found, &["missing field `side`", "[pipeline.toml:4:8]"]);
}

#[test]
fn unknown_stages_and_inputs() {
    let found = faults(&format!("{IMAGES}[stage.decoded]\nop = \"decode\"\ninput = \"image\"\nside = 64\n"));
    contains(&found, &["unknown input stage `image`", "[pipeline.toml:6:9]", "did you mean `images`? known: images"]);
    let found =
        faults(&format!("{IMAGES}[stage.decoded]\nop = \"decode\"\ninputs = {{ picture = \"images\" }}\nside = 64\n"));
    contains(&found, &["`decode` has no input `picture`", "[pipeline.toml:6:12]", "inputs of `decode`: images"]);
    let found = faults(&format!("{IMAGES}[stage.decoded]\nop = \"decode\"\nside = 64\n"));
    contains(&found, &["stage `decoded` lacks its input `images`", "[pipeline.toml:4:8]"]);
}

#[test]
fn a_circle() {
    let stage =
        |name: &str, input: &str| format!("[stage.{name}]\nop = \"sql\"\ninput = \"{input}\"\nquery = \"SELECT 1\"\n");
    let found = faults(&format!("{}{}{}", stage("a", "c"), stage("b", "a"), stage("c", "b")));
    contains(&found, &["stages read each other in a circle: ", "a -> b -> c -> a", "[pipeline.toml:"]);
}

#[test]
fn a_table_that_does_not_fit() {
    let found = faults(&format!("{IMAGES}[stage.assigned]\nop = \"kmeans\"\ninput = \"images\"\nk = 3\n"));
    let said = "stage `assigned`: `images` has no column of vectors";
    contains(&found, &[said, "[pipeline.toml:6:9]", "·         ────────\n", "`infer` and `hog` make stages that have one"]);
    let found = faults(&format!("{IMAGES}[stage.puzzles]\nop = \"jigsaw\"\ninput = \"images\"\n"));
    contains(&found, &["`jigsaw` needs a column `pixels`", "[pipeline.toml:6:9]", "`images` gives: image_id Utf8"]);
}

#[test]
fn a_cell_that_the_pixels_cannot_give() {
    let decoded = "[stage.decoded]\nop = \"decode\"\ninput = \"images\"\nside = 64\n";
    let found = faults(&format!("{IMAGES}{decoded}[stage.puzzles]\nop = \"jigsaw\"\ninput = \"decoded\"\ncell = 85\n"));
    contains(
        &found,
        &["stage `puzzles`: needs 255 px (3 cells of 85), the input gives 64", "at most 21", "[pipeline.toml:11:8]"],
    );
}

#[test]
fn the_environment() {
    let found = faults("[stage.images]\nop = \"images\"\npath = \"${TESSERA_NO_SUCH_VARIABLE}/x\"\n");
    contains(
        &found,
        &["the environment variable `TESSERA_NO_SUCH_VARIABLE` is not set", "[pipeline.toml:3:8]", "1 fault in"],
    );
    let found = faults("[stage.images]\nop = \"images\"\npath = \"nowhere\"\n");
    contains(&found, &["nowhere` does not exist", "[pipeline.toml:3:8]", "the pipeline file's folder"]);
}

#[test]
fn wrong_sql() {
    let found =
        faults(&format!("{IMAGES}[stage.q]\nop = \"sql\"\ninput = \"images\"\nquery = \"SELECT labl FROM images\"\n"));
    contains(&found, &["No field named labl. Did you mean 'images.label'?", "[pipeline.toml:7:9]"]);
    let found = faults(&format!("{IMAGES}[stage.q]\nop = \"sql\"\ninput = \"images\"\nquery = \"DROP TABLE images\"\n"));
    contains(&found, &["stage `q`: DDL not supported", "[pipeline.toml:7:9]"]);
}

/// A stage's unknown keys, wrong values and ranges, also where what it reads is not known.
#[test]
fn all_that_is_wrong_with_keys_is_told_at_once() {
    let kmeans = "[stage.clusters]\nop = \"kmeans\"\ninput = \"images\"\nk = 0\niterations = \"many\"\nrestart = 2\n";
    let found = faults(&format!("{IMAGES}{kmeans}"));
    contains(
        &found,
        &[
            "stage `clusters`: 0 clusters hold nothing: at least 1",
            "help: `k`: whole number. The number of clusters. `tessera operators kmeans` describes all keys",
            "`iterations`: invalid type: string \"many\", expected a whole number",
            "help: `iterations`: whole number; default 100. ",
            "unknown key `restart`",
            "did you mean `restarts`? known: k, column, ",
            "`images` has no column of vectors",
            "4 faults in pipeline.toml",
        ],
    );
    let decoded = "[stage.decoded]\nop = \"decode\"\ninput = \"images\"\nside = 0\nmax = 3\n";
    let found = faults(&format!("{}{decoded}", IMAGES.replace("photos", "nowhere")));
    contains(&found, &["nowhere` does not exist", "side is 0, and should be 1 to", "unknown key `max`", "3 faults in"]);
}

#[test]
fn keys_of_the_pipeline_have_no_points() {
    let found =
        faults(&format!("[pipeline]\nstore.path = \"x\"\npipeline.seed = 3\nstage.a.op = \"images\"\nstor.a = 1\n{IMAGES}"));
    contains(
        &found,
        &[
            "[pipeline] has no key `store.path`",
            "[pipeline.toml:2:1]",
            "help: `store` has one value, and no keys of its own",
            "[pipeline] has no key `pipeline.seed`",
            "help: keys in [pipeline] are written without its name, such as seed = 17",
            "help: [stage] is a table of its own: write [stage.a] above its keys",
            "did you mean `store`?",
            "4 faults in",
        ],
    );
}

#[test]
fn a_query_of_a_stage_has_no_parameters() {
    let query = "[stage.q]\nop = \"sql\"\ninput = \"images\"\nquery = \"SELECT * FROM images WHERE label = $1\"\n";
    let found = faults(&format!("{IMAGES}{query}"));
    contains(&found, &["the query has the parameter `$1`, and a stage's query has none", "[pipeline.toml:7:9]"]);
}

#[test]
fn not_toml() {
    let found = faults("[stage.images\nop = 3\n");
    contains(&found, &["not TOML", "[pipeline.toml:1:"]);
}

#[test]
fn names_that_tables_cannot_have() {
    let found =
        faults("[stage.Images]\nop = \"images\"\npath = \"photos\"\n[stage.metrics]\nop = \"images\"\npath = \"photos\"\n");
    contains(&found, &["`Images` cannot name a stage", "`metrics` cannot name a stage: it is a system table", "2 faults"]);
}

#[test]
fn many_faults_at_once() {
    let text = "[pipeline]\nsed = 1\n[stage.images]\nop = \"images\"\npath = \"photos\"\nformat = \"zip\"\n[stage.a]\nop = \"decod\"\n\
                input = \"images\"\n[stage.b]\nop = \"decode\"\ninput = \"imagse\"\nside = -1\nsize = 3\n";
    let found = faults(text);
    let expected = [
        "unknown key `sed`",
        "`format`: unknown variant `zip`",
        "unknown operator `decod`",
        "unknown input stage `imagse`",
        "`side`: invalid value: integer `-1`, expected a whole number",
        "unknown key `size`",
    ];
    contains(&found, &expected);
    contains(&found, &["6 faults in pipeline.toml", ":2:1]", ":6:10]", ":8:6]", ":12:9]", ":13:8]", ":14:1]"]);
    let places: Vec<usize> = expected.iter().map(|text| found.find(text).unwrap()).collect();
    assert!(places.is_sorted(), "in the order of the text: {places:?}");
}

#[test]
fn the_command_line() {
    let place = Place::new();
    place.images(3).write("pipeline.toml", IMAGES);
    let answer = place.tessera("run", &["--to", "imags"]);
    assert_eq!(answer.code, 2);
    contains(&answer.err, &["unknown stage `imags`; did you mean `images`? stages: images"]);
    let answer = place.tessera("run", &["--set", "images.pth=photos"]);
    assert_eq!(answer.code, 2);
    contains(&answer.err, &["unknown key `pth`"]);
    let answer = place.call("check", "absent.toml", &[]);
    assert_eq!(answer.code, 2);
    contains(&answer.err, &["cannot read the pipeline file absent.toml"]);
}

/// All of what a person sees, to the letter.
#[test]
fn faults_as_they_are_shown() {
    let found = faults(&format!(
        "{IMAGES}\n[stage.decoded]\nop = \"decode\"\ninput = \"images\"\nside = 128\n\n[stage.puzzles]\nop = \"jigsaw\"\n\
         input = \"decodd\"\ncell = 85\n\n[stage.features]\nop = \"infer\"\ninputs = {{ images = \"decoded\" }}\nlayr = \"conv4\"\n"
    ));
    let expected = "  × stage `puzzles`: unknown input stage `decodd`
    ╭─[pipeline.toml:12:9]
 11 │ op = \"jigsaw\"
 12 │ input = \"decodd\"
    ·         ────────
 13 │ cell = 85
    ╰────
  help: did you mean `decoded`? known: images, decoded, features

  × stage `features`: unknown key `layr`
    ╭─[pipeline.toml:18:1]
 17 │ inputs = { images = \"decoded\" }
 18 │ layr = \"conv4\"
    · ────
    ╰────
  help: did you mean `layer`? known: layer, pool, values, pooling, mean, deviation, model, output, network, device, op, input, inputs, keep; `tessera
        operators infer` describes all keys

2 faults in pipeline.toml
";
    assert_eq!(found, expected, "found:\n{found}");

    let found = faults(&format!(
        "{IMAGES}\n[stage.decoded]\nop = \"decode\"\ninput = \"images\"\nside = 128\n\n[stage.puzzles]\nop = \"jigsaw\"\n\
         input = \"decoded\"\ncell = 85\n"
    ));
    let expected = "  × stage `puzzles`: needs 255 px (3 cells of 85), the input gives 128
    ╭─[pipeline.toml:13:8]
 12 │ input = \"decoded\"
 13 │ cell = 85
    ·        ──
    ╰────
  help: at most 42

1 fault in pipeline.toml
";
    assert_eq!(found, expected, "found:\n{found}");

    let found = faults("[stage.images]\nop = \"images\npath = \"photos\"\n");
    let expected = "  × not TOML: invalid basic string, expected `\"`
   ╭─[pipeline.toml:2:13]
 1 │ [stage.images]
 2 │ op = \"images
   ·             ─
 3 │ path = \"photos\"
   ╰────

1 fault in pipeline.toml
";
    assert_eq!(found, expected, "found:\n{found}");
}

#[test]
fn inputs_in_other_shapes() {
    let decoded = "[stage.decoded]\nop = \"decode\"\ninput = \"images\"\nside = 64\n";
    let both =
        format!("{IMAGES}[stage.d]\nop = \"decode\"\ninput = \"images\"\ninputs = {{ images = \"images\" }}\nside = 4\n");
    contains(&faults(&both), &["stage `d` has both `input` and `inputs`", "[pipeline.toml:6:9]", "1 fault in"]);
    let unnamed = format!("{IMAGES}{decoded}[stage.a]\nop = \"assign\"\ninput = \"decoded\"\n");
    contains(
        &faults(&unnamed),
        &["`assign` needs its inputs by name", "[pipeline.toml:10:9]", "inputs of `assign`: features, clusters"],
    );
    let none = format!("{IMAGES}[stage.more]\nop = \"images\"\ninput = \"images\"\npath = \"photos\"\n");
    contains(&faults(&none), &["`images` takes no input", "[pipeline.toml:6:9]", "`images` reads no other stage"]);
    let text = format!("{IMAGES}[stage.d]\nop = \"decode\"\ninputs = \"images\"\nside = 4\n");
    contains(&faults(&text), &["`inputs` should be a table of names and stages", "[pipeline.toml:6:10]"]);
    let itself = format!("{IMAGES}[stage.d]\nop = \"decode\"\ninput = \"d\"\nside = 4\n");
    contains(&faults(&itself), &["stages read each other in a circle: d -> d", "[pipeline.toml:6:9]"]);
    let weights = format!(
        "{IMAGES}{decoded}[stage.f]\nop = \"infer\"\ninputs = {{ images = \"decoded\", weights = \"images\" }}\nlayer = \"conv1\"\n"
    );
    contains(
        &faults(&weights),
        &["`infer` needs a column `tensor`", "[pipeline.toml:10:42]", "`images` gives: image_id Utf8"],
    );
}

#[test]
fn values_out_of_their_range() {
    let decoded = "[stage.decoded]\nop = \"decode\"\ninput = \"images\"\nside = 64\n";
    let puzzles = "[stage.puzzles]\nop = \"jigsaw\"\ninput = \"decoded\"\npermutations = 1\ngray = 1.5\n";
    contains(
        &faults(&format!("{IMAGES}{decoded}{puzzles}")),
        &["[pipeline.toml:11:16]", "at least 2", "[pipeline.toml:12:8]", "1.5 is no probability", "2 faults in"],
    );
    let train = "[stage.puzzles]\nop = \"jigsaw\"\ninput = \"decoded\"\n[stage.net]\nop = \"train\"\ninput = \"puzzles\"\n\
                 network = \"alexnet-torchvision\"\nepochs = 0\nlearning_rate = -1\n";
    contains(
        &faults(&format!("{IMAGES}{decoded}{train}")),
        &[
            "`alexnet-torchvision` cannot take tiles of 16 px",
            "[pipeline.toml:14:11]",
            "stage `net`: must be at least 1, is 0",
            "[pipeline.toml:15:10]",
            "stage `net`: must be above 0, is -1",
            "[pipeline.toml:16:17]",
        ],
    );
    let kmeans = "[stage.c]\nop = \"kmeans\"\ninput = \"images\"\nk = 0\ninit = \"kmeans++\"\n";
    contains(
        &faults(&format!("{IMAGES}{kmeans}")),
        &["`init`: unknown variant `kmeans++`", "k-means++", "[pipeline.toml:8:8]"],
    );
    let pipeline = "[pipeline]\npart_rows = 0\nseed = \"x\"\nname = \"../up\"\n";
    contains(
        &faults(&format!("{pipeline}{IMAGES}")),
        &[
            "[pipeline.toml:2:13]",
            "a part has at least one row",
            "`seed` should be a whole number of at least 0, found \"x\"",
            "[pipeline.toml:3:8]",
            "no slashes, no leading dot",
            "[pipeline.toml:4:8]",
            "3 faults in",
        ],
    );
}

#[test]
fn files_that_are_hardly_pipelines() {
    contains(&faults(""), &["the file declares no stage", "[stage.images]"]);
    contains(
        &faults("[stages.images]\nop = \"images\"\n"),
        &["unknown table `stages`", "did you mean `stage`?", "[pipeline.toml:1:2]"],
    );
    contains(&faults("stage = 3\n"), &["`stage` should be a table", "[pipeline.toml:1:9]"]);
    contains(&faults("[stage]\nimages = \"photos\"\n"), &["stage `images` should be a table", "[pipeline.toml:2:10]"]);
    contains(&faults("[stage.images]\npath = \"photos\"\n"), &["stage `images` has no `op`", "tessera operators"]);
    contains(&faults(&format!("{IMAGES}{IMAGES}")), &["not TOML", "[pipeline.toml:4:"]);
    contains(
        &faults("[stage.images]\nop = \"images\"\npath = \"${PHOTOS/x\"\n"),
        &["`${` without its `}`", "[pipeline.toml:3:8]"],
    );
}

#[test]
fn the_environment_is_put_in() {
    let place = Place::new();
    place.images(3).write("pipeline.toml", "[stage.images]\nop = \"images\"\npath = \"${TESSERA_TEST_PHOTOS}\"\n");
    let mut command = std::process::Command::new(tessera_tests::binary());
    command.args(["check", "pipeline.toml"]).current_dir(place.path("")).env("TESSERA_TEST_PHOTOS", place.path("photos"));
    let answer = tessera_tests::run(command);
    assert_eq!((answer.code, answer.out.as_str()), (0, "pipeline.toml: 1 stage, nothing wrong\n"), "{}", answer.err);
    place.write(
        "pipeline.toml",
        "[stage.q]\nop = \"sql\"\ninput = \"rows\"\nquery = \"SELECT '$${x}' AS x FROM rows\"\n\
                                  [stage.rows]\nop = \"table\"\npath = \"rows.csv\"\n",
    );
    place.write("rows.csv", "image_id\na\n");
    assert_eq!(place.sql_after_run("SELECT x FROM q"), [serde_json::json!({"x": "${x}"})]);
}
