//! Data is generated, save in the parity test.

mod binding;
mod outputs;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, RecordBatch, StringArray};
use serde_json::{Value, json};
use tch::{CModule, Tensor};
use tessera_schemas::puzzles;

use super::*;
use crate::operator::{At, Inputs, Map, MapFn};
use crate::random::Draw;
use crate::tensor_file::made;
use crate::torch::tensors::Tensors;
use crate::trial;

fn images_schema(side: usize) -> SchemaRef {
    let id = arrow::datatypes::Field::new(IMAGE_ID, arrow::datatypes::DataType::Utf8, false);
    Arc::new(arrow::datatypes::Schema::new(vec![id, pixels::field(side, side)]))
}

fn images(side: usize, rows: &[(String, Vec<u8>)]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.0)));
    let bytes = rows.iter().flat_map(|row| row.1.iter().copied()).collect();
    RecordBatch::try_new(images_schema(side), vec![ids, pixels::array(bytes, side, side)]).unwrap()
}

fn random_images(side: usize, count: usize) -> Vec<(String, Vec<u8>)> {
    let image = |i: usize| {
        let mut draw = Draw::new(3, "test", "image", &i.to_string(), 0);
        (format!("{i:03}"), (0..side * side * 3).map(|_| draw.below(256) as u8).collect())
    };
    (0..count).map(image).collect()
}

/// Random weights of a network's trunk.
fn weights_of(name: Name) -> Vec<RecordBatch> {
    let network = weights::Network { name: Some(name.text().to_owned()), ..weights::Network::default() };
    let (_, parameters) = walk(&name.network().trunk, &[3, 64, 64]).unwrap();
    Tensors::initial(&parameters, 5, tch::Device::Cpu).unwrap().write(&weights::schema(&network)).unwrap()
}

fn bind_in(base: &Path, config: Value, images: SchemaRef, weights: Option<SchemaRef>) -> Result<Infer, Vec<BindError>> {
    let inputs: Vec<_> = [(IMAGES, images)].into_iter().chain(weights.map(|schema| (WEIGHTS, schema))).collect();
    trial::bind_in(base, config, &inputs)
}

fn bind(config: Value, side: usize, weights: Option<SchemaRef>) -> Result<Infer, Vec<BindError>> {
    bind_in(Path::new("/nowhere"), config, images_schema(side), weights)
}

fn map(infer: Infer) -> Box<dyn Map> {
    trial::kernel(infer, 1, 1).unwrap()
}

fn call(worker: &mut dyn MapFn, batch: &RecordBatch) -> RecordBatch {
    trial::call_worker(worker, batch).unwrap()
}

/// Each row's vectors as bits, by id.
fn bits(batch: &RecordBatch) -> BTreeMap<String, Vec<u32>> {
    let ids = tessera_schemas::text(batch, IMAGE_ID).unwrap();
    let vectors = batch.schema().fields()[1..].iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    let vectors: Vec<_> = vectors.iter().map(|name| tessera_schemas::vector(batch, name).unwrap()).collect();
    let row =
        |row: usize| vectors.iter().flat_map(move |(v, d)| v[row * d..(row + 1) * d].iter().map(|v| v.to_bits())).collect();
    (0..batch.num_rows()).map(|i| (ids.value(i).to_owned(), row(i))).collect()
}

/// Every row of every cut, at whatever place and beside whatever others, on two threads, is the same to the bit.
fn assert_exact(map: &dyn Map, side: &Inputs<Vec<RecordBatch>>, side_pixels: usize) {
    let rows = random_images(side_pixels, 100);
    let expected = bits(&call(&mut *map.open(side).unwrap(), &images(side_pixels, &rows)));
    assert_eq!(expected.len(), 100);
    let distinct: BTreeSet<_> = expected.values().collect();
    assert_eq!(distinct.len(), 100);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (rows, expected) = (&rows, &expected);
            scope.spawn(move || {
                let mut worker = map.open(side).unwrap();
                let mut draw = Draw::new(thread, "test", "order", "", 0);
                let shuffled: Vec<_> = draw.distinct(100, 100).into_iter().map(|i| rows[i].clone()).collect();
                for size in [1, 2, 31, 32, 33] {
                    let count = if size < 3 { 3 } else { 2 };
                    for chunk in shuffled.chunks(size).take(count) {
                        for (id, found) in bits(&call(&mut *worker, &images(side_pixels, chunk))) {
                            assert_eq!(found, expected[&id], "image {id} in a batch of {size}");
                        }
                    }
                }
            });
        }
    });
}

