"""Permits and open files, with a kernel of our own."""

from __future__ import annotations

import resource
import warnings
from dataclasses import dataclass

import pytest

from curator_llm.engine.file_limits import RESERVED_FILES, permits_within_file_limit

INFINITE = resource.RLIM_INFINITY


@dataclass
class Kernel:
    """What the process may open, and whether it may raise that."""

    soft: int
    hard: int
    refuses: bool = False

    def getrlimit(self, _: int) -> tuple[int, int]:
        return self.soft, self.hard

    def setrlimit(self, _: int, limits: tuple[int, int]) -> None:
        if self.refuses:
            raise ValueError("not allowed")
        assert limits[1] == self.hard, "the hard limit cannot be raised again"
        assert self.hard == INFINITE or limits[0] <= self.hard
        self.soft = limits[0]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel(1024, 4096)
    monkeypatch.setattr(resource, "getrlimit", kernel.getrlimit)
    monkeypatch.setattr(resource, "setrlimit", kernel.setrlimit)
    return kernel


@pytest.mark.parametrize(("soft", "hard"), [(1024, 4096), (INFINITE, INFINITE), (512, 512)])
def test_a_limit_that_is_high_enough_is_left_alone(kernel: Kernel, soft: int, hard: int) -> None:
    kernel.soft, kernel.hard = soft, hard
    assert permits_within_file_limit(256) == 256
    assert kernel.soft == soft


@pytest.mark.parametrize("hard", [4096, INFINITE, 2000 + RESERVED_FILES])
def test_the_soft_limit_is_raised_as_far_as_needed(kernel: Kernel, hard: int) -> None:
    kernel.hard = hard
    assert permits_within_file_limit(2000) == 2000
    assert kernel.soft == 2000 + RESERVED_FILES


def test_the_hard_limit_caps_the_permits_with_a_warning_that_says_what_to_do(kernel: Kernel) -> None:
    with pytest.warns(UserWarning, match="max_concurrent_requests=10000.*3840 requests.*ulimit -Hn"):
        assert permits_within_file_limit(10_000) == 4096 - RESERVED_FILES
    assert kernel.soft == 4096


def test_a_kernel_that_refuses_caps_the_permits_at_the_soft_limit(kernel: Kernel) -> None:
    kernel.refuses = True
    with pytest.warns(UserWarning, match="768 requests"):
        assert permits_within_file_limit(2000) == 1024 - RESERVED_FILES


def test_a_limit_is_never_lowered(kernel: Kernel) -> None:
    kernel.soft = 4000
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        permits_within_file_limit(10_000)
    assert kernel.soft == 4096


def test_one_permit_is_always_left(kernel: Kernel) -> None:
    kernel.soft = kernel.hard = 64
    with pytest.warns(UserWarning, match="1 requests"):
        assert permits_within_file_limit(2000) == 1


def test_where_there_is_no_such_limit_nothing_is_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "resource", None)
    assert permits_within_file_limit(10**6) == 10**6
