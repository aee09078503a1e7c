"""Everything that only a GPU can tell, in one call: the kernels' GPU tests, then their times against torch's.

    python benchmarks/gpu.py                    # about eight minutes; writes benchmarks/results/gpu-CARD.json
    python benchmarks/gpu.py --only frame       # one operator
    python benchmarks/gpu.py --rehearse         # no GPU: tiny sizes in Triton's interpreter, results checked, not timed

Needs torch and Triton; where the package is not installed, ``PYTHONPATH=kernels`` is enough. Each path is compared with
a float64 reference before it is timed. Times are CUDA events around replays of a captured graph, on random data, with a
cold L2 cache, in interleaved rounds; the tables show medians and the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

OPERATORS = {"cross_attention": "attention", "prompt_attention": "prompt", "frame": "frame"}
RESULTS = Path(__file__).resolve().parent / "results"


def main() -> None:
    arguments = parse()
    if arguments.rehearse:
        os.environ["TRITON_INTERPRET"] = "1"
    import torch

    if not arguments.rehearse and not torch.cuda.is_available():
        raise SystemExit("no NVIDIA GPU here: nothing was measured; --rehearse checks the script without one")
    tests = None if arguments.rehearse or arguments.no_tests else run_tests()
    from gpu_bench.timing import Timer, ceilings

    torch.manual_seed(arguments.seed)
    timer = Timer(arguments.rounds)
    report: dict[str, object] = {"machine": machine(), "seed": arguments.seed, "rounds": arguments.rounds}
    report |= {"tests": tests, "ceilings": ceilings(timer)}
    print(json.dumps(report, indent=2))
    device = "cpu" if arguments.rehearse else "cuda"
    results: list[dict[str, object]] = []
    for name in arguments.only or OPERATORS:
        for case in importlib.import_module(f"gpu_bench.{OPERATORS[name]}").cases(device, arguments.rehearse):
            outcome = timer.measure(case)
            print(line(outcome), flush=True)
            results.append(outcome.to_json())
    if arguments.rehearse:
        print(f"{len(results)} cases checked against their references; nothing was timed")
        return
    card = str(torch.cuda.get_device_name()).lower().replace(" ", "-")
    path = arguments.json or RESULTS / f"gpu-{card}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**report, "results": results}, indent=1) + "\n")
    print(f"written to {path}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=OPERATORS, help="measure only this operator")
    parser.add_argument("--rounds", type=int, default=30, help="interleaved rounds a case (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the random inputs (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="where the results go")
    parser.add_argument("--no-tests", action="store_true", help="leave the GPU tests out")
    parser.add_argument("--rehearse", action="store_true", help="run without a GPU, on tiny sizes, and time nothing")
    return parser.parse_args()


def run_tests() -> str:
    """The last line of the kernels' GPU tests; a failure ends the run."""
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/kernels"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the GPU tests failed:\n{done.stdout[-4000:]}\n{done.stderr[-1000:]}")
    return done.stdout.strip().splitlines()[-1]


def machine() -> dict[str, object]:
    """Card, driver, versions and date of a result."""
    import torch
    import triton

    found: dict[str, object] = {
        "date": datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "triton": triton.__version__,
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        found |= {
            "card": properties.name,
            "sm": 10 * properties.major + properties.minor,
            "multiprocessors": properties.multi_processor_count,
            "driver": subprocess.run(query, capture_output=True, text=True).stdout.strip().splitlines()[:1],
        }
    return found


def line(outcome: object) -> str:
    """One case on one line: sizes, then microseconds of each path and how many times ours it takes."""
    from gpu_bench.timing import Outcome

    assert isinstance(outcome, Outcome)
    sizes = " ".join(f"{name}={value}" for name, value in outcome.case.sizes.items())
    parts = [f"{outcome.case.name} {sizes}:"]
    for path, error in outcome.error.items():
        if path in outcome.microseconds:
            parts.append(f"{path} {outcome.median(path):.1f} us ({outcome.ratio(path):.2f}x)")
        elif path not in outcome.refused:
            parts.append(f"{path} error {error:.1e}")
    return "  ".join(parts + [f"[{path}: {why[:60]}]" for path, why in outcome.refused.items()])


if __name__ == "__main__":
    main()
