"""A calibration study as one HTML file that needs no other."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from tflite_asr.errors import TfliteAsrError
from tflite_asr.report.calibration_plot import svg
from tflite_asr.report.calibration_table import decibels, fidelity, points
from tflite_asr.report.table import percent

_TEMPLATE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ study.model }}: calibration</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 14px; display: block; overflow-x: auto; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #8884; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
svg { max-width: 100%; height: auto; background: white; }
</style>
<h1>{{ study.model }}: calibration with and without data</h1>
{% set made = study.settings -%}
<p>{{ made.get("model", study.model) }}
{%- for name, version in made.get("versions", {}).items() %}, {{ name }} {{ version }}{% endfor %}</p>
<ul>{% for line in study.verdicts + study.notes %}<li>{{ line }}</li>{% endfor %}</ul>
<h2>What each costs</h2>
<table>
<tr><th>arm<th>calibrator<th>seeds<th>bytes<th>integer-only<th>WER %<th>points above float32 (95 %)
<th>points above real (95 %)</tr>
{% for row in study.rows -%}
<tr><td>{{ row.arm }}<td>{{ row.calibrator or "-" }}<td>{{ row.seeds | length }}<td>{{ "{:,}".format(row.bytes) }}
<td>{{ "yes" if row.integer_only else "no" }}<td>{{ percent(row.wer) }}<td>{{ points(row.against_float32) }}
<td>{{ points(row.against_real) }}</tr>
{% endfor -%}
</table>
{% for name, size in study.settings.corpora.items() -%}
<h3>{{ name }}, {{ size.utterances }} utterances</h3>
<table>
<tr><th>arm<th>calibrator<th>WER %<th>points above float32 (95 %)<th>SNR dB (seeds), argmax %
<th>SNR above real, dB (95 %)</tr>
{% for row in study.rows -%}
<tr><td>{{ row.arm }}<td>{{ row.calibrator or "-" }}<td>{{ percent(row.corpora[name].wer) }}
<td>{{ points(row.corpora[name].against_float32) }}<td>{{ fidelity(row.corpora[name]) }}
<td>{{ decibels(row.corpora[name].snr_db_against_real) }}</tr>
{% endfor -%}
</table>
{% endfor -%}
{{ figure | safe }}
{% if study.overlaps -%}
<h2>Ranges against real calibration's</h2>
<p>The real arm, where it was drawn more than once, is held against another draw of real clips. Width: of a tensor's
range, as a multiple of real calibration's. Clipping: tensors of whose real range a twentieth or more lies outside.
Outside: the share of real calibration's range that does. "Its grid alone" further down is the SNR of the float tensor
rounded to its int8 grid, nothing before it rounded.</p>
<table>
<tr><th>arm<th>calibrator<th>tensors<th>twice as wide, %<th>clipping 5 %, %<th>width, median<th>outside %, median</tr>
{% for row in study.overlaps -%}
<tr><td>{{ row.arm }}<td>{{ row.calibrator }}<td>{{ row.tensors }}<td>{{ percent(row.too_wide, 1) }}
<td>{{ percent(row.clipping, 1) }}<td>{{ "%.2f" | format(row.median_width_ratio) }}
<td>{{ percent(row.median_outside, 1) }}</tr>
{% endfor -%}
</table>
{% endif -%}
{% for one in study.losses if one.tensors and one.against == "real" -%}
<h2>{{ one.arm }}, {{ one.calibrator }}, {{ one.corpus }}: grids that cost more than real calibration's</h2>
<table>
<tr><th>tensor<th>its grid alone, dB<th>real's<th>SNR dB<th>real's<th>clipped %<th>width</tr>
{% for row in one.tensors -%}
<tr><td>{{ row.name }}<td>{{ "%.1f" | format(row.grid_snr_db) }}<td>{{ "%.1f" | format(row.real_grid_snr_db) }}
<td>{{ "%.1f" | format(row.snr_db) }}<td>{{ "%.1f" | format(row.real_snr_db) }}<td>{{ percent(row.share_clipped) }}
<td>{{ "-" if row.width_ratio is none else "%.2f" | format(row.width_ratio) }}</tr>
{% endfor -%}
</table>
{% endfor -%}
{% for one in study.worst -%}
<h2>{{ one.arm }}, {{ one.calibrator }}, seed {{ one.seed }}: the worst tensors</h2>
<table>
<tr><th>tensor{% for name in study.settings.corpora %}<th>{{ name }}: SNR dB{% endfor %}<th>its grid alone, dB
<th>clipped %<th>width</tr>
{% for row in one.tensors -%}
<tr><td>{{ row.name }}{% for name in study.settings.corpora %}<td>{{ "%.1f" | format(row.snr_db[name]) }}{% endfor %}
<td>{{ "%.1f" | format(row.grid_snr_db) }}<td>{{ percent(row.share_clipped) }}
<td>{{ "-" if row.width_ratio is none else "%.2f" | format(row.width_ratio) }}</tr>
{% endfor -%}
</table>
{% endfor -%}
</html>
"""


def check_page() -> None:
    """Say before the work is done that its page could not be made.

    Raises:
        TfliteAsrError: Jinja2 or matplotlib is not installed.
    """
    for package in ("jinja2", "matplotlib"):
        if find_spec(package) is None:
            raise TfliteAsrError(f"HTML: {package} is not installed; pip install {package}")


def page(study: Mapping[str, Any]) -> str:
    """The page of what `calibrate compare --json` writes.

    Raises:
        TfliteAsrError: Jinja2 or matplotlib is not installed.
    """
    check_page()
    from jinja2 import Environment, StrictUndefined

    made = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = made.from_string(_TEMPLATE)
    words = {"percent": percent, "points": points, "fidelity": fidelity, "decibels": decibels}
    return template.render(study=study, figure=svg(study), **words)
