"""Greedy takes the most probable value at each site: tokens as greedy decoding does, modes, enumerated supports."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from pyro_llm import zoo
from pyro_llm.distributions import LLM, NextToken
from pyro_llm.distributions.powered_next_token import PoweredNextToken
from pyro_llm.errors import NoModeError
from pyro_llm.infer import Greedy
from pyro_llm.lm import PAD, HFLanguageModel, TableLM
from pyro_llm.models import ConstrainedText, ReasoningSSM
from pyro_llm.rewards import FunctionReward

ROWS = {(): [0.3, 0.4, 0.3], (0,): [0.1, 0.1, 0.8], (1,): [0.5, 0.2, 0.3], (1, 0): [0.35, 0.4, 0.25]}
LM = TableLM(lambda tokens: ROWS.get(tokens, [0.2, 0.2, 0.6]), ["a", "b", "."], eos_token_id=2)
REWARD = FunctionReward(lambda text: 0.5)


def by_hand(max_tokens):
    tokens = ()
    while len(tokens) < max_tokens and tokens[-1:] != (2,):
        row = ROWS.get(tokens, [0.2, 0.2, 0.6])
        tokens = (*tokens, row.index(max(row)))
    return tokens


@pytest.mark.parametrize("options", [{}, {"temperature": 0.3}, {"temperature": 3.0, "top_p": 0.5}, {"top_k": 1}])
@pytest.mark.parametrize("steps", [{"stop": None, "max_tokens": 1}, {"stop": "b", "max_tokens": 3}])
def test_text_is_that_of_greedy_decoding(options, steps):
    model = ReasoningSSM(LM, REWARD, max_steps=6, **steps, **options)
    state = torch.get_rng_state()
    posterior = Greedy(model, progress=False).run("")
    assert torch.equal(torch.get_rng_state(), state)  # nothing was drawn
    assert posterior.decision() == "bab" == LM.decode(by_hand(6))
    assert posterior.cost.lm_tokens_sampled == 4 and posterior.cost.reward_calls == 0
    if not options:
        assert posterior.log_prior.exp().item() == pytest.approx(0.4 * 0.5 * 0.4 * 0.6)


def test_modes_of_batches():
    """Each row its own; finished rows get nothing; the log-probability is that of the law, found without a pass."""
    state = LM.prompt("").append_token(torch.tensor([0, 1, 2]))
    for law in (LLM(LM, state, max_tokens=2, temperature=2.0), LLM(LM, state, stop="a", max_tokens=2)):
        mode = law.mode
        assert mode[:, 0].tolist() == [2, 0, PAD] and mode.shape == (3, 2)
        again = type(law)(LM, state, stop=law.decoding.stop, max_tokens=2, temperature=law.decoding.temperature)
        torch.testing.assert_close(law.log_prob(mode), again.log_prob(mode.clone()))
    assert NextToken(LM, state).mode.tolist() == [2, 0, PAD]
    assert PoweredNextToken(LM, state, alpha=0.1).mode.tolist() == [2, 0, PAD]
    assert NextToken(LM, state).expand((2, 3)).mode.tolist() == [[2, 0, PAD]] * 2


def test_equally_probable_tokens():
    lm = TableLM(lambda tokens: [0.25, 0.25, 0.25, 0.25], ["a", "b", "c", "."], eos_token_id=3)
    assert Greedy(ReasoningSSM(lm, REWARD, max_steps=1, stop=None, max_tokens=5)).run("").decision() == "aaaaa"


def test_constrained_texts():
    """The most probable of the allowed tokens, each time."""
    assert Greedy(ConstrainedText(LM, "(a|b)(b|a)?", max_tokens=3), progress=False).run("").decision() == "ba"


@pytest.fixture(scope="module")
def llama():
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=1024, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, eos_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(zoo.path("abacus", "lm"))
    return HFLanguageModel(LlamaForCausalLM(config).eval(), tokenizer, name="random llama")


@pytest.mark.parametrize("max_tokens", [1, 7, 20])
def test_transformers_generates_the_same(llama, max_tokens):
    model = ReasoningSSM(llama, REWARD, max_steps=20 // max_tokens, stop=None, max_tokens=max_tokens, temperature=0.7)
    state = Greedy(model, progress=False).run("Mia has 3 apples.").returns
    tokens = [token for token in state.tokens[0, 0].tolist() if token != PAD]
    prompt = state.prompt_tokens[None]
    generated = llama.model.generate(
        prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=len(tokens), pad_token_id=1
    )
    assert len(tokens) > 5
    assert generated[0, prompt.shape[1] :].tolist() == tokens


def test_greedy_and_drawn_texts_share_batches_without_mixing(llama):
    """Runs made together: each greedy text is that of a run alone."""
    greedy = Greedy(ReasoningSSM(llama, REWARD, max_steps=2, stop=None, max_tokens=6), progress=False)
    problems = ["Mia has 3 apples.", "Tom", "7 children"]
    together = [posterior.texts.item() for posterior in greedy.run_each(problems, progress=False)]
    assert together == [greedy.run(problem).texts.item() for problem in problems]


class Opaque(dist.TorchDistribution):
    """A distribution that can only be sampled."""

    arg_constraints = {}  # noqa: RUF012

    def sample(self, sample_shape=()):
        return torch.zeros(torch.Size(sample_shape) + self.batch_shape)

    def expand(self, batch_shape, _instance=None):
        return Opaque(torch.Size(batch_shape))


def value_of(distribution):
    return Greedy(lambda: pyro.sample("x", distribution), progress=False).run().samples["x"].squeeze().tolist()


@pytest.mark.parametrize(
    ("distribution", "mode"),
    [
        (dist.Normal(2.0, 1.0), 2.0),
        (dist.Beta(3.0, 2.0), 2 / 3),
        (dist.Categorical(torch.tensor([0.2, 0.5, 0.3])), 1),
        (dist.Bernoulli(0.7), 1.0),
        (dist.Binomial(4, 0.7), 3.0),
        (dist.Delta(torch.tensor(4.0)), 4.0),
        (dist.Normal(torch.tensor([1.0, 2.0]), 1.0).to_event(1), [1.0, 2.0]),
        (dist.Normal(3.0, 1.0).mask(False), 3.0),
        (dist.OneHotCategorical(torch.tensor([0.2, 0.8])), [0.0, 1.0]),
        (dist.BetaBinomial(torch.tensor(30.0), torch.tensor(10.0), total_count=4), 3.0),
    ],
)
def test_modes_of_other_distributions(distribution, mode):
    assert value_of(distribution) == pytest.approx(mode)


@pytest.mark.parametrize("distribution", [Opaque(), dist.FisherSnedecor(1.0, 4.0)])
def test_distributions_without_a_mode(distribution):
    with pytest.raises(NoModeError, match="Site 'x'"):
        value_of(distribution)


def test_modes_in_plates():
    def model():
        with pyro.plate("two", 2):
            pyro.sample("x", dist.Binomial(4, torch.tensor([0.2, 0.7])))

    posterior = Greedy(model, max_plate_nesting=1).run()
    assert posterior.samples["x"].tolist() == [[[1.0, 3.0]]]
