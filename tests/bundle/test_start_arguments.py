"""What a new network starts from is said beside its definition."""

from collections.abc import Callable
from typing import Any

RUN = "$@sink.append(mtmed.bundle.network('network_def', start={'proj_type': @kind, 'qkv_bias': @bias}))"


def test_arguments_beside_the_definition_reach_the_network_unless_they_are_none(
    run_toy: Callable[..., list[Any]],
) -> None:
    (network,) = run_toy(main={"kind": None, "bias": True, "run": [RUN]})
    assert network.definition["qkv_bias"] is True
    assert "proj_type" not in network.definition
