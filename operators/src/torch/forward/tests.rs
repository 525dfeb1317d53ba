//! Data is by formulas.

use tch::{Device, Kind};
use tessera_schemas::weights;

use super::super::network::{Name, walk};
use super::super::tensors::batches;
use super::*;

/// The gradients through two cuts are those that libtorch finds through its own operations.
#[test]
fn a_cut_pass_has_the_gradients_of_a_whole_one() {
    tch::manual_seed(5);
    let random = |sizes: &[i64]| Tensor::randn(sizes, (Kind::Float, Device::Cpu));
    let images = random(&[4, 3, 9, 9]);
    let weights = [random(&[8, 3, 3, 3]), random(&[6, 8, 3, 3]), random(&[5, 6, 3, 3]), random(&[8])];
    let weights = weights.map(|weight| weight.set_requires_grad(true));
    let response = Response { size: 5, alpha: 0.05, beta: 0.75 };
    let pass = |normalise: &mut dyn FnMut(Tensor) -> Tensor| {
        let convolved =
            |maps: &Tensor, number: usize| maps.conv2d(&weights[number], None::<Tensor>, [1, 1], [0, 0], [1, 1], 1);
        // The last weight takes part in two pieces.
        let scale = weights[3].view([1, 8, 1, 1]);
        let first = normalise((convolved(&images, 0) * scale).relu());
        let second = normalise(convolved(&first, 1).relu());
        convolved(&second, 2).square().mean(Kind::Float) + weights[3].square().sum(Kind::Float)
    };
    let loss = pass(&mut |maps| product(&maps, response).unwrap());
    let expected = Tensor::run_backward(&[&loss], &weights, false, false);
    let mut tape = Tape::default();
    let cut = pass(&mut |maps| tape.response(maps, response).unwrap());
    assert_eq!(tape.cuts.len(), 2);
    assert!((&cut - &loss).abs().double_value(&[]) < 1e-5 * loss.double_value(&[]));
    let found = tape.gradients(&cut, &weights).unwrap();
    for (found, expected) in found.iter().zip(&expected) {
        let worst = (found - expected).abs().max().double_value(&[]) / expected.abs().max().double_value(&[]);
        assert!(worst < 1e-5, "{worst}");
    }
    let other = random(&[2]).set_requires_grad(true);
    let lost = Tape::default().gradients(&(&weights[0] * 2.0).sum(Kind::Float), &[other]).unwrap_err();
    assert!(lost.to_string().contains("does not depend on all"), "{lost}");
}

/// Two images, three classes, of which one does not count for the second: sums of `log(1 + exp(-t s))`, halved.
#[test]
fn the_loss_of_presence_leaves_out_what_does_not_count() {
    let scores = Tensor::from_slice(&[2.0f32, -1.0, 0.5, 3.0, 0.0, -2.0]).view([2, 3]);
    let presence = Tensor::from_slice(&[1.0f32, -1.0, -1.0, 0.0, 1.0, -1.0]).view([2, 3]);
    let found = presence_loss(&scores, &presence).unwrap().double_value(&[]);
    let of = |margin: f64| (1.0 + (-margin).exp()).ln();
    let expected = (of(2.0) + of(1.0) + of(-0.5) + of(0.0) + of(2.0)) / 2.0;
    assert!((found - expected).abs() < 1e-6, "{found} {expected}");
}

/// Numbers that another implementation can make too: the `i`th of tensor `t` is `((i · 7919 + t · 104729) mod 1009) / 1009 - 0.5`,
/// scaled by `sqrt(24 / fan-in)` for weights of more than one dimension, else by 0.2; norms' weights and variances are 1 more.
fn by_formula(steps: &[Step], side: usize) -> Tensors {
    let (_, parameters) = walk(steps, &[3, side, side]).unwrap();
    let values = |(t, parameter): (usize, &super::super::network::Parameter)| {
        let unit = |i: usize| ((i * 7919 + t * 104_729) % 1009) as f64 / 1009.0 - 0.5;
        let fan_in: usize = parameter.shape[1..].iter().product();
        let is_scale = parameter.name.ends_with("weight") || parameter.name.ends_with("running_var");
        let value = |i: usize| match parameter.shape.len() {
            1 => unit(i) * 0.2 + if is_scale { 1.0 } else { 0.0 },
            _ => unit(i) * (24.0 / fan_in as f64).sqrt(),
        };
        (0..parameter.shape.iter().product()).flat_map(|i| (value(i) as f32).to_le_bytes()).collect::<Vec<u8>>()
    };
    let data: Vec<_> = parameters.iter().enumerate().map(values).collect();
    let rows = parameters.iter().zip(&data).map(|(parameter, data)| weights::Weight {
        tensor: &parameter.name,
        shape: parameter.shape.iter().map(|&side| side as i64).collect(),
        dtype: "F32",
        data,
    });
    let table = batches(&weights::schema(&weights::Network::default()), rows).unwrap();
    Tensors::read(&table, &parameters, Device::Cpu).unwrap()
}

/// What torchvision 0.26 yields in double precision, for the same weights and images: the mean of each layer's output. (For the
/// paper's AlexNet, what `nn.Conv2d`, `nn.MaxPool2d(3, 2, ceil_mode=True)` and `nn.LocalResponseNorm(5)` do.)
#[test]
fn layers_are_torchvisions() {
    let golden = [
        (Name::Alexnet, 67, [3.293530e-01, 1.265657e-01, 5.908330e-02, 6.442028e-02, 2.670493e-02]),
        (Name::AlexnetTorchvision, 67, [3.157304e-01, 9.691294e-02, 5.395882e-02, 2.915311e-02, 2.552441e-02]),
        (Name::Vgg16, 32, [2.153472e-01, 1.417667e-01, 1.334834e-01, 2.708743e-02, 2.477056e-02]),
        (Name::Vgg16Bn, 32, [2.189755e-01, 1.764752e-01, 1.933986e-01, 5.210916e-02, 4.204908e-02]),
        (Name::Resnet18, 32, [3.039328e-01, 1.127801e+00, 7.391541e-01, 6.165198e-01, 7.491493e-01]),
        (Name::Resnet50, 32, [3.039328e-01, 6.568565e-01, 3.204301e+00, 3.827986e+00, 3.052116e+00]),
    ];
    let _guard = tch::no_grad_guard();
    for (name, side, expected) in golden {
        let network = name.network();
        let values: Vec<f32> =
            (0..2 * 3 * side * side).map(|i| ((i * i * 31 + i * 17) % 251) as f32 / 125.0 - 1.0).collect();
        let images = Tensor::from_slice(&values).view([2, 3, side as i64, side as i64]);
        let images = super::super::input::channels_last(&images).unwrap();
        let mut found = Vec::new();
        let mut visit = |layer: &str, output: &Tensor| {
            found.push((layer.to_owned(), output.f_mean(Kind::Double)?.f_double_value(&[])?));
            Ok(())
        };
        let tensors = by_formula(&network.trunk, side);
        run(&network.trunk, &tensors, images, Mode::Evaluate, &mut Tape::default(), &mut visit).map(drop).unwrap();
        assert_eq!(found.len(), 5);
        for ((layer, found), expected) in found.iter().zip(expected) {
            let off = (found / expected - 1.0).abs();
            assert!(off < 1e-5, "{layer} of {}: {found}, not {expected}", name.text());
        }
    }
}
