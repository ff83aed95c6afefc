"""What the readings of a posterior are given, and should not be."""

import pyro
import pyro.distributions as dist
import pytest

from pyro_llm.answers import answer
from pyro_llm.errors import NoTextError, OptionError
from pyro_llm.infer import SMC


def test_arguments_of_another_kind_are_told():
    posterior = SMC(lambda: pyro.sample("trust", dist.Beta(2.0, 2.0)), 4, progress=False).run()
    with pytest.raises(TypeError, match="did you mean of='trust'"):
        posterior.marginal("trust")
    with pytest.raises(TypeError, match=r"no function .* there are 'trust'"):
        posterior.decision("doubt")
    with pytest.raises(OptionError, match=r"Thresholds\(ess=3\)"):
        posterior.diagnose(thresholds={"ess": 3})
    with pytest.raises(OptionError, match="run='x'"):
        posterior.plot("x")
    with pytest.raises(OptionError, match="count=0"):
        posterior.marginal(of="trust").most_probable(0)
    with pytest.raises(NoTextError, match="a string, not a NoneType"):
        answer(None)
