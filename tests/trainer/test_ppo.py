from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal

from trainer.env import Step, View
from trainer.networks import ActorCritic, NetworkOptions, Normaliser
from trainer.ppo import PpoOptions, Rollout, advantages, collect, update

OPTIONS = PpoOptions(steps=8, epochs=4, minibatches=2, learning_rate=3e-3)
SMALL = NetworkOptions(hidden=(16,), deviation=0.5)


@dataclass
class Corridor:
    """A point that should be kept at zero: it moves by its action, and episodes last eight steps."""

    count: int = 64
    contract: Any = None
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def __post_init__(self) -> None:
        self.place, self.time = self.rng.normal(0, 1, (self.count, 1)), np.zeros(self.count, int)
        self.ended: Any = None

    def view(self) -> View:
        seen = self.place.astype(np.float32)
        return View(seen, np.ones((self.count, 1), np.float32), np.zeros((self.count, 1)))

    def step(self, action: np.ndarray) -> Step:
        self.place = self.place + action
        self.time += 1
        failed = np.abs(self.place[:, 0]) > 3
        finished = (self.time == 8) & ~failed
        earned = 1 - np.minimum(np.abs(self.place[:, 0]), 3.0)
        over = failed | finished
        self.ended = np.zeros(self.count, int), self.time.copy(), np.zeros(self.count, int)
        self.place[over], self.time[over] = self.rng.normal(0, 1, (int(over.sum()), 1)), 0
        return Step(earned, {"near": earned}, failed, finished)


def network(seed: int = 0, size: int = 2, actions: int = 1) -> ActorCritic:
    return ActorCritic(size, actions, SMALL, torch.Generator().manual_seed(seed))


def rollout(steps: int = 12, count: int = 5) -> Rollout:
    rng = np.random.default_rng(0)
    reward, value = torch.tensor(rng.normal(size=(steps, count))), torch.tensor(rng.normal(size=(steps + 1, count)))
    nothing = torch.zeros(steps, count)
    ended = torch.tensor(rng.random((steps, count)) < 0.2)
    return Rollout(nothing, nothing, nothing, value.float(), reward.float(), ended, {}, (np.zeros(0),) * 4)


def test_advantages_are_the_sum_they_are_defined_by():
    """Â_t = Σ_k (γλ)^k δ_(t+k), up to the end of the episode."""
    done, result = rollout(), advantages(rollout(), OPTIONS)
    discount, trace = OPTIONS.discount, OPTIONS.trace
    reward, value, ended = done.reward.numpy(), done.value.numpy(), done.ended.numpy()
    for t in range(reward.shape[0]):
        for env in range(reward.shape[1]):
            total = 0.0
            for k in range(t, reward.shape[0]):
                after = 0.0 if ended[k, env] else value[k + 1, env]
                total += (discount * trace) ** (k - t) * (reward[k, env] + discount * after - value[k, env])
                if ended[k, env]:
                    break
            assert float(result[t, env]) == pytest.approx(total, abs=1e-5)


def test_the_normaliser_has_numpys_mean_and_variance():
    rng, seen = np.random.default_rng(0), Normaliser(3)
    parts = [rng.normal(rng.normal(0, 5, 3), rng.uniform(0.1, 9, 3), (n, 3)) for n in (1, 7, 300, 2, 64)]
    for part in parts:
        seen.see(torch.tensor(part))
    everything = np.concatenate(parts)
    assert np.allclose(seen.mean, everything.mean(0))
    assert np.allclose(seen.square, everything.var(0))
    assert int(seen.count) == len(everything)
    small = seen(torch.tensor(everything))
    assert np.allclose(small.mean(0), 0, atol=1e-2)
    assert np.allclose(small.std(0), 1, atol=1e-2)


def test_probabilities_are_a_normal_distributions():
    net, generator = network(actions=4), torch.Generator().manual_seed(1)
    with torch.no_grad():
        net.log_deviation.copy_(torch.tensor([-1.0, 0.0, 0.5, -0.3]))
        mean, action = torch.randn(2, 6, 4, generator=generator)
        truth = Independent(Normal(mean, net.log_deviation.exp()), 1)
        assert torch.allclose(net.log_probability(mean, action), truth.log_prob(action), atol=1e-5)
        assert torch.allclose(net.entropy(), truth.entropy()[0], atol=1e-5)


def test_a_rollout_holds_what_was_done_and_how_likely_it_was():
    net = network()
    done = collect(Corridor(), net, OPTIONS, torch.Generator().manual_seed(0))
    assert done.seen.shape == (8, 64, 2)
    place, moved = done.seen[:, :, 0], done.seen[1:, :, 0] - done.seen[:-1, :, 0]
    on = ~done.ended[:-1]
    assert torch.allclose(moved[on], done.action[:-1, :, 0][on], atol=1e-5)
    with torch.no_grad():
        assert torch.allclose(net.log_probability(net.act(done.seen), done.action), done.log_probability, atol=1e-5)
        assert torch.allclose(net.value(done.seen), done.value[:-1], atol=1e-5)
    assert len(done.attempts[0]) == int(done.ended.sum()) == done.numbers["episodes"]
    assert place.isfinite().all()


def test_an_episode_that_is_merely_over_is_worth_what_would_have_come():
    net = network()
    plain = collect(Corridor(), net, replace(OPTIONS, discount=0.0), torch.Generator().manual_seed(0))
    done = collect(Corridor(), net, OPTIONS, torch.Generator().manual_seed(0))
    finished = done.ended & (torch.arange(8) == 7)[:, None]
    finished &= (plain.reward > -2).logical_and(finished)
    assert finished.any()
    extra = (done.reward - plain.reward)[finished]
    assert torch.allclose(extra, OPTIONS.discount * done.value[:-1][finished], atol=1e-5)
    assert torch.allclose(done.reward[~done.ended], plain.reward[~done.ended])


def test_it_learns_to_stay_where_it_should():
    env, net, generator = Corridor(), network(), torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(net.parameters(), lr=OPTIONS.learning_rate)
    earned = []
    for _ in range(60):
        done = collect(env, net, OPTIONS, generator)
        earned.append(done.numbers["reward"])
        update(net, optimiser, done, OPTIONS, generator)
        with torch.no_grad():
            net.normalise.see(done.seen.flatten(0, 1))
    # Doing nothing earns about 0.2, the best with this noise about 0.6.
    assert np.mean(earned[-5:]) > np.mean(earned[:3]) + 0.3


def test_the_policy_stands_still_once_it_has_moved_far_enough():
    moved = {}
    for limit in (-1.0, 1e-4, 10.0):
        env, net, generator = Corridor(), network(), torch.Generator().manual_seed(0)
        options = replace(OPTIONS, divergence=limit)
        done = collect(env, net, options, generator)
        before = [parameter.detach().clone() for parameter in (*net.actor.parameters(), net.log_deviation)]
        critic = net.critic[0].weight.detach().clone()
        optimiser = torch.optim.Adam(net.parameters(), lr=OPTIONS.learning_rate)
        numbers = update(net, optimiser, done, options, generator)
        after = (*net.actor.parameters(), net.log_deviation)
        moved[limit] = any((a != b).any() for a, b in zip(before, after, strict=True)), numbers["policy_updates"]
        assert (net.critic[0].weight != critic).any()  # the critic goes on
    assert moved[-1.0] == (False, 0)
    assert 0 < moved[1e-4][1] < moved[10.0][1] == OPTIONS.epochs * OPTIONS.minibatches
