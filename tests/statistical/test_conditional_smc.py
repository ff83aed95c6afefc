"""The kernels of particle Gibbs, enumerated: max |pi K - pi| < 1e-12.

The real code runs on a source of randomness that walks every branch. All runs of a batch walk at once, each its own
branch, from a plan: which option to take at each choice. Past the end of its plan a run takes the first option, and
the plans for the others are put in a queue.
"""

import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_llm.distributions import LLM, accept
from pyro_llm.handlers.loop import loop
from pyro_llm.handlers.reference import Reference
from pyro_llm.handlers.twist import twist
from pyro_llm.infer.conditional_smc import ConditionalSMC
from pyro_llm.lm import TableLM
from pyro_llm.lm.state import PAD
from pyro_llm.rewards import FunctionReward
from pyro_llm.run_scope import run_scope

THRESHOLDS = pytest.mark.parametrize("ess_threshold", [0, 0.8, 1.0])
ANCESTOR_SAMPLING = pytest.mark.parametrize("ancestor_sampling", [False, True])


class Walk:
    """Choices of several runs at once, by their plans; the probability of each walk, and what it left out."""

    def __init__(self, plans):
        self.plans = [list(plan) for plan in plans]
        self.positions = [0] * len(plans)
        self.probability = [1.0] * len(plans)
        self.left_out = []

    def choose(self, run, weights):
        position, plan = self.positions[run], self.plans[run]
        if position == len(plan):
            first, *others = [option for option, weight in enumerate(weights) if weight > 0]
            self.left_out += [(run, [*plan, option]) for option in others]
            plan.append(first)
        self.positions[run] += 1
        self.probability[run] *= weights[plan[position]] / sum(weights)
        return plan[position]

    def slots(self, log_weights, num_draws):
        weights = torch.softmax(log_weights.double(), -1).tolist()
        # Runs that are not resampled come with weights of exactly 1, and what is drawn for them is not used.
        used = (log_weights != 0).any(-1).tolist()
        drawn = [
            [self.choose(run, row) if used[run] else 0 for _ in range(num_draws)] for run, row in enumerate(weights)
        ]
        return torch.tensor(drawn, dtype=torch.int64).reshape(len(weights), num_draws)


walk = Walk([])


def sample_rows(probabilities, num_runs):
    """A draw for each row `[P, options]`, but for slot 0 of each run: it must not matter, and takes what it gets."""
    size = len(probabilities) // num_runs
    drawn = []
    for row, weights in enumerate(probabilities):
        run, slot = divmod(row, size)
        options = [option for option, weight in enumerate(weights) if weight > 0]
        drawn.append(walk.choose(run, weights) if slot and len(options) > 1 else options[-1])
    return torch.tensor(drawn)


class Enumerated(dist.Categorical):
    def sample(self, sample_shape=()):
        probs = self.probs.double().expand(self.batch_shape + self.probs.shape[-1:])
        return sample_rows(probs.tolist(), len(walk.plans))


class EnumeratedLLM(LLM):
    """Steps of one token."""

    def sample(self, sample_shape=()):
        state = self.state.expand(self.batch_shape)
        rows = []
        for tokens, finished in zip(state.tokens.tolist(), state.finished.tolist(), strict=True):
            written = [token for token in tokens if token != PAD]
            law = [0.0] * self.lm.vocabulary_size if finished else self.lm.log_probs(written).exp().tolist()
            rows.append([*law, float(finished)])
        drawn = sample_rows(rows, len(walk.plans))
        return torch.where(drawn == self.lm.vocabulary_size, PAD, drawn).unsqueeze(-1)


def transition_matrix(model, paths, reference_of, path_of, batch=1000, draw=None, **options):
    """P(next reference | reference), over all paths, from every walk of the kernel; rows sum to 1."""
    global walk
    matrix = torch.zeros(len(paths), len(paths), dtype=torch.float64)
    powers = options.pop("powers", None)
    queue = [(start, []) for start in range(len(paths))]
    while queue:
        todo, queue = queue[:batch], queue[batch:]
        walk = Walk([plan for _, plan in todo])
        kernel = ConditionalSMC(
            model,
            num_runs=len(todo),
            draw_slots=draw or walk.slots,
            **options,
        )
        reference = reference_of([paths[start] for start, _ in todo])
        with torch.no_grad(), run_scope():
            sweep = kernel.sweep((), {}, reference, None if powers is None else powers.repeat(len(todo)))
        for run, (start, _) in enumerate(todo):
            matrix[start, paths.index(path_of(sweep, run))] += walk.probability[run]
        queue += [(todo[run][0], plan) for run, plan in walk.left_out]
    torch.testing.assert_close(matrix.sum(1), torch.ones(len(paths), dtype=torch.float64), rtol=0, atol=1e-12)
    return matrix


