//! TorchScript models, and the devices that networks run on.

use serde_json::json;
use tch::{CModule, Device, Kind, Tensor};
use tessera_tests::Place;

use crate::made;

const FILE: &str = r#"
[stage]
images = { op = "images", path = "photos" }
decoded = { op = "decode", input = "images", side = 24 }
features = { op = "infer", input = "decoded", model = "model.pt", mean = [0.0, 0.0, 0.0], deviation = [1.0, 1.0, 1.0] }
"#;

/// Writes a TorchScript model: of each image the means of its channels, times a factor.
fn model(place: &Place, factor: f64) {
    let mut forward = |inputs: &[Tensor]| vec![inputs[0].mean_dim([2i64, 3].as_slice(), false, Kind::Float) * factor];
    let example = Tensor::zeros([1, 3, 24, 24], (Kind::Float, Device::Cpu));
    let module = CModule::create_by_tracing("Model", "forward", &[example], &mut forward).expect("a trace");
    module.save(place.path("model.pt")).expect("a file");
}

fn place() -> Place {
    let place = Place::new();
    place.images(9).write("pipeline.toml", FILE);
    model(&place, 1.0);
    place
}

#[test]
fn a_script_s_output_is_the_feature_and_its_file_is_in_the_key() {
    let place = place();
    let rows = place.sql_after_run("SELECT image_id, pixels, feature FROM decoded JOIN features USING (image_id)");
    assert_eq!(rows.len(), 9);
    for row in rows {
        let numbers = |column: &str| -> Vec<f64> {
            row[column].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
        };
        let (pixels, feature) = (numbers("pixels"), numbers("feature"));
        assert_eq!(feature.len(), 3);
        for (channel, found) in feature.iter().enumerate() {
            let sum: f64 = pixels.iter().skip(channel).step_by(3).sum();
            let mean = sum / (24.0 * 24.0 * 255.0);
            assert!((mean - found).abs() < 1e-5, "{row}");
        }
    }
    assert_eq!(place.tessera("run", &["--format", "json"]).stage("features")["action"], "reuse");
    // The same file again, and another one of the same name.
    model(&place, 1.0);
    assert_eq!(place.tessera("run", &["--format", "json"]).stage("features")["action"], "reuse");
    let sum = "SELECT sum(feature[1]) AS sum FROM features";
    let before = place.sql(sum)[0]["sum"].as_f64().unwrap();
    model(&place, 2.0);
    let run = place.tessera("run", &["--format", "json"]);
    assert_eq!((&run.stage("features")["action"], &run.stage("features")["rows_computed"]), (&json!("run"), &json!(9)));
    let after = place.sql(sum)[0]["sum"].as_f64().unwrap();
    assert!((after / before - 2.0).abs() < 1e-6, "{before} {after}");
}

#[test]
fn a_file_that_is_no_script_is_a_fault_of_the_pipeline() {
    let place = place();
    for content in [&b""[..], b"PK\x03\x04 and no more", b"no model"] {
        place.write("model.pt", content);
        let check = place.tessera("check", &[]);
        assert_eq!(check.code, 2, "{}", check.err);
        for said in ["stage `features`: ./model.pt cannot be read as TorchScript: ", "[pipeline.toml:5:55]", "1 fault in"] {
            assert!(check.err.contains(said), "{said}: {}", check.err);
        }
        assert!(!check.err.contains("panicked") && !check.err.contains("frame #"), "{}", check.err);
    }
}

#[test]
fn one_of_a_script_s_outputs_is_the_feature_and_in_the_key() {
    let place = place();
    let forward = "x: Tensor) -> Tuple[Tensor, Tensor]:\n    means = torch.mean(x, [2, 3])\n    return (means, torch.add(means, means))";
    place.write("model.pt", made::script(forward));
    let check = place.tessera("check", &[]);
    assert_eq!(check.code, 2, "{}", check.err);
    assert!(check.err.contains("yields several outputs, and it is not said which of them is the feature: 0 (2x3), 1 (2x3)"));
    let run = |output: &str| {
        place.write("pipeline.toml", FILE.replace("\"model.pt\"", &format!("\"model.pt\", output = {output}")));
        let run = place.tessera("run", &["--format", "json"]);
        let sum = place.sql("SELECT sum(feature[1]) AS sum FROM features")[0]["sum"].as_f64().unwrap();
        (run.stage("features")["action"].clone(), sum)
    };
    let (once, twice) = (run("0"), run("1"));
    assert_eq!((&once.0, &twice.0), (&json!("run"), &json!("run")));
    assert!((twice.1 / once.1 - 2.0).abs() < 1e-6, "{once:?} {twice:?}");
    assert_eq!(run("1").0, json!("reuse"));
}

#[test]
fn a_device_is_named_and_is_in_no_key() {
    let place = place();
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    let cpu = place.tessera("plan", &["--format", "json", "--set", "features.device=cpu"]);
    assert_eq!(cpu.stage("features")["action"], "reuse");
    let unknown = place.tessera("check", &["--set", "features.device=gpu"]);
    assert!(
        unknown.code == 2 && unknown.err.contains("`gpu` is no device: use `auto`, `cpu` or `cuda:N`"),
        "{}",
        unknown.err
    );
    let absent = place.tessera("run", &["--force", "features", "--set", "features.device=cuda:99"]);
    assert_eq!(absent.code, 1);
    assert!(absent.err.contains("there is no device `cuda:99`: libtorch sees"), "{}", absent.err);
    assert_eq!(place.sql("SELECT count(*) AS n FROM features"), [json!({ "n": 9 })], "what was made is still there");
}
