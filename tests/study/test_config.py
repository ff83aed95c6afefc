import pytest
from pydantic import ValidationError

from pyro_llm.errors import StudyConfigError
from pyro_llm.study import parse_config, read_yaml
from pyro_llm.study.algorithms import algorithm_names
from pyro_llm.study.grid import make_grid, skipped_in_words
from pyro_llm.study.split import DoesNotFit, sizes_for
from pyro_llm.study.variants import resolve_variants
from pyro_llm.study.yaml_file import parse_yaml

FILTER = {"algorithm": "SMC"}
LADDER = {"inverse_temperatures": [1, 0]}
GIBBS = ["num_particles", "num_iterations"]
TWO = {"num_particles": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algoritms": {}}, "unknown key 'algoritms', did you mean 'algorithms'"),
        ({"algorithms": {}}, "algorithms: Dictionary should have at least 1 item"),
        ({"budgets": {"generations": []}}, "budgets.generations: List should have at least 1 item"),
        ({"budgets": {"generations": [0]}}, "budgets are greater than 0"),
        ({"budgets": {"generations": [1.5]}}, "generations are whole numbers"),
        ({"budgets": {"sheep": [1]}}, "budgets.sheep"),
        ({"seeds": [-1]}, "seeds.0: it should be greater than or equal to 0"),
        ({"program": {"max_step": 3}}, "program: unknown key 'max_step', did you mean 'max_steps'"),
        ({"program": {"temperature": 0.0}}, "program: .*temperature must be positive"),
        ({"program": {"emission": "odd"}}, "program.emission: it should be 'bernoulli'"),
        ({"program": {"stop": ""}}, "a stop string is empty"),
        ({"prices": {"hours": 1}}, "unknown price 'hours', did you mean 'hour'"),
        ({"name": "../x"}, "name: String should match"),
        ({"budgets": {"seconds": [1]}, "concurrent": 8}, "budgets: seconds: with concurrent: 8 .*give concurrent: 1"),
        (
            {"budgets": {"dollars": [1]}, "prices": {"hour": 2.0}, "concurrent": 2},
            "budgets: dollars: with concurrent: 2 .*give concurrent: 1",
        ),
    ],
)
def test_a_configuration_that_is_none(raw, changes, message):
    with pytest.raises(StudyConfigError, match=message):
        parse_config(raw(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algorithms": {"a": {"algorithm": "BestOf"}}}, "a: unknown algorithm 'BestOf', did you mean 'BestOfN'"),
        ({"algorithms": {"a": {**FILTER, "ess": 1}}}, "a: unknown option of SMC 'ess'.* ess_threshold"),
        ({"algorithms": {"a": {**FILTER, "ess_threshold": 7}}}, "fits no budget of the study: ess_threshold=7"),
        ({"algorithms": {"a": {**FILTER, "num_runs": 2}}}, r"num_runs is a size.* split: \{num_runs: 2\}"),
        ({"algorithms": {"a": {**FILTER, "split": {"num_run": 2}}}}, "unknown size of SMC 'num_run', did you mean"),
        ({"algorithms": {"a": {"algorithm": "ParticleGibbs"}}}, "say how a budget is divided"),
        ({"algorithms": {"a": {"algorithm": "Greedy"}}, "budgets": {"generations": [2]}}, "fits no budget"),
        ({"budgets": {"generations": [2, 2]}}, "a budget or a seed is given twice"),
        ({"reference": "pf"}, "reference: unknown algorithm 'pf', did you mean 'PF'"),
        ({"reference_variant": "cold"}, "reference_variant: the study has no variants"),
        (
            {"reference_variant": "cld", "variants": {"cold": {}, "hot": {}}},
            "reference_variant: unknown variant 'cld', did you mean 'cold'",
        ),
        ({"budgets": {"lm_tokens": [10]}}, "PF: a budget in lm_tokens .* give num_particles in split"),
        ({"budgets": {"lm_tokens": [1.5]}}, "budgets: lm_tokens=1.5 is no limit"),
        ({"budgets": {"dollars": [1.5]}}, "budgets: dollars=1.5 cannot be counted without prices"),
        ({"variants": {"a": {"problems": {}}}}, "variants: a: unknown key 'problems'"),
        ({"variants": {"a": {"program": {"max_step": 1}}}}, "variants: a: program: unknown key 'max_step'"),
        ({"variants": {"a": {"algorithms": {"PF": {"ess": 1}}}}}, "variants: a: algorithms: PF: unknown option"),
    ],
)
def test_what_does_not_exist_or_fit_is_found_before_anything_runs(raw, changes, message):
    with pytest.raises(StudyConfigError, match=message):
        make_grid(parse_config(raw(**changes)))


