"""Writes the results of `layers` as a CSV file with one line for each kind of features, and a Markdown page."""

from __future__ import annotations

import csv
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from recipes.tables import read_csv

Key = tuple[str, ...]  # model, span, pooling, skip, targets, layer
Scores = Mapping[str, Mapping[str, float]]  # by measure, by what it was measured on

KEY = ("model", "span", "pooling", "skip", "targets", "layer")
MEASURES = ("selection", "nearest", "nearest to targets", "topics", "nearest of topic", "nearest of topic to targets")
#: The defaults of `HiddenStates` for each model; the layer is the one at three quarters of the depth.
DEFAULTS: Mapping[str, Key] = {
    "smollm2": ("smollm2", "prompt", "mean", "0", "prompts", "22"),
    "minilm": ("minilm", "prompt", "mean", "0", "prompts", "4"),
}
MODELS = {"smollm2": "SmolLM2-135M-Instruct, 30 layers", "minilm": "all-MiniLM-L6-v2 by `AutoModel`, 6 layers"}

#: Score of selection and share of nearest rows, in one table.
TITLES: Mapping[tuple[str, str], str] = {
    ("selection", "nearest"): "Tasks: selection (mean over twelve target sets and three numbers of picks) / nearest:",
    ("topics", "nearest of topic"): "Topics: selection (mean over 14 topics and two numbers of picks) / nearest:",
}

READING = """What it decided: the defaults of `HiddenStates` stay: layer .75, mean pooling, the prompt, every token.

- *Tasks do not decide.* They are so easily told apart that any layer from 8 on, and the embeddings themselves, score
  .94 to .96: the default has the highest score of the prompt's features (.958, as has layer 15), and none leads it. The
  last layers are about a hundredth behind, the weighted mean less than half of that.
- *Topics are harder* (.62, and .41 of the nearest rows), and there the last layer (30, after the final norm) leads the
  default by .051 ± .025, with the weighted mean and without the system message by .087 ± .034. It is behind on tasks
  by .008 ± .004 to .011 ± .005 and costs a third more time. Two errors, in opposite directions, with 60-odd cells to
  choose from: not clearly better. For a pool of one kind of text it is worth a try: `layer=-1`,
  `pooling="weighted_mean"`.
- *Span: the prompt, if targets have no completions.* A pool embedded by the whole conversation, against targets that
  are prompts, loses .01 to .07 on tasks and a quarter to two thirds of the score on topics: presumably whether a row
  has a completion is most of what the kernel then sees. By the completion alone, or by the last token of the whole,
  SmolLM2's features are useless (.1 to .25). `HiddenStates` itself refuses unlabelled targets with `span="completion"`;
  the scores here are of a pool and targets embedded by two embedders. If the targets have completions too, the whole is
  as good as the prompt (layer 22, mean: tasks -.001 ± .001, topics +.034 ± .039), and its position-weighted mean no
  better than its mean. Completions are short here; with long ones this may change.
- *The first token* can stay. After the default preparation, which gives every dimension the same variance, leaving it
  out changes nothing (-.003 ± .003, -.004 ± .007); without that preparation its norm, a hundred times that of the
  others, would make the mean tell the length. Leaving out the whole system message finds more neighbours of the same
  topic (+.037 ± .016), but makes no better picks.
- *Several side by side*: three layers are level on tasks and, at best, .020 ± .010 ahead on topics, for three times the
  width; mean and last together gain nothing.
- MiniLM: no layer or pooling is clearly ahead of layer 4, mean; its last layer, which its own pooling uses, finds fewer
  neighbours of the same task (.972 against .992).
- Not covered: one seed, two small models, generated tasks, short texts, no near-duplicates, tasks and topics as the
  yardstick rather than the loss after fine-tuning. The errors are over target sets, not over pools."""


def publish(cells: Iterable[Path], directory: Path) -> None:
    """Writes `layers.csv` and `layers.md` from all cells."""
    scores_by_key = collect(cells)
    if not scores_by_key:
        raise FileNotFoundError("nothing has been measured yet: run without --publish first")
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / "layers.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(
            file, [*KEY, *(f"{m}{end}" for m in MEASURES for end in ("", " error", " lead"))], lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(line(key, scores, scores_by_key) for key, scores in scores_by_key.items())
    (directory / "layers.md").write_text(page(scores_by_key), encoding="utf-8")


def collect(cells: Iterable[Path]) -> dict[Key, Scores]:
    """Returns the scores of all kinds with complete results. A selection's score is its mean over numbers of picks."""
    scores_by_key: dict[Key, dict[str, dict[str, list[float]]]] = {}
    for path in cells:
        for row in read_csv(path):
            values_by_measure = scores_by_key.setdefault(
                tuple(row[name] for name in KEY), defaultdict(lambda: defaultdict(list))
            )
            of = row["of"].rpartition(" ")[0] if row["measure"] in ("selection", "topics") else row["of"]
            values_by_measure[row["measure"]][of].append(float(row["value"]))
    means = {
        key: {name: {of: statistics.fmean(values) for of, values in part.items()} for name, part in scores.items()}
        for key, scores in scores_by_key.items()
        if set(scores) == set(MEASURES)
    }
    return dict(sorted(means.items(), key=lambda pair: (*pair[0][:5], [float(k) for k in pair[0][5].split("+")])))


