"""Diversity by formula: Gaussians, orthogonal items, copies; sources beside shuffled ones; batches old and new."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from mixture import mixture
from scipy import stats

from corpus.errors import MotionloomError
from hme.by_source import by_source, leave_one_source_out
from hme.coverage import coverage, novelty
from hme.diversity import MEASURES, DiversityOptions, cluster_figures, diversity, moments, table, vendi

PLAIN = DiversityOptions(trim=0.0, kernel_sample=60, replicates=20)
SCALE = np.arange(1, 9) ** -0.5


def gaussian(count: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(count, 8)) * SCALE).astype(np.float32)


# ---------------------------------------------------------------- one set


def test_intervals_hold_what_is_true_of_a_gaussian():
    """Of 60 sets of 400 vectors, more than nine in ten."""
    truth = {
        "spread": np.exp(np.log(SCALE).mean()),
        "log_volume": np.log(SCALE).sum(),
        "participation": (SCALE**2).sum() ** 2 / (SCALE**4).sum(),
    }
    held = dict.fromkeys(truth, 0)
    for seed in range(60):
        found = diversity(gaussian(400, seed), options=replace(PLAIN, seed=seed))
        for name, value in truth.items():
            held[name] += getattr(found, name).low <= value <= getattr(found, name).high
    assert min(held.values()) >= 54


def test_finite_samples_take_nothing_from_the_volume():
    values = [diversity(gaussian(200, seed), options=PLAIN).log_volume.value for seed in range(30)]
    # Uncorrected, a sample of 100 of 8 dimensions lacks 8 · 9 / 400 = 0.18.
    assert np.mean(values) == pytest.approx(np.log(SCALE).sum(), abs=0.06)


def test_trimming_shrinks_a_gaussian_as_the_chi_square_has_it():
    found = diversity(gaussian(40_000), options=replace(PLAIN, trim=0.05))
    kept = stats.chi2.cdf(stats.chi2.ppf(0.95, 8), 10) / 0.95
    assert found.log_volume.value == pytest.approx(np.log(SCALE).sum() + 4 * np.log(kept), abs=0.03)


def test_outliers_do_not_count():
    clean = gaussian(5000)
    soiled = clean.copy()
    soiled[::200] *= 50
    options = replace(PLAIN, trim=0.01)
    apart = diversity(soiled, options=options).log_volume.value - diversity(clean, options=options).log_volume.value
    assert abs(apart) < 0.1
    assert diversity(soiled, options=PLAIN).log_volume.value > diversity(clean, options=PLAIN).log_volume.value + 1


def test_dimensions_are_those_that_vary():
    rows = np.zeros((1000, 10))
    rows[:, :5] = np.random.default_rng(0).normal(size=(1000, 5))
    found = moments(rows)
    assert found["dimension_ratio"] == 0.5
    assert found["participation"] == pytest.approx(5, rel=0.02)


def test_the_vendi_score_counts_items_of_no_likeness():
    far = 100 * np.eye(30)
    assert vendi(far, 1.0, 30) == pytest.approx(30)
    assert vendi(np.repeat(far[:1], 30, 0), 1.0, 30) == pytest.approx(1)
    assert vendi(np.repeat(far[:6], 5, 0), 1.0, 30) == pytest.approx(6)


def test_the_truncated_vendi_score_is_near_the_whole_one():
    rows = mixture(400)[0].astype(np.float64)
    apart = ((rows[:, None] - rows) ** 2).sum(2)
    share = np.linalg.eigvalsh(np.exp(-apart / 2) / 400).clip(1e-300)
    whole = np.exp(-(share * np.log(share)).sum())
    assert vendi(rows, 1.0, 400) == pytest.approx(whole, rel=1e-6)
    assert vendi(rows, 1.0, 200) == pytest.approx(whole, rel=0.02)


def test_what_is_truncated_of_the_vendi_score_is_shared_out_evenly():
    """Three motions, 15, 9 and 6 times: of two eigenvalues each gets half of the third."""
    rows = np.repeat(100 * np.eye(3), [15, 9, 6], axis=0)
    share = np.array([0.5 + 0.1, 0.3 + 0.1])
    assert vendi(rows, 1.0, 2) == pytest.approx(np.exp(-(share * np.log(share)).sum()))


def test_clusters_of_equal_share_are_all_effective():
    even = cluster_figures(np.arange(40) % 8, np.ones(40), 8)
    assert even["effective_clusters"] == pytest.approx(8)
    assert even["cluster_gini"] == pytest.approx(0, abs=1e-12)
    alone = cluster_figures(np.zeros(40, int), np.ones(40), 8)
    assert (alone["effective_clusters"], alone["cluster_gini"]) == pytest.approx((1, 7 / 8))
    weighed = cluster_figures(np.array([0, 1]), np.array([3.0, 1.0]), 2)
    assert weighed["cluster_entropy"] == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    assert weighed["cluster_gini"] == pytest.approx(0.25)


def test_sets_are_compared_at_one_sample_size():
    """Ten times as many of the same are as diverse."""
    options = replace(PLAIN, sample=500)
    few, many = (diversity(*[mixture(n)[0]], bandwidth=1.0, options=options) for n in (2000, 20_000))
    assert (few.sample, many.sample) == (500, 500)
    for name in ("spread", "log_volume", "participation", "vendi"):
        one, other = getattr(few, name), getattr(many, name)
        assert one.low < other.high and other.low < one.high, name


def test_the_same_call_gives_the_same_figures():
    vectors, kind = mixture(500)
    assert diversity(vectors, label=kind, options=PLAIN) == diversity(vectors, label=kind, options=PLAIN)


def test_a_table_has_a_row_per_set_and_measure_that_was_taken():
    vectors, kind = mixture(300)
    found = table({"a": diversity(vectors, label=kind, options=PLAIN), "b": diversity(vectors, options=PLAIN)})
    assert found.filter(group="a")["measure"].to_list() == list(MEASURES)
    assert len(found) == len(MEASURES) + 5
    assert found.columns == ["group", "measure", "value", "low", "high", "sample", "count"]


def test_too_few_are_refused():
    with pytest.raises(MotionloomError, match="at least 40 are needed"):
        diversity(gaussian(39), options=PLAIN)


def test_volume_is_not_told_of_fewer_vectors_than_axes_need():
    assert np.isnan(diversity(gaussian(60), options=PLAIN).log_volume.value)


@pytest.mark.parametrize("wrong", [{"trim": 1.0}, {"replicates": 1}, {"confidence": 0.0}, {"eigenvalues": 0}])
def test_options_that_make_no_sense_are_refused(wrong):
    with pytest.raises(MotionloomError, match="diversity: trim should"):
        DiversityOptions(**wrong)


# ---------------------------------------------------------------- two sets


def test_a_set_covers_another_of_its_kind_as_it_covers_itself():
    found = coverage(mixture(4000)[0][:2000], mixture(4000)[0][2000:], sample=500, options=PLAIN)
    assert found.share.low < found.own.value < found.share.high
    assert found.own.value > 0.4


def test_a_part_is_covered_by_the_whole_and_not_the_other_way():
    vectors, kind = mixture(6000, even=True)
    part = vectors[kind < 10]
    within, without = (coverage(*pair, sample=400, options=PLAIN) for pair in ((part, vectors), (vectors, part)))
    assert without.share.high < 0.75 * without.own.value
    assert within.share.value > 0.7 * within.own.value
    assert coverage(part, part + 50, sample=400, options=PLAIN).share.value == 0


@pytest.mark.parametrize("size", [300, 3000])
def test_copies_do_not_raise_coverage(size):
    of, by = mixture(4000)[0][:2000], mixture(4000)[0][2000 : 2000 + size]
    once, thrice = (coverage(of, rows, sample=1000, options=PLAIN) for rows in (by, np.repeat(by, 3, 0)))
    assert thrice.share.value < once.share.value + 0.03


def test_a_neighbourhood_reaches_to_the_fifth_neighbour():
    """On a ring of length 1 with n points the fifth is at Gamma(5) / 2n."""
    angle = 2 * np.pi * np.random.default_rng(0).random(1000)
    ring = np.stack([np.cos(angle), np.sin(angle)], 1) / (2 * np.pi)
    found = coverage(ring[:], ring[:], sample=500, options=PLAIN)
    assert found.sample == 500 and found.radius == pytest.approx(stats.gamma(5).median() / 1000, rel=0.1)


def test_volume_grows_as_the_new_have_their_share_by_number():
    """Σ of both is the mean of both Σ, by their numbers."""
    new, corpus = 2 * gaussian(1000, seed=1), gaussian(2000)
    gain = novelty(new, corpus, options=PLAIN).log_volume_gain
    assert gain.value == pytest.approx(4 * np.log(2 / 3 + 4 / 3), abs=0.15)


def test_a_batch_of_the_same_kind_is_not_new():
    vectors, kind = mixture(6000)
    found = novelty(vectors[:500], vectors[500:], labels=(kind[:500], kind[500:]), options=PLAIN)
    assert found.beyond == pytest.approx(0.5, abs=0.1)
    assert found.far == pytest.approx(0.05, abs=0.04)
    assert found.log_volume_gain.low < 0 < found.log_volume_gain.high
    assert abs(found.effective_clusters_gain) < 0.5
    assert found.covered is not None and found.covered.share.value > 0.8 * found.covered.own.value


def test_copies_of_the_corpus_are_not_new_at_all():
    vectors, _ = mixture(3000)
    found = novelty(vectors[:100], vectors, options=PLAIN)
    assert (found.beyond, found.far) == (0, 0)
    assert found.ratio.max() < 0.1
    assert np.isnan(found.effective_clusters_gain)


def test_a_batch_of_another_kind_is_new():
    vectors, kind = mixture(6000, even=True)
    rare = kind % 3 == 0
    found = novelty(vectors[rare] + 1, vectors[~rare], labels=(kind[rare], kind[~rare]), options=PLAIN)
    assert found.far > 0.5
    assert found.log_volume_gain.low > 0
    assert found.effective_clusters_gain > 2


def test_a_source_of_copies_alone_is_told_of_without_coverage():
    vectors = mixture(400)[0]
    vectors[:100] = vectors[0]
    found = leave_one_source_out(vectors, np.where(np.arange(400) < 100, "copies", "rest"), options=PLAIN)
    assert np.isnan(found.filter(source="copies", measure="uncovered", control=False)["value"][0])
    with pytest.raises(MotionloomError, match="Coverage of 1 distinct vectors by 300"):
        coverage(vectors[:100], vectors[100:])


def test_few_new_ones_are_told_of_without_coverage():
    vectors, _ = mixture(1000)
    found = novelty(vectors[:3], vectors[3:], options=PLAIN)
    assert found.covered is None and found.ratio.shape == (3,)
    with pytest.raises(MotionloomError, match="at least 1"):
        novelty(vectors[:0], vectors, options=PLAIN)


# ---------------------------------------------------------------- sources


def test_sources_are_compared_at_the_size_of_the_smallest():
    vectors, kind = mixture(5000)
    source = np.array(["small", "large", "tiny"])[np.where(np.arange(5000) < 300, 0, 1)]
    source[-30:] = "tiny"
    found = by_source(vectors, source, label=kind, options=PLAIN)
    assert {name: one.sample for name, one in found.items()} == {"large": 150, "small": 150}
    assert found["large"].bandwidth == found["small"].bandwidth


def test_what_a_source_adds_shows_beside_shuffled_sources():
    """One brings clusters of its own, the two others share theirs."""
    vectors, kind = mixture(4000, even=True)
    rng = np.random.default_rng(0)
    source = np.where(kind % 4 == 0, "own", rng.choice(["one", "other"], 4000))
    found = leave_one_source_out(vectors, source, label=kind, options=PLAIN)

    def of(name: str, measure: str, control: bool) -> dict:
        return found.filter(source=name, measure=measure, control=control).to_dicts()[0]

    assert of("own", "effective_clusters", False)["low"] > 2
    assert of("own", "uncovered", False)["low"] > of("own", "uncovered", True)["high"]
    for name in ("one", "other"):
        assert of(name, "effective_clusters", False)["value"] < of("own", "effective_clusters", False)["low"] / 2
        assert of(name, "uncovered", False)["value"] < of("own", "uncovered", False)["low"]
    for name in ("own", "one", "other"):
        assert abs(of(name, "log_volume", True)["value"]) < 0.3