INITIAL = torch.tensor([0.6, 0.4], dtype=torch.float64)
TRANSITION = torch.tensor([[0.7, 0.3], [0.2, 0.8]], dtype=torch.float64)
FACTORS = torch.tensor([[0.9, 0.2], [0.2, 0.8], [0.3, 1.1]], dtype=torch.float64)


def factor(t, x, total):
    """Of the whole past, and asymmetric."""
    return FACTORS[t][x] * (1 + total * (t + 1) * 0.25)


def hidden_markov(num_steps, proposals=False, twists=False):
    def model():
        x, total = None, torch.zeros((), dtype=torch.float64)
        for t in range(num_steps):
            law = INITIAL if t == 0 else TRANSITION[x]
            proposal = Enumerated(law.flip(-1)) if proposals else None
            x = pyro.sample(f"x_{t}", Enumerated(law), infer={"proposal": proposal})
            total = total + x
            pyro.factor(f"y_{t}", factor(t, x, total).log())
            if twists:
                twist(f"psi_{t}", 1.5 * x - 0.7 * total)

    paths = list(itertools.product(range(2), repeat=num_steps))
    prior, likelihood = [], []
    for path in paths:
        prior.append(math.prod(float(INITIAL[x] if t == 0 else TRANSITION[path[t - 1], x]) for t, x in enumerate(path)))
        totals = itertools.accumulate(path)
        likelihood.append(
            math.prod(float(factor(t, x, total)) for t, (x, total) in enumerate(zip(path, totals, strict=True)))
        )
    return model, paths, torch.tensor(prior, dtype=torch.float64), torch.tensor(likelihood, dtype=torch.float64)


def chain_reference(paths):
    sites = range(len(paths[0]))
    zeros = torch.zeros(len(paths), dtype=torch.float64)
    return Reference(
        values={f"x_{t}": torch.tensor([path[t] for path in paths]) for t in sites},
        log_probs={f"x_{t}": zeros for t in sites},
        log_factors={f"y_{t}": zeros for t in sites},
    )


def chain_path(sweep, run):
    return tuple(int(sweep.samples[name][run]) for name in sorted(sweep.samples))


def deviation(matrix, target):
    target = target / target.sum()
    return float((target @ matrix - target).abs().max())


@ANCESTOR_SAMPLING
@THRESHOLDS
@pytest.mark.parametrize(("num_particles", "num_steps"), [(2, 3), (3, 2)])
def test_the_posterior_is_invariant(num_particles, num_steps, ess_threshold, ancestor_sampling):
    model, paths, prior, likelihood = hidden_markov(num_steps)
    matrix = transition_matrix(
        model,
        paths,
        chain_reference,
        chain_path,
        num_particles=num_particles,
        ess_threshold=ess_threshold,
        ancestor_sampling=ancestor_sampling,
    )
    assert deviation(matrix, prior * likelihood) < 1e-12
    assert (matrix > 0).all()  # it moves, from everywhere to everywhere
    assert deviation(matrix, prior) > 0.01 and deviation(matrix, prior * likelihood**2) > 0.01


@ANCESTOR_SAMPLING
@pytest.mark.parametrize(("proposals", "twists"), [(True, False), (False, True), (True, True)])
def test_the_posterior_is_invariant_with_proposals_and_twists(proposals, twists, ancestor_sampling):
    model, paths, prior, likelihood = hidden_markov(3, proposals, twists)
    options = {"num_particles": 2, "ess_threshold": 0.95, "ancestor_sampling": ancestor_sampling}
    matrix = transition_matrix(model, paths, chain_reference, chain_path, **options)
    assert deviation(matrix, prior * likelihood) < 1e-12
    plain, *_ = hidden_markov(3)
    without = transition_matrix(plain, paths, chain_reference, chain_path, **options)
    assert (matrix - without).abs().max() > 1e-3  # they do change the kernel


def test_ancestor_sampling_changes_the_kernel_and_the_threshold_does_too():
    model, paths, *_ = hidden_markov(3)
    kernels = [
        transition_matrix(
            model,
            paths,
            chain_reference,
            chain_path,
            num_particles=2,
            ess_threshold=ess_threshold,
            ancestor_sampling=ancestor_sampling,
        )
        for ess_threshold, ancestor_sampling in [(0, True), (0.8, False), (0.8, True), (1.0, False), (1.0, True)]
    ]
    for one, other in itertools.combinations(kernels, 2):
        assert (one - other).abs().max() > 1e-3


def test_sorted_ancestors_are_not_invariant():
    """All N ancestors sorted, and slot 0 overwritten by the reference: what a systematic scheme would do."""

    def sorted_slots(log_weights, count):
        if count == 1:  # the final choice
            return walk.slots(log_weights, 1)
        return walk.slots(log_weights, count + 1).sort(-1).values[:, 1:]

    model, paths, prior, likelihood = hidden_markov(2)
    options = {"num_particles": 3, "ess_threshold": 1.0, "ancestor_sampling": False}
    matrix = transition_matrix(model, paths, chain_reference, chain_path, draw=sorted_slots, **options)
    assert deviation(matrix, prior * likelihood) > 1e-3


