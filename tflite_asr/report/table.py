"""Terminal tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction as a percentage, "-" for None."""
    return "-" if value is None else f"{100 * value:.{digits}f}"


def variants_table(variants: Sequence[dict[str, Any]], title: str) -> Table:
    """One row a variant, as `evaluate --json` writes them."""
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("scheme", overflow="fold")
    table.add_column("drop", overflow="fold")
    for name in ("bytes", "WER %", "CER %", "SNR dB", "argmax %", "RTF"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("integers\nonly", no_wrap=True)
    for v in variants:
        table.add_row(
            v["scheme"],
            ", ".join(v["drop"]) or "-",
            f"{v['model_bytes']:,}",
            percent(v["wer"]),
            percent(v["cer"]),
            "-" if v["snr_db"] is None else f"{v['snr_db']:.1f}",
            percent(v["argmax_agreement"]),
            f"{v['rtf']:.4f}",
            {True: "yes", False: "no", None: "?"}[v["integer_only"]],
        )
    return table


def key_value_table(rows: Sequence[tuple[str, str]], title: str) -> Table:
    """Two columns, no header."""
    table = Table(title=title, show_header=False)
    table.add_column()
    table.add_column()
    for key, value in rows:
        table.add_row(key, value)
    return table


def evaluation_table(variant: dict[str, Any]) -> Table:
    """One evaluation at length: by corpus, then edits, intervals, time and memory."""
    kernels = f"{variant['runtime']}, {variant['delegate']}, {variant['threads']} thread(s)"
    if variant.get("decoder", "ctc") != "ctc":
        kernels += f"; {variant['decoder']}, beam {variant['beam']}"
    table = Table(title=f"{variant['scheme']}: {kernels}")
    table.add_column("")
    corpora = {"all": variant, **(variant["corpora"] if len(variant["corpora"]) > 1 else {})}
    for name in corpora:
        table.add_column(name, justify="right")

    def row(name: str, view: Any) -> None:
        table.add_row(name, *(view(scores) for scores in corpora.values()))

    def interval(scores: dict[str, Any], key: str) -> str:
        low, high = scores[f"{key}_ci95"]
        return f"{percent(scores[key])} ({percent(low)}-{percent(high)})"

    row("utterances", lambda s: str(s["utterances"]))
    row("audio, s", lambda s: f"{s['audio_seconds']:.1f}")
    row("WER %, 95 % interval", lambda s: interval(s, "wer"))
    row("CER %, 95 % interval", lambda s: interval(s, "cer"))
    row(
        "words: S, D, I",
        lambda s: ", ".join(str(s["words"][k]) for k in ("substitutions", "deletions", "insertions")),
    )
    if variant["snr_db"] is not None:
        row("logits' SNR, dB", lambda s: f"{s['snr_db']:.2f}")
        row("same argmax, %", lambda s: percent(s["argmax_agreement"]))
    row("real-time factor", lambda s: f"{s['rtf']:.4f}")
    for part in ("frontend", "model", "decode"):
        row(f"  {part}", lambda s, part=part: f"{s['rtf_parts'][part]:.4f}")
    row("latency ms, p50 / p95", lambda s: f"{s['latency_ms']['p50']:.1f} / {s['latency_ms']['p95']:.1f}")
    if variant["load_seconds"] is not None:
        empty = [""] * (len(corpora) - 1)
        table.add_row("load, ms", f"{1000 * variant['load_seconds']:.0f}", *empty)
        table.add_row("peak memory, MB", f"{variant['peak_memory_bytes'] / 1e6:.1f}", *empty)
    if variant["against"] is not None:
        wer = variant["against"]["wer"]
        low, high = wer["low"], wer["high"]
        text = f"{100 * wer['difference']:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"
        table.add_row(f"WER points against {variant['against']['scheme']}", text, *[""] * (len(corpora) - 1))
    return table
