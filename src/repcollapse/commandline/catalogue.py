"""Every number and every verdict that the package speaks of, and what is to be known about it.

This table is all there is to `repcollapse explain`. Symbols: z a row of N, of D numbers each;
u = z / |z|; s the singular values of the centred rows, q = s / sum s; l = s^2 / (N - 1),
p = l / sum l; H the entropy in nats.
"""

from __future__ import annotations

from dataclasses import dataclass

MEASURING, COMPLETE = "02_measuring_collapse", "04_complete_collapse"
DIMENSIONAL, CLUSTER = "05_dimensional_collapse", "06_cluster_collapse"
SHORTCUTS, NEGATIVES = "07_shortcuts", "08_negative_samples"
CLUSTERING, MATCHING = "14_clustering_and_dino", "15_distribution_matching"
SIDE_BY_SIDE = "27_side_by_side"
TITLES = {
    MEASURING: "Measuring collapse",
    COMPLETE: "Complete collapse",
    DIMENSIONAL: "Dimensional collapse",
    CLUSTER: "Cluster collapse",
    SHORTCUTS: "Shortcuts",
    NEGATIVES: "Negative samples",
    CLUSTERING: "Balanced clustering and self-distillation",
    MATCHING: "Distribution matching",
    SIDE_BY_SIDE: "Every remedy side by side",
}
OURS = "this package"


@dataclass(frozen=True)
class Measure:
    """A number that is read from embeddings.

    Attributes
    ----------
    title
        What people call it.
    definition
        One line, in text.
    range
        What values it can have.
    collapsed
        What it reads at collapse.
    null
        What isotropic data read.
    fooled
        How it misleads.
    source
        Who defined it.
    page
        The chapter that shows it.
    """

    title: str
    definition: str
    range: str
    collapsed: str
    null: str
    fooled: str
    source: str
    page: str = MEASURING