@ANCESTOR_SAMPLING
@pytest.mark.parametrize("power", [0.0, 0.3, 0.8])
def test_tempered_posteriors_are_invariant(power, ancestor_sampling):
    model, paths, prior, likelihood = hidden_markov(2)
    matrix = transition_matrix(
        model,
        paths,
        chain_reference,
        chain_path,
        num_particles=2,
        ess_threshold=0.95,
        ancestor_sampling=ancestor_sampling,
        powers=torch.tensor([power], dtype=torch.float64),
    )
    assert deviation(matrix, prior * likelihood**power) < 1e-12
    assert deviation(matrix, prior * likelihood) > 0.01


@ANCESTOR_SAMPLING
def test_a_resumable_loop(ancestor_sampling):
    """The same kernel, to rounding, by a program that re-enters its loop after a resampling."""
    model, paths, prior, likelihood = hidden_markov(3)

    def in_a_loop():
        state = {"x": torch.zeros((), dtype=torch.int64), "total": torch.zeros((), dtype=torch.float64)}
        for t in loop("time", 3, state):
            state["x"] = pyro.sample(f"x_{t}", Enumerated(INITIAL if t == 0 else TRANSITION[state["x"]]))
            state["total"] = state["total"] + state["x"]
            pyro.factor(f"y_{t}", factor(t, state["x"], state["total"]).log())

    options = {"num_particles": 2, "ess_threshold": 1.0, "ancestor_sampling": ancestor_sampling}
    looped = transition_matrix(in_a_loop, paths, chain_reference, chain_path, **options)
    assert deviation(looped, prior * likelihood) < 1e-12
    plain = transition_matrix(model, paths, chain_reference, chain_path, **options)
    torch.testing.assert_close(looped, plain, rtol=0, atol=1e-12)


ROWS = {(): [0.5, 0.3, 0.2], (0,): [0.3, 0.3, 0.4], (1,): [0.2, 0.2, 0.6]}


def text_model(judged_at_the_end):
    """Texts of up to two tokens over "a", "b" and EOS, the program ending when all have."""
    lm = TableLM(lambda tokens: ROWS[tokens[-1:]], ["a", "b", "."], 2)
    step_reward = FunctionReward(lambda text: 0.2 + 0.6 * (len(text) + text.count("b")) % 1.0)
    outcome = FunctionReward(lambda text: 0.9 if text.endswith("b") else 0.3)

    def model():
        state = lm.prompt("")
        for t in range(2):
            state = state.append(pyro.sample(f"step_{t}", EnumeratedLLM(lm, state, max_tokens=1)))
            accept(f"accept_{t}", step_reward, state)
            if state.finished.all():
                break
        if judged_at_the_end:
            accept("outcome", outcome, state)
        return state

    paths, target = [], []
    for tokens, log_prob in lm.enumerate(2):
        texts = [lm.decode(tokens[:end]) for end in range(1, len(tokens) + 1)]
        factors = [1 / (1 + math.exp(-float(log_odds(step_reward, lm, text)))) for text in texts]
        last = 0.9 if texts[-1].endswith("b") else 0.3
        paths.append(tokens)
        target.append(math.exp(log_prob) * math.prod(factors) * (last if judged_at_the_end else 1.0))
    return model, paths, torch.tensor(target, dtype=torch.float64)


def log_odds(reward, lm, text):
    state = lm.prompt("").append(torch.tensor(lm.encode(text), dtype=torch.int64))
    return reward(state)


def text_reference(judged_at_the_end, always_all_sites):
    def reference_of(paths):
        sites = range(max(map(len, paths)) if not always_all_sites else 2)
        zeros = torch.zeros(len(paths), dtype=torch.float64)
        observed = [f"accept_{t}" for t in sites] + ["outcome"] * judged_at_the_end
        return Reference(
            values={f"step_{t}": torch.tensor([[path[t] if t < len(path) else PAD] for path in paths]) for t in sites},
            log_probs={f"step_{t}": zeros for t in sites},
            log_factors=dict.fromkeys(observed, zeros),
        )

    return reference_of


def text_path(sweep, run):
    return tuple(token for token in sweep.returns[run].tokens.tolist() if token != PAD)


@pytest.mark.parametrize(("batch", "judged_at_the_end"), [(1, True), (500, False), (500, True)])
@ANCESTOR_SAMPLING
def test_texts_that_end_early(ancestor_sampling, judged_at_the_end, batch):
    """The reference may be shorter than the other particles, or longer; by itself, it lacks the sites after its end."""
    model, paths, target = text_model(judged_at_the_end)
    matrix = transition_matrix(
        model,
        paths,
        text_reference(judged_at_the_end, always_all_sites=batch > 1),
        text_path,
        batch=batch,
        num_particles=2,
        ess_threshold=1.0,
        ancestor_sampling=ancestor_sampling,
    )
    assert deviation(matrix, target) < 1e-12
