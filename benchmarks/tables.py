"""Tables of what was found of each task, in Markdown, and what their columns mean."""

from collections.abc import Callable, Sequence

from verdicts import Row, Turned

Cell = Callable[[Row], str]
NONE = "–"


def number(value: float | None, form: str) -> str:
    return NONE if value is None else f"{value:{form}}"


def score(name: str, form: str) -> Cell:
    return lambda row: number(row.scores.get(name), form)


SCORED: dict[str, Cell] = {
    "L2": score("l2", ".4f"),
    "LPIPS-alex": score("lpips", ".4f"),
    "identity": score("identity", ".3f"),
    "identity (dlib)": score("identity_dlib", ".3f"),
    "Fréchet": lambda row: number(row.frechet, ".2f"),
}
HIDDEN: dict[str, Cell] = {"L2, hidden": score("l2_hidden", ".4f"), "LPIPS, hidden": score("lpips_hidden", ".4f")}
SPEED: dict[str, Cell] = {"pictures/s": lambda row: number(row.per_second, ".2f")}
ANGLES: dict[str, Cell] = {
    "yaw before": lambda row: number(row.turned[0].before, ".1f"),
    "yaw after": lambda row: number(row.turned[0].after, ".1f"),
    "no face": lambda row: str(row.turned[0].faceless),
}
KINDS = {"superres": "factor", "inpaint": "mask"}
"""What is different between the cases of a task."""
ABOUT = {
    "invert": "The rows that draw the photograph again.",
    "superres": "Photographs made smaller by a factor of 256 pixels. Optimised rows draw a picture that is the source "
    "when it is made as small.",
    "inpaint": "Photographs with hidden parts. Other columns are of the whole picture, whose known pixels flatter the "
    "masked picture and blame what draws them anew; *L2, hidden* is the mean over hidden pixels alone, *LPIPS, hidden* "
    "that of the picture with its known pixels taken from the photograph. Optimised rows are told the known pixels.",
    "frontalize": "Compared with the photograph, whose pixels should change and whose person should not. *Yaw* is the "
    "mean of its size in degrees, from MTCNN's five landmarks, before and after, where a face was found in both; *no "
    "face* counts answers without one. Optimised rows are those of plain inversion.",
}


def of_task(task: str, model: str, rows: Sequence[Row]) -> str:
    """The table of a task with its title, the name of its model, and what is special about it."""
    columns = SCORED | (HIDDEN if task == "inpaint" else {}) | (ANGLES if task == "frontalize" else {}) | SPEED
    kind = [KINDS[task]] if task in KINDS else []
    most = max(row.photographs for row in rows)
    lines = []
    for row in rows:
        name = row.answer if row.photographs == most else f"{row.answer} ({row.photographs} of them)"
        lines.append([*([row.kind] if kind else []), name, *(cell(row) for cell in columns.values())])
    parts = [
        f"## {task}",
        f"{ABOUT[task]} The model is `{model}`.",
        markdown([*kind, f"{most} photographs", *columns], lines),
    ]
    if any(row.turned for row in rows):
        parts.append(_by_angle(rows, most))
    return "\n\n".join(parts)


def markdown(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table; every line has as many cells as there are titles."""
    texts = [f"| {' | '.join(line)} |" for line in (titles, *lines)]
    return "\n".join([texts[0], "|---" * len(titles) + "|", *texts[1:]])


def caption(photographs: int, between_halves: float | None) -> str:
    """What columns of all tables mean; for the Fréchet distance, how far apart halves of the photographs are."""
    floor = ""
    if between_halves is not None:
        floor = (
            f" Between two halves of the photographs, {photographs - photographs // 2} and {photographs // 2}, other "
            f"people, it is {between_halves:.2f}."
        )
    return (
        "L2 (pixels in [-1, 1]), LPIPS-alex and cosines of identity, by MobileFaceNet and by dlib's network, are means "
        "over the photographs. *Fréchet* is the distance of all answers, as a crowd, to the photographs that they "
        "answer, in AlexNet's last map as LPIPS reads it, averaged over the picture. It is not FID, falls with the "
        f"number of pictures ({photographs} here), and is left out for fewer.{floor} *Pictures/s* is wall time of "
        "encoding and decoding in full, one by one, the median; finding the rows counts as encoding, and rows out of a "
        "cache took what they took when they were found. The model takes steps down LPIPS-alex and MobileFaceNet, "
        "direct optimisation on LPIPS-alex; dlib's network took no part in anything."
    )


def _by_angle(rows: Sequence[Row], most: int) -> str:
    """What became of photographs by how far they were turned, for answers to all of them."""
    lines = []
    for row in rows:
        if row.photographs == most:
            lines += [[_range(group), str(group.photographs), row.answer, *_cells(group)] for group in row.turned[1:]]
    titles = ["yaw before", "photographs", "", "mean before", "mean after", "identity", "identity (dlib)", "no face"]
    return markdown(titles, lines)


def _range(group: Turned) -> str:
    low, high = group.degrees
    return f"{low}° to {high}°" if high < 180 else f"over {low}°"


def _cells(group: Turned) -> list[str]:
    angles = [number(value, ".1f") for value in (group.before, group.after)]
    return [*angles, *(number(value, ".3f") for value in (group.identity, group.identity_dlib)), str(group.faceless)]
