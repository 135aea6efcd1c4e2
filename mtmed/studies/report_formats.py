"""The report of a study in plain text, in Markdown and as one HTML page."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass

from mtmed.metrics.tables import aligned_table
from mtmed.studies.pictures import Picture

__all__ = ["Block", "html_page", "markdown", "plain_text"]

_STYLE = """body{font-family:sans-serif;margin:2em;max-width:100em}table{border-collapse:collapse;margin:.5em 0 1.5em}
th,td{border-bottom:1px solid #ccc;padding:.2em .8em;text-align:left;white-space:nowrap}img{max-width:100%}"""


@dataclass(frozen=True)
class Block:
    """A table in words, or lines of text: what every format of the report is made from."""

    heading: str
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    lines: Sequence[str] = ()


def plain_text(title: str, blocks: Sequence[Block]) -> str:
    """The report in plain text, tables aligned."""
    parts = [title]
    for block in blocks:
        lines = list(block.lines)
        if block.header:
            lines.append(aligned_table([block.header, *block.rows]))
        parts.append("\n".join([block.heading, *lines]))
    return "\n\n".join(parts)


def markdown(title: str, blocks: Sequence[Block]) -> str:
    """The report in Markdown."""
    parts = [f"# {title}"]
    for block in blocks:
        lines = [f"- {line}" for line in block.lines]
        if block.header:
            grid = [block.header, ["---"] * len(block.header), *block.rows]
            lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in grid]
        parts += [f"## {block.heading}", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def html_page(title: str, blocks: Sequence[Block], pictures: Sequence[Picture]) -> str:
    """The report as one HTML page that holds its pictures, so that it can be sent alone."""
    parts = [f"<h1>{html.escape(title)}</h1>"]
    for block in blocks:
        parts.append(f"<h2>{html.escape(block.heading)}</h2>")
        if block.lines:
            parts.append("<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in block.lines) + "</ul>")
        if block.header:
            head = "".join(f"<th>{html.escape(cell)}</th>" for cell in block.header)
            body = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in block.rows]
            parts.append(f"<table><tr>{head}</tr>" + "".join(f"<tr>{row}</tr>" for row in body) + "</table>")
    for picture in pictures:
        if picture.path is None:
            continue
        data = base64.b64encode(picture.path.read_bytes()).decode()
        caption = html.escape(picture.caption)
        parts.append(f'<h2>{caption}</h2><img alt="{caption}" src="data:image/png;base64,{data}">')
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(parts) + "\n</body></html>\n"