def test_budgets_that_are_no_times_go_with_problems_beside_each_other(raw):
    for changes in (
        {"budgets": {"lm_tokens": [9]}, "concurrent": 8},
        {"budgets": {"seconds": [9]}},
        {"budgets": {"dollars": [1]}, "prices": {"lm_input": 2.0}, "concurrent": 8},
        {"budgets": {"generations": [1]}, "prices": {"hour": 2.0}, "concurrent": 8},
    ):
        assert parse_config(raw(**changes)).budgets == changes["budgets"]


def test_the_grid_and_what_is_passed_over(raw):
    config = parse_config(
        raw(
            algorithms={
                "PF": {**FILTER, "tempering": {"ess_target": 0.6}},
                "islands": {**FILTER, "split": {"num_particles": 4}},
                "greedy": {"algorithm": "Greedy"},
            },
            budgets={"generations": [1, 8]},
            seeds=[0, 1],
        )
    )
    cells, skipped = make_grid(config)
    found = [(cell.algorithm, cell.budget, cell.seed, cell.options) for cell in cells if cell.seed == 0]
    tempering = {"tempering": {"ess_target": 0.6}}
    assert found == [
        ("PF", 1, 0, {**tempering, "num_particles": 1}),
        ("PF", 8, 0, {**tempering, "num_particles": 8}),
        ("islands", 8, 0, {"num_particles": 4, "num_runs": 2}),
        ("greedy", 1, 0, {}),
    ]
    assert len(cells) == 8
    assert [(one.algorithm, one.budget) for one in skipped] == [("islands", 1), ("greedy", 8)]


def test_what_one_variant_passes_over_another_may_run(raw):
    """A beam search that is 4 wide does not fit 2 generations, one that is 2 wide does."""
    beam = {"beam": {"algorithm": "BeamSearch"}}
    variants = {"wide": {}, "narrow": {"algorithms": {"beam": {"beam_width": 2}}}}
    config = parse_config(raw(algorithms={**raw()["algorithms"], **beam}, budgets={"generations": [2, 4]}))
    cells, skipped = make_grid(config.model_copy(update={"variants": variants}))
    ran = {(cell.variant, cell.budget) for cell in cells if cell.algorithm == "beam"}
    assert ran == {("wide", 4), ("narrow", 2), ("narrow", 4)}
    assert [(one.variant, one.algorithm, one.budget) for one in skipped] == [("wide", "beam", 2)]
    (told,) = skipped_in_words(skipped, variants)
    assert told.startswith("wide: beam was not run with 2 generations: ")
    (shared,) = skipped_in_words(make_grid(config.model_copy(update={"variants": {"a": {}, "b": {}}}))[1], ["a", "b"])
    assert shared.startswith("beam was not run with 2 generations: ")


def test_the_reference_variant_is_in_no_key(raw):
    variants = {"cold": {}, "hot": {"program": {"temperature": 2.0}}}
    plain, named = (
        make_grid(parse_config(raw(variants=variants, **more)))[0] for more in ({}, {"reference_variant": "hot"})
    )
    assert plain == named


def test_keys_and_seeds(raw):
    from pyro_llm.study.problem import Problem

    def keys(problem=Problem("1+1", "2", "a"), **changes):  # noqa: B008
        return [cell.key(problem) for cell in make_grid(parse_config(raw(**changes)))[0]]

    assert keys() == keys()
    assert len(set(keys())) == 4
    for changes in (
        {"seeds": [1]},
        {"lm": "other"},
        {"reward": {"load": "abacus", "aggregation": "prod"}},
        {"program": {"max_steps": 3}},
        {"problem": Problem("1+1", "3", "a")},
        {"problem": Problem("1+ 1", "2", "a")},
        {"algorithms": {"PF": {**FILTER, "ess_threshold": 0.4}, "IS": {**FILTER, "ess_threshold": 0}}},
    ):
        assert not set(keys()) & set(keys(**changes))
    cells, _ = make_grid(parse_config(raw(seeds=[0, 1])))
    seeds = {(cell.seed, problem): cell.seed_of(Problem("", "", problem)) for cell in cells for problem in "ab"}
    assert len(set(seeds.values())) == 4


