//! Data is by formulas.

use tch::{Device, Kind};

use super::super::by_formula;
use super::super::network::{Name, walk};
use super::*;
use crate::trial::weighted;

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

/// Maps of 16 bits are normalised as those of 32 are, and then rounded: squares and powers of 16 bits would be off by more.
#[test]
fn responses_of_half_the_bits_are_computed_in_all() {
    tch::manual_seed(6);
    let maps = (Tensor::randn([4, 16, 5, 5], (Kind::Float, Device::Cpu)) * 50.0).to_kind(Kind::BFloat16);
    let response = Response { size: 5, alpha: 1e-2, beta: 0.75 };
    let of = |maps: &Tensor| Tape::default().response(maps.copy(), response).unwrap();
    let (found, expected) = (of(&maps), of(&maps.to_kind(Kind::Float)));
    assert_eq!((found.kind(), expected.kind()), (Kind::BFloat16, Kind::Float));
    assert!(found.equal(&expected.to_kind(Kind::BFloat16)));
    let rough = product(&maps, response).unwrap();
    let worst = (rough.to_kind(Kind::Float) - &expected).abs().max().double_value(&[]);
    assert!(worst > (found.to_kind(Kind::Float) - &expected).abs().max().double_value(&[]), "{worst}");
    // The gradient's way back is cut there as it is for 32 bits.
    let maps = maps.detach().set_requires_grad(true);
    let mut tape = Tape::default();
    let loss = tape.response(maps.shallow_clone(), response).unwrap().to_kind(Kind::Float).square().mean(Kind::Float);
    assert_eq!(tape.cuts.len(), 1);
    let gradient = &tape.gradients(&loss, &[maps.shallow_clone()]).unwrap()[0];
    assert!(gradient.kind() == Kind::BFloat16 && gradient.isfinite().all().int64_value(&[]) == 1);
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

/// A layer's output as torchvision has it: its shape, four values by their places in it, and the [`weighted`] sum of all.
type Output = ([i64; 4], [(usize, f64); 4], f64);

/// Each layer's values are those of torchvision in double precision, for the same weights and images (for networks that it has not, of
/// its parts: `tests/peers/golden/layers.py`).
#[test]
fn layers_are_torchvisions() {
    let _guard = tch::no_grad_guard();
    for (name, side, expected) in GOLDEN {
        let trunk = name.network().trunk;
        let values: Vec<f32> =
            (0..2 * 3 * side * side).map(|i| ((i * i * 31 + i * 17) % 251) as f32 / 125.0 - 1.0).collect();
        let images = Tensor::from_slice(&values).view([2, 3, side as i64, side as i64]);
        let images = super::super::input::channels_last(&images).unwrap();
        let mut found = Vec::new();
        let mut visit = |layer: &str, output: &Tensor| {
            found.push((layer.to_owned(), output.copy()));
            Ok(())
        };
        let tensors = by_formula::tensors(&walk(&trunk, &[3, side, side]).unwrap().1, 24.0);
        run(&trunk, &tensors, images, Mode::Evaluate, &mut Tape::default(), &mut visit).map(drop).unwrap();
        assert_eq!(found.len(), 5);
        for ((layer, output), (shape, places, sum)) in found.iter().zip(expected) {
            let of = format!("{layer} of {}", name.text());
            assert_eq!(output.size(), shape, "{of}");
            let values = row(output);
            let largest = values.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
            for (place, expected) in places {
                let off = (f64::from(values[place]) - expected).abs() / f64::from(largest);
                assert!(off < 1e-5, "{of}: value {place} is {}, not {expected}", values[place]);
            }
            // In parts of the values' length, which is what sums of random signs are in.
            let length = values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
            let off = |values: &[f32]| (weighted(values) - sum).abs() / length;
            assert!(off(&values) < 1e-5, "{of}: the sum is {}, not {sum}", weighted(&values));
            // Were axes, channels or images mixed up, the sum would be off by ten times of what is allowed at least.
            for mixed in [output.transpose(2, 3), output.flip([0]), output.flip([1]), output.flip([2]), output.flip([3])] {
                assert!(off(&row(&mixed)) > 1e-4, "{of}: the sum is {}, mixed up or not", weighted(&row(&mixed)));
            }
        }
    }
}

/// All values, by `N, C, H, W`.
fn row(output: &Tensor) -> Vec<f32> {
    Vec::try_from(output.contiguous().view(-1)).unwrap()
}

#[rustfmt::skip]
const GOLDEN: [(Name, usize, [Output; 5]); 8] = [
    (Name::Alexnet, 67, [
        ([2, 96, 15, 15], [(10196, 0.55763575), (20392, 0.44388334), (26697, 0.48158451), (36894, 1.3046737)], -4.628367),
        ([2, 256, 7, 7], [(5926, 0.14470028), (11841, 0.33585745), (15504, 0.67178688), (21425, 0.16061644)], 0.58840061),
        ([2, 384, 3, 3], [(1636, 0.15331766), (3270, 0.10081903), (4275, 0.096640142), (5902, 0.31577711)], 0.16037146),
        ([2, 384, 3, 3], [(1638, 0.096556196), (3264, 0.21622398), (4271, 0.082965223), (5902, 0.10668064)], -0.54100178),
        ([2, 256, 3, 3], [(1087, 0.17353212), (2174, 0.036771397), (2853, 0.10547423), (3935, 0.064058935)], -0.076507107),
    ]),
    (Name::AlexnetTorchvision, 67, [
        ([2, 64, 16, 16], [(7734, 0.4115783), (15469, 1.0086215), (20253, 0.64266061), (27983, 1.2455334)], -9.9431788),
        ([2, 192, 7, 7], [(4441, 0.70996209), (8882, 0.16817604), (11630, 0.27509401), (16068, 0.45350473)], 0.59135109),
        ([2, 384, 3, 3], [(1632, 0.071136344), (3264, 0.070188527), (4273, 0.057095018), (5904, 0.064121569)], -0.85987946),
        ([2, 256, 3, 3], [(1107, 0.079418924), (2178, 0.15442597), (2880, 0.039428948), (3942, 0.12439823)], -0.73177293),
        ([2, 256, 3, 3], [(1087, 0.07726487), (2177, 0.049770353), (2853, 0.052023229), (3937, 0.044465265)], -0.37134803),
    ]),
    (Name::Small, 24, [
        ([2, 32, 24, 24], [(8701, 0.65948363), (17399, 0.67782457), (22787, 0.60140431), (31482, 0.45657508)], -12.049993),
        ([2, 64, 12, 12], [(4350, 0.37759025), (8699, 1.6076768), (11393, 0.47761656), (15740, 1.1406049)], 15.908642),
        ([2, 128, 6, 6], [(2174, 0.90016182), (4349, 0.43702511), (5696, 0.23517114), (7876, 1.0972698)], 6.622368),
        ([2, 192, 6, 6], [(3262, 0.83060753), (6530, 0.12266989), (8543, 0.11945054), (11809, 0.2647582)], -1.144093),
        ([2, 192, 6, 6], [(3265, 0.46256152), (6525, 0.28031076), (8544, 0.67126993), (11808, 0.30146566)], 1.5933927),
    ]),
    (Name::Medium, 24, [
        ([2, 32, 24, 24], [(8699, 1.083921), (17400, 0.50931071), (22785, 0.48067634), (31482, 0.54927857)], -6.2017686),
        ([2, 64, 12, 12], [(4351, 0.56311335), (8699, 0.54124649), (11391, 0.25966143), (15740, 0.18166533)], -4.8868739),
        ([2, 128, 6, 6], [(2175, 0.14144982), (4349, 0.22307125), (5695, 0.12502838), (7876, 0.47787104)], -1.3615381),
        ([2, 192, 6, 6], [(3263, 0.13896806), (6525, 0.10392796), (8544, 0.17855792), (11809, 0.07181907)], -1.9733493),
        ([2, 192, 6, 6], [(3263, 0.047711197), (6524, 0.042142231), (8544, 0.06305672), (11806, 0.068614018)], -0.24140827),
    ]),
    (Name::Vgg16, 32, [
        ([2, 64, 32, 32], [(30933, 0.6014157), (61866, 0.33905439), (81011, 0.4459042), (111_944, 1.1036901)], -24.02863),
        ([2, 128, 16, 16], [(15466, 0.31315957), (30934, 0.20705095), (40509, 0.35897646), (55967, 0.32568759)], -10.404468),
        ([2, 256, 8, 8], [(7733, 0.24089591), (15466, 0.21956249), (20257, 0.25693549), (27983, 0.21739753)], -2.3766954),
        ([2, 512, 4, 4], [(3869, 0.21498504), (7740, 0.11857339), (10125, 0.15270454), (14016, 0.053426177)], -0.1599131),
        ([2, 512, 2, 2], [(976, 0.09020984), (1934, 0.024839011), (2531, 0.042223891), (3497, 0.092748433)], -0.19557963),
    ]),
    (Name::Vgg16Bn, 32, [
        ([2, 64, 32, 32], [(30934, 0.39423706), (61865, 0.64879392), (81005, 0.42332995), (111_935, 0.53787928)], -14.536031),
        ([2, 128, 16, 16], [(15466, 0.66981941), (30933, 0.63808265), (40512, 0.4486358), (55969, 0.23769771)], -10.362767),
        ([2, 256, 8, 8], [(7733, 0.35458141), (15466, 1.5595967), (20250, 0.45388825), (27984, 0.67653688)], 0.12501658),
        ([2, 512, 4, 4], [(3886, 0.12341367), (7734, 0.12345394), (10158, 0.13768793), (13992, 0.30307443)], -0.58021985),
        ([2, 512, 2, 2], [(980, 0.14814252), (1933, 0.08949716), (2531, 0.10250275), (3500, 0.17876248)], 0.69003953),
    ]),
    (Name::Resnet18, 48, [
        ([2, 64, 24, 24], [(17406, 1.0676252), (34799, 0.88062974), (45564, 0.69051388), (62966, 1.3444166)], 2.808321),
        ([2, 64, 12, 12], [(4359, 1.3093326), (8699, 1.675366), (11390, 1.932802), (15742, 1.6841756)], -4.4637364),
        ([2, 128, 6, 6], [(2175, 2.1531209), (4360, 0.75571776), (5695, 1.1765296), (7876, 0.93753329)], -8.5596831),
        ([2, 256, 3, 3], [(1094, 1.3646929), (2175, 1.1659672), (2853, 3.0631558), (3935, 3.1208571)], 62.897554),
        ([2, 512, 2, 2], [(966, 1.3932246), (1935, 0.89914796), (2531, 3.481367), (3497, 1.213487)], 4.518848),
    ]),
    (Name::Resnet50, 48, [
        ([2, 64, 24, 24], [(17406, 1.0676252), (34799, 0.88062974), (45564, 0.69051388), (62966, 1.3444166)], 2.808321),
        ([2, 256, 12, 12], [(17419, 0.84028695), (34817, 1.1039265), (45567, 1.0763581), (63072, 1.1214074)], -3.0794609),
        ([2, 512, 6, 6], [(8713, 4.220268), (17424, 5.7839955), (22781, 12.511899), (31481, 17.416538)], -204.59546),
        ([2, 1024, 3, 3], [(4350, 16.531089), (8712, 6.2385845), (11391, 6.9086943), (15745, 6.9030829)], -62.790386),
        ([2, 2048, 2, 2], [(3870, 4.4803961), (7737, 4.041203), (10128, 6.3072768), (13991, 12.708853)], 71.347854),
    ]),
];
