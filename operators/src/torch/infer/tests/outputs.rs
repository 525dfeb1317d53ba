//! TorchScript models of several outputs.

use super::*;

/// Means of channels, under several names.
#[test]
fn one_of_several_outputs_is_the_feature() {
    let folder = tempfile::tempdir().unwrap();
    let rows = random_images(8, 3);
    let of = |forward: &str, output: Value| {
        std::fs::write(folder.path().join("model.pt"), made::script(forward)).unwrap();
        let mut config = imagenet(json!({"model": "model.pt"}));
        config.as_object_mut().unwrap().extend((!output.is_null()).then(|| ("output".to_owned(), output)));
        bind_in(folder.path(), config, images_schema(8), None)
    };
    let feature = |forward: &str, output: Value| {
        let map = map(of(forward, output).unwrap());
        let features = call(&mut *map.open(&Inputs(BTreeMap::new())).unwrap(), &images(8, &rows));
        let (values, width) = tessera_schemas::vector(&features, features::FEATURE).unwrap();
        (width, values.to_vec())
    };
    let (mean, maps) = ("torch.mean(x, [2, 3])", "torch.relu(x)");
    let single = feature(&format!("x: Tensor) -> Tensor:\n    return {mean}"), Value::Null);
    assert_eq!(single.0, 3);
    let tuple = format!("x: Tensor) -> Tuple[Tensor, Tensor, int]:\n    return ({maps}, {mean}, 7)");
    let list = format!("x: Tensor) -> List[Tensor]:\n    return [{maps}, {mean}]");
    let names = format!("x: Tensor) -> Dict[str, Tensor]:\n    return {{\"maps\": {maps}, \"mean\": {mean}}}");
    let numbers = format!("x: Tensor) -> Dict[int, Tensor]:\n    return {{7: {maps}, 1: {mean}}}");
    for (forward, output) in [(&tuple, json!(1)), (&list, json!(1)), (&names, json!("mean")), (&numbers, json!(1))] {
        assert_eq!(feature(forward, output), single, "{forward}");
    }
    assert_eq!(feature(&names, json!("maps")).0, 3 * 8 * 8);
    // What `pool` pools is the output that was asked for.
    let pooled = |output: &str| {
        let config = imagenet(json!({"model": "model.pt", "pool": 2, "output": output}));
        bind_in(folder.path(), config, images_schema(8), None)
    };
    std::fs::write(folder.path().join("model.pt"), made::script(&names)).unwrap();
    assert_eq!(features::dimension(&pooled("maps").unwrap().schema(), features::FEATURE).unwrap(), 3 * 4);
    let key = |key: &str| At::Key(key.to_owned());
    assert_faults(pooled("mean"), &[(key("pool"), "cannot pool 3 values to 2 values a side")]);

    let none = || Value::Null;
    let nothing = "x: Tensor) -> int:\n    return 7".to_owned();
    let two = "x: Tensor,\n    y: Tensor) -> Tensor:\n    return torch.add(x, y)".to_owned();
    let whole = "x: Tensor) -> Tensor:\n    return torch.mean(x)".to_owned();
    let nested = format!("x: Tensor) -> Tuple[Tensor, Tuple[Tensor, Tensor]]:\n    return ({mean}, ({mean}, {maps}))");
    for (forward, output, at, said) in [
        (&tuple, none(), "model", "is the feature: 0 (2x3x8x8), 1 (2x3), 2 (a number) | output = …"),
        (&names, none(), "model", "is the feature: \"maps\" (2x3x8x8), \"mean\" (2x3) | output = …"),
        (&nested, json!(1), "output", "is 1, and the model yields 0 (2x3), 1 (a list)"),
        (&tuple, json!(2), "output", "is 2, and the model yields 0 (2x3x8x8), 1 (2x3), 2 (a number)"),
        (&tuple, json!(3), "output", "is 3, and the model yields 0 (2x3x8x8)"),
        (&names, json!("mena"), "output", "is \"mena\", and the model yields \"maps\""),
        (&names, json!(0), "output", "is 0, and the model yields \"maps\""),
        (&whole, json!(0), "output", "this one yields a single tensor | remove the key"),
        (&whole, none(), "model", "should yield numbers an image, N x …, and for N = 2 yields [] of Float"),
        (&nothing, none(), "model", "yields a number, and should yield a tensor, N x …"),
        (&two, none(), "model", "fails on 2x3x8x8: it takes 2 inputs, and images are one | it is given images alone"),
    ] {
        assert_faults(of(forward, output), &[(key(at), said)]);
    }
    let weights = weights_of(Name::Small);
    let chosen = bind(imagenet(json!({"layer": "conv1", "output": 0})), 64, Some(weights[0].schema()));
    assert_faults(chosen, &[(key("output"), "chooses among a TorchScript model's outputs, and the network is of weights")]);
}

#[test]
fn an_output_is_a_place_or_a_name() {
    let output = |value: Value| serde_json::from_value::<Config>(json!({ "output": value }));
    for value in [json!(0), json!(7), json!("mean"), json!("0")] {
        assert_eq!(serde_json::to_value(output(value.clone()).unwrap()).unwrap()["output"], value);
    }
    assert!(serde_json::to_value(serde_json::from_value::<Config>(json!({})).unwrap()).unwrap().get("output").is_none());
    for value in [json!(-1), json!(1.5), json!([0]), json!(true)] {
        let error = output(value).unwrap_err().to_string();
        assert!(error.ends_with("expected an output's place, from 0, or its name"), "{error}");
    }
}
