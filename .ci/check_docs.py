"""Whether a built site has every public name in its reference, and no link that leads nowhere.

mkdocs build --strict --site-dir SITE && python .ci/check_docs.py SITE
"""

import ast
import pathlib
import posixpath
import sys
import urllib.parse
import zlib
from html.parser import HTMLParser

ROOT = pathlib.Path(__file__).resolve().parents[1]


def public_names():
    """What the modules without an underscore in their path name in `__all__`."""
    for path in sorted((ROOT / "importance_sampling").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if any(part.startswith("_") for part in parts):
            continue
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                yield from (f"{'.'.join(parts)}.{name}" for name in ast.literal_eval(node.value))


def documented_names(site):
    """What the site's inventory of objects lists."""
    head = (site / "objects.inv").read_bytes().split(b"\n", 4)
    lines = zlib.decompress(head[4]).decode().splitlines()
    return {line.split()[0] for line in lines if line.strip()}


class Page(HTMLParser):
    """The links and anchors of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors, self.titles = [], set(), 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs[name] for name in ("id", "name") if attrs.get(name)}
        self.titles += tag == "h1"
        for name in ("href", "src"):
            if attrs.get(name) and tag != "link":
                self.links.append(attrs[name])
        if tag == "img" and not attrs.get("alt"):
            self.links.append("(a picture without a description)")


def broken_links(site):
    """Pairs of a page and a link of it that leads nowhere within the site."""
    pages = {p.relative_to(site).as_posix(): Page(p.read_text()) for p in site.rglob("*.html")}
    for place, page in sorted(pages.items()):
        if place == "404.html":
            continue
        if page.titles != 1:
            yield place, f"({page.titles} headings of the first level)"
        for link in page.links:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            path = urllib.parse.unquote(parts.path)
            target = posixpath.normpath(posixpath.join(posixpath.dirname(place), path))
            target = place if not path else target
            if path.endswith("/") or (site / target).is_dir():
                target = posixpath.normpath(posixpath.join(target, "index.html"))
            anchor = urllib.parse.unquote(parts.fragment)
            known = pages[target].anchors if target in pages else {anchor}
            if not (site / target).is_file() or (anchor and anchor not in known):
                yield place, link


def main():
    site = pathlib.Path(sys.argv[1]).resolve()
    names = set(public_names())
    missing = sorted(names - documented_names(site) - {"importance_sampling.__version__"})
    for name in missing:
        sys.stderr.write(f"not in the reference: {name}\n")
    broken = sorted(set(broken_links(site)))
    for place, link in broken:
        sys.stderr.write(f"{place}: {link} leads nowhere\n")
    if missing or broken:
        sys.exit(1)
    sys.stdout.write(f"{len(names)} public names are in the reference; no link is broken\n")


if __name__ == "__main__":
    main()
