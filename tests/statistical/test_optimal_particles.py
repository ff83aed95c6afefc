"""With the optimal twist and proposal every run has log Z-hat = log Z, to 1e-10: no sampling error is left.

By the locally optimal proposal, by other language models and by look-ahead, E[Z-hat] = Z and the error falls.
"""

import functools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_llm.distributions import LLM, NextToken, accept
from pyro_llm.handlers.loop import loop
from pyro_llm.handlers.twist import twist
from pyro_llm.infer import SMC, AdaptiveTempering
from pyro_llm.lm import PAD, TableLM
from pyro_llm.rewards import FunctionReward

SLOPE, STATE_NOISE, OBSERVATION_NOISE = 0.9, 0.5, 0.3
OBSERVATIONS = torch.tensor([0.3, 1.1, 0.8, 2.1, 2.4, 1.9], dtype=torch.float64)
T = len(OBSERVATIONS)


def kalman():
    """Log-evidence, and the mean of the last state."""
    mean, variance, log_evidence = 0.0, STATE_NOISE**2, 0.0
    for t, y in enumerate(OBSERVATIONS.tolist()):
        if t > 0:
            mean, variance = SLOPE * mean, SLOPE**2 * variance + STATE_NOISE**2
        innovation = variance + OBSERVATION_NOISE**2
        log_evidence -= 0.5 * (math.log(2 * math.pi * innovation) + (y - mean) ** 2 / innovation)
        mean, variance = mean + variance / innovation * (y - mean), (1 - variance / innovation) * variance
    return log_evidence, mean


LOG_EVIDENCE, LAST_MEAN = kalman()


def backward_information(horizon):
    """For each t, (a, b, c) of log p(y_t, ..., y_{t + horizon} | x_t) = -a x^2 / 2 + b x + c."""
    information = []
    for t in range(T):
        a = b = c = 0.0
        for y in reversed(OBSERVATIONS[t : t + horizon + 1].tolist()):
            if a:  # integrate over the state after
                scaled = STATE_NOISE**2 * (1 / STATE_NOISE**2 + a)
                c += 0.5 * b**2 * STATE_NOISE**2 / scaled - 0.5 * math.log(scaled)
                a, b = a * SLOPE**2 / scaled, b * SLOPE / scaled
            a, b = a + 1 / OBSERVATION_NOISE**2, b + y / OBSERVATION_NOISE**2
            c -= 0.5 * (math.log(2 * math.pi * OBSERVATION_NOISE**2) + y**2 / OBSERVATION_NOISE**2)
        information.append((a, b, c))
    return information


def conjugate(information):
    """The proposal that is in proportion to the transition and exp(-a x^2 / 2 + b x)."""
    a, b, _ = information

    def proposal(transition):
        precision = 1 / STATE_NOISE**2 + a
        return dist.Normal((transition.loc / STATE_NOISE**2 + b) / precision, precision**-0.5)

    return proposal


def step(t, x, horizon, strength=0.0):
    loc = torch.zeros((), dtype=torch.float64) if t == 0 else SLOPE * x
    infer = {} if horizon is None else {"proposal": conjugate(backward_information(horizon)[t])}
    x = pyro.sample(f"x_{t}", dist.Normal(loc, STATE_NOISE), infer=infer)
    pyro.sample(f"y_{t}", dist.Normal(x, OBSERVATION_NOISE), obs=OBSERVATIONS[t])
    if strength:
        twist(f"psi_{t}", lambda: strength * log_psi(t, x))
    return x


def log_psi(t, x):
    """log p(y_{t+1}, ..., y_T | x_t)."""
    if t + 1 == T:
        return 0.0
    a, b, c = backward_information(T)[t + 1]
    scaled = STATE_NOISE**2 * (1 / STATE_NOISE**2 + a)
    mean = SLOPE * x
    quadratic = (mean / STATE_NOISE**2 + b) ** 2 * STATE_NOISE**2 / scaled - mean**2 / STATE_NOISE**2
    return c + 0.5 * quadratic - 0.5 * math.log(scaled)


