"""Times callables on a GPU: CUDA events around replays of a captured graph, cold L2 cache, interleaved rounds.

A graph leaves out what Python spends on launches; the flush between two runs keeps inputs out of the L2 cache and the
GPU busy while the host enqueues. On a machine without a GPU the same code runs the callables once, for `--rehearse`.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch

WARM_UPS = 3


@dataclass(frozen=True)
class Case:
    """Several ways to compute one thing.

    paths: name -> callable that returns the result; the first is ours. reference: the result in float64, which each
    path's error is taken against. operations, bytes: what the computation needs at least, for the achieved rates.
    bound: the largest relative error with which a path is still the same computation; exact: ours must have none.
    """

    name: str
    sizes: dict[str, int | str]
    paths: dict[str, Callable[[], torch.Tensor]]
    reference: Callable[[], torch.Tensor]
    operations: float
    bytes: float
    bound: float
    exact: bool = False


@dataclass(frozen=True)
class Outcome:
    """error: relative, of each path that ran. refused: why the others did not. microseconds: all rounds of each."""

    case: Case
    error: dict[str, float]
    refused: dict[str, str]
    microseconds: dict[str, list[float]] = field(default_factory=dict)

    def median(self, path: str) -> float:
        return statistics.median(self.microseconds[path])

    def ratio(self, path: str) -> float:
        """How many times as long `path` takes as the first one: median of the rounds' ratios."""
        ours = self.microseconds[next(iter(self.case.paths))]
        return statistics.median(theirs / mine for theirs, mine in zip(self.microseconds[path], ours, strict=True))

    def to_json(self) -> dict[str, object]:
        timed = {
            path: {
                "median_us": round(self.median(path), 2),
                "min_us": round(min(times), 2),
                "max_us": round(max(times), 2),
                "times_ours": round(self.ratio(path), 3),
                "tflops": round(self.case.operations / self.median(path) * 1e-6, 3),
                "gb_per_s": round(self.case.bytes / self.median(path) * 1e-3, 1),
            }
            for path, times in self.microseconds.items()
        }
        return {
            "case": self.case.name,
            "sizes": self.case.sizes,
            "error": {path: float(f"{error:.3g}") for path, error in self.error.items()},
            "refused": self.refused,
            "timed": timed,
        }


class Timer:
    """rounds: timed runs of each path. Without CUDA nothing is timed."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._cuda = torch.cuda.is_available()
        if self._cuda:
            cache = torch.cuda.get_device_properties(0).L2_cache_size
            self._flush = torch.empty(max(4 * cache, 1 << 27), dtype=torch.int8, device="cuda")

    def measure(self, case: Case) -> Outcome:
        """Checks every path against the reference, then times those that are right.

        Raises SystemExit when our own path is wrong or refuses the case: no time is worth more than that.
        """
        expected = case.reference()
        outcome = Outcome(case, {}, {})
        ours = next(iter(case.paths))
        for name, path in case.paths.items():
            try:
                got = path()
            except Exception as error:  # whatever a backend raises is the finding
                outcome.refused[name] = str(error).strip().splitlines()[0][:160]
                continue
            outcome.error[name] = float((got.double() - expected).norm() / expected.norm())
            bound = 0.0 if case.exact and name == ours else case.bound
            if not outcome.error[name] <= bound:
                outcome.refused[name] = f"relative error {outcome.error[name]:.2e} above {bound:.0e}"
        if ours in outcome.refused:
            raise SystemExit(f"{case.name} {case.sizes}: {ours}: {outcome.refused[ours]}")
        if self._cuda:
            kept = {name: path for name, path in case.paths.items() if name not in outcome.refused}
            outcome.microseconds.update(self._times(kept, outcome.refused))
        return outcome

    def _times(self, paths: dict[str, Callable[[], torch.Tensor]], refused: dict[str, str]) -> dict[str, list[float]]:
        graphs: dict[str, torch.cuda.CUDAGraph] = {}
        for name, path in paths.items():
            try:
                graphs[name] = _captured(path)
            except Exception as error:  # as above
                refused[name] = f"cannot be captured in a graph: {str(error).strip().splitlines()[0][:120]}"
        times: dict[str, list[float]] = {name: [] for name in graphs}
        for _ in range(self._rounds):
            for name, graph in graphs.items():
                times[name].append(self._once(graph.replay))
        return times

    def median(self, run: Callable[[], object]) -> float:
        """Microseconds of `run`, median of the rounds."""
        return statistics.median(self._once(run) for _ in range(self._rounds))

    def _once(self, run: Callable[[], object]) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        self._flush.zero_()
        start.record()
        run()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) * 1e3


def _captured(path: Callable[[], torch.Tensor]) -> torch.cuda.CUDAGraph:
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            path()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        path()
    return graph


def ceilings(timer: Timer) -> dict[str, float]:
    """What the card reaches: GB/s of a large copy, read and write counted, and TFLOP/s of a large product."""
    if not torch.cuda.is_available():
        return {}
    source = torch.randn(1 << 28, device="cuda")
    target = torch.empty_like(source)
    copy = timer.median(lambda: target.copy_(source))
    found = {"copy_gb_per_s": round(2 * source.numel() * 4 / copy * 1e-3, 1)}
    for dtype in (torch.float16, torch.bfloat16):
        product = timer.median(partial(torch.matmul, *torch.randn(2, 8192, 8192, device="cuda").to(dtype)))
        found[f"product_tflops_{str(dtype).removeprefix('torch.')}"] = round(2 * 8192**3 / product * 1e-6, 1)
    return found
