import dataclasses
import json

import h5py
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr

from pyro_llm.diagnostics import load, save
from pyro_llm.diagnostics.datatree import SCHEMA_VERSION
from pyro_llm.errors import NoTextError, OutputPathError, PosteriorFileError
from pyro_llm.infer import SMC, Posterior


def assert_same(loaded, saved):
    assert list(loaded.samples) == list(saved.samples)
    for name, value in saved.samples.items():
        assert loaded.samples[name].dtype == value.dtype
        torch.testing.assert_close(loaded.samples[name], value, rtol=0, atol=0)
    for name in ("log_weights", "log_evidence", "log_prior", "log_likelihood"):
        torch.testing.assert_close(getattr(loaded, name), getattr(saved, name), rtol=0, atol=0)
    assert list(loaded.observed) == list(saved.observed)
    for name, value in saved.observed.items():
        torch.testing.assert_close(loaded.observed[name], value, rtol=0, atol=0)
    for field in dataclasses.fields(saved.stats):
        np.testing.assert_array_equal(getattr(loaded.stats, field.name), getattr(saved.stats, field.name))
        if isinstance(getattr(saved.stats, field.name), np.ndarray):
            assert getattr(loaded.stats, field.name).dtype == getattr(saved.stats, field.name).dtype
    assert loaded.cost == saved.cost
    assert loaded.settings == saved.settings
    assert loaded.has_texts == saved.has_texts
    if saved.has_texts:
        assert loaded.texts.tolist() == saved.texts.tolist()
        assert loaded.written.lengths.tolist() == saved.written.lengths.tolist()
        assert loaded.written.prompt == saved.written.prompt
        if loaded.written.finished is not None:
            assert loaded.written.finished.tolist() == saved.written.finished.tolist()


def test_round_trip_of_texts(posterior, tmp_path):
    posterior.save(tmp_path / "run.nc")
    loaded = Posterior.load(tmp_path / "run.nc")
    assert_same(loaded, posterior)
    assert loaded.returns is None
    assert repr(loaded) == repr(posterior)
    assert [path.name for path in tmp_path.iterdir()] == ["run.nc"]
    loaded.save(tmp_path / "again.nc")
    assert_same(load(tmp_path / "again.nc"), posterior)


def test_round_trip_of_numbers_and_odd_site_names(numeric_posterior, tmp_path):
    save(numeric_posterior, tmp_path / "run.nc")
    loaded = load(tmp_path / "run.nc")
    assert_same(loaded, numeric_posterior)
    torch.testing.assert_close(loaded.returns, numeric_posterior.returns)


def test_a_return_value_that_is_not_saved_is_accounted_for(numeric_posterior, tmp_path):
    numeric_posterior.returns = {"x": numeric_posterior.returns}
    numeric_posterior.save(tmp_path / "run.nc")
    loaded = load(tmp_path / "run.nc")
    assert (loaded.returns, loaded.not_saved) == (None, "dict")
    loaded.resample(3).save(tmp_path / "again.nc")
    for posterior in (loaded, load(tmp_path / "again.nc")):
        with pytest.raises(NoTextError, match="returned a dict, which files do not hold"):
            posterior.marginal()
    numeric_posterior.returns = None
    numeric_posterior.save(tmp_path / "run.nc")
    with pytest.raises(NoTextError, match="returned nothing"):
        load(tmp_path / "run.nc").marginal()


def test_round_trip_without_steps(posterior, tmp_path):
    resampled = posterior.resample(7)
    resampled.save(tmp_path / "run.nc")
    assert_same(load(tmp_path / "run.nc"), resampled)


def test_strings_that_netcdf_refuses(posterior, tmp_path):
    odd = ["nul \0 inside", "trailing nul\0", "lone \ud800 surrogate", "", "漢字 \\boxed{½}\n"]
    posterior.texts[0, : len(odd)] = odd
    posterior.save(tmp_path / "run.nc")
    assert load(tmp_path / "run.nc").texts[0, : len(odd)].tolist() == odd


def test_low_precision_and_dead_particles_survive(posterior, tmp_path):
    posterior.samples["half"] = torch.randn(*posterior.log_weights.shape, 2).bfloat16()
    posterior.samples["truth"] = torch.rand(posterior.log_weights.shape) < 0.5
    posterior.log_weights[0, 0] = -torch.inf
    posterior.save(tmp_path / "run.nc")
    assert_same(load(tmp_path / "run.nc"), posterior)


def test_the_file_is_the_tree_that_others_read(posterior, tmp_path):
    posterior.save(tmp_path / "run.nc")
    with xr.open_datatree(tmp_path / "run.nc", engine="h5netcdf") as tree:
        xr.testing.assert_identical(tree["smc"].to_dataset().load(), posterior.to_datatree()["smc"].to_dataset())


def test_what_was_there_survives_a_failing_write(posterior, tmp_path, monkeypatch):
    (tmp_path / "run.nc").write_text("precious")
    posterior.settings["algorithm"] = "a\0b"  # an attribute that HDF5 refuses
    with pytest.raises(ValueError, match="NUL"):
        posterior.save(tmp_path / "run.nc")
    assert (tmp_path / "run.nc").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["run.nc"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing/run.nc", "no folder"),
        (".", "is a folder"),
        ("file/run.nc", "no folder"),
        ("/proc/run.nc", "Cannot write"),
        ("x" * 300 + ".nc", "too long"),
        ("nul\0.nc", "null"),
    ],
)
def test_unwritable_paths(posterior, tmp_path, path, reason):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputPathError, match=reason):
        posterior.save(tmp_path / path)


