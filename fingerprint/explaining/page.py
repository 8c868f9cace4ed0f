"""The explanation as a page in one file, or as a picture."""

import html
from io import BytesIO
from pathlib import Path

from fingerprint.errors import AudioError
from fingerprint.explaining.evidence import Explanation
from fingerprint.explaining.picture import draw, label
from fingerprint.html_page import image, page

STYLE = "img{width:100%}td:last-child,th:last-child{text-align:left}"


def write_page(explanation: Explanation, path: Path, *, name: str, min_confidence: float) -> None:
    """Write HTML, or a PNG if the path ends in .png.

    Args:
        explanation: of the query.
        path: file to write.
        name: of the query, for the title.
        min_confidence: from which the best candidate counts as an answer.

    Raises:
        AudioError: the suffix is neither .html nor .png, or matplotlib is not installed.
    """
    kind = path.suffix.lower()
    if kind not in {".html", ".htm", ".png"}:
        raise AudioError(f"cannot write {path}: name a file that ends in .html or .png")
    drawn = picture(explanation, name=name, min_confidence=min_confidence)
    if kind == ".png":
        path.write_bytes(drawn)
        return
    path.write_text(_page(explanation, name, min_confidence, drawn), encoding="utf-8")


def picture(explanation: Explanation, *, name: str, min_confidence: float) -> bytes:
    """A PNG.

    Raises:
        AudioError: matplotlib is not installed.
    """
    figure = draw(explanation, f"{name}: {verdict(explanation, min_confidence)}", min_confidence)
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=100)
    return drawn.getvalue()


def verdict(explanation: Explanation, min_confidence: float) -> str:
    """The answer in a sentence."""
    best = explanation.matches[0]
    sure = f"{min(100 * best.confidence, 99.9):.1f} % sure"
    if best.confidence < min_confidence:
        return f"not in the library (the best candidate is {label(best)}, {sure})"
    return f"{label(best)}, {sure}"


def _page(explanation: Explanation, name: str, min_confidence: float, picture: bytes) -> str:
    rows = "".join(
        f"<tr><td>{min(100 * match.confidence, 99.9):.1f} %</td><td>{match.score:.3f}</td>"
        f"<td>{match.offset:.2f} s</td><td>{match.rate:.3f}</td>"
        f"<td>{html.escape(label(match))}</td></tr>"
        for match in explanation.matches
    )
    body = (
        f"<p><strong>{html.escape(verdict(explanation, min_confidence))}</strong></p>"
        f"{image(picture, 'spectrograms, similarity, evidence and candidates')}"
        "<p>The query is cut into overlapping windows of some two seconds, and each becomes a "
        "vector. If the query is from a track, its windows resemble the track's one after the "
        "other: a bright diagonal, and a green line that stays high where the others stay low.</p>"
        "<table><tr><th>confidence</th><th>score</th><th>offset</th><th>rate</th><th>track</th>"
        f"</tr>{rows}</table>"
    )
    return page(name, body, style=STYLE)
