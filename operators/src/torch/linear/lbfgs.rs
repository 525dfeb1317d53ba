//! L-BFGS: down a smooth function, by what the last steps say of its curvature (Liu, Nocedal, 1989).

use std::collections::VecDeque;

use tch::{Kind, Tensor};

use crate::operator::RunError;

/// Steps that the approximation of the curvature remembers.
const MEMORY: usize = 10;
/// It has converged when no component of the gradient is larger: scikit-learn's default.
const TOLERANCE: f64 = 1e-4;
/// Halvings of a step before it gives up.
const HALVINGS: usize = 20;
/// A step is taken if it gains that share of what the slope promises.
const ARMIJO: f64 = 1e-4;

/// What a step tells of the curvature.
struct Step {
    /// How far the place moved.
    moved: Tensor,
    /// How the gradient changed.
    turned: Tensor,
    /// The product of both: above zero.
    curvature: f64,
}

/// The place of the minimum of `objective`, which gives a value and its gradient, from `start` on.
///
/// # Errors
/// It was cancelled, or `objective` fails.
pub fn minimise(
    start: Tensor,
    iterations: usize,
    objective: impl Fn(&Tensor) -> Result<(f64, Tensor), RunError>,
    cancelled: &dyn Fn() -> bool,
) -> Result<Tensor, RunError> {
    let mut history: VecDeque<Step> = VecDeque::new();
    let mut place = start;
    let (mut value, mut gradient) = objective(&place)?;
    for _ in 0..iterations {
        if cancelled() {
            return Err(RunError::Cancelled);
        }
        if number(&gradient.f_abs()?.f_max()?)? <= TOLERANCE {
            break;
        }
        let mut direction = direction(&gradient, &history)?;
        let mut slope = dot(&gradient, &direction)?;
        if slope >= 0.0 {
            history.clear();
            direction = gradient.f_neg()?;
            slope = -dot(&gradient, &gradient)?;
        }
        // The first step has no curvature to go by.
        let mut length = if history.is_empty() { (1.0 / (-slope).sqrt()).min(1.0) } else { 1.0 };
        let mut found = None;
        for _ in 0..HALVINGS {
            let next = &place + &direction * length;
            let (lower, slopes) = objective(&next)?;
            if lower <= value + ARMIJO * length * slope {
                found = Some((next, lower, slopes));
                break;
            }
            length /= 2.0;
        }
        // Below what f32 can tell: as good as it gets.
        let Some((next, lower, slopes)) = found else { break };
        let (moved, turned) = (&next - &place, &slopes - &gradient);
        let curvature = dot(&moved, &turned)?;
        if curvature > 0.0 {
            history.push_back(Step { moved, turned, curvature });
            if history.len() > MEMORY {
                history.pop_front();
            }
        }
        (place, value, gradient) = (next, lower, slopes);
    }
    Ok(place)
}

/// The way down by what the last steps say of the curvature (the two-loop recursion: Nocedal, 1980).
fn direction(gradient: &Tensor, history: &VecDeque<Step>) -> Result<Tensor, RunError> {
    let mut way = gradient.f_neg()?;
    let mut shares = Vec::with_capacity(history.len());
    for Step { moved, turned, curvature } in history.iter().rev() {
        let share = dot(moved, &way)? / curvature;
        way -= turned * share;
        shares.push(share);
    }
    if let Some(Step { turned, curvature, .. }) = history.back() {
        way *= *curvature / dot(turned, turned)?;
    }
    for (Step { moved, turned, curvature }, share) in history.iter().zip(shares.into_iter().rev()) {
        way += moved * (share - dot(turned, &way)? / curvature);
    }
    Ok(way)
}

/// The sum of two tensors' products, in f64.
pub fn dot(a: &Tensor, b: &Tensor) -> Result<f64, RunError> {
    number(&(a * b).f_sum(Kind::Double)?)
}

/// A scalar.
pub fn number(scalar: &Tensor) -> Result<f64, RunError> {
    Ok(scalar.f_double_value(&[])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rosenbrock's valley, whose lowest place is (1, 1).
    fn valley(place: &Tensor) -> Result<(f64, Tensor), RunError> {
        let [x, y] = <[f64; 2]>::try_from(Vec::<f64>::try_from(place)?).expect("two coordinates");
        let off = y - x * x;
        let slopes = [-400.0 * x * off - 2.0 * (1.0 - x), 200.0 * off];
        Ok(((1.0 - x).powi(2) + 100.0 * off * off, Tensor::from_slice(&slopes)))
    }

    #[test]
    fn a_curved_valley_is_followed_to_its_end() {
        let start = || Tensor::from_slice(&[-1.2, 1.0]);
        let found = Vec::<f64>::try_from(minimise(start(), 100, valley, &|| false).unwrap()).unwrap();
        assert!(found.iter().all(|coordinate| (coordinate - 1.0).abs() < 1e-3), "{found:?}");
        let short = Vec::<f64>::try_from(minimise(start(), 1, valley, &|| false).unwrap()).unwrap();
        assert!(short[0] < 0.0, "one step does not get there: {short:?}");
        assert!(matches!(minimise(start(), 100, valley, &|| true), Err(RunError::Cancelled)));
    }
}
