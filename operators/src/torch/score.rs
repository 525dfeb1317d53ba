//! What predictions are worth.

use tch::{Kind, Tensor};

use crate::operator::RunError;

/// One number.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// `top1`, `top5`, `ap` or `map`.
    pub metric: &'static str,
    /// The class that it is about, if it is about one.
    pub class: Option<String>,
    /// In 0..1.
    pub value: f64,
    /// Over so many images.
    pub images: usize,
}

/// The shares of images whose class is the likeliest, and among the likeliest five; `scores` are `n x K`.
///
/// # Errors
/// libtorch refuses.
pub fn top(scores: &Tensor, classes: &[i32]) -> Result<[Score; 2], RunError> {
    let targets = Tensor::f_from_slice(classes)?.f_to_kind(Kind::Int64)?.f_view([-1, 1])?;
    let share = |metric, most: i64| -> Result<Score, RunError> {
        let (_, likeliest) = scores.f_topk(most.min(scores.size()[1]), 1, true, true)?;
        let hits = likeliest.f_eq_tensor(&targets)?.f_sum(Kind::Int64)?.f_int64_value(&[])?;
        let value = if classes.is_empty() { 0.0 } else { hits as f64 / classes.len() as f64 };
        Ok(Score { metric, class: None, value, images: classes.len() })
    };
    Ok([share("top1", 1)?, share("top5", 5)?])
}

/// The mean over classes first, and then each class's average precision, of those that some image shows and another does not. `scores`
/// and `targets` are row by row, a value a class; a target of 0 does not count.
pub fn precisions(scores: &[f32], targets: &[Vec<i32>], classes: &[String]) -> Vec<Score> {
    let one = |(place, class): (usize, &String)| {
        let rows = scores.chunks_exact(classes.len()).zip(targets);
        let pairs = rows.filter(|(_, targets)| targets[place] != 0).map(|(row, targets)| (row[place], targets[place] > 0));
        let pairs: Vec<_> = pairs.collect();
        let differ = pairs.iter().any(|pair| pair.1) && pairs.iter().any(|pair| !pair.1);
        differ.then(|| Score {
            metric: "ap",
            class: Some(class.clone()),
            images: pairs.len(),
            value: average_precision(pairs),
        })
    };
    let all: Vec<Score> = classes.iter().enumerate().filter_map(one).collect();
    let mean = all.iter().map(|score| score.value).sum::<f64>() / all.len().max(1) as f64;
    let mut scores = vec![Score { metric: "map", class: None, value: mean, images: targets.len() }];
    scores.extend(all);
    scores
}

/// What to say if the mean is not over all classes.
pub fn unmeasured(scores: &[Score], classes: &[String]) -> Option<String> {
    let measured = |class: &&String| scores.iter().any(|score| score.class.as_ref() == Some(*class));
    let (known, others): (Vec<&String>, Vec<&String>) = classes.iter().partition(measured);
    let names = others.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    let (count, all) = (known.len(), classes.len());
    (!others.is_empty()).then(|| {
        format!("map is over {count} of {all} classes: of the others some image must show them, and some not: {names}")
    })
}

/// The mean, over the recalls 0, 0.1 .. 1, of the best precision at that recall or a higher one (Everingham et al., "The PASCAL Visual
/// Object Classes Challenge", IJCV 2010, section 4.2). Images of equal scores come in their order.
fn average_precision(mut pairs: Vec<(f32, bool)>) -> f64 {
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    let all = pairs.iter().filter(|pair| pair.1).count() as f64;
    let mut right = 0.0;
    let curve: Vec<(f64, f64)> = pairs
        .iter()
        .enumerate()
        .map(|(place, pair)| {
            right += f64::from(u8::from(pair.1));
            (right / all, right / (place + 1) as f64)
        })
        .collect();
    let best = |least: f64| {
        // A recall of 0.3 is not to be missed by a rounding.
        curve.iter().filter(|(recall, _)| *recall >= least - 1e-9).map(|&(_, precision)| precision).fold(0.0, f64::max)
    };
    (0..=10).map(|tenth| best(f64::from(tenth) / 10.0)).sum::<f64>() / 11.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precision_is_that_of_voc() {
        // Right, wrong, right: precision 1 up to a recall of 1/2 (six recalls), and 2/3 from there on (five).
        let found = average_precision(vec![(0.9, true), (0.5, false), (0.1, true)]);
        assert!((found - (6.0 + 5.0 * 2.0 / 3.0) / 11.0).abs() < 1e-12, "{found}");
        assert_eq!(average_precision(vec![(0.1, false), (0.2, true)]), 1.0);
    }

    #[test]
    fn what_is_difficult_does_not_count() {
        let classes = ["cat", "dog", "cow"].map(str::to_owned);
        let targets = [vec![1, 0, -1], vec![-1, 1, -1], vec![0, -1, -1]];
        let found = precisions(&[0.9, 0.9, 0.0, 0.1, 0.5, 0.0, 1.0, 0.4, 0.0], &targets, &classes);
        let values: Vec<_> = found.iter().map(|score| (score.class.as_deref(), score.value, score.images)).collect();
        assert_eq!(values, [(None, 1.0, 3), (Some("cat"), 1.0, 2), (Some("dog"), 1.0, 2)]);
        let line = unmeasured(&found, &classes).unwrap();
        assert_eq!(line, "map is over 2 of 3 classes: of the others some image must show them, and some not: cow");
        assert_eq!(unmeasured(&found, &classes[..2]), None);
    }

    #[test]
    fn the_likeliest_are_counted() {
        let scores = Tensor::from_slice(&[0.1f32, 0.2, 0.7, 0.5, 0.4, 0.1]).view([2, 3]);
        let found = top(&scores, &[2, 1]).unwrap();
        assert_eq!((found[0].value, found[1].value, found[1].images), (0.5, 1.0, 2));
    }
}