def linear_gaussian(horizon, strength=0.0):
    """Proposals that know so many observations beyond the next, None for none; twists of a power of the optimal one."""
    x = None
    for t in range(T):
        x = step(t, x, horizon, strength)
    return x


def in_a_loop(horizon, strength=0.0):
    state = {"x": torch.tensor(0.0, dtype=torch.float64)}
    for t in loop("time", T, state):
        state["x"] = step(t, state["x"], horizon, strength)
    return state["x"]


@pytest.mark.parametrize("ess_threshold", [0, 0.5, 1.0])
@pytest.mark.parametrize("model", [linear_gaussian, in_a_loop])
def test_optimal_twist_and_proposal_of_the_linear_gaussian_model(model, ess_threshold):
    smc = SMC(model, 4, num_runs=50, ess_threshold=ess_threshold, progress=False)
    posterior = smc.run(T, strength=1.0)
    assert posterior.stats.resampled[:, :-1].all() == (ess_threshold == 1)
    exact = torch.full((50,), LOG_EVIDENCE, dtype=torch.float64)
    torch.testing.assert_close(posterior.log_evidence, exact, rtol=0, atol=1e-10)
    torch.testing.assert_close(posterior.ess(), torch.full((50,), 4.0).double())


def test_optimal_scalar_particles():
    posterior = SMC(linear_gaussian, 3, num_runs=2, ess_threshold=1.0, particles="scalar", progress=False).run(T, 1.0)
    exact = torch.full((2,), LOG_EVIDENCE, dtype=torch.float64)
    torch.testing.assert_close(posterior.log_evidence, exact, rtol=0, atol=1e-10)


@pytest.mark.parametrize("resampling", ["systematic", "multinomial"])
@pytest.mark.parametrize("strength", [-0.3, 0.5, 1.0])
def test_any_twist(strength, resampling, assert_mean, assert_posterior_mean):
    """Null: E[Z-hat] = Z and the filtered mean, even by a twist that misleads. 4,000 runs; false alarms 1.3e-4."""
    options = {"num_runs": 4000, "ess_threshold": 0.7, "resampling": resampling, "progress": False}
    posterior = SMC(linear_gaussian, 10, **options).run(horizon=0, strength=strength)
    assert_mean((posterior.log_evidence - LOG_EVIDENCE).exp(), 1.0)
    assert_posterior_mean(posterior, posterior.returns, LAST_MEAN)
    untwisted = SMC(linear_gaussian, 10, **options).run(horizon=0)
    assert (posterior.log_evidence.std() < untwisted.log_evidence.std()) == (strength > 0)


@pytest.mark.parametrize("ess_threshold", [0, 0.5, 1.0])
@pytest.mark.parametrize("num_particles", [1, 2, 10])
def test_locally_optimal_proposal(num_particles, ess_threshold, assert_mean, assert_posterior_mean):
    """Null: E[Z-hat] = Z and the filtered mean. 2,000 runs, two comparisons: false alarms 1.3e-4 a case."""
    options = {"num_runs": 2000, "ess_threshold": ess_threshold, "progress": False}
    posterior = SMC(linear_gaussian, num_particles, **options).run(horizon=0)
    assert_mean((posterior.log_evidence - LOG_EVIDENCE).exp(), 1.0)
    assert_posterior_mean(posterior, posterior.returns, LAST_MEAN)
    from_the_program = SMC(linear_gaussian, num_particles, **options).run(horizon=None)
    assert posterior.log_evidence.std() < 0.8 * from_the_program.log_evidence.std()


def next_observation(name, transition):
    """The optimal first-stage weight: p(y_t | x_{t-1})."""
    scale = (STATE_NOISE**2 + OBSERVATION_NOISE**2) ** 0.5
    return dist.Normal(transition.loc, scale).log_prob(OBSERVATIONS[int(name.removeprefix("x_"))])


