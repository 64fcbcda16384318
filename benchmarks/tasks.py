"""The model of each task beside a trivial result and direct optimisation, as tables.

    python benchmarks/tasks.py --data celebahq_val.tar ffhq_val.tar --optimize 20 --cache optimised --json tasks.json

The photographs (aligned as in FFHQ; folders or tars, whose ``masks`` are left out) are resized to 256 pixels and
degraded as in training, each the same way every time. Results are compared with them as users get them: drawn in full,
clipped, and area-pooled to 256 pixels. Direct optimisation starts from the average face and uses only what the encoder
gets; it is slow, so it runs for ``--optimize`` photographs, evenly spaced among all, and the model is evaluated on
these, too. With ``--cache`` its rows are kept, and an interrupted run continues.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

import photographs
import task_scores
from pixel2style import checkpoints
from pixel2style.errors import CheckpointError, ConfigError
from pixel2style.inference import prepare
from pixel2style.inference import refine as refinement
from pixel2style.inference.optimize import adam, newton
from pixel2style.inference.refine import Goal
from pixel2style.inference.session import Session
from pixel2style.metrics.losses import Objective
from pixel2style.models.psp import PSP
from pixel2style.tasks import find_task
from pixel2style.tasks.request import Request
from task_methods import CASES, Case, Example, Method, Optimization, by_session, encoded, examples, optimized, trivial
from task_scores import ResultScores, Row, TaskScorer, between_halves, summarized

OURS = "the model"
COMMAND = "the command, from the photograph"
USUAL = 1
"""The default of ``--refine`` for tasks whose source shows the target."""
TASKS = tuple(dict.fromkeys(case.task for case in CASES))


def models(given: list[str], wanted: list[str]) -> dict[str, str]:
    """A bundled name or a file for each task that has one. Raises ConfigError for TASK=FILE that names no task here."""
    named = {}
    for word in given:
        task, equals, model = word.partition("=")
        if task not in TASKS or not equals:
            raise ConfigError(f"--models {word} is not TASK=NAME or TASK=FILE: choose a task of {', '.join(TASKS)}")
        named[task] = model
    for task in wanted:
        if task not in named:
            try:
                named[task] = prepare.model_for(task)
            except CheckpointError:
                print(f"{task} is left out: no model for it is bundled; name one with --models {task}=FILE\n")
    return {task: named[task] for task in wanted if task in named}


def opened(task: str, source: str) -> PSP:
    """The model of a task. Raises ConfigError when it was trained for another one, CheckpointError."""
    model = checkpoints.load(source).eval()
    prepare.check(Request(task), model.config, model.source_channels, source)
    return model


def compared(
    model: PSP, source: str, case: Case, optimization: Optimization, refined: list[int], goals: dict[str, Goal]
) -> Iterator[tuple[str, Method, bool]]:
    """The methods of a case: name, function, and whether it is used on some photographs only (because it is slow)."""
    for name, method in trivial(case, model):
        yield name, method, False
    ours = partial(encoded, model, case=case)
    task = find_task(case.task)
    if model.detail is not None and task.shown is not None:
        yield f"{OURS}, `--refine 0 --no-detail`", partial(ours, detail=False), False
    curvature = newton.bundled(model) if task.refinable else None
    if curvature is not None:
        optimize = partial(newton.optimize, curvature=curvature, objective=Objective(newton.LOSS))
        for steps in sorted({*refined, USUAL} - {USUAL}):
            yield f"{OURS}, `--refine {steps}`", partial(ours, optimize=optimize, steps=steps), False
        ours = partial(ours, optimize=optimize, steps=USUAL)
        if model.detail is not None and task.shown is not None:
            yield f"{OURS}, `--no-detail`", partial(ours, detail=False), False
    yield OURS, ours, False
    if task.inverts:
        yield COMMAND, partial(by_session, Session(source)), False
        objective = refinement.objective_of(faces=True)
        for name, goal in goals.items():
            yield f"{OURS}, {name}", partial(ours, goal=goal, objective=objective), False
    yield f"{optimization.steps} steps of direct optimisation", partial(optimized, model, case, optimization), True
    yield OURS, ours, True


def scored(scorer: TaskScorer, name: str, method: Method, chosen: list[Example], angles: bool) -> list[ResultScores]:
    """Results of examples, scored one after the other."""
    found = []
    for example in chosen:
        found.append(scorer(method(example), example, angles))
        print(f"\r{name}: {len(found)} of {len(chosen)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


def rows_of(
    case: Case, scorer: TaskScorer, every: list[Example], model: PSP, source: str, options: argparse.Namespace
) -> list[Row]:
    """The rows of one case."""
    optimization = Optimization(options.steps, options.lr, options.bf16, options.cache)
    few = photographs.spaced(every, options.optimize)
    rows: list[Row] = []
    for name, method, only_few in compared(model, source, case, optimization, options.refine, goals_of(options)):
        if options.default_only and (only_few or name not in (OURS, COMMAND)):
            continue
        if only_few and (not few or (name == OURS and len(few) == len(every))):
            continue  # nothing to do, or the same as the row above
        chosen = few if only_few else every
        title = " ".join(filter(None, (case.task, case.kind, name)))
        results = scored(scorer, title, method, chosen, case.task == "frontalize")
        rows.append(summarized(case.task, case.kind, name, results, len(chosen) == len(every)))
    return rows


def goals_of(options: argparse.Namespace) -> dict[str, Goal]:
    """The refinements of features that are compared, by their names."""
    named = {f"`--budget {seconds:g}`": Goal(seconds) for seconds in options.budget}
    return named | {f"{steps} steps on features": Goal(steps=steps) for steps in options.map_steps}


def run(options: argparse.Namespace) -> None:
    chosen = photographs.spaced(list(enumerate(photographs.read(options.data))), options.limit)
    scorer = TaskScorer()
    rows: list[Row] = []
    found: dict[str, Any] = {"models": models(options.models, options.tasks)}
    for task, source in found["models"].items():
        model = opened(task, source)
        for case in CASES:
            if case.task == task:
                rows += rows_of(case, scorer, examples(case, chosen), model, source, options)
        of_task = [row for row in rows if row.task == task]
        print(f"{task_scores.of_task(task, source, of_task)}\n", flush=True)
    features = torch.cat([scorer.features(example.target) for example in examples(CASES[0], chosen)])
    half = between_halves(features)
    command = photographs.circumstances(options.threads)
    print(f"{task_scores.caption(len(chosen), half)}\n\n{command}")
    if options.json:
        found |= {
            "command": command,
            "photographs": len(chosen),
            "between_halves": half,
            "rows": [asdict(row) for row in rows],
        }
        options.json.write_text(json.dumps(found, indent=2) + "\n")


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders or tars of aligned photographs")
    parser.add_argument("--models", metavar="TASK=NAME", nargs="+", default=[], help="bundled names or files")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="only these")
    parser.add_argument("--default-only", action="store_true", help="the defaults of the commands, without comparisons")
    parser.add_argument("--optimize", metavar="N", type=int, default=20, help="photographs to optimise rows for")
    parser.add_argument("--refine", metavar="N", type=int, nargs="*", default=[0, 5], help="also after so many steps")
    parser.add_argument("--budget", metavar="S", type=float, nargs="*", default=[], help="also with features refined")
    parser.add_argument("--map-steps", metavar="N", type=int, nargs="*", default=[], help="the same, by steps")
    parser.add_argument("--limit", metavar="N", type=int, help="only so many photographs, evenly spaced among all")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--lr", type=float, default=adam.LR)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True, help="for the optimisation")
    parser.add_argument("--cache", metavar="DIR", type=Path, help="keep optimised rows here, and take them from here")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    return photographs.exit_code(run, parsed(words))


if __name__ == "__main__":
    sys.exit(main())