fn imagenet(more: Value) -> Value {
    let mut config = json!({"mean": [0.485, 0.456, 0.406], "deviation": [0.229, 0.224, 0.225]});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

/// A traced model of one convolution; with `view`, in a manner that needs contiguous images.
fn script(folder: &Path, view: bool) {
    let weight = Tensor::from_slice(&(0..8 * 27).map(|i| ((i * 37 % 19) as f32 - 9.0) / 20.0).collect::<Vec<_>>());
    let weight = weight.view([8, 3, 3, 3]);
    let mut closure = |inputs: &[Tensor]| {
        let images = if view { inputs[0].view([-1, 3, 20, 20]).relu() } else { inputs[0].shallow_clone() };
        vec![images.conv2d(&weight, None::<Tensor>, [2, 2], [1, 1], [1, 1], 1).relu()]
    };
    let example = Tensor::zeros([1, 3, 20, 20], (tch::Kind::Float, tch::Device::Cpu));
    let module = CModule::create_by_tracing("Model", "forward", &[example], &mut closure).unwrap();
    module.save(folder.join("model.pt")).unwrap();
}

#[test]
fn rows_of_small_are_exact() {
    let table = weights_of(Name::Small);
    let infer = bind(imagenet(json!({"layer": ["conv2", "conv5"], "pool": 3})), 33, Some(table[0].schema())).unwrap();
    let schema = infer.schema();
    let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, [IMAGE_ID, "conv2", "conv5"]);
    assert_eq!(features::dimension(&schema, "conv5").unwrap(), 192 * 9);
    assert_exact(&*map(infer), &Inputs([(WEIGHTS.to_owned(), table)].into()), 33);
}

#[test]
fn rows_of_alexnet_are_exact() {
    let table = weights_of(Name::AlexnetTorchvision);
    let infer = bind(imagenet(json!({"layer": "conv5"})), 95, Some(table[0].schema())).unwrap();
    assert_eq!(features::dimension(&infer.schema(), features::FEATURE).unwrap(), 256 * 5 * 5);
    assert_exact(&*map(infer), &Inputs([(WEIGHTS.to_owned(), table)].into()), 95);
}

#[test]
fn rows_of_the_papers_alexnet_are_exact() {
    let table = weights_of(Name::Alexnet);
    let infer = bind(imagenet(json!({"layer": "conv4", "pool": 2})), 67, Some(table[0].schema())).unwrap();
    assert_eq!(features::dimension(&infer.schema(), features::FEATURE).unwrap(), 384 * 4);
    assert_exact(&*map(infer), &Inputs([(WEIGHTS.to_owned(), table)].into()), 67);
}

#[test]
fn rows_of_a_residual_network_are_exact() {
    let table = weights_of(Name::Resnet18);
    let infer = bind(imagenet(json!({"layer": ["conv2", "conv5"], "pool": 1})), 33, Some(table[0].schema())).unwrap();
    assert_exact(&*map(infer), &Inputs([(WEIGHTS.to_owned(), table)].into()), 33);
}

#[test]
fn rows_of_a_script_are_exact() {
    let folder = tempfile::tempdir().unwrap();
    for view in [false, true] {
        script(folder.path(), view);
        let config = imagenet(json!({"model": "model.pt"}));
        let infer = bind_in(folder.path(), config, images_schema(20), None).unwrap();
        assert_eq!(features::dimension(&infer.schema(), features::FEATURE).unwrap(), 8 * 10 * 10);
        assert_exact(&*map(infer), &Inputs(BTreeMap::new()), 20);
    }
}

