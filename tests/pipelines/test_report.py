"""The page tells the corpus's numbers, shows what was left out and why, and fetches nothing."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from corpus.schema import QUALITY
from pipelines.html import KEPT, REJECTED, histogram
from pipelines.report import MEASURES

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE_NAME = "<script>alert(1)<script>.csv"
KINDS = ("walk", "squat", "reach")


def bars(svg: str, colour: str) -> list[tuple[float, float]]:
    """(left edge, height) of the bars of one colour."""
    found = ElementTree.fromstring(svg).findall(f"{SVG}rect")
    return [(float(r.attrib["x"]), float(r.attrib["height"])) for r in found if r.attrib["fill"] == colour]


def test_heights_of_bars_are_in_the_ratio_of_counts():
    svg = histogram(np.array([0.1] * 30 + [0.9] * 10), np.array([0.9] * 10), bins=2)
    (low, high), (rejected,) = bars(svg, KEPT), bars(svg, REJECTED)
    assert low[1] == pytest.approx(3 * high[1], rel=1e-3)
    assert rejected[1] == pytest.approx(high[1], rel=1e-3)
    assert rejected[0] == high[0]


def test_values_far_out_are_counted_in_the_last_bar():
    kept = np.concatenate([np.linspace(0, 1, 1000), [1e6]])
    heights = [height for _, height in bars(histogram(kept, np.array([])), KEPT)]
    assert len(heights) == 24
    assert max(heights) < 2 * np.median(heights)


def test_a_measure_without_values_says_so():
    assert "not measured" in histogram(np.array([np.nan]), np.array([]))


def test_one_single_value_makes_one_bar():
    assert len(bars(histogram(np.zeros(5), np.array([])), KEPT)) == 1


def test_the_limit_is_in_sight_even_if_all_values_lie_far_below():
    svg = histogram(np.full(10, 0.01), np.array([]), limit=0.2)
    line = next(e for e in ElementTree.fromstring(svg).findall(f"{SVG}line") if "stroke-dasharray" in e.attrib)
    assert 0 < float(line.attrib["x1"]) < 240


def test_every_measure_of_the_catalog_has_a_title():
    assert tuple(MEASURES) == QUALITY


class _Page(HTMLParser):
    """Tags, their attributes, and text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "srcset", "action")]

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A corpus of three movements by formula, and four files that are none, one of them with a hostile name."""
    from pipelines.build import build

    place = tmp_path_factory.mktemp("report")
    root = place / "motions"
    root.mkdir()
    for kind in KINDS:
        (root / f"{kind}.motion.json").write_text(f'{{"kind": "{kind}", "seconds": 3}}')
    (root / HOSTILE_NAME).write_text("no motion")
    (root / "cut.motion.json").write_text('{"kind": "wa')
    (root / "moonwalk.motion.json").write_text('{"kind": "moonwalk"}')
    # "-" sorts before ".": the twin is the first of the two, and the one that counts.
    (root / "walk-twin.motion.json").write_bytes((root / "walk.motion.json").read_bytes())
    build({"synthetic": root}, place / "corpus", scheduler="inline")
    return place / "corpus"


@pytest.fixture(scope="module")
def page(built) -> str:
    from pipelines.report import write_report

    path = built.parent / "report.html"
    write_report(built, path, commands=["loom info <corpus>"])
    return path.read_text(encoding="utf-8")


def test_the_page_fetches_and_runs_nothing(page):
    parsed = _Page(page)
    assert parsed.links == []
    assert "script" not in parsed.tags
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)
    assert "@import" not in page and "url(" not in page


def test_the_page_names_every_reason_and_every_clip_that_gave_nothing(built, page):
    import polars as pl

    from corpus.catalog import Corpus

    rejected = Corpus.open(built).clips.filter(pl.col("status") == "rejected").collect()
    text = "".join(_Page(page).words)
    assert len(rejected) == 4
    for row in rejected.to_dicts():
        assert row["reason"] in text
        assert row["path"] in text


def test_the_page_shows_a_picture_for_each_kept_clip(built, page):
    import polars as pl

    from corpus.catalog import Corpus

    kept = Corpus.open(built).clips.filter(pl.col("status") == "kept").collect()
    assert len(kept) == 3
    assert page.count('class="pose"') >= 3 * 2
    assert len(re.findall(r"<title>synthetic: (walk-twin|squat|reach)<", page)) == 3


def test_the_headline_is_the_ledgers_sum(built, page):
    import polars as pl

    from corpus.catalog import Corpus

    frames = Corpus.open(built).clips.select(pl.col("frames_kept").sum()).collect().item()
    assert f"{frames:,} frames:" in page
    assert f"<b>{frames / 50:.2f} s</b>" in page
