import base64
import io
import json
import shutil
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from running import files
from running.errors import RecipeError
from running.values import parsed
from studies.claims import CLAIMS
from studies.claims.results import Results
from studies.directory import results

FOLDER = Path(__file__).parent
# What the list of cells shows, after what varies.
SHOWN = ("score", "path_length", "nonlinear_units", "seconds")


class Pages:
    """What was found in a study: tables, figures and pages.

    Args:
        study: The `Study`.
        directory: That of the study.

    Raises:
        RecipeError: If a claim is unknown, or its arguments are.
    """

    def __init__(self, study, directory):
        self.study, self.directory = study, directory
        self.claims = {}
        for number, arguments in enumerate(study.claims, start=1):
            arguments = dict(arguments)
            name = arguments.pop("claim", None)
            if not isinstance(name, str) or name not in CLAIMS:
                raise RecipeError(
                    f"claim {number} of {study.name!r}: there is no {name!r}, but "
                    f"{', '.join(CLAIMS)}."
                )
            where = f"claim {number} of {study.name!r}: "
            claim = parsed(CLAIMS[name], json.dumps(arguments), where)
            asked = claim.experiments
            asked = {*asked, *(asked.values() if isinstance(asked, dict) else ())}
            asked |= {*getattr(claim, "reasons", ())}
            unknown = asked - {experiment.name for experiment in study.experiments}
            if unknown:
                raise RecipeError(
                    f"claim {number} of {study.name!r} is of experiments that are not there: "
                    f"{', '.join(sorted(unknown))}."
                )
            self.claims[f"{number}-{name.replace('_', '-')}"] = claim

    def write(self, cells, record):
        """Writes all tables, figures/, report.md and report.html.

        Args:
            cells: List of the `Cell`s.
            record: The `Record` of the study.

        Returns:
            The table of all results, and text for the terminal.
        """
        frame = results.table(cells, self.directory)
        results.write(frame, self.directory)
        epochs = results.histories(cells, self.directory)
        judged = Results(frame, epochs)
        findings = [claim.find(judged) for claim in self.claims.values()]
        results.write_epochs(epochs[epochs["cell"].isin(judged.used)], self.directory)
        figures = self.directory / "figures"
        shutil.rmtree(figures, ignore_errors=True)
        figures.mkdir()
        for name, finding in zip(self.claims, findings):
            if finding.figure:
                finding.figure.savefig(figures / f"{name}.png")
        overview, failed = _overview(frame), _failed(frame)
        context = {
            "study": self.study,
            "command": record.command,
            "facts": _facts(frame, record),
            "findings": findings,
            "names": list(self.claims),
            "images": "figures",
            "overview": overview,
            "failed": failed,
            "cells": _listed(frame),
            "commands": list(dict.fromkeys(frame["command"])),
        }
        for name, template, table in (
            ("report.html", "report.html", _html),
            ("report.md", "report.md.jinja", _markdown),
        ):
            environment = jinja2.Environment(
                loader=jinja2.FileSystemLoader(FOLDER),
                autoescape=name == "report.html",
                trim_blocks=True,
                lstrip_blocks=True,
                undefined=jinja2.StrictUndefined,
            )
            environment.filters |= {"table": table, "base64": _base64}
            text = environment.get_template(template).render(context)
            files.write(self.directory / name, text)
        lines = [overview.to_string(index=False)]
        lines += [f"{each.title}: {each.verdict}" for each in findings]
        if failed is not None:
            lines += ["", "Failed:", failed.to_string(index=False)]
        return frame, "\n".join(lines)


def _overview(frame):
    """A line for each variant of each experiment."""
    rows = []
    for (experiment, variant), mine in frame.groupby(["experiment", "variant"], sort=False):
        by_cell = mine.drop_duplicates("cell")
        states = by_cell["status"].value_counts()
        rows.append(
            {
                "experiment": experiment,
                "variant": variant or "-",
                "cells": ", ".join(f"{number} {state}" for state, number in states.items()),
                "score": _range(mine["score"], "{:.1f}"),
                "path length": _range(mine["path_length"], "{:.2f}"),
                "minutes": f"{by_cell['seconds'].sum() / 60:.1f}" if "seconds" in mine else "-",
            }
        )
    return pd.DataFrame(rows)


def _range(values, form):
    values = values.dropna()
    if values.empty:
        return "-"
    return f"{form.format(values.min())} to {form.format(values.max())}"


def _failed(frame):
    failed = frame[frame["status"] == "failed"]
    if failed.empty:
        return None
    return failed[["experiment", "variant", "cell", "error"]]


def _listed(frame):
    options = frame.columns[frame.columns.get_loc("error") + 1 : frame.columns.get_loc("command")]
    varying = [name for name in options if frame[name].nunique(dropna=False) > 1]
    shown = ["experiment", "variant", "cell", "status", *varying]
    shown += [name for name in ("method", "budget") if name in frame]
    table = frame[[*shown, *(name for name in SHOWN if name in frame)]].copy()
    for name in table.select_dtypes("number"):
        table[name] = table[name].map(lambda value: "" if pd.isna(value) else f"{value:.4g}")
    return table.fillna("")


def _facts(frame, record):
    """What the study was run with."""
    seeds = sorted({int(seed) for seed in frame["seed"].dropna()}) if "seed" in frame else []
    facts = [f"Machine: {machine}." for machine in record.machines]
    facts += [f"{versions}." for versions in frame["versions"].unique() if versions]
    if seeds:
        facts.append(f"Seeds {', '.join(map(str, seeds))}; numbers are means ± their deviation.")
    cells = frame.drop_duplicates("cell")
    finished = cells[cells["status"] == "finished"]
    if "seconds" in cells:
        minutes = finished["seconds"].sum() / 60
        facts.append(f"{len(finished)} cells took {minutes:.0f} minutes together.")
    if len(finished) < len(cells):
        facts.append(
            f"Not finished: {len(cells) - len(finished)} cells at least. What is said here is said "
            "without them."
        )
    return facts


def _html(frame):
    return Markup('<div class="wide">{}</div>').format(
        Markup(frame.to_html(index=False, border=0, escape=True))
    )


def _markdown(frame):
    def line(cells):
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"

    rows = frame.itertuples(index=False, name=None)
    return "\n".join([line(frame.columns), line("---" for _ in frame.columns), *map(line, rows)])


def _base64(figure):
    png = io.BytesIO()
    figure.savefig(png)
    return base64.b64encode(png.getvalue()).decode()
