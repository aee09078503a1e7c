"""Export for one kind of device: the bundle is looked at with the device's eyes before it appears under its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmedge.bundle import Bundle, open_bundle, publish, staging
from mmedge.bundle.writer import check_form
from mmedge.errors import ExportError, ParityError
from mmedge.targets import Target
from mmedge_export.command import export_model
from mmedge_export.estimate import Estimate, estimate
from mmedge_export.number_formats import graph_precisions, load_typed
from mmedge_export.options import Options, Report
from mmedge_export.preflight import WARNING, Finding, preflight, usable_variants


@dataclass(frozen=True)
class TargetReport:
    """What an export for a target made.

    Attributes:
        report: The export itself.
        target: The target.
        findings: What the target does not take, or takes with a limit.
        usable: Variants that run there, as far as was checked.
        estimates: Frame time and memory on the target's chips; () where no ceilings are known.
        kernels: The kernel pack, None where none was made.
        written: Whether the bundle is there: not when no variant is usable, unless forced.
    """

    report: Report
    target: Target
    findings: tuple[Finding, ...]
    usable: tuple[str, ...]
    estimates: tuple[Estimate, ...]
    kernels: Path | None
    written: bool


def export_for_target(
    model: str,
    out: Path,
    target: Target,
    *,
    task: str = "classify",
    precision: str = "auto",
    options: Options | None = None,
    kernel_pack: bool | None = None,
) -> TargetReport:
    """Export what `model` names, check it against `target`, and publish it only if it has a variant that runs there.

    Args:
        model, out, task, options: As `mmedge_export.command.export_model` takes them; ``force`` also publishes a bundle
            that the target does not take.
        precision: As there; ``auto`` makes the target's own variants, and leaves out one that cannot be made exact.
        target: See `mmedge.targets.target`.
        kernel_pack: Compile the kernels of the bundle's prompt attention into ``NAME.kernels`` beside it; None does so
            for targets that launch them between engines.

    Raises:
        ExportError: The export failed, the target has no kernels although a pack was asked for, or they do not compile.
        BundleWriteError: `out` cannot be written.
    """
    chosen = options or Options()
    check_form(chosen.form)
    if kernel_pack and not target.kernels:
        raise ExportError(f"target {target.name} has no GPU kernels; leave the kernel pack out")
    with staging(out) as root:
        draft = root / out.name
        report, left_out = _export(model, draft, target, task, precision, replace(chosen, form="folder"))
        with open_bundle(draft) as bundle:
            findings = (*left_out, *preflight(bundle, target))
            usable = usable_variants(bundle.manifest, target, findings)
            estimates = estimate(bundle, target, usable)
            written = bool(usable) or chosen.force
            wanted = target.plugins == "pack" if kernel_pack is None else kernel_pack
            kernels = _kernel_pack(bundle, usable, target, out) if wanted and written else None
        if written:
            publish(draft, out, form=chosen.form)
    return TargetReport(replace(report, path=out), target, findings, usable, estimates, kernels, written)


def _export(
    model: str, draft: Path, target: Target, task: str, precision: str, options: Options
) -> tuple[Report, tuple[Finding, ...]]:
    """The export, and a warning where a variant had to be left out."""
    if precision != "auto" or not target.variants:
        return export_model(model, draft, task=task, precision=precision, options=options), ()
    wanted = ",".join(target.variants)
    try:
        return export_model(model, draft, task=task, precision=wanted, options=options), ()
    except ParityError as error:
        # Whether fp32 itself fails shows now: it is then an error and not this warning.
        report = export_model(model, draft, task=task, precision="fp32", options=options)
        return report, (Finding(WARNING, f"{wanted} was left out: {error}"),)


def _kernel_pack(bundle: Bundle, variants: Sequence[str], target: Target, out: Path) -> Path | None:
    """The kernels of the compiled sites, for each width, number of heads and compiled prompt length."""
    sites = {(site.width, site.heads) for site in bundle.manifest.sites if site.form == "compiled"}
    formats = sorted({_values_format(bundle, variant) for variant in variants})
    if not sites or not formats:
        return None
    # Triton is large and needed for nothing else here.
    from mmedge_kernels.aot import build_pack
    from mmedge_kernels.errors import KernelError
    from mmedge_kernels.prompt_attention.kernels import PROMPT_LENGTHS, kernel_spec

    specs = [
        replace(
            kernel_spec(
                sm=sm, dtype=dtype, depth=width, width=width, heads=heads, keys=keys, norm_eps=None, residual=False
            ),
            sms=(sm,),
        )
        for sm in target.architectures
        for dtype in formats
        if target.has(dtype, sm)
        for width, heads in sorted(sites)
        for keys in PROMPT_LENGTHS
    ]
    place = out.with_suffix(".kernels")
    try:
        build_pack(place, target.kernels, specs=specs)
    except KernelError as error:
        raise ExportError(f"the kernel pack was not made: {error}; nothing was written") from error
    return place


def _values_format(bundle: Bundle, variant: str) -> str:
    """What values between stages are in: the narrowest floating-point format of the variant that kernels take."""
    found = {bundle.manifest.variants[variant].compute}
    for stage in bundle.manifest.stages:
        found |= graph_precisions(load_typed(bundle.stages_folder() / Path(stage.files[variant]).name))
    return next(name for name in ("fp16", "bf16", "fp32") if name in found)
