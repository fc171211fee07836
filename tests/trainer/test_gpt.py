"""The causal Transformer: who sees whom, and that a stream tells the same as all at once."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from corpus.errors import MotionloomError  # noqa: E402
from trainer.block import rotated, turn_of  # noqa: E402
from trainer.gpt import SIZES, Gpt, GptShape, parameter_count  # noqa: E402

TINY = GptShape(layers=2, width=32, heads=2, mlp=48, window=8)
SIZE, ACTIONS = 11, 5


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def model() -> Gpt:
    return lively(Gpt(SIZE, ACTIONS, TINY, seed=3))


def lively(model: Gpt) -> Gpt:
    """With weights that make attention choose, and statistics that are not 0 and 1."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 1.5 / weight.shape[1] ** 0.5)
    size = len(model.normaliser.mean)
    model.set_normalisation(torch.linspace(-1, 1, size), torch.linspace(0.5, 2, size))
    return model.eval()


def observed(batch: int, frames: int, size: int = SIZE, seed: int = 0):
    return torch.randn(batch, frames, size, generator=torch.Generator().manual_seed(seed))


def streamed(model: Gpt, observation, ends=()):
    """Frame by frame; `ends` are (frame, environments that begin anew with it)."""
    cache = model.new_cache(len(observation))
    actions = []
    for frame in range(observation.shape[1]):
        for when, envs in ends:
            if when == frame:
                cache.forget(torch.tensor(envs))
        actions.append(model.step(observation[:, frame], cache))
    return torch.stack(actions, 1)


@pytest.mark.parametrize(("name", "millions"), [("nano", 1.2), ("S", 5.7), ("B", 22.1), ("L", 80.4)])
def test_sizes_have_the_papers_parameter_counts(name, millions):
    model = Gpt(200, 29, SIZES[name])
    assert parameter_count(model) == pytest.approx(millions * 1e6, rel=0.03)


@pytest.mark.parametrize("name", ["nano", "S"])
def test_a_stream_tells_the_same_as_all_at_once(name):
    model = Gpt(60, 29, SIZES[name]).eval()
    observation = observed(1, 110, 60)
    with torch.no_grad():
        whole = model(observation)
    assert (streamed(model, observation) - whole).abs().max() < 1e-5


def test_a_stream_is_exact_far_beyond_the_window_and_where_some_begin_anew(model):
    observation = observed(3, 90)
    episode = torch.ones(3, 90, dtype=torch.long)
    episode[1, 40:] = 2
    episode[2, 13:] = 2
    episode[2, 15:] = 3
    episode[2, 77:] = 4
    with torch.no_grad():
        whole = model(observation, episode)
    told = streamed(model, observation, ends=[(40, [1]), (13, [2]), (15, [2]), (77, [2])])
    assert (told - whole).abs().max() < 1e-5
    assert (told[0] - streamed(model, observation[:1])[0]).abs().max() < 1e-5


def test_after_days_of_running_the_stream_still_tells_the_same(model):
    observation = observed(2, 30)
    cache = model.new_cache(2)
    cache.position = 10 * 24 * 3600 * 50 + 3
    late = torch.stack([model.step(observation[:, frame], cache) for frame in range(30)], 1)
    assert (late - streamed(model, observation)).abs().max() < 1e-5


def test_forgetting_clears_what_is_not_a_number(model):
    observation = observed(1, 4)
    cache = model.new_cache(1)
    model.step(torch.full((1, SIZE), float("nan")), cache)
    cache.forget(torch.tensor([0]))
    assert torch.isfinite(model.step(observation[:, 0], cache)).all()


def test_the_ring_may_lie_in_any_order(model):
    observation = observed(2, 20)
    cache = model.new_cache(2)
    for frame in range(19):
        model.step(observation[:, frame], cache)
    order = torch.randperm(TINY.window - 1, generator=torch.Generator().manual_seed(0))
    keys, values, seen = cache.keys[:, :, :, order], cache.values[:, :, :, order], cache.seen[:, order]
    last = observation[:, 19]
    with torch.no_grad():
        shuffled, _, _ = model.step_with(last, keys, values, seen, torch.tensor(cache.position))
    assert (shuffled - model.step(last, cache)).abs().max() < 1e-5


