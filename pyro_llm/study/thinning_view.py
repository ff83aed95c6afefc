"""How many candidates become an answer, as a picture."""

from __future__ import annotations

import pyro

from pyro_llm.answers import answer
from pyro_llm.diagnostics.ancestry import plot_ancestry
from pyro_llm.diagnostics.figure import new_figure
from pyro_llm.diagnostics.plots import plot_answers
from pyro_llm.infer import SMC
from pyro_llm.lm.load import load_lm
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards.load import load_reward
from pyro_llm.study.return_pages import Picture, picture
from pyro_llm.study.return_words import WORDS


def thinning(problem: str, num_particles: int = 32, language: str = "en", seed: int = 0) -> Picture:
    """A problem solved by a particle filter with the embedded models: which candidates lived on, and the tally.

    Args:
        problem: what is asked.
        num_particles: candidates.
        language: of the labels, `"en"` or `"ja"`.
        seed: of the run.
    """
    words = WORDS[language]
    pyro.set_rng_seed(seed)
    posterior = SMC(ReasoningSSM(load_lm("abacus"), load_reward("abacus")), num_particles, progress=False).run(problem)
    figure = new_figure(11, 4)
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    plot_ancestry(posterior, left)
    left.set_title(words["lives"], loc="left", fontsize="medium", pad=18)
    left.set(xlabel=words["step"], ylabel=words["candidate"])
    plot_answers(posterior, right)
    right.set_title(words["tally"], loc="left", fontsize="medium")
    right.set_xlabel(words["probability"])
    marginal = posterior.marginal(answer)
    right.set_yticks(right.get_yticks(), [_label(tick.get_text(), words) for tick in right.get_yticklabels()])
    said = ", ".join(f"{value or words['none']} {marginal[value]:.0%}" for value in marginal.most_probable(3, 0.005))
    return picture(figure, f"{words['tally']}: {said}")


def _label(text: str, words: dict[str, str]) -> str:
    return words["none"] if text == "(no answer)" else text.replace("others", words["others"])
