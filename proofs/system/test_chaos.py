"""A short run of `cargo xtask chaos`: it kills, counts and compares as intended, and nothing is lost."""

from types import SimpleNamespace

import pytest

import chaos


@pytest.mark.parametrize("name", chaos.SCENARIOS)
def test_nothing_is_lost(name, tmp_path):
    options = SimpleNamespace(messages=400, kills=5, seed=1)
    result = chaos.SCENARIOS[name](tmp_path, options)
    assert (result["lost"], result["waiting"], result["healthy among them"]) == (0, 0, 0), result
    assert result["messages with more than one effect"] == 0, result
    assert result["dead letters"] == {"reject": 8, "output-not-json": 8}
    assert sum(result["kills"].values()) == 5 and result["runs begun"] >= 384 + 24
