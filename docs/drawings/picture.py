# SPDX-License-Identifier: Apache-2.0
"""Drawings of boxes, lanes and arrows, as SVG; no more than the pages of docs/explanation need."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

#: what a box is: fill and outline
TONES = {
    "guest": ("#e8f1fb", "#3b73af"),
    "kvm": ("#fdf1de", "#b7791f"),
    "c": ("#e6f4ea", "#2f855a"),
    "python": ("#f3e8fd", "#7b4bb3"),
    "plain": ("#ffffff", "#555555"),
}
LINE = 17  #: from one line of text to the next
Point = tuple[float, float]

HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" \
font-family="DejaVu Sans, Verdana, sans-serif" font-size="13" role="img">
<title>{title}</title>
<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto-start-reverse">\
<path d="M0 0 10 5 0 10z" fill="#333"/></marker></defs>
<rect width="{width}" height="{height}" fill="#fff"/>
"""


class Picture:
    """An SVG that grows with every call; what is drawn later lies on top.

    :param title: what somebody hears who cannot see it
    """

    def __init__(self, width: int, height: int, title: str) -> None:
        self._parts = [HEAD.format(width=width, height=height, title=escape(title))]

    def lane(self, x: float, y: float, width: float, height: float, name: str, tone: str) -> None:
        """A band for who runs what is in it, its name at the upper left."""
        fill, line = TONES[tone]
        self._parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{fill}" fill-opacity="0.45" stroke="{line}" '
            f'stroke-dasharray="4 3" rx="6"/>\n'
        )
        self.text(x + 10, y + 19, [name], bold=True, color=line)

    def box(self, x: float, y: float, width: float, height: float, lines: Sequence[str], tone: str = "plain") -> None:
        """A box with centred text."""
        fill, line = TONES[tone]
        self._parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{fill}" stroke="{line}" stroke-width="1.5" rx="4"/>\n'
        )
        top = y + height / 2 - LINE * (len(lines) - 1) / 2 + 4.5
        self.text(x + width / 2, top, lines, anchor="middle")

    def arrow(self, points: Sequence[Point], *, dashed: bool = False) -> None:
        """A line through POINTS, with its tip at the last."""
        path = " ".join(f"{x},{y}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(
            f'<polyline points="{path}" fill="none" stroke="#333" stroke-width="1.5"{dash} marker-end="url(#tip)"/>\n'
        )

    def text(
        self, x: float, y: float, lines: Sequence[str], *, anchor: str = "start", bold: bool = False, color: str = "#222"
    ) -> None:
        """Lines of text, the first with its foot at Y."""
        weight = ' font-weight="bold"' if bold else ""
        for index, line in enumerate(lines):
            self._parts.append(
                f'<text x="{x}" y="{y + LINE * index}" text-anchor="{anchor}" fill="{color}"{weight}>{escape(line)}</text>\n'
            )

    def svg(self) -> str:
        """The picture."""
        return "".join(self._parts) + "</svg>\n"
