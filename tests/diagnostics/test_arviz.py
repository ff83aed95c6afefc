import types

import numpy as np
import pytest

from pyro_llm.diagnostics import to_arviz, to_datatree
from pyro_llm.diagnostics.arviz import for_version, import_arviz

arviz = import_arviz()


def test_the_installed_arviz_reads_it(posterior):
    data = to_arviz(posterior)
    np.testing.assert_array_equal(data.posterior["text"], posterior.texts)
    np.testing.assert_array_equal(data.sample_stats["log_weight"], posterior.log_weights)
    assert set(data.smc.data_vars) >= {"ess", "resampled"}


def test_summary_of_equally_weighted_draws(posterior):
    data = posterior.resample(4000).to_arviz({"right": lambda text: "95" in text})
    summary = arviz.summary(data, var_names=["right", "length"], kind="stats", round_to=6)
    expected = posterior.marginal(lambda text: "95" in text)[True]
    # 4,000 independent draws: a standard error below 0.008, so that four of them are 0.032.
    assert summary.loc["right", "mean"] == pytest.approx(expected, abs=0.032)
    assert set(arviz.summary(data).index) >= {"right", "length"}  # strings do not get into its way


def test_the_switch_between_versions(posterior):
    tree = to_datatree(posterior)
    handed_over = []

    class InferenceData:
        @staticmethod
        def from_datatree(tree):
            handed_over.append(tree)
            return "inference data"

    old = types.SimpleNamespace(__version__="0.23.4", InferenceData=InferenceData)
    assert for_version(tree, old) == "inference data"
    assert handed_over == [tree]
    assert for_version(tree, types.SimpleNamespace(__version__="1.0.0")) is tree
    assert for_version(tree, types.SimpleNamespace(__version__="10.2rc1")) is tree
