"""Names of output files that come from names in data, which may be anybody's."""

import hashlib

__all__ = ["output_name"]

_LONGEST = 180  # bytes: file systems take 255, and endings and temporary names are added


def output_name(name: str) -> str:
    """A name as the name of a file within a folder, never of one elsewhere.

    Separators of folders and what cannot be printed become ``_``, and so does a dot at the start; a name above 180
    bytes is cut and gets 16 digits of its SHA-256. All other names stay as they are, so that two may become one: see
    `mtmed.metrics.evaluation_cases` and `mtmed.inferers.inference_cases`, which refuse that.

    Example::

        >>> output_name("demo/../../case:1")
        'demo_.._.._case:1'
        >>> output_name("..")
        '_.'
    """
    safe = "".join(letter if letter.isprintable() and letter not in "/\\" else "_" for letter in name)
    if safe.startswith("."):
        safe = f"_{safe[1:]}"
    encoded = safe.encode()
    if len(encoded) <= _LONGEST:
        return safe or "_"
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:16]
    return f"{encoded[: _LONGEST - 17].decode(errors='ignore')}-{digest}"