MEASURES = {
    "rows": Measure(
        "number of rows",
        "N",
        "1 and more",
        "says nothing",
        "-",
        "copies of one sample count as rows; see distinct",
        OURS,
    ),
    "dimension": Measure(
        "number of columns",
        "D",
        "1 and more",
        "says nothing: a dead model has as many",
        "-",
        "how many are used is another question; see dimensions_999",
        OURS,
    ),
    "zero_rows": Measure(
        "rows of zeros",
        "number of i with z_i = 0",
        "0 to N",
        "N where all units have died",
        "0",
        "padding is zero, too",
        OURS,
        COMPLETE,
    ),
    "raw_std": Measure(
        "mean standard deviation",
        "mean over j of std_i(z_ij)",
        "0 and more",
        "0",
        "whatever the scale is",
        "has the scale of the embeddings: 0.001 is healthy for rows of length 0.01",
        OURS,
        COMPLETE,
    ),
    "length": Measure(
        "root mean square length",
        "sqrt(mean_i |z_i|^2)",
        "0 and more",
        "any: a constant has a length",
        "whatever the scale is",
        "says how long rows are, not how different",
        OURS,
        COMPLETE,
    ),
    "distance": Measure(
        "distance from the mean",
        "sqrt(mean_i |z_i - mean z|^2)",
        "0 and more",
        "0",
        "whatever the scale is",
        "falls with the scale alone; where directions are compared that means nothing",
        OURS,
        COMPLETE,
    ),
    "feature_std": Measure(
        "feature standard deviation",
        "sqrt(D) * mean over j of std_i(u_ij)",
        "0 to about 1",
        "0",
        "about 1",
        "depends on the axes: one line along (1, ..., 1), both ways, reads 1; healthy rectified "
        "features read 0.82",
        "Chen & He 2021",
        COMPLETE,
    ),
    "spread": Measure(
        "spread of directions",
        "sqrt(1 - |mean u|^2)",
        "0 to 1",
        "0 at complete collapse",
        "sqrt(1 - 1/N)",
        "blind to rank: two opposite points read 1",
        "this package: the form of Chen & He's feature std that rotation does not change",
        COMPLETE,
    ),
    "mean_share": Measure(
        "mean share, the cone",
        "|mean u|^2 = 1 - spread^2, the mean cosine with self-pairs",
        "0 to 1",
        "1 at complete collapse",
        "1/N",
        "a cone is no collapse: CLIP's embeddings read 0.65 to 0.78 and work",
        "Ethayarajh 2019",
    ),
    "mean_cosine": Measure(
        "mean cosine",
        "mean cos(z_i, z_k) of different rows: (N |mean u|^2 - 1) / (N - 1)",
        "-1/(N - 1) to 1",
        "1 at complete collapse",
        "0",
        "a cone is no collapse, as of the mean share",
        "Ethayarajh 2019",
    ),
    "rank": Measure(
        "rank",
        "number of s above rounding error",
        "0 to min(N - 1, D)",
        "0 for a constant; else any, since noise has full rank",
        "min(N - 1, D)",
        "a trillionth of noise in a direction counts as a direction",
        "linear algebra",
        DIMENSIONAL,
    ),
    "stable_rank": Measure(
        "stable rank",
        "sum l / l_1",
        "1 to rank",
        "1 for a line, 0 for a constant",
        "below D, the more so the fewer rows",
        "one outlier, or one strong direction, decides it; it has no scale and calls a point with "
        "isotropic residue healthy",
        "Rudelson & Vershynin 2007",
        DIMENSIONAL,
    ),
    "participation_ratio": Measure(
        "participation ratio",
        "(sum l)^2 / sum l^2",
        "1 to rank",
        "1 for a line, 0 for a constant",
        "D / (1 + D/N)",
        "few rows bias it low; it has no scale",
        "statistical physics; in use in neuroscience",
        DIMENSIONAL,
    ),
    "participation_ratio_unbiased": Measure(
        "participation ratio, unbiased",
        "the same, as a ratio of unbiased estimates of (tr C)^2 and tr C^2",
        "0 and more, also above the rank",
        "1 for a line, 0 for a constant",
        "D",
        "noisy below some thirty rows",
        "Himeno & Yamada 2014, for rows of any distribution",
        DIMENSIONAL,
    ),
    "effective_rank": Measure(
        "effective rank",
        "exp H(q), of singular values",
        "1 to rank",
        "1 for a line, 0 for a constant",
        "below min(N, D); see explain --rows",
        "it has no scale; never compare it with exp H(p), which is lower",
        "Roy & Vetterli 2007",
        DIMENSIONAL,
    ),
    "effective_rank_lambda": Measure(
        "effective rank of eigenvalues",
        "exp H(p), of eigenvalues",
        "1 to rank",
        "1 for a line, 0 for a constant",
        "below min(N, D)",
        "some libraries call it RankMe, which it is not",
        "the entropy of the spectrum, by several names",
        DIMENSIONAL,
    ),
    "rankme": Measure(
        "RankMe",
        "exp(-sum (q + e) log(q + e)), q of the rows as they are, not centred, e = 1e-7",
        "1 to about min(N, D), 0 for a matrix of zeros",
        "near 1 where one direction holds everything",
        "0.80 D where N = D; see explain --rows",
        "an offset of 3.6 standard deviations in each of 64 columns halves it, as does one of 5.2 "
        "in each of 512; larger is not better across methods; it has no scale",
        "Garrido et al. 2023",
        SIDE_BY_SIDE,
    ),
    "srank": Measure(
        "srank",
        "least k with s_1 + ... + s_k >= 0.99 sum s",
        "0 to rank, whole numbers",
        "1 for a line, 0 for a constant",
        "about 0.99 min(N, D)",
        "moves in steps; the source does not centre (center=False)",
        "Kumar et al. 2021",
        DIMENSIONAL,
    ),
    "cev_auc": Measure(
        "area under cumulative explained variance",
        "mean over k of q_1 + ... + q_k",
        "above 0.5, to 1",
        "1 for a line",
        "a little above 0.5",
        "of singular values in the official code, of eigenvalues by its name: say which",
        "Li, Efros & Pathak 2022",
        DIMENSIONAL,
    ),
    "alpha_req": Measure(
        "alpha-ReQ",
        "minus the slope of log l_i on log i, i from 11 to 100, weights 1/i",
        "any number, none with fewer than ten eigenvalues there",
        "none: there is no spectrum left to fit",
        "near 0",
        "the window decides; a straight line may not fit at all, so look at its R^2",
        "Ghosh et al. 2022; Stringer et al. 2019",
    ),
    "dimensions_99": Measure(
        "dimensions of 99 % of the variance",
        "least k with p_1 + ... + p_k = 0.99, parts of a dimension included",
        "0 to min(N - 1, D)",
        "few of D",
        "near 0.99 min(N, D)",
        "few rows show few dimensions: hold it against the isotropic value",
        "principal component analysis",
        DIMENSIONAL,
    ),
    "dimensions_999": Measure(
        "dimensions of 99.9 % of the variance",
        "least k with p_1 + ... + p_k = 0.999, parts of a dimension included",
        "0 to min(N - 1, D)",
        "few of D",
        "near 0.999 min(N, D)",
        "a few far rows can hold all the variance: core_dimensions_999 is without them",
        "principal component analysis",
        DIMENSIONAL,
    ),
    "offdiagonal_correlation": Measure(
        "off-diagonal correlation",
        "mean over j != k of |corr(z_j, z_k)|",
        "0 to 1",
        "1 where all features are one; undefined for a constant",
        "about sqrt(2 / (pi N)), not 0",
        "depends on the axes; features that never change are left out",
        "Hua et al. 2021; Zbontar et al. 2021",
        DIMENSIONAL,
    ),
    "dead_dimensions": Measure(
        "dead features",
        "number of j with no variance",
        "0 to D",
        "D for a constant",
        "0",
        "depends on the axes: a collapse along others leaves none dead",
        OURS,
        DIMENSIONAL,
    ),
    "coding_rate": Measure(
        "coding rate",
        "1/2 log det(I + D/(N e^2) U'U), U the unit rows, e^2 = 0.5",
        "1/2 log(1 + D/e^2) to r/2 log(1 + D/(r e^2)), r = min(N, D)",
        "its lower limit, which is not 0: 2.77 for D = 128",
        "near its upper limit",
        "the raw number grows with D; normalised=True puts it between its limits",
        "Yu et al. 2020",
        SIDE_BY_SIDE,
    ),
    "alignment": Measure(
        "alignment",
        "mean |u_a - u_b|^2 over views a, b of a sample",
        "0 to 4",
        "0",
        "2 for independent views",
        "0 is perfect and dead alike: only beside uniformity or a rank does it mean anything",
        "Wang & Isola 2020",
        NEGATIVES,
    ),
    "uniformity": Measure(
        "uniformity",
        "log mean over i < j of exp(-2 |u_i - u_j|^2)",
        "-4 N/(N - 1) to 0",
        "0 at complete collapse",
        "about -4 + 8/D for large D",
        "all but blind to dimensional collapse: rank 8 of 128 reads -3.08, full rank -3.94",
        "Wang & Isola 2020",
        NEGATIVES,
    ),
    "intrinsic_dimension": Measure(
        "intrinsic dimension, TwoNN",
        "slope of -log(1 - F) on log(r_2 / r_1), nearest neighbours, the top tenth left out",
        "0 and more",
        "0 where all rows are one point",
        "below D: it needs exponentially many rows",
        "duplicates ruin it, so copies are taken once; it does not see how far the rows reach",
        "Facco et al. 2017",
    ),
    "intraclass_correlation": Measure(
        "intraclass correlation",
        "tr B / (tr B + tr W), variance between samples and within a sample's views",
        "0 to 1",
        "about 0: what is left is noise of the view",
        "0 for views that have nothing to do with one another",
        "blind to rank; a shortcut reads near 1",
        "Shrout & Fleiss 1979, form (1, 1), summed over dimensions",
        SHORTCUTS,
    ),
    "best_intraclass_correlation": Measure(
        "intraclass correlation of the best axis",
        "the largest intraclass correlation along one of five leading axes",
        "0 to 1",
        "near 1 for a shortcut",
        "near 0",
        "views that hardly differ read near 1, and rightly",
        OURS,
        SHORTCUTS,
    ),
    "lidar": Measure(
        "LiDAR",
        "exp H of the eigenvalues of Sw^-1/2 Sb Sw^-1/2, Sw within samples + 1e-4 I",
        "1 to min(D, n - 1), 0 where all samples are one",
        "low, or 0",
        "none: it depends on how much views differ",
        "needs several views of each sample, by identifier; delta decides where views agree",
        "Thilak et al. 2024",
        SIDE_BY_SIDE,
    ),
    "groups": Measure(
        "samples with several views",
        "number of identifiers that have two rows or more",
        "2 and more",
        "says nothing",
        "-",
        "at most 4,096 rows of whole groups are looked at",
        OURS,
        SHORTCUTS,
    ),
    "group_rows": Measure(
        "rows of these samples",
        "number of rows that have another of their identifier",
        "4 and more",
        "says nothing",
        "-",
        "a sample, where there are many",
        OURS,
        SHORTCUTS,
    ),
    "classes": Measure(
        "classes",
        "number of different labels",
        "2 and more",
        "says nothing",
        "-",
        "of labels, not of embeddings; for these see points",
        OURS,
        CLUSTER,
    ),
    "chance": Measure(
        "accuracy by chance",
        "share of the largest class",
        "1/C to 1",
        "says nothing",
        "-",
        "with unequal classes it is far from 1/C",
        OURS,
        CLUSTER,
    ),
    "nc1": Measure(
        "NC1, variability collapse",
        "tr(S_W S_B^+) / C, the pseudo-inverse of rank C - 1",
        "0 and more",
        "0 where every class is a point",
        "large",
        "a default cut-off of the pseudo-inverse gives anything; it is fixed here",
        "Papyan, Han & Donoho 2020",
        CLUSTER,
    ),
    "nc2_norms": Measure(
        "NC2, equal norms",
        "std / mean over classes of |class mean - mean of them|",
        "0 and more",
        "0 for a simplex",
        "small for balanced classes",
        "says nothing about angles",
        "Papyan, Han & Donoho 2020",
        CLUSTER,
    ),
    "nc2_angles": Measure(
        "NC2, equal angles",
        "mean over pairs of classes of |cos + 1/(C - 1)|",
        "0 to 1 + 1/(C - 1)",
        "0 for a simplex",
        "about sqrt(2 / (pi D)) for many classes",
        "the mean cosine alone is -1/(C - 1) for any means of equal norm: it has to be per pair",
        "Papyan, Han & Donoho 2020",
        CLUSTER,
    ),
    "nc3": Measure(
        "NC3, self-duality",
        "|W/|W| - M/|M||, last layer and class means",
        "0 to 2",
        "0",
        "about sqrt 2",
        "needs the classifier's weights",
        "Papyan, Han & Donoho 2020",
        CLUSTER,
    ),
    "nc4": Measure(
        "NC4, nearest class mean",
        "share of rows whose prediction is not the nearest class mean",
        "0 to 1",
        "0",
        "1 - 1/C for an unrelated classifier",
        "a classifier can agree with the nearest mean and both be wrong",
        "Papyan, Han & Donoho 2020",
        CLUSTER,
    ),
    "within_share": Measure(
        "variance within classes",
        "tr S_W / (tr S_W + tr S_B)",
        "0 to 1",
        "0 where every class is a point",
        "near 1: labels explain nothing",
        "0 is the aim of a classifier and a loss for pretraining",
        OURS,
        CLUSTER,
    ),
    "class_share": Measure(
        "variance between classes",
        "1 - within_share",
        "0 to 1",
        "1 where every class is a point",
        "about (C - 1)/N",
        "see within_share",
        OURS,
        CLUSTER,
    ),
    "nearest_mean_accuracy": Measure(
        "accuracy of the nearest class mean",
        "share of rows nearest to the mean of the others of their class",
        "0 to 1",
        "chance, once classes are lost",
        "chance",
        "no scale: it reads classes from residue that no user of the embeddings would see",
        OURS,
        SHORTCUTS,
    ),
    "points": Measure(
        "distinct points",
        "1 / P(two rows share a point), where the number of near pairs has a plateau",
        "1 to N",
        "few: the number of clusters",
        "N",
        "clusters wider than 0.15 of the distance between rows do not count as points",
        "this package; the correlation integral of Grassberger & Procaccia 1983",
        CLUSTER,
    ),
    "point_radius": Measure(
        "radius of a point",
        "distance within a point over the root mean square distance of rows",
        "0 to 0.15, none without points",
        "0 for copies",
        "none",
        "see points",
        OURS,
        CLUSTER,
    ),
    "point_company": Measure(
        "rows in company",
        "share of rows with another within the radius",
        "0 to 1",
        "near 1",
        "0",
        "see points",
        OURS,
        CLUSTER,
    ),
    "direction_points": Measure(
        "distinct directions",
        "points, of the unit rows",
        "1 to N",
        "few",
        "N; given only where directions sit on points",
        "see points",
        OURS,
        CLUSTER,
    ),
    "direction_radius": Measure(
        "radius of a direction",
        "point_radius, of the unit rows",
        "0 to 0.15",
        "0 for copies",
        "none",
        "see points",
        OURS,
        CLUSTER,
    ),
    "direction_company": Measure(
        "directions in company",
        "point_company, of the unit rows",
        "0 to 1",
        "near 1",
        "none",
        "see points",
        OURS,
        CLUSTER,
    ),
    "distinct": Measure(
        "distinct rows",
        "rows with none before them within a twentieth of the distance",
        "1 to the number of rows looked at",
        "few",
        "all of them",
        "near copies show no more dimensions than one row",
        OURS,
        CLUSTER,
    ),
    "duplicates": Measure(
        "copies",
        "share of rows that repeat another to a millionth of the distance",
        "0 to 1",
        "1 where all are one",
        "0",
        "often the data's own: one sample embedded twice",
        OURS,
    ),
    "outliers": Measure(
        "far rows",
        "share of rows more than ten times as far out as the median",
        "0 to 1",
        "says nothing",
        "0",
        "more than 5 % are not left out of anything: the data look so",
        OURS,
    ),
    "row_kurtosis": Measure(
        "kurtosis of lengths",
        "N sum |x|^4 / (sum |x|^2)^2, x = z - mean z",
        "1 and more",
        "any",
        "1 + 2/D",
        "one row in a million can decide it, and that is what it is for",
        OURS,
    ),
    "core_rows": Measure(
        "rows without the far ones",
        "rows looked at that are no outliers",
        "2 and more",
        "says nothing",
        "-",
        "given where far rows weigh on the rest",
        OURS,
    ),
    "sigreg_statistic": Measure(
        "SIGReg statistic",
        "N * mean over slices of the squared distance of characteristic functions, t in [-3, 3]",
        "0 and more",
        "0.402 N at the origin",
        "1.05, not 0",
        "its scale grows with N: compare equal N",
        "Balestriero & LeCun 2025 (LeJEPA); Epps & Pulley 1983",
        MATCHING,
    ),
    "prototype_usage": Measure(
        "prototype usage",
        "exp H(mean assignment) / K, and the mean entropy of an assignment",
        "1/K to 1, and 0 to log K",
        "1/K and 0: all to one; or 1 and log K: all to all alike",
        "depends on the prototypes",
        "use alone misses the uniform collapse: look at both",
        "the two collapses of SwAV and DINO (Caron et al. 2020, 2021)",
        CLUSTERING,
    ),
    "knn_accuracy": Measure(
        "k nearest neighbours",
        "test accuracy of a vote among the k nearest by cosine",
        "0 to 1",
        "well above chance: it reads residue",
        "chance",
        "does not see a complete collapse whose residue still orders the samples",
        "Wu et al. 2018",
        SIDE_BY_SIDE,
    ),
    "linear_probe": Measure(
        "linear probe",
        "test accuracy of logistic regression on standardised features",
        "0 to 1",
        "well above chance: it reads residue",
        "chance",
        "standardising magnifies whatever is left",
        "the custom of the field",
        SIDE_BY_SIDE,
    ),
    "regression_probe": Measure(
        "regression probe",
        "1 - squared error on test rows of least squares with a constant, over that of the mean",
        "1 and less",
        "0 where nothing is left; else what the residue says, magnified",
        "about -D/N",
        "least squares magnify whatever is left",
        "the custom of the field",
        SIDE_BY_SIDE,
    ),
    "resolution_probe": Measure(
        "resolution probe",
        "test accuracy of ridge regression on unit rows, centred and not rescaled",
        "0 to 1",
        "chance",
        "chance",
        "needs labels",
        OURS,
        SIDE_BY_SIDE,
    ),
}
# Names of functions and results that have several numbers, or go by another name.
ALIASES = {
    "neural_collapse": ("nc1", "nc2_norms", "nc2_angles", "nc3", "nc4"),
    "nc2": ("nc2_norms", "nc2_angles"),
    "cosines_of_means": ("nc2_angles",),
    "icc": ("intraclass_correlation",),
    "cone_share": ("mean_share",),
    "erank": ("effective_rank",),
    "twonn": ("intrinsic_dimension",),
    "sigreg": ("sigreg_statistic",),
    "knn": ("knn_accuracy",),
    "pr": ("participation_ratio",),
}
PREFIXES = {
    "group_": "of --groups, where --views was given, too",
    "core_null_": "what isotropic data of as many rows as core_rows read",
    "core_": "without the far rows, where these weigh on the rest",
}
# What each says, and when; names in braces are limits of repcollapse.diagnosis.decide.
VERDICTS = {
    "not-enough-data": (
        "too few rows to tell",
        "Fewer than {MIN_ROWS} rows, or too few to tell a dimensional collapse from what few rows "
        "show anyway.",
    ),
    "complete": (
        "all embeddings are one direction",
        "A spread below {DEAD_SPREAD:g} with at most {SOME_ZERO:.0%} zero rows, or {MOST_ZERO:.0%} "
        "of the rows zero; or rows within {SHORT:g} of their mean whose views agree in less than "
        "{NOISY:.0%} of the variance.",
    ),
    "cluster": (
        "the embeddings sit on few points",
        "The rows, or their directions, lie on separate points: the number of near pairs stays as "
        "it is while the radius triples.",
    ),
    "dimensional": (
        "few dimensions hold the variance",
        "99.9 % of the variance in {FLOORS[dimensions_999]:.0%} of D or less, or 99 % in "
        "{FLOORS[dimensions_99]:.0%}, and in at most {OF_NULL:.0%} of what as many isotropic rows "
        "need.",
    ),
    "cone": (
        "the embeddings point one way, and live: a warning",
        "The mean holds {CONE_SHARE:.0%} or more of the directions' energy, and the spread is not "
        "that of a collapse. Cosines are high, and nothing is lost.",
    ),
    "healthy": (
        "none of the other verdicts applies",
        "Scale, location and shape are all alive, and there are rows enough to say so.",
    ),
    "class-collapse": (
        "every class is nearly a point",
        "At most {ONE_POINT_A_CLASS:.0%} of the variance lies within classes.",
    ),
    "classes-lost": (
        "classes cannot be told apart",
        "The nearest class mean is right no more often than the largest class is large, within its "
        "interval.",
    ),
    "shortcut": (
        "views agree too well along an axis",
        "Along one leading axis views of a sample agree beyond {EXACT:g} of the variance, as they "
        "do on a mark that augmentation leaves alone.",
    ),
    "noise": (
        "views of a sample differ as samples do",
        "Less than {NOISY:.0%} of the variance lies between samples.",
    ),
    "shrunken": (
        "the embeddings are short",
        "Rows lie less than {SHORT:g} from their mean: so does a squared error shrink them.",
    ),
    "zero-rows": ("some rows are zero", "One row or more is zero and has no direction."),
    "duplicates": (
        "rows repeat",
        "{MANY_COPIES:.0%} or more of the rows looked at repeat another.",
    ),
    "dead-dimensions": ("some features never change", "One feature or more has no variance."),
    "outliers": (
        "a few rows lie far out",
        "Some rows, up to 5 %, lie more than ten times as far out as the median.",
    ),
}