def line(key: Key, scores: Scores, scores_by_key: Mapping[Key, Scores]) -> dict[str, str]:
    """Returns a line of the CSV file."""
    cells = dict(zip(KEY, key, strict=True))
    for measure in MEASURES:
        mean, error = mean_and_error(list(scores[measure].values()))
        cells |= {measure: f"{mean:.4f}", f"{measure} error": f"{error:.4f}"}
        cells[f"{measure} lead"] = "{:.4f} +- {:.4f}".format(*lead(key, scores_by_key, measure))
    return cells


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Returns mean and standard error."""
    return statistics.fmean(values), statistics.stdev(values) / len(values) ** 0.5


def lead(key: Key, scores_by_key: Mapping[Key, Scores], measure: str) -> tuple[float, float]:
    """Returns mean and standard error of the paired difference to the default of the same model."""
    ours, default = scores_by_key[key][measure], scores_by_key[DEFAULTS[key[0]]][measure]
    return mean_and_error([ours[of] - default[of] for of in default])


def page(scores_by_key: Mapping[Key, Scores]) -> str:
    """Returns the Markdown page."""
    parts = [
        "# Layer, pooling and span",
        "Written by `python -m recipes.benchmarks.layers`, which says what was measured and how. *skip*: tokens left "
        "out at the start; 1 is the first alone, 24 the whole system message that the template puts before every "
        "conversation. Targets are unlabelled prompts unless *labelled*. In tables of layers, **bold** where the score "
        "of selection leads the default by more than two standard errors of the paired difference, *italic* where it "
        "is as far behind.",
        READING,
    ]
    for model in DEFAULTS:
        here = {key: scores for key, scores in scores_by_key.items() if key[0] == model}
        if here:
            parts.append(f"## {MODELS[model]}")
            for pair, title in TITLES.items():
                parts += [title, grid(here, pair)]
            parts += ["The default, and the best of each span:", best(here)]
            if several := {describe(key): key for key in here if "+" in key[2] + key[5]}:
                parts += ["Several layers or poolings side by side:", table(several, here)]
    return "\n\n".join(part for part in parts if part) + "\n"


def grid(scores_by_key: Mapping[Key, Scores], measures: tuple[str, str]) -> str:
    """Returns a table with layers as columns and all other settings as rows."""
    single = {key: scores for key, scores in scores_by_key.items() if "+" not in key[2] + key[5]}
    layers = sorted({key[5] for key in single}, key=int)
    kinds = sorted(dict.fromkeys(key[1:5] for key in single), key=order)
    lines = [
        f"| span, pooling, skip | {' | '.join(f'layer {layer}' for layer in layers)} |",
        "|---" * (len(layers) + 1) + "|",
    ]
    model = next(iter(scores_by_key))[0]
    for kind in kinds:
        cells = [cell((model, *kind, layer), scores_by_key, measures) for layer in layers]
        lines.append(f"| {describe_kind(kind)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def order(kind: Sequence[str]) -> tuple[int, bool, int, int]:
    """Returns a sort key: prompts, unlabelled targets and means come first."""
    span, pooling, skip, targets = kind
    spans, poolings = ("prompt", "whole", "completion"), ("mean", "weighted_mean", "last")
    return spans.index(span), targets == "labelled", poolings.index(pooling), int(skip)


def describe_kind(kind: Sequence[str]) -> str:
    """Returns a short description of a kind of features."""
    span, pooling, skip, targets = kind
    return f"{span}{', labelled' if targets == 'labelled' else ''}, {pooling}, {skip}"


def cell(key: Key, scores_by_key: Mapping[Key, Scores], measures: tuple[str, str]) -> str:
    """Returns a cell: score of selection / share of nearest rows."""
    if key not in scores_by_key:
        return ""
    selection, nearest = (statistics.fmean(scores_by_key[key][measure].values()) for measure in measures)
    ahead, error = lead(key, scores_by_key, measures[0])
    mark = "**" if ahead > 2 * error > 0 else "*" if ahead < -2 * error < 0 else ""
    return f"{mark}{selection:.3f}{mark} / {nearest:.3f}"


def best(scores_by_key: Mapping[Key, Scores]) -> str:
    """Returns a table of the default and of the best kind for tasks and for topics of each span, with errors."""
    keys_by_name = {"default": DEFAULTS[next(iter(scores_by_key))[0]]}
    for span, targets in dict.fromkeys((key[1], key[4]) for key in scores_by_key):
        keys = [key for key in scores_by_key if (key[1], key[4]) == (span, targets) and "+" not in key[2] + key[5]]
        for measure in ("selection", "topics"):
            top = max(keys, key=lambda key: statistics.fmean(scores_by_key[key][measure].values()))
            keys_by_name[f"{span}{', labelled' if targets == 'labelled' else ''}, best {measure}"] = top
    return table({f"{name}: {describe(key)}": key for name, key in keys_by_name.items()}, scores_by_key)


def describe(key: Key) -> str:
    """Returns layer, pooling and skip as text."""
    return f"layer {key[5]}, {key[2]}, skip {key[3]}"


def table(rows: Mapping[str, Key], scores_by_key: Mapping[Key, Scores]) -> str:
    """Returns a table with mean and standard error of each measure, and the leads over the default."""
    leads = ("selection", "topics")
    heads = [*MEASURES, *(f"{measure}, lead" for measure in leads)]
    lines = [f"| features | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name, key in rows.items():
        cells = ["{:.3f} ± {:.3f}".format(*mean_and_error(list(scores_by_key[key][m].values()))) for m in MEASURES]
        cells += ["{:+.3f} ± {:.3f}".format(*lead(key, scores_by_key, measure)) for measure in leads]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
