"""Tokens between motion and controller: the quantisation by its formula, and a person who drives the robot's controller."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402

from corpus import rotations  # noqa: E402
from corpus.errors import MotionloomError  # noqa: E402
from trainer.gpt import Gpt, GptShape  # noqa: E402
from trainer.tokens import TokenOptions, bounded, codes_of, human_features, indices_of, quantised  # noqa: E402

OWN, REFERENCE, HUMAN, ACTIONS, FRAMES = 6, 10, 9, 4, 6
OPTIONS = TokenOptions(
    reference=tuple(range(OWN, OWN + REFERENCE)), human_size=HUMAN, tokens=2, dimensions=4, levels=16, hidden=48
)
TINY = GptShape(layers=1, width=32, heads=2, mlp=64, window=4)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("levels", [2, 5, 8, 32])
def test_all_levels_are_reached_and_no_other(levels):
    codes = quantised(torch.linspace(-12, 12, 20_001), levels) * (levels // 2)
    assert codes.unique().tolist() == [float(level - levels // 2) for level in range(levels)]
    assert bounded(torch.zeros(1), levels).abs() < 1e-6


@pytest.mark.parametrize("levels", [5, 32])
def test_codes_are_their_indices(levels):
    indices = torch.arange(levels)
    codes = codes_of(indices, levels)
    assert torch.equal(indices_of(codes, levels), indices)
    assert torch.equal(codes_of(indices_of(codes, levels), levels), codes)
    x = torch.randn(100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(codes_of(indices_of(quantised(x, levels), levels), levels), quantised(x, levels))


def test_rounding_lets_gradients_straight_through():
    x = torch.linspace(-3, 3, 101, dtype=torch.float32).requires_grad_()
    (rounded,) = torch.autograd.grad(quantised(x, 32).sum(), x)
    (smooth,) = torch.autograd.grad(bounded(x, 32).sum() / 16, x)
    assert torch.equal(rounded, smooth)
    half = 15.5 * 1.001
    shift = np.arctanh(0.5 / half)
    assert np.allclose(smooth, half / 16 / np.cosh(x.detach().numpy() + shift) ** 2, rtol=1e-4)


def pairs(count: int, seed: int):
    """Observations (own state and reference), a person's features of the same motion, and the right action: all smooth functions
    of a motion of three numbers and of the robot's own state."""
    fixed = np.random.default_rng(7)
    to_reference, to_human = fixed.normal(size=(3, REFERENCE)), fixed.normal(size=(3, HUMAN))
    to_action, of_own = fixed.normal(size=(3, ACTIONS)) / 2, fixed.normal(size=(OWN, ACTIONS)) / 4
    rng = np.random.default_rng(seed)
    motion, own = rng.uniform(-1, 1, (count, FRAMES, 3)), rng.normal(size=(count, FRAMES, OWN))
    human = 5 + 3 * np.sin(motion @ to_human)
    action = np.tanh(motion @ to_action) + own @ of_own
    observation = np.concatenate([own, np.tanh(motion @ to_reference)], -1)
    return (torch.from_numpy(part).float() for part in (observation, human, action))


