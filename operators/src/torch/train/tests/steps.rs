//! Single steps: beside PyTorch's, and against the clock.

use std::time::Instant;

use super::super::pass::Pass;
use crate::torch::by_formula;
use crate::torch::examples::{Content, Examples, Layout};
use crate::torch::forward::Mode;
use crate::torch::network::{Form, Layer, Name, Network, PuzzleHead};
use crate::torch::normalisation::Normalisation;
use crate::torch::optimizer::{Method, Optimizer, Rule};
use crate::torch::tensors::Tensors;

/// `small` without dropout, which no two implementations draw alike.
fn still(tiles: usize, tile: usize, permutations: usize) -> Form {
    let network = Name::Small.network();
    let head = PuzzleHead { dropout: 0.0, ..network.puzzle };
    Network { puzzle: head, ..network }.puzzle(tiles, tile, permutations)
}

/// Byte `i` is `(i · i · 31 + i · 17 + (i / 768) · 101) mod 251`.
fn fixed_examples(count: usize, form: &Form, classes: usize) -> Examples {
    let bytes = count * form.pieces * form.input.iter().product::<usize>();
    let byte = |i: usize| ((i * i * 31 + i * 17 + (i / 768) * 101) % 251) as u8;
    let classes = (0..count).map(|i| (i * 37 % classes) as i64).collect();
    Examples { count, bytes: (0..bytes).map(byte).collect(), classes, last: String::new() }
}

/// Losses of PyTorch in double precision, for the same weights and tiles, and a network written there from its description: in
/// evaluation, and in training without dropout (`tests/peers/golden/losses.py`).
#[test]
fn the_loss_is_pytorchs() {
    let form = still(9, 16, 701);
    let parameters = form.parameters().unwrap();
    assert!(!form.joint.iter().any(|step| matches!(step.layer, Layer::Dropout(p) if p > 0.0)));
    let examples = fixed_examples(8, &form, 701);
    let golden = [
        (Normalisation::Own, Mode::Evaluate, 15.8548515),
        (Normalisation::OwnPerChannel, Mode::Evaluate, 15.7166518),
        (Normalisation::Own, Mode::Train, 7.4053247),
    ];
    for (normalisation, mode, expected) in golden {
        let layout = Layout { normalisation, ..puzzles_of_16() };
        let tensors = by_formula::tensors(&parameters, 72.0);
        let pass = Pass { form: &form, tensors: &tensors, layout: &layout, smoothing: 0.0, device: tch::Device::Cpu };
        let outcome = pass.forward(&examples, mode).unwrap();
        let (loss, _) = outcome.numbers().unwrap();
        println!("{normalisation:?} {mode:?}: {loss}");
        assert!((loss - expected).abs() < 1e-4, "{normalisation:?} {mode:?}: {loss}, not {expected}");
    }
}

/// Nine tiles of 16 pixels, 701 permutations.
fn puzzles_of_16() -> Layout {
    let content = Content::Puzzles { normalisation: "tile".to_owned() };
    Layout { classes: 701, pieces: 9, side: [16, 16], normalisation: Normalisation::Own, content }
}

/// Puzzles a second of bare steps, of `small` and of the paper's AlexNet on tiles of 64 px.
#[test]
#[ignore = "a benchmark"]
fn speed() {
    for (name, tile, batch) in [(Name::Small, 16, 128), (Name::Alexnet, 64, 64)] {
        let form = name.network().puzzle(9, tile, 701);
        let layout = Layout { side: [tile; 2], ..puzzles_of_16() };
        let examples = fixed_examples(batch, &form, 701);
        for (threads, method, kind) in [
            (1, Method::Sgd, None),
            (2, Method::Sgd, None),
            (2, Method::Adamw, None),
            (2, Method::Sgd, Some(tch::Kind::BFloat16)),
        ] {
            tch::set_num_threads(threads);
            let tensors = Tensors::initial(&form.parameters().unwrap(), 1, tch::Device::Cpu).unwrap();
            let rule = Rule { method, momentum: 0.9, decay: 5e-4, clip: None };
            let mut optimizer = Optimizer::new(rule, tensors.trained(), 0).unwrap();
            let mut step = || {
                let start = Instant::now();
                let reduced = kind.map(|kind| tensors.cast(kind).unwrap());
                let tensors = reduced.as_ref().unwrap_or(&tensors);
                let pass = Pass { form: &form, tensors, layout: &layout, smoothing: 0.0, device: tch::Device::Cpu };
                let outcome = pass.forward(&examples, Mode::Train).unwrap();
                optimizer.step(&outcome.loss, outcome.tape, 0.001).unwrap();
                start.elapsed().as_secs_f64()
            };
            let times: Vec<_> = (0..6).map(|_| step()).collect();
            let fastest = times.iter().copied().fold(f64::INFINITY, f64::min);
            let of = |seconds: f64| batch as f64 / seconds;
            println!(
                "{}, {threads} threads, {method:?}, {kind:?}: {:.1} puzzles/s at best, {:.1} on average",
                name.text(),
                of(fastest),
                of(times.iter().sum::<f64>() / times.len() as f64)
            );
        }
    }
}