@pytest.mark.parametrize("particles", ["vectorized", "scalar"])
def test_auxiliary_particle_filter(particles, assert_mean, assert_posterior_mean):
    """Fully adapted (Pitt & Shephard 1999), so even weights always. Null: E[Z-hat] = Z; false alarms 1.3e-4."""
    num_runs = 2000 if particles == "vectorized" else 60
    options = {"num_runs": num_runs, "ess_threshold": 1.0, "particles": particles, "progress": False}
    posterior = SMC(linear_gaussian, 5, look_ahead=next_observation, **options).run(horizon=0)
    # After a step, a particle's weight is the inverse of its first-stage weight times p(y_t | x_{t-1}): 1.
    torch.testing.assert_close(torch.from_numpy(posterior.stats.ess), torch.full((num_runs, T), 5.0).double())
    assert_mean((posterior.log_evidence - LOG_EVIDENCE).exp(), 1.0)
    assert_posterior_mean(posterior, posterior.returns, LAST_MEAN)


VOCABULARY = ["a", "b", "<eos>"]
ROWS = {"": [0.6, 0.25, 0.15], "a": [0.2, 0.5, 0.3], "b": [0.45, 0.35, 0.2]}
EOS, MAX_TOKENS = 2, 4


def conditional(tokens):
    return ROWS[VOCABULARY[tokens[-1]] if tokens else ""]


def acceptance(text):
    return 0.1 + 0.8 * ((3 * text.count("a") + 5 * text.count("b") + 2 * len(text)) % 7) / 7


LM = TableLM(conditional, VOCABULARY, eos_token_id=EOS)
REWARD = FunctionReward(acceptance)


@functools.cache
def future(tokens):
    """Expectation of the product of the factors after those of `tokens`."""
    if len(tokens) == MAX_TOKENS or tokens[-1:] == (EOS,):
        return 1.0
    return sum(p * guided(tokens, token) for token, p in enumerate(conditional(tokens)))


def guided(tokens, token):
    longer = (*tokens, token)
    return acceptance(LM.decode(longer)) * future(longer)


EVIDENCE = future(())
OPTIMAL_LM = TableLM(
    lambda tokens: (
        [p * guided(tokens, token) / future(tokens) for token, p in enumerate(conditional(tokens))]
        if tokens[-1:] != (EOS,) and len(tokens) < MAX_TOKENS
        else [0.3, 0.3, 0.4]
    ),
    VOCABULARY,
    eos_token_id=EOS,
)


def log_future(state):
    rows = state.tokens.reshape(-1, state.tokens.shape[-1]).tolist()
    values = [math.log(future(tuple(token for token in row if token != PAD))) for row in rows]
    return torch.tensor(values, dtype=torch.float64).reshape(state.batch_shape)


def token_by_token(proposal=None, optimal_twist=False):
    state = LM.prompt("say")
    for t in range(MAX_TOKENS):
        infer = {} if proposal is None else {"proposal": proposal(state)}
        state = state.append_token(pyro.sample(f"token_{t}", NextToken(LM, state), infer=infer))
        accept(f"accept_{t}", REWARD, state)
        if optimal_twist:
            twist(f"psi_{t}", lambda state=state: log_future(state))
        if state.finished.all():
            break
    return state


@pytest.mark.parametrize(("particles", "num_runs"), [("vectorized", 50), ("scalar", 3)])
@pytest.mark.parametrize("ess_threshold", [0, 0.5, 1.0])
def test_optimal_twist_and_proposal_of_a_language_model(ess_threshold, particles, num_runs):
    options = {"num_runs": num_runs, "ess_threshold": ess_threshold, "particles": particles, "progress": False}
    smc = SMC(token_by_token, 4, **options)
    posterior = smc.run(lambda state: NextToken(OPTIMAL_LM, state), optimal_twist=True)
    exact = torch.full((num_runs,), math.log(EVIDENCE), dtype=torch.float64)
    torch.testing.assert_close(posterior.log_evidence, exact, rtol=0, atol=1e-10)
    assert posterior.ess().tolist() == pytest.approx([4.0] * num_runs)
    sequences = dict(LM.enumerate(MAX_TOKENS))
    for run, particle in ((0, 0), (1, 3), (2, 1)):
        tokens = tuple(token for token in posterior.returns.tokens[run, particle].tolist() if token != PAD)
        assert posterior.log_prior[run, particle].item() == pytest.approx(sequences[tokens])


