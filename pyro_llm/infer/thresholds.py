"""From where on a run is ill."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Thresholds:
    r"""What `Posterior.diagnose` holds its figures against; docs/diagnostics.md says where each number comes from.

    Attributes:
        particles: fewer than so many particles of all runs together are too few.
        draws: fewer than so many draws of all Markov chains together are too few.
        ess: the Kish effective sample size of the pooled weights below which estimates are noise: of 5 independent
            draws, the standard error of a probability of one half is 0.22.
        coalescence: all final particles of a run have one ancestor within this share of N resamplings. Of neutral
            particles it takes about 2 N by multinomial resampling (Kingman's coalescent; Koskela, Jenkins, Johansen &
            Spanò 2020), of weighted ones that are resampled at an ESS of N / 2 about N.
        log_evidence_sd: of the log-evidence over runs, four or more. Doucet, Pitt, Deligiannidis & Kohn (2015) have it
            between 1.0 and 1.7 where it is best spent.
        pareto_k: the most that k-hat may be; of S weights it is $\min(1 - 1 / \log_{10} S, 0.7)$ (Vehtari, Simpson,
            Gelman, Yao & Gabry 2024, Section 3.2.4).
        pareto_weights: no k-hat is taken of fewer weights in a run, whose tail would be a handful.
        r_hat: of Markov chains (Vehtari, Gelman, Simpson, Carpenter & Bürkner 2021); with few draws, what independent
            ones exceed once in a thousand.
        chain_ess: of Markov chains together, the smallest bulk effective sample size of a functional: of 50, the
            standard error of a probability of one half is 0.07.
        tolerance: factors are the same if their logarithms differ by no more, 0.1 percent.
        certainty: factors are 1 if their logarithms are no further from 0, 1 percent.
        indifferent_steps: the share of steps at which factors may be the same for all particles, or 1 for all.
        dead: the share of particles that may have weight zero after a step.
        truncated_steps: the share of steps that may end by `max_tokens`.
        unfinished_texts: the share of the posterior that may have come to no end.
        looping_texts: the share of the posterior that may repeat itself at its end.
        swap_rate: the least share of swaps between neighbouring rungs that must be accepted. A ladder is best at 0.234
            (Roberts & Rosenthal 2014); far below, it does not connect.
    """

    particles: int = 10
    draws: int = 10
    ess: float = 5.0
    coalescence: float = 0.25
    log_evidence_sd: float = 1.7
    pareto_k: float = 0.7
    pareto_weights: int = 100
    r_hat: float = 1.01
    chain_ess: float = 50.0
    tolerance: float = 0.001
    certainty: float = 0.01
    indifferent_steps: float = 0.9
    dead: float = 0.9
    truncated_steps: float = 0.25
    unfinished_texts: float = 0.25
    looping_texts: float = 0.1
    swap_rate: float = 0.05
