"""What limits take, and what they refuse."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from mintkey import Model, ModelConfig, Store, connect
from mintkey.attributes import StringAttribute
from mintkey.errors import ConfigurationError
from mintkey.rate_limit import AdaptiveRate, FixedRate

NO_RATES = [0, 0.0, -1, -0.5, float("nan"), float("inf"), float("-inf"), 10**400, True, False, "10", Decimal(10), [10]]
GOOD: dict[str, Any] = {"max_rcu": 10, "max_wcu": 10, "min_rcu": 2, "min_wcu": 2}


@pytest.mark.parametrize("value", NO_RATES, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("name", ["rcu", "wcu", "burst"])
def test_a_fixed_rate_takes_positive_numbers_alone(name, value):
    with pytest.raises(ConfigurationError, match=f"^{name}= takes a ") as raised:
        FixedRate(**{name: value})
    assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize("value", NO_RATES, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("name", GOOD)
def test_an_adaptive_rate_takes_positive_numbers_alone(name, value):
    with pytest.raises(ConfigurationError, match=f"^{name}= takes a ") as raised:
        AdaptiveRate(**{**GOOD, name: value})
    assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize("name", ["max_rcu", "min_rcu", "min_wcu"])
def test_an_adaptive_rate_without_limit_is_one_of_writing_alone(name):
    with pytest.raises(ConfigurationError, match=f"^{name}= takes a positive number; only max_wcu= may be None"):
        AdaptiveRate(**{**GOOD, name: None})


def test_an_adaptive_rate_needs_its_greatest():
    with pytest.raises(TypeError, match="max_rcu"):
        AdaptiveRate(max_wcu=10)  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", ["rcu", "wcu"])
def test_the_least_rate_is_not_above_the_greatest(kind):
    with pytest.raises(ConfigurationError, match=f"min_{kind}=11 exceeds max_{kind}=10: pass a smaller"):
        AdaptiveRate(**{**GOOD, f"min_{kind}": 11})


def test_what_is_left_open():
    fixed = FixedRate()
    assert (fixed.current_rcu, fixed.current_wcu) == (None, None)
    assert repr(fixed) == "FixedRate(rcu=None, wcu=None, burst=None)"
    adaptive = AdaptiveRate(max_rcu=100)
    assert (adaptive.current_rcu, adaptive.current_wcu) == (50, None)
    assert repr(adaptive) == "AdaptiveRate(max_rcu=100, max_wcu=None, min_rcu=1, min_wcu=1)"


def test_fractions_and_tiny_rates_are_rates():
    assert FixedRate(rcu=0.5, wcu=1e-300).current_wcu == 1e-300


@pytest.mark.parametrize("limit", [10, "fixed", FixedRate, {"rcu": 10}], ids=repr)
def test_a_store_takes_limits_alone(limit):
    for opens in (connect, Store):
        with pytest.raises(ConfigurationError, match="rate_limit= takes a FixedRate or an AdaptiveRate from mintkey"):
            opens("sqlite://", rate_limit=limit)


def test_a_model_takes_limits_alone():
    with pytest.raises(ConfigurationError, match="rate_limit= takes a FixedRate or an AdaptiveRate from mintkey"):

        class Order(Model):
            model_config = ModelConfig(rate_limit=10)  # type: ignore[arg-type]
            id = StringAttribute(partition_key=True)