def exact_lengths():
    """The posterior probability of each length."""
    lengths = torch.zeros(MAX_TOKENS + 1).double()
    for tokens, log_prob in LM.enumerate(MAX_TOKENS):
        factors = [acceptance(LM.decode(tokens[:end])) for end in range(1, len(tokens) + 1)]
        lengths[len(tokens)] += math.exp(log_prob) * math.prod(factors) / EVIDENCE
    return lengths


PROPOSALS = {
    "another language model": lambda state: NextToken(OPTIMAL_LM, state),
    "another temperature": lambda state: NextToken(LM, state, temperature=2.0),
    "a function": lambda state: lambda prior: NextToken(prior.lm, prior.state, temperature=0.7),
}


@pytest.mark.parametrize(
    ("particles", "num_runs", "proposal"),
    [("vectorized", 2000, proposal) for proposal in PROPOSALS] + [("scalar", 100, "another temperature")],
)
def test_language_models_as_proposals(particles, num_runs, proposal, assert_mean, assert_posterior_mean):
    """Null: E[Z-hat] = Z, and the lengths of the texts. At most six comparisons: false alarms 4e-4 a case."""
    options = {"num_runs": num_runs, "ess_threshold": 0.8, "particles": particles, "progress": False}
    posterior = SMC(token_by_token, 3, **options).run(PROPOSALS[proposal])
    assert_mean(posterior.log_evidence.exp(), EVIDENCE)
    one_hot = torch.nn.functional.one_hot(posterior.returns.lengths, MAX_TOKENS + 1)
    assert_posterior_mean(posterior, one_hot, exact_lengths())


def judged_draft(name, token):
    """A look-ahead that writes the next token, judges it, and throws it away: random, and no less exact."""
    state = token.state.append_token(token.sample())
    return dist.Bernoulli(logits=REWARD(state)).log_prob(torch.ones(()).double()).masked_fill(token.state.finished, 0.0)


@pytest.mark.parametrize(
    "tempering", [None, AdaptiveTempering(ess_target=0.8), AdaptiveTempering(ess_target=1.0, num_steps=2)]
)
@pytest.mark.parametrize("num_particles", [1, 2, 5])
def test_look_ahead_and_tempering_of_a_language_model(num_particles, tempering, assert_mean, assert_posterior_mean):
    """Null: E[Z-hat] = Z, and the lengths of the texts. At most six comparisons: false alarms 4e-4 a case."""
    options = {"num_runs": 2000, "ess_threshold": 0.9, "tempering": tempering, "progress": False}
    posterior = SMC(token_by_token, num_particles, look_ahead=judged_draft, **options).run()
    assert_mean(posterior.log_evidence.exp(), EVIDENCE)
    one_hot = torch.nn.functional.one_hot(posterior.returns.lengths, MAX_TOKENS + 1)
    assert_posterior_mean(posterior, one_hot, exact_lengths())


@pytest.mark.parametrize("particles", ["vectorized", "scalar"])
def test_a_proposal_of_the_same_law_changes_nothing(particles):
    """Not even the cost: its log-probability, which is the site's too, comes from the pass that sampled."""

    def steps(proposed):
        state = LM.prompt("say")
        for t in range(2):
            law = LLM(LM, state, stop="b", max_tokens=2)
            infer = {"proposal": LLM(LM, state, stop="b", max_tokens=2)} if proposed else {}
            state = state.append(pyro.sample(f"step_{t}", law, infer=infer))
            accept(f"accept_{t}", REWARD, state)
        return state

    posteriors = []
    for proposed in (False, True):
        pyro.set_rng_seed(4)
        smc = SMC(steps, 6, num_runs=3, ess_threshold=0.9, particles=particles, progress=False)
        posteriors.append(smc.run(proposed))
    plain, proposed = posteriors
    assert plain.texts.tolist() == proposed.texts.tolist()
    assert torch.equal(plain.log_evidence, proposed.log_evidence)
    assert torch.equal(plain.log_prior, proposed.log_prior)
    assert plain.cost.lm_calls == proposed.cost.lm_calls > 0
    assert plain.cost.lm_tokens_forwarded == proposed.cost.lm_tokens_forwarded
