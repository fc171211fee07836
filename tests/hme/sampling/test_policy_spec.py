"""Policies as text and as files say the same; what they do not know they name."""

from __future__ import annotations

import json

import pytest

from corpus.errors import MotionloomError
from hme.sampling.policies import ByCluster, BySource, InverseDensity, Propensity, Uniform
from hme.sampling.policy_spec import Part, parse_spec, read_spec, spec_of

TOML = """
cap = 10

[[policy]]
name = "cluster"
share = 0.7
tau = 0.2

[[policy]]
name = "source"
share = 0.3
amass = 0.5
lafan1 = 0.5
"""
TEXTS = ("cluster:tau=0.2", "source:amass=0.5,lafan1=0.5")


def test_text_and_file_say_the_same(tmp_path):
    spec = parse_spec(TEXTS, [0.7, 0.3], 10)
    assert [part.made() for part in spec.parts] == [ByCluster(0.2), BySource({"amass": 0.5, "lafan1": 0.5})]
    (tmp_path / "spec.toml").write_text(TOML)
    (tmp_path / "spec.json").write_text(json.dumps(spec.as_values()))
    assert read_spec(tmp_path / "spec.toml") == read_spec(tmp_path / "spec.json") == spec == spec_of(spec.as_values())


def test_policies_without_options_take_their_defaults():
    spec = parse_spec(["uniform", "density:neighbours=4", "propensity:of=density,cap=3"])
    made = [part.made() for part in spec.parts]
    assert made == [Uniform(), InverseDensity(neighbours=4), Propensity(3, "density")]
    assert [part.share for part in spec.parts] == [1, 1, 1]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("balanced", "No policy 'balanced'. Known: uniform, source, cluster"),
        ("cluster:tua=1", "it takes tau=0.0"),
        ("cluster:tau=warm", "it takes tau=0.0"),
        ("density:neighbours=2.5", "neighbours=8"),
        ("propensity:of=3", "of='cluster'"),
        ("source:amass=half", "Policy source"),
        ("uniform:x=1", "it takes no options"),
        ("cluster:tau", "reads NAME or NAME:OPTION=VALUE"),
    ],
)
def test_what_is_not_known_is_told_with_what_is(text, why):
    with pytest.raises(MotionloomError) as error:
        parse_spec([text])
    assert why in str(error.value)


def test_shares_are_one_each():
    with pytest.raises(MotionloomError, match="2 policies, 1 shares"):
        parse_spec(TEXTS, [1.0])


def test_files_that_are_none_are_refused(tmp_path):
    for name, text in (("a.json", "{"), ("a.toml", "= 1"), ("b.toml", "x = 1"), ("c.json", '{"policy": [{"tau": 1}]}')):
        (tmp_path / name).write_text(text)
        with pytest.raises(MotionloomError, match=r"cannot be read|are expected"):
            read_spec(tmp_path / name)
    with pytest.raises(MotionloomError, match="cannot be read"):
        read_spec(tmp_path / "none.toml")


def test_a_part_checks_itself():
    with pytest.raises(MotionloomError, match="No policy 'x'"):
        Part("x")