def test_variants_change_parts_and_take_entries_away(raw):
    config = parse_config(
        raw(
            variants={
                "plain": {},
                "hot": {"program": {"temperature": 2.0}, "algorithms": {"IS": None}},
                "r": {"reward": "x"},
            }
        )
    )
    resolved = resolve_variants(config)
    assert [(one.program.temperature, list(one.algorithms), one.reward.load) for one in resolved.values()] == [
        (1.0, ["PF", "IS"], "abacus"),
        (2.0, ["PF"], "abacus"),
        (1.0, ["PF", "IS"], "x"),
    ]
    assert resolved["hot"].program.max_tokens == 3
    assert len(make_grid(config)[0]) == 2 * (2 + 1 + 2)


@pytest.mark.parametrize(
    ("generations", "sizes", "fixed", "options", "warmup", "found"),
    [
        (16, ["num_particles", "num_runs"], {"num_runs": 4}, {}, 0, {"num_particles": 4, "num_runs": 4}),
        (24, GIBBS, {"num_iterations": 3}, {}, 0, {"num_particles": 8, "num_iterations": 3}),
        (24, GIBBS, {"num_iterations": 2}, {}, 1, {"num_particles": 8, "num_iterations": 2}),
        (64, GIBBS, {"num_particles": 4}, {"num_rungs": 4}, 1, {"num_particles": 4, "num_iterations": 3}),
        (16, GIBBS, {"num_particles": 2}, {"inverse_temperatures": [1, 0]}, 1, {"num_iterations": 3, **TWO}),
        (8, GIBBS, {"num_particles": 1}, LADDER, 0, {"num_particles": 1, "num_iterations": 4}),
        (6, ["num_particles"], {"num_particles": 6}, {}, 0, {"num_particles": 6}),
    ],
)  # fmt: skip
def test_sizes_multiply_to_the_budget(generations, sizes, fixed, options, warmup, found):
    assert sizes_for(generations, sizes, fixed, options, warmup) == found


@pytest.mark.parametrize(
    ("generations", "fixed", "warmup"),
    [(6, {"num_particles": 4}, 0), (4, {"num_particles": 4}, 1), (2, {"num_particles": 4}, 0)],
)
def test_budgets_that_cannot_be_divided(generations, fixed, warmup):
    with pytest.raises(DoesNotFit):
        sizes_for(generations, ["num_particles", "num_iterations"], fixed, {}, warmup)


def test_every_algorithm_can_be_studied(raw):
    for name in algorithm_names():
        split = {"num_particles": 2} if name in ("ParticleGibbs", "ParallelTempering") else {}
        options = {"num_rungs": 2, "warmup": 0} if name == "ParallelTempering" else {}
        entry = {"algorithm": name, "split": split, **options}
        cells, _ = make_grid(parse_config(raw(algorithms={"a": entry}, budgets={"generations": [1, 16]})))
        assert cells


def test_yaml(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("name: é\nalgorithms:\n  PF: {algorithm: SMC}\nbudgets: {generations: [1]}\n", "utf-8")
    assert parse_config(read_yaml(path)).algorithms["PF"].algorithm == "SMC"
    for text, message in [
        ("a: 1\nb: [", r"s\.yaml:2: not YAML"),
        ("a: {x: 1}\nb: {y: 1, y: 2}", r"s\.yaml:2: the key 'y' occurs twice"),
        ("- a", "holds no mapping"),
        ("a: !!python/object/apply:os.system [x]", "not YAML: could not determine a constructor"),
    ]:
        path.write_text(text)
        with pytest.raises(StudyConfigError, match=message):
            read_yaml(path)
    with pytest.raises(StudyConfigError, match=r"Cannot read the configuration .*No such file"):
        read_yaml(tmp_path / "none.yaml")
    assert parse_yaml("0.8", "x") == 0.8


def test_a_configuration_is_not_changed(config):
    with pytest.raises(ValidationError, match="frozen"):
        config().name = "x"
