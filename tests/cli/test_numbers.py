"""What `primer float --run --histogram` says of numbers that are counted already."""

import torch

from primer.cli.numbers import WIDTH, drawn, losses, lost
from primer.floats.formats import FORMATS
from primer.lens.exponents import Exponents


def counted(*numbers: float) -> Exponents:
    found = Exponents()
    found.add(torch.tensor(numbers))
    return found


def cells(found: Exponents) -> dict[str, str]:
    lines = [line.split("  ", 1) for line in losses({"x": found}).splitlines()]
    return {
        name.strip(): text.strip()
        for name, text in (line if len(line) > 1 else [*line, ""] for line in lines)
    }


def test_the_largest_number_is_the_edge_not_its_exponent() -> None:
    told = cells(counted(7.9, 500.0, 448.0, 1.0))
    assert told["e2m1"] == "75.0% too large"
    assert told["e4m3"] == "25.0% too large"
    assert told["e5m2"] == "all fit"
    assert lost(counted(6.0, 6.5), FORMATS["e2m1"])["too_large"] == 0.5


def test_half_of_the_smallest_becomes_zero_and_what_is_above_it_does_not() -> None:
    assert lost(counted(2.0**-10, 2.0**-10 * 1.01, 1.0, 2.0**-7), FORMATS["e4m3"]) == {
        "zero": 0.25,
        "subnormal": 0.5,
        "too_large": 0.0,
    }


def test_what_is_rare_is_said_and_what_is_no_number_too() -> None:
    told = cells(counted(*[1.0] * 9999, 1e5, 0.0, 0.0))
    assert told["fp16"] == "<0.1% too large"
    assert told["zero anyway"] == "<0.1%"
    assert "inf or nan" not in told
    told = cells(counted(1.0, torch.inf, torch.nan, torch.inf))
    assert told["inf or nan"] == "75.0%"
    assert "zero anyway" not in told
    assert cells(counted(0.0))["fp16"] == ""
    assert cells(counted(*[1e-9] * 9999, 1.0))["fp16"] == ">99.9% to 0"


def test_exponents_that_are_many_share_columns_and_none_is_left_out() -> None:
    found = {"far": counted(2.0**-140, 2.0**100), "near": counted(1.0)}
    lines = drawn(found).splitlines()
    bars = lines[0].removeprefix("far   ")
    assert bars[0] != " "
    assert bars[-1] != " "
    assert bars.count("█") == 2
    assert len(bars) <= WIDTH
    assert "a column 4 exponents" in lines[-1]
    assert lines[2].split() == [str(e) for e in range(-120, 101, 40)]
    for e, column in ((-120, lines[2].index("-120")), (0, lines[2].index(" 0 ") + 1)):
        assert -140 + 4 * (column - 6) <= e < -140 + 4 * (column - 5)
