"""How two labellings agree: scikit-learn's scores, and SciPy's assignment."""

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from rust import Golden, Raw, literal

TESTS = "pipeline/src/sql/agreement/tests.rs"
CASES = [(12, 3, 3, 50), (1000, 13, 7, 40), (5000, 40, 40, 0), (20000, 200, 100, 70), (3000, 2500, 10, 90)]


def mix(seed):
    """SplitMix64."""
    mask = 2**64 - 1
    x = (seed + 0x9E3779B97F4A7C15) & mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


def labellings(rows, clusters, labels, agree):
    """Clusters of uneven sizes, and labels that follow them in `agree` per cent of the rows."""
    a, b = [], []
    for row in range(rows):
        cluster, follow, label = (mix(3 * row + purpose) for purpose in range(3))
        a.append(min(cluster % clusters, cluster // clusters % clusters))
        b.append(a[-1] % labels if follow % 100 < agree else label % labels)
    return a, b


def scores(a, b):
    """NMI, AMI, ARI, purity and accuracy of clusters `a` and labels `b`."""
    counts = contingency_matrix(b, a)
    accuracy = counts[linear_sum_assignment(counts, maximize=True)].sum() / len(a)
    purity = counts.max(0).sum() / len(a)
    return [normalized_mutual_info_score(b, a), adjusted_mutual_info_score(b, a), adjusted_rand_score(b, a), purity, accuracy]


def goldens():
    table = [(case, scores(*labellings(*case))) for case in CASES]
    yield Golden(TESTS, "let cases: [Case; 5] =", literal(table, ""), 1e-12)
    fifty, thirds = [*range(50)], [row % 3 for row in range(50)]
    limits = [
        ("&[1; 5]", [1] * 5, "&[1; 5]", [1] * 5),
        ("&[5]", [5], "&[7]", [7]),
        ("&[1; 5]", [1] * 5, "&[0, 1, 2, 3, 4]", [0, 1, 2, 3, 4]),
        ("&[1; 5]", [1] * 5, "&[0, 0, 1, 1, 1]", [0, 0, 1, 1, 1]),
        ("&fifty", fifty, "&fifty", fifty),
        ("&fifty", fifty, "&thirds", thirds),
        ("&[0, 0, 1, 1]", [0, 0, 1, 1], "&[1, 1, 0, 0]", [1, 1, 0, 0]),
    ]
    # A labelling of one value throughout is written `[1.0; 5]` where all five scores are 1.
    five = lambda found: Raw("[1.0; 5]") if np.allclose(found, 1, rtol=0, atol=1e-12) else found
    table = [(Raw(a), Raw(b), five(scores(of_a, of_b))) for a, of_a, b, of_b in limits]
    yield Golden(TESTS, "let cases: [(&[i32], &[i32], [f64; 5]); 7] =", literal(table, ""), 1e-12)