@pytest.fixture(scope="module")
def trained() -> Gpt:
    model = Gpt(OWN + REFERENCE, ACTIONS, TINY, seed=0, tokens=OPTIONS)
    observation, human, action = pairs(512, seed=0)
    assert model.tokens is not None
    model.set_normalisation(observation.mean((0, 1)), observation.std((0, 1)))
    model.tokens.normaliser.set(human.mean((0, 1)), human.std((0, 1)))
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    order = torch.Generator().manual_seed(0)
    for _ in range(200):
        rows = torch.randint(len(observation), (64,), generator=order)
        losses = model.token_losses(observation[rows].flatten(0, 1), human[rows].flatten(0, 1))
        loss = F.smooth_l1_loss(model(observation[rows]), action[rows]) + 0.2 * sum(losses.values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


def test_a_persons_motion_drives_the_same_controller(trained):
    observation, human, action = pairs(128, seed=1)
    blind = observation.clone()
    blind[..., OWN:] = float("nan")  # no reference for the robot
    with torch.no_grad():
        by_robot = trained(observation)
        by_human = trained(blind, codes=trained.tokens.of_human(human))
        by_another = trained(blind, codes=trained.tokens.of_human(human.roll(1, 0)))
    spread = (action - action.mean((0, 1))).abs().mean()
    assert (by_robot - action).abs().mean() < 0.2 * spread
    assert (by_human - by_robot).abs().mean() < 0.2 * spread
    assert (by_human - by_robot).abs().mean() < 0.3 * (by_another - by_robot).abs().mean()


def test_tokens_of_both_agree_and_tell_the_reference(trained):
    observation, human, _ = pairs(128, seed=1)
    with torch.no_grad():
        losses = trained.token_losses(observation.flatten(0, 1), human.flatten(0, 1))
        apart = trained.token_losses(observation.flatten(0, 1), human.roll(1, 0).flatten(0, 1))
    assert losses["agreement"] < 0.1 * apart["agreement"]
    assert losses["reconstruction"] < 2 * 0.2  # twice, of a normalised reference: the mean alone would give 2
    assert losses["cycle"] < 0.1 * apart["agreement"]


def test_a_stream_by_codes_tells_the_same_as_all_at_once(trained):
    observation, human, _ = pairs(3, seed=2)
    cache = trained.new_cache(3)
    with torch.no_grad():
        codes = trained.tokens.of_human(human)
        whole = trained(observation, codes=codes)
        for frame in range(FRAMES):
            action = trained.step(observation[:, frame], cache, codes=codes[:, frame])
            assert (action - whole[:, frame]).abs().max() < 1e-5


def test_the_controller_sees_the_reference_by_its_tokens_alone(trained):
    observation, _, _ = pairs(2, seed=3)
    other = observation.roll(1, 0)
    swapped = torch.cat([observation[..., :OWN], other[..., OWN:]], -1)
    with torch.no_grad():
        codes = trained.tokens.of_robot(trained.normaliser(other)[..., OWN:])
        assert torch.equal(trained(swapped), trained(observation, codes=codes))


def test_what_a_person_does_is_told_without_place_and_heading():
    rng = np.random.default_rng(0)
    position, rotation = rng.normal(size=(20, 5, 3)), rotations.normalise(rng.normal(size=(20, 5, 4)))
    told = human_features(position, rotation, hips=(1, 2))
    assert told.shape == (20, 3 * 5 * 9)
    turn = rotations.about_z(np.array(2.0))
    moved = rotations.rotate(np.broadcast_to(turn, rotation.shape), position) + [3.0, -1.0, 0.0]
    again = human_features(moved, rotations.multiply(turn, rotation), hips=(1, 2))
    assert np.allclose(told, again, atol=1e-5)


def test_who_walks_ahead_will_be_ahead():
    """At 1 m/s along y, facing there, the root is 0.08 m ahead in four frames."""
    time = np.arange(20) / 50
    position = np.array([[0, 0, 0.9], [-0.1, 0, 0.9], [0.1, 0, 0.9]]) + np.array([0, 1, 0]) * time[:, None, None]
    rotation = np.broadcast_to(rotations.about_z(np.array(np.pi / 2)), (20, 3, 4))
    told = human_features(position, rotation, hips=(1, 2), frames=(4,))
    root, left = told[0, :3], told[0, 3:6]
    assert np.allclose(root, [0.08, 0, 0.9], atol=1e-6)
    assert np.allclose(left, [0.08, 0.1, 0.9], atol=1e-6)
    assert np.allclose(told[0, 9:15], [1, 0, 0, 1, 0, 0], atol=1e-6)  # rows of the first two columns of the identity
    assert np.allclose(told[-1, :3], [0, 0, 0.9], atol=1e-6)


def test_what_does_not_fit_is_refused(trained):
    plain = Gpt(5, 2, TINY)
    with pytest.raises(MotionloomError, match="has no tokens"):
        plain(torch.zeros(1, 2, 5), codes=torch.zeros(1, 2, 8))
    with pytest.raises(MotionloomError, match="Codes should be 8"):
        trained(torch.zeros(1, 2, OWN + REFERENCE), codes=torch.zeros(1, 2, 7))
    with pytest.raises(MotionloomError, match="should hold 9"):
        trained.tokens.of_human(torch.zeros(1, 7))
    with pytest.raises(MotionloomError, match="each once"):
        TokenOptions(reference=(1, 1), human_size=3)
    with pytest.raises(MotionloomError, match="names place 15"):
        Gpt(15, 2, TINY, tokens=OPTIONS)
