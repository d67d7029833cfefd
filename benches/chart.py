"""The bar chart of `compare`: an SVG with one panel for each scenario."""

from dataclasses import dataclass
from html import escape

COLUMNS = 3
WIDTH = 400
GAP = 28
MARGIN = 32
TOP = 84
ROW = 22
HEAD = 46
LABELS = 128
VALUES = 64
OURS, LIMIT, OTHERS = "#d9480f", "#868e96", "#a5bcd6"


@dataclass(frozen=True)
class Bar:
    name: str
    value: float
    label: str
    is_ours: bool
    is_limit: bool


@dataclass(frozen=True)
class Panel:
    title: str
    # The unit of the bars, if it is not in the chart's title.
    unit: str
    bars: list[Bar]


def draw(panels: list[Panel], subtitle: str) -> str:
    columns = 2 if len(panels) in (2, 4) else max(1, min(COLUMNS, len(panels)))
    rows = [panels[at : at + columns] for at in range(0, len(panels), columns)]
    heights = [HEAD + ROW * max(len(panel.bars) for panel in row) + GAP for row in rows]
    width = max(2 * MARGIN + columns * WIDTH + (columns - 1) * GAP, 760)
    height = TOP + sum(heights) + MARGIN - GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        ' font-family="Inter, Helvetica, Arial, DejaVu Sans, sans-serif" font-size="12.5">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        text(MARGIN, 38, "Processor time of echo servers per message", size=20, weight="bold"),
        text(MARGIN, 60, subtitle, fill="#5c6670"),
    ]
    y = TOP
    for row, row_height in zip(rows, heights):
        for column, panel in enumerate(row):
            parts += draw_panel(panel, MARGIN + column * (WIDTH + GAP), y)
        y += row_height
    return "\n".join([*parts, "</svg>"]) + "\n"


def draw_panel(panel: Panel, x: int, y: int) -> list[str]:
    parts = [
        text(x, y + 18, panel.title, size=14, weight="bold"),
        f'<line x1="{x}" y1="{y + 28}" x2="{x + WIDTH}" y2="{y + 28}" stroke="#dee2e6"/>',
    ]
    if panel.unit:
        parts.append(text(x + WIDTH, y + 18, panel.unit, fill="#5c6670", anchor="end"))
    longest = max(bar.value for bar in panel.bars) or 1
    room = WIDTH - LABELS - VALUES
    limit = next((bar.value for bar in panel.bars if bar.is_limit), None)
    if limit and not panel.unit:
        at = x + LABELS + room * limit / longest
        bottom = y + HEAD - 10 + ROW * len(panel.bars) - 4
        line = f'<line x1="{at:.1f}" y1="{y + HEAD - 12}" x2="{at:.1f}" y2="{bottom}"'
        parts.append(f'{line} stroke="#868e96" stroke-dasharray="3 3"/>')
    for number, bar in enumerate(panel.bars):
        top = y + HEAD - 10 + number * ROW
        length = max(1.5, room * bar.value / longest)
        fill = OURS if bar.is_ours else LIMIT if bar.is_limit else OTHERS
        weight = "bold" if bar.is_ours else "normal"
        parts += [
            text(x + LABELS - 8, top + 12, bar.name, anchor="end", weight=weight),
            f'<rect x="{x + LABELS}" y="{top}" width="{length:.1f}" height="{ROW - 6}" rx="2" fill="{fill}"/>',
            text(x + LABELS + length + 6, top + 12, bar.label, weight=weight, halo=True),
        ]
    return parts


def text(
    x: float,
    y: float,
    words: str,
    size: float = 0,
    weight: str = "normal",
    fill: str = "#212529",
    anchor: str = "start",
    halo: bool = False,
) -> str:
    big = f' font-size="{size:g}"' if size else ""
    bold = f' font-weight="{weight}"' if weight != "normal" else ""
    end = f' text-anchor="{anchor}"' if anchor != "start" else ""
    edge = ' stroke="#ffffff" stroke-width="4" paint-order="stroke"' if halo else ""
    return f'<text x="{x:g}" y="{y:g}"{big}{bold}{end}{edge} fill="{fill}">{escape(words)}</text>'