#[test]
fn tiles_own_normalisation_carries_over_to_images() {
    let table = weights_of(Name::Small);
    let said = weights::Network {
        name: Some("small".to_owned()),
        normalisation: Some("tile".to_owned()),
        ..weights::Network::default()
    };
    let infer = bind(json!({"layer": "conv1", "pool": 1}), 16, Some(weights::schema(&said))).unwrap();
    let map = map(infer);
    let mut worker = map.open(&Inputs([(WEIGHTS.to_owned(), table)].into())).unwrap();
    // Contrast and brightness do not matter to an image that is normalised by its own mean and deviation.
    let dark: Vec<u8> = (0..768).map(|i| (i * 7 % 100) as u8).collect();
    let bright = dark.iter().map(|v| v * 2 + 20).collect();
    let features = call(&mut *worker, &images(16, &[("a".to_owned(), dark), ("b".to_owned(), bright)]));
    let (values, width) = tessera_schemas::vector(&features, features::FEATURE).unwrap();
    assert!(values.iter().any(|v| *v != 0.0));
    assert!(values[..width].iter().zip(&values[width..]).all(|(a, b)| (a - b).abs() < 1e-3));
}

#[test]
fn pooling_takes_maxima_or_means() {
    let folder = tempfile::tempdir().unwrap();
    script(folder.path(), false);
    let rows = random_images(20, 2);
    let of = |config: Value| {
        let infer = bind_in(folder.path(), imagenet(config), images_schema(20), None).unwrap();
        let map = map(infer);
        let features = call(&mut *map.open(&Inputs(BTreeMap::new())).unwrap(), &images(20, &rows));
        tessera_schemas::vector(&features, features::FEATURE).unwrap().0.to_vec()
    };
    let whole = of(json!({"model": "model.pt"}));
    let maps = || whole.chunks(100);
    let maxima: Vec<f32> = maps().map(|map| map.iter().copied().fold(0.0, f32::max)).collect();
    assert_eq!(of(json!({"model": "model.pt", "pool": 1})), maxima);
    let means = of(json!({"model": "model.pt", "pool": 1, "pooling": "avg"}));
    assert!(maps().zip(&means).all(|(map, mean)| (map.iter().sum::<f32>() / 100.0 - mean).abs() < 1e-5));
    assert_eq!(of(json!({"model": "model.pt", "pool": 2})).len(), 2 * 8 * 4);
}

#[test]
fn an_empty_batch_gives_an_empty_one() {
    let table = weights_of(Name::Small);
    let map = map(bind(imagenet(json!({"layer": "conv1"})), 16, Some(table[0].schema())).unwrap());
    let features = call(&mut *map.open(&Inputs([(WEIGHTS.to_owned(), table)].into())).unwrap(), &images(16, &[]));
    assert_eq!((features.num_rows(), features.num_columns()), (0, 2));
    assert!(features.column(1).as_any().is::<FixedSizeListArray>());
}

#[test]
fn a_missing_tensor_is_named() {
    let table = weights_of(Name::Small);
    let config = imagenet(json!({"layer": "conv1", "network": "alexnet-torchvision"}));
    let map = map(bind(config, 64, Some(weights::schema(&weights::Network::default()))).unwrap());
    let error = map.open(&Inputs([(WEIGHTS.to_owned(), table)].into())).err().unwrap().to_string();
    assert!(
        error.starts_with("the weights have no tensor `features.0.weight` (64x3x11x11); there are: bn1.bias"),
        "{error}"
    );
}

fn faults(found: Result<Infer, Vec<BindError>>) -> Vec<(At, String)> {
    found
        .unwrap_err()
        .into_iter()
        .map(|fault| (fault.at, format!("{} | {}", fault.message, fault.help.unwrap_or_default())))
        .collect()
}

fn assert_faults(found: Result<Infer, Vec<BindError>>, expected: &[(At, &str)]) {
    let found = faults(found);
    let fits = |(fault, expected): (&(At, String), &(At, &str))| fault.0 == expected.0 && fault.1.contains(expected.1);
    assert!(found.len() == expected.len() && found.iter().zip(expected).all(fits), "{found:#?}");
}

