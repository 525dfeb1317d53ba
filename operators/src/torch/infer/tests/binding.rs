//! What is wrong with a stage, and how its keys are read.

use super::*;

#[test]
fn what_is_wrong_is_found_before_any_image() {
    let key = |key: &str| At::Key(key.to_owned());
    let weights = |name: Option<&str>, normalisation: Option<&str>| {
        let (name, normalisation) = (name.map(str::to_owned), normalisation.map(str::to_owned));
        Some(weights::schema(&weights::Network { name, normalisation, ..weights::Network::default() }))
    };
    let small = || weights(Some("small"), Some("tile"));
    let input = |port: &str| At::Input(port.to_owned());
    let maker = || At::Maker(WEIGHTS.to_owned());

    let config = json!({"layer": ["conv1", "conv9", "conv1", "fc"], "mean": [0.1, 0.1, 0.1]});
    let expected = [
        (key("mean"), "without `deviation`"),
        (key("layer[1]"), "no layer `conv9` | known: conv1, conv2, conv3, conv4, conv5"),
        (key("layer[2]"), "is there twice"),
        (key("layer[3]"), "no layer `fc`"),
    ];
    assert_faults(bind(config, 64, small()), &expected);
    assert_faults(bind(json!({}), 64, small()), &[(At::Stage, "needs `layer`")]);
    assert_faults(bind(json!({"layer": []}), 64, small()), &[(key("layer"), "names no layer")]);
    assert_faults(bind(json!({"layer": "conv1"}), 64, None), &[(At::Stage, "neither an input `weights` nor a key `model`")]);
    assert_faults(bind(json!({"model": "m.pt"}), 64, small()), &[(key("model"), "and the stage has an input `weights`")]);
    let unknown = [(maker(), "does not say which network"), (maker(), "does not say how images are normalised")];
    assert_faults(bind(json!({"layer": "conv1"}), 64, weights(None, None)), &unknown);
    let other = weights(Some("vit"), Some("none"));
    assert_faults(
        bind(json!({"layer": "conv1"}), 64, other),
        &[(input(WEIGHTS), "its network `vit` is unknown | known: alex")],
    );
    let config = json!({"layer": "conv1", "network": "alexnet-torchvision"});
    assert_faults(bind(config, 64, small()), &[(key("network"), "of `small`, not of `alexnet-torchvision`")]);
    let alexnet = weights(Some("alexnet-torchvision"), Some("none"));
    assert_faults(bind(json!({"layer": "conv5"}), 16, alexnet), &[(input(IMAGES), "16x16 px are too small")]);
    let config = json!({"layer": "conv1", "pool": 2, "values": 99});
    assert_faults(bind(config, 64, small()), &[(key("values"), "says how to pool, and so does `pool` | remove one")]);
    let config = json!({"layer": "conv4", "values": 191});
    assert_faults(
        bind(config, 64, small()),
        &[(key("values"), "cannot pool 192x16x16 to no more than 191 values | maps can")],
    );
    let config = json!({"layer": ["conv1", "conv4"], "pool": 17});
    assert_faults(bind(config, 64, small()), &[(key("pool"), "cannot pool 192x16x16 to 17 values a side | maps can")]);
    let no_pixels = puzzles::schema(puzzles::Layout { grid: 3, tile: 16, permutations: 9 }, "tile");
    let bound = bind_in(Path::new("/nowhere"), json!({"layer": "conv7"}), no_pixels, small());
    assert_faults(bound, &[(input(IMAGES), "column `pixels` is missing"), (key("layer"), "conv7")]);
}

#[test]
fn each_layer_is_pooled_to_no_more_values_than_asked_for() {
    let of = |values: usize| {
        let config = json!({"layer": ["conv1", "conv3", "conv5"], "values": values});
        let said = weights::Network {
            name: Some("small".to_owned()),
            normalisation: Some("tile".to_owned()),
            ..weights::Network::default()
        };
        let infer = bind(config, 64, Some(weights::schema(&said))).unwrap();
        let lengths =
            infer.schema.fields()[1..].iter().map(|field| features::dimension(&infer.schema, field.name()).unwrap());
        (infer.plan.pools.clone(), lengths.collect::<Vec<_>>())
    };
    // Of maps of 32 x 64 x 64, 128 x 16 x 16, 192 x 16 x 16.
    assert_eq!(of(9000), (vec![16, 8, 6], vec![8192, 8192, 6912]));
    assert_eq!(of(128 * 256), (vec![32, 0, 13], vec![32 * 1024, 128 * 256, 192 * 169]));
    assert_eq!(of(192), (vec![2, 1, 1], vec![128, 128, 192]));
}

#[test]
fn what_is_wrong_with_a_model_is_found_too() {
    let folder = tempfile::tempdir().unwrap();
    let key = |key: &str| At::Key(key.to_owned());
    let bind = |config: Value, side: usize| bind_in(folder.path(), config, images_schema(side), None);
    let both = [(key("layer"), "no named layers"), (At::Stage, "needs `mean`"), (key("model"), "there is no file")];
    assert_faults(bind(json!({"model": "model.pt", "layer": "conv1"}), 20), &both);
    std::fs::write(folder.path().join("model.pt"), b"not a model").unwrap();
    assert_faults(
        bind(imagenet(json!({"model": "model.pt"})), 20),
        &[(key("model"), "model.pt cannot be read as TorchScript: ")],
    );
    let said = faults(bind(imagenet(json!({"model": "model.pt"})), 20)).remove(0).1;
    assert!(!said.contains("frame #"), "libtorch's reason, and none of its functions: {said}");
    let tensors = made::file(&made::dictionary::<&str>(&[]), &[]);
    for (bytes, said) in [
        (&tensors[..], "it is a file that `torch.save` wrote, which has no model's code | a stage `weights` reads tensors"),
        (
            b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
            "before PyTorch 1.6, or as it did then, which has no model's code | once",
        ),
        (b"\x08\0\0\0\0\0\0\0{}      ", "it is a safetensors file, which has no model's code | a stage `weights` reads"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "Git LFS keeps in place of a file that was not fetched | `git lfs pull`",
        ),
        (b"<!doctype html>", "it is a web page, or another text with tags | fetch it anew"),
    ] {
        std::fs::write(folder.path().join("model.pt"), bytes).unwrap();
        let found = bind(imagenet(json!({"model": "model.pt"})), 20);
        assert_faults(found, &[(key("model"), said)]);
    }
    script(folder.path(), true);
    assert_faults(bind(imagenet(json!({"model": "model.pt"})), 21), &[(key("model"), "fails on 2x3x21x21: ")]);
}

#[test]
fn layers_are_a_name_or_a_list() {
    let layer = |value: Value| serde_json::from_value::<Config>(json!({ "layer": value })).map(|config| config.layer);
    for value in [json!("conv4"), json!(["conv4"]), json!(["conv4", "conv5"])] {
        assert_eq!(serde_json::to_value(layer(value.clone()).unwrap()).unwrap(), value);
    }
    let error = layer(json!(4)).unwrap_err().to_string();
    assert_eq!(error, "invalid type: integer `4`, expected a name, or a list of names");
}
