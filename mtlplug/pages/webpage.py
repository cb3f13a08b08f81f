"""Templates to one self-contained HTML file. Knows nothing of what is shown."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mtlplug.pages import wording
from mtlplug.pages.charts import swatch


def render_page(package: str, template: str, **values: Any) -> str:
    """A page from a template of a package that extends the `base.html` of this one.

    All text is escaped; the page's own rule (a Content-Security-Policy in `base.html`) forbids
    scripts and whatever would be fetched, and lets in the one style sheet by its hash, so that
    nothing in the results can run or be sent anywhere even if it were not escaped.

    Args:
        package: the template's.
        template: name of its file.
        values: what it shows.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader("mtlplug.pages", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "score": wording.score,
        "duration": wording.duration,
        "plural": wording.plural,
        "listing": wording.listing,
        "folded": wording.folded,
        "digest": digest,
    }
    environment.globals["swatch"] = swatch
    return environment.get_template(template).render(**values)


def digest(text: Markup) -> str:
    """Names a style sheet in a Content-Security-Policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
