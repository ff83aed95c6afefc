"""The tree against one that is built from the lineages of all slots, one by one."""

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from pyro_llm.diagnostics.report import report_data
from pyro_llm.diagnostics.report.data import _trees
from pyro_llm.diagnostics.report.genealogy import Labels, genealogy, rewards


def lineages_of_slots(stats, run, step):
    """The slots from the first step to each slot of this one."""
    slots = np.arange(stats.ancestors.shape[-1])
    path = [slots]
    for earlier in reversed(range(step)):
        slots = stats.ancestors[run, earlier][slots]
        path.insert(0, slots)
    return np.stack(path, -1)


def check(posterior, run, nodes, texts):
    """All columns of a tree, node by node, from the texts along the lineage of each slot."""
    stats = posterior.stats
    names, expected = stats.texts.values[run], {}
    final = posterior.log_weights[run].exp().numpy()
    for step in range(stats.num_steps):
        for slot, path in enumerate(lineages_of_slots(stats, run, step)):
            key = tuple(names[earlier, place] for earlier, place in enumerate(path))
            node = expected.setdefault(key, defaultdict(float))
            node["particles"] += 1
            node["weight"] += np.exp(stats.log_weights[run, step, slot])
            node["rewards"] = [*node.get("rewards", []), stats.log_factor[run, step, slot]]
            for particle in np.flatnonzero(stats.lineages[run, step] == slot):
                node["survivors"] += 1
                node["final"] += final[particle]
    assert len(nodes) == len(expected)
    seen = []
    for node in range(len(nodes)):
        key, at = (), node
        while at >= 0:
            key, at = (texts[nodes.text[at]], *key), nodes.parent[at]
        seen.append(key)
        assert len(key) == nodes.step[node] + 1
        for name in ("particles", "weight", "survivors", "final"):
            assert getattr(nodes, name)[node] == pytest.approx(expected[key][name]), (name, key)
        if key[-1]:
            log_odds = [factor - np.log1p(-np.exp(factor)) for factor in expected[key]["rewards"]]
            assert nodes.reward[node] == pytest.approx(np.mean(log_odds))
            assert not nodes.idle[node]
        else:
            assert nodes.idle[node]
            assert nodes.reward[node] is None
    assert len(set(seen)) == len(seen)


def test_every_node_is_the_particles_of_one_text_and_ancestor(make_run):
    posterior = make_run(num_runs=2, num_particles=20, num_steps=7, words=("a", "b", ""))
    data = report_data(posterior)
    assert data.colour == "log-odds"
    for tree in data.trees:
        check(posterior, tree.run, tree.nodes, data.texts)
    assert any(not alive for alive in data.trees[0].nodes.survivors), "some branch dies out"


def test_a_real_run(posterior):
    """Of a small language model; see `make_posterior`. A finished text is judged no more."""
    data = report_data(posterior)
    for tree in data.trees:
        check(posterior, tree.run, tree.nodes, data.texts)
    assert max(tree.nodes.particles[0] for tree in data.trees) > 1, "equal first steps are one node"


@pytest.mark.parametrize("max_nodes", [4000, 100, 30])
def test_shares_sum_to_one_in_each_step(make_run, max_nodes):
    posterior = make_run(num_particles=50, num_steps=9)
    texts = np.arange(posterior.stats.texts.values.size).reshape(posterior.stats.texts.values.shape)
    nodes = genealogy(posterior, 0, Labels(texts, None, -1), rewards(posterior)[0], max_nodes)
    assert len(nodes) <= max_nodes + 9
    for step in range(9):
        members = [node for node in range(len(nodes)) if nodes.step[node] == step]
        assert sum(nodes.weight[node] for node in members) == pytest.approx(1)
        assert sum(nodes.final[node] for node in members) == pytest.approx(1)
        assert sum(nodes.particles[node] for node in members) == 50
        assert sum(nodes.survivors[node] for node in members) == 50
        assert sum(nodes.rest[node] for node in members) == (max_nodes < 450)
        assert all(nodes.step[nodes.parent[node]] == step - 1 for node in members if nodes.parent[node] >= 0)
    kept = [max(nodes.weight[node], nodes.final[node]) for node in range(len(nodes)) if not nodes.rest[node]]
    if max_nodes == 30:
        assert min(kept) > np.median(np.exp(posterior.stats.log_weights))


def test_without_texts_each_slot_is_a_node(numeric_posterior):
    data = report_data(numeric_posterior)
    assert [len(tree.nodes) for tree in data.trees] == [8, 8]
    assert data.colour == "log-factor"
    assert data.trees[1].nodes.reward == pytest.approx(numeric_posterior.stats.log_factor[1, 0].tolist())
    assert data.trees[0].nodes.text == [None] * 8


def test_texts_of_the_end_alone(make_run):
    posterior = make_run(num_particles=5, num_steps=3)
    posterior.stats = replace(posterior.stats, texts=None, log_weights=None)
    data = report_data(posterior)
    nodes = data.trees[0].nodes
    last = set(zip(posterior.stats.ancestors[0, 1], posterior.texts[0], strict=True))
    assert (data.exact_widths, len(nodes)) == (False, 10 + len(last))
    assert nodes.weight[:5] == pytest.approx([0.2] * 5)
    assert {data.texts[nodes.text[node]] for node in range(10, len(nodes))} == set(posterior.texts.flat)


def test_sure_rewards_have_a_colour(make_run):
    posterior = make_run(num_particles=3, num_steps=1)
    posterior.stats.log_factor[0, 0] = [0.0, -np.inf, np.log(0.5)]
    colours, are_log_odds = rewards(posterior)
    assert are_log_odds
    assert colours[0, 0] == pytest.approx([40, -40, 0])
    posterior.stats.log_factor[0, 0] = [0.3, -0.2, 0.0]
    assert not rewards(posterior)[1], "above 1 it is no probability"


def test_a_node_knows_the_answers_it_leads_to(make_run):
    posterior = make_run(num_particles=30, num_steps=4)
    trees, _, answers, _ = _trees(posterior)
    nodes, final = trees[0].nodes, posterior.log_weights[0].exp().numpy()
    slots, texts = posterior.stats.lineages[0], posterior.texts[0]
    for answer, weight in nodes.leads_to[0]:
        first = [
            share for particle, share in enumerate(final)
            if posterior.stats.texts.values[0, 0, slots[0, particle]] == posterior.stats.texts.values[0, 0, 0]
            and ("answer" in texts[particle]) == (answers[answer] == "7")
        ]  # fmt: skip
        assert weight == pytest.approx(sum(first))
    assert sum(weight for _, weight in nodes.leads_to[0]) == pytest.approx(nodes.final[0])
