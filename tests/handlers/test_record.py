import pytest
import torch

from pyro_llm.errors import DuplicateSiteError, ReplayError
from pyro_llm.handlers.record import Site, SiteRecord


def record_of(*names, may_skip=False):
    record = SiteRecord(may_skip=lambda site: may_skip)
    for name in names:
        assert record.visit(name, "latent") is None
        record.add(Site(name, "latent", torch.zeros(2)))
    record.begin()
    return record


def test_a_replay_finds_its_sites_and_then_new_ones():
    record = record_of("a", "b")
    assert [record.visit(name, "latent").name for name in "ab"] == ["a", "b"]
    assert record.visit("c", "latent") is None


def test_a_name_twice():
    record = record_of("a", "b")
    record.visit("a", "latent")
    with pytest.raises(DuplicateSiteError, match="'a' occurs twice"):
        record.visit("a", "latent")


def test_another_order():
    with pytest.raises(ReplayError, match="'b' was met where site 'a' was met at first"):
        record_of("a", "b").visit("b", "latent")
    record = record_of("a", "b", may_skip=True)
    record.visit("b", "latent")
    with pytest.raises(ReplayError, match="'a' was met later"):
        record.visit("a", "latent")


def test_another_kind():
    with pytest.raises(ReplayError, match="'a' was latent at first and observed on replay"):
        record_of("a").visit("a", "observed")


def test_ending_early():
    record = record_of("a", "b")
    record.visit("a", "latent")
    with pytest.raises(ReplayError, match="the program ended where site 'b'"):
        record.end()
    record = record_of("a", "b", may_skip=True)
    record.visit("a", "latent")
    record.end()


def test_after_a_jump_skipped_names_are_taken():
    record = record_of("a", "b", "c")
    record.jump(2)
    with pytest.raises(DuplicateSiteError):
        record.visit("a", "latent")
    assert record.visit("c", "latent").name == "c"


def test_a_fork_goes_on_by_itself():
    record = record_of("a")
    other = record.fork()
    other.visit("a", "latent")
    other.add(Site("b", "latent", torch.zeros(())))
    assert record.get("b") is None and other.get("b") is not None


def test_changes_in_place_are_noticed():
    site = Site("x", "latent", torch.zeros(3))
    site.check_unchanged()
    site.value += 1
    with pytest.raises(ReplayError, match="'x' in place"):
        site.check_unchanged()