@pytest.mark.parametrize("layers", [1, 2])
def test_a_position_sees_exactly_its_window_in_each_layer(layers):
    model = lively(Gpt(SIZE, ACTIONS, GptShape(layers=layers, width=32, heads=2, mlp=48, window=8)))
    observation = observed(1, 40).requires_grad_()
    model(observation)[0, 30].sum().backward()
    assert observation.grad is not None
    reach = observation.grad[0].abs().sum(1).nonzero()[:, 0]
    assert (reach.min(), reach.max()) == (30 - layers * 7, 30)


def test_only_distances_count(model):
    """Frames that nobody sees, put before an episode, change nothing."""
    observation = observed(2, 12)
    padded = torch.cat([torch.full((2, 5, SIZE), float("nan")), observation], 1)
    valid = torch.arange(17).expand(2, 17) >= 5
    with torch.no_grad():
        assert (model(padded, valid)[:, 5:] - model(observation)).abs().max() < 1e-5


def test_positions_that_are_not_valid_are_neither_seen_nor_answered(model):
    valid = torch.ones(2, 12, dtype=torch.bool)
    valid[0, :4] = False
    valid[1, 9:] = False
    observation = observed(2, 12).masked_fill(~valid[..., None], float("nan"))
    action = model(observation, valid)
    assert (action[~valid] == 0).all()
    action.square().sum().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters())
    with torch.no_grad():
        assert (action[1, :9] - model(observation[1:, :9])[0]).abs().max() < 1e-5


def test_attention_never_crosses_the_beginning_of_an_episode(model):
    observation = observed(1, 14).requires_grad_()
    episode = torch.tensor([[1] * 6 + [2] * 8])
    model(observation, episode)[0, 8].sum().backward()
    assert observation.grad is not None
    assert (observation.grad[0, :6] == 0).all()
    assert (observation.grad[0, 6:9] != 0).all()


def test_rotation_keeps_lengths_and_turns_by_the_angle():
    x = observed(1, 3, 16).view(1, 3, 1, 1, 16)
    turned = rotated(x, turn_of(torch.tensor([0, 1, 2]), 16))
    pair, turned_pair = (torch.complex(part[..., 0], part[..., 8]) for part in (x, turned))
    angle = torch.tensor([0.0, 1.0, 2.0]).view(1, 3, 1, 1)  # the fastest channel: one radian a frame
    assert torch.allclose(turned_pair, pair * torch.polar(torch.ones_like(angle), angle), atol=1e-6)


def test_the_seed_alone_decides_the_weights():
    torch.manual_seed(5)
    after = torch.rand(1, generator=torch.Generator().manual_seed(5))
    one, other = Gpt(SIZE, ACTIONS, TINY, seed=7), Gpt(SIZE, ACTIONS, TINY, seed=7)
    assert torch.rand(1) == after
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    third = Gpt(SIZE, ACTIONS, TINY, seed=8)
    assert not torch.equal(one.embed.weight, third.embed.weight)


def test_observations_are_normalised_inside(model):
    observation = observed(2, 9)
    mean, deviation = model.normaliser.mean.clone(), model.normaliser.deviation.clone()
    with torch.no_grad():
        given = model(observation)
        model.set_normalisation(torch.zeros(SIZE), torch.ones(SIZE))
        assert torch.allclose(model((observation - mean) / deviation), given, atol=1e-5)


def test_bfloat16_comes_near(model):
    observation = observed(2, 20)
    valid = torch.arange(20).expand(2, 20) >= 3
    with torch.no_grad():
        exact = model(observation, valid)
        with torch.autocast("cpu", torch.bfloat16):
            near, streaming = model(observation, valid), streamed(model, observation[:, 3:])
    assert near.dtype == streaming.dtype == torch.float32
    assert (near - exact).abs().mean() < 0.05 * exact.abs().mean()
    assert (streaming - exact[:, 3:]).abs().mean() < 0.05 * exact.abs().mean()


def test_what_does_not_fit_is_refused(model):
    with pytest.raises(MotionloomError, match="should hold 11 numbers"):
        model(observed(1, 3, 12))
    with pytest.raises(MotionloomError, match="even number of channels"):
        GptShape(layers=1, width=30, heads=4, mlp=8)
    with pytest.raises(MotionloomError, match="window"):
        GptShape(layers=1, width=32, heads=4, mlp=8, window=1)
