"""Logistic regression on standardised values: scikit-learn's `LogisticRegression`, with a tolerance of 1e-10."""

import numpy as np
from sklearn.linear_model import LogisticRegression

from rust import Golden, Raw, literal

TESTS = "operators/src/torch/probe/tests.rs"
ROWS = np.arange(90)
SPLITS = np.array(["train", "train", "train", "val", "test"])[ROWS % 5]
TRAIN = SPLITS == "train"


def values():
    """90 rows of four, that tell three classes apart, more or less; standardised by what is learnt from."""
    i, j = ROWS[:, None].astype(float), np.arange(4)[None].astype(float)
    x = (np.sin(0.7 * i * (j + 1)) * (1 + j) + (ROWS % 3)[:, None] * np.cos(j) * 0.8 + 10 * j).astype(np.float32).astype(float)
    return (x - x[TRAIN].mean(0)) / x[TRAIN].std(0)


def fit(x, y, c):
    return LogisticRegression(C=c, tol=1e-10, max_iter=100_000).fit(x, y)


def rows(*fits):
    """Coefficients, a row a feature and a column a class, and then the intercepts."""
    coefficients, intercepts = np.concatenate([one.coef_ for one in fits]), np.concatenate([one.intercept_ for one in fits])
    return np.concatenate([coefficients.T.ravel(), intercepts]).tolist()


def goldens():
    x, label = values(), ROWS % 3
    strong, weak = (fit(x[TRAIN], label[TRAIN], c) for c in (0.01, 0.5))
    yield Golden(TESTS, "let strong =", literal(rows(strong), ".5f"), 1.1e-5)
    yield Golden(TESTS, "let weak =", literal(rows(weak), ".5f"), 1.1e-5)
    right = weak.predict(x) == label
    share = lambda split: Raw(f"{right[SPLITS == split].sum()}.0 / {(SPLITS == split).sum()}.0")
    yield Golden(TESTS, "close(&[right(Split::Validation), right(Split::Test)],", "&" + literal([share("val"), share("test")]))
    # Of two classes, each for itself; of the first, some rows do not count, though all are standardised by.
    a = np.select([ROWS % 11 == 0, ROWS % 3 == 0], [0, 1], -1)
    b = np.where((ROWS % 3 != 0) & (ROWS % 7 != 0), 1, -1)
    fits = [fit(x[TRAIN & (y != 0)], y[TRAIN & (y != 0)], 0.5) for y in (a, b)]
    yield Golden(TESTS, "let expected =", literal(rows(*fits), ".5f"), 1.1e-5)