/// Features as PyTorch computes them, of a folder that `tests/peers/features.py` makes.
#[test]
#[ignore = "needs a folder of PyTorch's weights and features in TESSERA_PARITY_DIR: tests/peers/features.py makes one"]
fn features_equal_pytorchs() {
    let folder = std::path::PathBuf::from(std::env::var_os("TESSERA_PARITY_DIR").unwrap());
    let image = |name: &str| image::open(folder.join("input").join(name)).unwrap().to_rgb8().into_raw();
    let (a, b) = (image("a.png"), image("b.png"));
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let (expected, held) = (read("expected.safetensors"), read("alexnet_torchvision_features.safetensors"));
    let expected = safetensors::SafeTensors::deserialize(&expected).unwrap();
    let held = safetensors::SafeTensors::deserialize(&held).unwrap();
    let tensors = held.tensors();
    let rows = tensors.iter().map(|(name, view)| weights::Weight {
        tensor: name,
        shape: view.shape().iter().map(|&side| side as i64).collect(),
        dtype: "F32",
        data: view.data(),
    });
    let bare = weights::schema(&weights::Network::default());
    let table = super::super::tensors::batches(&bare, rows).unwrap();
    let layers = ["conv1", "conv2", "conv3", "conv4", "conv5"];
    let alexnet = json!({"layer": layers, "pool": 5, "network": "alexnet-torchvision"});
    let squeezenet = json!({"model": "squeezenet1_1_features.pt", "pool": 1, "pooling": "avg"});
    let columns = layers.map(|layer| (layer.to_owned(), format!("alexnet_{layer}")));
    let one = [(features::FEATURE.to_owned(), "squeezenet1_1".to_owned())];
    for (config, sides, columns) in [
        (alexnet, Inputs([(WEIGHTS.to_owned(), table)].into()), columns.as_slice()),
        (squeezenet, Inputs(BTreeMap::new()), one.as_slice()),
    ] {
        let weights = sides.get(WEIGHTS).map(|_| bare.clone());
        let map = map(bind_in(&folder, imagenet(config), images_schema(224), weights).unwrap());
        let mut worker = map.open(&sides).unwrap();
        let mut first = None;
        for count in [2, 31] {
            let rows: Vec<_> = (0..count).map(|i| (i.to_string(), if i % 2 == 0 { a.clone() } else { b.clone() })).collect();
            let features = call(&mut *worker, &images(224, &rows));
            let exact = bits(&features);
            let first = first.get_or_insert_with(|| exact.clone());
            assert!(exact.iter().all(|(id, bits)| bits == &first[&(id.parse::<usize>().unwrap() % 2).to_string()]));
            for (column, name) in columns {
                let (found, width) = tessera_schemas::vector(&features, column).unwrap();
                let wanted: Vec<f32> = bytemuck::pod_collect_to_vec(expected.tensor(name).unwrap().data());
                assert_eq!(wanted.len(), 2 * width);
                let difference = |i: usize| (found[i] - wanted[i % wanted.len()]).abs();
                let worst = (0..found.len()).map(difference).fold(0.0, f32::max);
                println!("{name} in a part of {count}: differs by at most {worst:e}");
                assert!(worst < 1e-4, "{name}: {worst}");
            }
        }
    }
}

/// Images a second through conv5 of AlexNet, as workers run it.
#[test]
#[ignore = "a benchmark"]
fn speed() {
    let table = weights_of(Name::AlexnetTorchvision);
    let map = map(bind(imagenet(json!({"layer": "conv5", "pool": 5})), 224, Some(table[0].schema())).unwrap());
    let sides = Inputs([(WEIGHTS.to_owned(), table)].into());
    let batch = images(224, &random_images(224, 128));
    for workers in [1, 2] {
        let run = || call(&mut *map.open(&sides).unwrap(), &batch);
        run();
        let start = std::time::Instant::now();
        std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(|| (0..3).for_each(|_| drop(run()))))));
        let images = (workers * 3 * 128) as f64;
        println!("{workers} workers: {:.0} images/s", images / start.elapsed().as_secs_f64());
    }
}
