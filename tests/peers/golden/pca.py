"""Principal components: scikit-learn's `PCA`."""

import numpy as np
from sklearn.decomposition import PCA

from rust import Golden, literal

FILE = "operators/src/torch/pca.rs"


def rows():
    """90 rows of four values, far from zero and of unlike spread."""
    i, j = np.arange(90)[:, None].astype(float), np.arange(4)[None].astype(float)
    return (np.sin(0.7 * i * (j + 1)) * (1 + j) + (i % 3) * np.cos(j) * 0.8 + 10 * j).astype(np.float32).astype(float)


def goldens():
    fit = PCA(3, svd_solver="full").fit(rows())
    largest = np.abs(fit.components_).argmax(1)
    directions = fit.components_ * np.sign(fit.components_[np.arange(3), largest])[:, None]
    offsets = directions @ fit.mean_
    yield Golden(FILE, "const DIRECTIONS: [f64; 12] =", literal(directions.ravel().tolist(), ".7f"), 1e-7)
    yield Golden(FILE, "const VARIANCES: [f64; 3] =", literal(fit.explained_variance_.tolist(), ".7f"), 1e-7)
    yield Golden(FILE, "const OFFSETS: [f64; 3] =", literal(offsets.tolist(), ".7f"), 1e-7)
    yield Golden(FILE, "const EXPLAINED: f64 =", literal(fit.explained_variance_ratio_.sum(), ".9f"), 1e-9)
