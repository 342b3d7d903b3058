"""What MkDocs does not do by itself with these pages.

They are written to be read on GitHub as well, with links to files of the repository. On the site
the changelog and two other files of the repository are pages, other files are links to GitHub, and
formulas are MathML, which needs no script.
"""

from __future__ import annotations

import html
import posixpath
import re
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
# Files outside of docs/ that are pages of the site.
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
PICTURES = "benchmarks/results/"

_LINK = re.compile(r"(\]\()([^)\s#:]+)(#[\w-]+)?(\))")
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_FORMULA = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.DOTALL)


def on_files(files, config):
    """Adds the pages and pictures that lie outside of docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for path in sorted((ROOT / PICTURES).glob("*.png")):
        place = f"{PICTURES}{path.name}"
        files.append(File.generated(config, place, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links as they are in the repository become links of the site, or to GitHub."""
    place = page.file.src_uri
    source = {to: name for name, to in PAGES.items()}.get(place, f"docs/{place}")

    def follow(match):
        begin, link, anchor, end = match.groups()
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
        if not (ROOT / target).exists():
            raise PluginError(f"{source} links to {link}, which does not exist")
        if target in PAGES:
            target = PAGES[target]
        elif target.startswith("docs/"):
            target = target.removeprefix("docs/")
        elif not (target.startswith(PICTURES) and target.endswith(".png")):
            kind = "tree" if (ROOT / target).is_dir() else "blob"
            return f"{begin}{config.repo_url.rstrip('/')}/{kind}/main/{target}{anchor or ''}{end}"
        relative = posixpath.relpath(target, posixpath.dirname(place) or ".")
        return f"{begin}{relative}{anchor or ''}{end}"

    parts = _FENCE.split(markdown)
    return "".join(p if p.startswith("```") else _LINK.sub(follow, p) for p in parts)


def on_post_page(output, page, config):
    """Formulas become MathML."""

    def draw(match):
        # Between \( and \), or \[ and \].
        text = html.unescape(match[2]).strip()[2:-2]
        return convert(text, display="inline" if match[1] == "span" else "block")

    return _FORMULA.sub(draw, output)