def test_files_of_others(posterior, tmp_path):
    with pytest.raises(PosteriorFileError, match="no file"):
        load(tmp_path / "run.nc")
    (tmp_path / "text.nc").write_text("not netCDF")
    with pytest.raises(PosteriorFileError, match="not a netCDF file"):
        load(tmp_path / "text.nc")
    xr.Dataset({"x": ("a", [1.0])}).to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    with pytest.raises(PosteriorFileError, match="no posterior of pyro_llm"):
        load(tmp_path / "other.nc")
    tree = posterior.to_datatree()
    tree.attrs["schema_version"] = SCHEMA_VERSION + 1
    tree.to_netcdf(tmp_path / "newer.nc", engine="h5netcdf")
    with pytest.raises(PosteriorFileError, match="upgrade"):
        load(tmp_path / "newer.nc")
    tree.attrs["schema_version"] = SCHEMA_VERSION
    del tree["sample_stats"]
    tree.to_netcdf(tmp_path / "cut.nc", engine="h5netcdf")
    with pytest.raises(PosteriorFileError, match="sample_stats"):
        load(tmp_path / "cut.nc")


def test_files_from_before_memory_was_counted(tmp_path):
    """Costs that a file does not state are 0."""
    saved = SMC(lambda: pyro.sample("x", dist.Normal(0.0, 1.0)), 3).run()
    saved.cost.peak_memory_bytes = 7
    path = tmp_path / "run.nc"
    saved.save(path)
    assert Posterior.load(path).cost == saved.cost
    with h5py.File(path, "a") as file:
        cost = {name: value for name, value in json.loads(file.attrs["cost"]).items() if not name.startswith("peak_")}
        file.attrs["cost"] = json.dumps(cost)
    loaded = Posterior.load(path)
    assert loaded.cost == dataclasses.replace(saved.cost, peak_memory_bytes=0)


def test_files_from_before_tokens_read_were_counted(tmp_path):
    saved = SMC(lambda: pyro.sample("x", dist.Normal(0.0, 1.0)), 3).run()
    saved.cost.lm_tokens_forwarded, saved.cost.lm_tokens_read, saved.cost.lm_tokens_sampled = 50, 20, 32
    path = tmp_path / "run.nc"
    saved.save(path)
    assert Posterior.load(path).cost == saved.cost
    with h5py.File(path, "a") as file:
        cost = json.loads(file.attrs["cost"])
        del cost["lm_tokens_read"]
        file.attrs["cost"] = json.dumps(cost)
    assert Posterior.load(path).cost == dataclasses.replace(saved.cost, lm_tokens_read=18)


@pytest.mark.parametrize("name", ["run.txt", "run.json", "run.nc.gz"])
def test_endings_that_promise_another_format(posterior, tmp_path, name):
    with pytest.raises(OutputPathError, match="written as netCDF"):
        posterior.save(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["run", "run.NC", "run.h5"])
def test_endings_that_are_right(posterior, tmp_path, name):
    posterior.save(tmp_path / name)
    assert_same(load(tmp_path / name), posterior)


def test_files_of_schema_1(posterior, tmp_path):
    """Sites of tokens were among the others, whether texts are finished was not kept, nor the order of sites."""
    tree = posterior.to_datatree()
    before = tree["posterior"].dataset.drop_vars(["log_reward", "log_probability"])
    tree["posterior"] = xr.DataTree(before.merge(tree["tokens"].dataset.drop_vars("finished")))
    del tree["tokens"], tree.attrs["sites"]
    tree.attrs["schema_version"] = 1
    tree.to_netcdf(tmp_path / "old.nc", engine="h5netcdf")
    loaded = load(tmp_path / "old.nc")
    assert_same(loaded, posterior)
    assert loaded.written.finished is None
    assert "unfinished texts, share" not in loaded.diagnose().figures


def _replace(group, name, change):
    def damage(file):
        values = change(file[group][name][...])
        file[group][name][...] = values

    return damage


def _attribute(name, value):
    return lambda file: file.attrs.create(name, value)


@pytest.mark.parametrize(
    "damage",
    [
        _replace("smc", "ancestor", lambda values: values + 16),
        _replace("smc", "ancestor", lambda values: values - 1),
        _attribute("settings", "[1]"),
        _attribute("settings", "{"),
        _attribute("cost", '{"seconds": "long"}'),
        _attribute("cost", '{"cents": 3}'),
        _attribute("prompt", "3"),
        _attribute("schema_version", "two"),
        lambda file: file["tokens"]["step_0"].attrs.modify("dtype", "nothing"),
        lambda file: file["sample_stats"].pop("log_weight"),
    ],
)
def test_damaged_files(posterior, tmp_path, damage):
    path = tmp_path / "run.nc"
    posterior.save(path)
    with h5py.File(path, "a") as file:
        damage(file)
    with pytest.raises(PosteriorFileError, match=r"run\.nc"):
        load(path)


def test_what_is_no_path(posterior):
    with pytest.raises(OutputPathError, match="Cannot write to '3'"):
        posterior.save(3)
    with pytest.raises(PosteriorFileError, match="not 3"):
        load(3)
