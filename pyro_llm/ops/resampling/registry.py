"""The resampling schemes by name."""

from __future__ import annotations

from pyro_llm.errors import OptionError
from pyro_llm.ops.resampling.killing import KILLING
from pyro_llm.ops.resampling.multinomial import MULTINOMIAL
from pyro_llm.ops.resampling.optimal import OPTIMAL
from pyro_llm.ops.resampling.residual import RESIDUAL
from pyro_llm.ops.resampling.scheme import ResamplingScheme
from pyro_llm.ops.resampling.ssp import SSP
from pyro_llm.ops.resampling.stratified import STRATIFIED
from pyro_llm.ops.resampling.systematic import SYSTEMATIC

RESAMPLING_SCHEMES: dict[str, ResamplingScheme] = {
    "systematic": SYSTEMATIC,
    "multinomial": MULTINOMIAL,
    "stratified": STRATIFIED,
    "residual": RESIDUAL,
    "ssp": SSP,
    "killing": KILLING,
    "optimal": OPTIMAL,
}


def resampling_scheme(name: str) -> ResamplingScheme:
    """The scheme of that name: a function `(log_weights [R, N], M, generator) -> Resampled`.

    Raises:
        OptionError: there is no such scheme.
    """
    if name not in RESAMPLING_SCHEMES:
        known = ", ".join(map(repr, RESAMPLING_SCHEMES))
        raise OptionError(f"There is no resampling scheme {name!r}; choose one of {known}.")
    return RESAMPLING_SCHEMES[name]
