"""Writes the digest of each container image behind its tag: `make pin-images`.

A tag can be moved to other content, a digest cannot. Digests come from the images' registry, by whichever of docker,
skopeo and crane is installed. Unless every one is found, nothing is written.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILES = ("docker-compose.yml", "Dockerfile")
LIMIT_SECONDS = 300.0
"""For one image: the last way pulls it."""

_REFERENCE = re.compile(
    r"^(?P<before>[ ]*image:[ ]*|ARG[ ]+\w+_IMAGE=)(?P<image>[\w./-]+:[\w.-]+)(?P<digest>@sha256:[0-9a-f]{64})?[ ]*$",
    re.MULTILINE,
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
Ask = Callable[[Sequence[str]], str]


class NoDigestError(Exception):
    """An image has no digest that could be found; the text names the image and says why."""


def asked(argv: Sequence[str]) -> str:
    """What a program prints. Raises OSError or subprocess.SubprocessError."""
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=LIMIT_SECONDS)
    return done.stdout


def digest_of(image: str, ask: Ask = asked) -> str:
    """The digest that the registry has for an image now. Raises NoDigestError."""
    reasons = []
    for argv in (
        ("docker", "buildx", "imagetools", "inspect", "--format", "{{.Manifest.Digest}}", image),
        ("skopeo", "inspect", "--format", "{{.Digest}}", f"docker://{image}"),
        ("crane", "digest", image),
    ):
        try:
            found = _DIGEST.search(ask(argv))
        except (OSError, subprocess.SubprocessError) as error:
            reasons.append(f"{argv[0]}: {_reason(error)}")
            continue
        if found is not None:
            return found[0]
        reasons.append(f"{argv[0]}: it named no digest")
    raise NoDigestError(f"{image}: {'; '.join(reasons)}")


def pinned(text: str, find: Callable[[str], str] = digest_of) -> str:
    """A file's text with the digest of each image. Raises NoDigestError."""
    return _REFERENCE.sub(lambda match: f"{match['before']}{match['image']}@{find(match['image'])}", text)


def main() -> int:
    """Pins the images of all files, or none."""
    try:
        texts = {name: pinned((ROOT / name).read_text(encoding="utf-8")) for name in FILES}
    except NoDigestError as error:
        print(f"no image registry was reached, so nothing was changed\n  {error}", file=sys.stderr)  # noqa: T201
        return 1
    for name, text in texts.items():
        (ROOT / name).write_text(text, encoding="utf-8")
        print(f"{name}: {len(_REFERENCE.findall(text))} images pinned")  # noqa: T201
    return 0


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return (error.stderr.strip().splitlines() or ["it failed"])[0][:200]
    return "not installed" if isinstance(error, FileNotFoundError) else type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
