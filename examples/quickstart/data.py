"""Labelled files for the quickstart, made from what every Python installation carries: its own library.

Each module of the standard library is a subject; each *maker* below turns a subject into a file of one type:
its source, its bytecode, a database of its symbols, an archive of it, a diff of a clean-up of it, ... The
modules are split before any file is made, so that calibration and evaluation share neither a file nor a
subject. Everything is a function of the Python version alone: no clock, no randomness but seeded.

    python examples/quickstart/data.py      # needs onnxruntime: types, counts and the model's accuracy
"""

from __future__ import annotations

import ast
import bz2
import configparser
import csv
import datetime
import difflib
import email.message
import email.utils
import gzip
import hashlib
import html
import importlib.util
import io
import json
import lzma
import pickle
import plistlib
import random
import re
import sqlite3
import struct
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import textwrap
import tokenize
import wave
import xml.etree.ElementTree as ElementTree
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

DOWNLOADS = Path(__file__).resolve().parent / "downloads"

CALIBRATION_FILES_PER_TYPE = 8
EVALUATION_FILES_PER_TYPE = 24

# Tests may be left out of an installation; the code pages are eighty near copies of one another.
SKIPPED_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "encodings", "lib2to3"}
EPOCH = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)


class Module(NamedTuple):
    """A source file of the standard library; ``path`` is relative to the library, with slashes."""

    path: str
    source: bytes

    @property
    def stem(self) -> str:
        return self.path.removesuffix(".py").removesuffix("/__init__").rpartition("/")[2]

    def random(self, purpose: str) -> random.Random:
        """Chooses formats and dates: the same for the same file and purpose."""
        return random.Random(f"{purpose} {self.path}")


class Definition(NamedTuple):
    """A function or class of a module."""

    kind: str
    name: str
    first_line: int
    last_line: int
    arguments: tuple[str, ...]
    docstring: str

    @property
    def summary(self) -> str:
        return self.docstring.partition("\n")[0]


Subjects = tuple[Module, ...]
"""A module and a few that go with it; makers of single files use the first only."""

Maker = Callable[[Subjects], bytes]


# --- Subjects ----------------------------------------------------------------------------------------------


@cache
def library() -> tuple[Module, ...]:
    """Modules with something in them, in an order that is shuffled but always the same."""
    root = Path(sysconfig.get_path("stdlib"))
    modules = {}
    for file in sorted(root.rglob("*.py")):
        path = file.relative_to(root)
        if SKIPPED_FOLDERS & set(path.parts):
            continue
        try:
            source = file.read_bytes()
        except OSError:
            continue
        if 2_000 <= len(source) <= 60_000 and source.count(b"def ") >= 4:
            modules[hashlib.sha256(source).digest()] = Module(path.as_posix(), source)
    if len(modules) < 200:
        raise FileNotFoundError(
            f"{root} holds {len(modules)} usable sources of the standard library, the quickstart needs 200; "
            "use a Python that is installed with its sources"
        )
    return tuple(sorted(modules.values(), key=lambda m: hashlib.sha256(m.path.encode()).digest()))


@cache
def definitions(module: Module) -> tuple[Definition, ...]:
    """The functions, classes and methods of a module, in order."""

    def walk(body: list[ast.stmt], prefix: str) -> Iterator[Definition]:
        for node in body:
            if isinstance(node, ast.ClassDef):
                yield describe(node, "class", prefix, tuple(ast.unparse(base) for base in node.bases))
                yield from walk(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                kind = "method" if prefix else "function"
                yield describe(node, kind, prefix, tuple(a.arg for a in node.args.args))

    def describe(
        node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef,
        kind: str,
        prefix: str,
        arguments: tuple[str, ...],
    ) -> Definition:
        docstring = ast.get_docstring(node) or ""
        last_line = node.end_lineno or node.lineno
        return Definition(kind, prefix + node.name, node.lineno, last_line, arguments, docstring)

    return tuple(walk(ast.parse(module.source).body, ""))


def words(module: Module) -> list[tuple[str, int, int]]:
    """Identifiers with the number of their uses and the offset of the first, most used first."""
    found = [(m[0].decode(), m.start()) for m in re.finditer(rb"[A-Za-z_]\w{2,}", module.source)]
    first = dict(reversed(found))
    return [(word, uses, first[word]) for word, uses in Counter(w for w, _ in found).most_common()]


def prose(module: Module) -> list[str]:
    """The docstrings of a module's classes and functions as paragraphs of plain running text."""
    docstrings = (d.docstring for d in definitions(module))
    paragraphs = [" ".join(p.split()) for doc in docstrings for p in re.split(r"\n\s*\n", doc)]
    plain = [re.sub(r"[`*]", "", p) for p in paragraphs]  # the markup of reStructuredText
    return [p for p in plain if len(p) > 80 and not re.search(r">>>|::|[{}=|]|--", p)]


def table(module: Module) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Header and rows of one of three tables about the module."""
    choice = module.random("table").randrange(3)
    if choice == 0:
        rows = [(d.kind, d.name, d.first_line, d.last_line, d.summary) for d in definitions(module)]
        return ["kind", "name", "first_line", "last_line", "summary"], rows
    if choice == 1:
        return ["word", "uses", "first_offset"], list(words(module))
    tokens = list(tokenize.tokenize(io.BytesIO(module.source).readline))
    header = ["line", "column", "type", "text"]
    kept = {tokenize.NAME, tokenize.NUMBER, tokenize.OP, tokenize.STRING}
    return header, [
        (t.start[0], t.start[1], tokenize.tok_name[t.type], t.string[:60]) for t in tokens if t.type in kept
    ]


def records(module: Module) -> list[dict[str, Any]]:
    header, rows = table(module)
    return [dict(zip(header, row, strict=True)) for row in rows]


def outline(module: Module) -> dict[str, Any]:
    """The module as nested values: what JSON, pickles and property lists hold."""
    style = module.random("outline")
    described_definitions = [
        {
            "kind": d.kind,
            "name": d.name,
            "line": d.first_line,
            "arguments": list(d.arguments),
            "doc": d.summary,
        }
        for d in definitions(module)
    ]
    described = {
        "module": module.stem,
        "size": len(module.source),
        "sha1": hashlib.sha1(module.source).hexdigest(),
        "definitions": described_definitions,
        "words": {word: uses for word, uses, _ in words(module)[:40]},
    }
    keys = style.sample(list(described), k=style.randint(3, len(described)))
    return {key: described[key] for key in keys}


# --- Makers: text -------------------------------------------------------------------------------------------


def python(subjects: Subjects) -> bytes:
    return subjects[0].source


def txt(subjects: Subjects) -> bytes:
    module = subjects[0]
    width = module.random("txt").choice((68, 72, 76, 79))
    paragraphs = [textwrap.fill(p, width) for p in prose(module)]
    text = "\n\n".join(paragraphs)
    return text.encode() if len(text) > 400 else b""


class MinimalCsv(csv.unix_dialect):
    quoting = csv.QUOTE_MINIMAL


def csv_table(subjects: Subjects) -> bytes:
    module = subjects[0]
    style = module.random("csv")
    header, rows = table(module)
    file = io.StringIO(newline="")
    dialect: type[csv.Dialect] = style.choice((csv.excel, csv.unix_dialect, csv.excel, MinimalCsv))
    csv.writer(file, dialect).writerows([header, *rows])
    return file.getvalue().encode()


def json_document(subjects: Subjects) -> bytes:
    module = subjects[0]
    style = module.random("json")
    value: Any = records(module) if style.random() < 0.4 else outline(module)
    return json.dumps(value, indent=style.choice((None, 2, 4)), sort_keys=style.random() < 0.3).encode()


def xml_document(subjects: Subjects) -> bytes:
    module = subjects[0]
    style = module.random("xml")
    root = ElementTree.Element("module", name=module.stem, size=str(len(module.source)))
    for definition in definitions(module):
        node = ElementTree.SubElement(root, definition.kind, name=definition.name)
        ElementTree.SubElement(
            node, "lines", first=str(definition.first_line), last=str(definition.last_line)
        )
        for argument in definition.arguments:
            ElementTree.SubElement(node, "argument").text = argument
        if definition.summary:
            ElementTree.SubElement(node, "summary").text = definition.summary
    if style.random() < 0.7:
        ElementTree.indent(root, style.choice(("  ", "    ", "\t")))
    document: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def html_page(subjects: Subjects) -> bytes:
    module = subjects[0]
    style = module.random("html")
    doctype = style.choice(("<!DOCTYPE html>", "<!doctype html>"))
    title = html.escape(module.stem)
    body = [f"<h1>{title}</h1>", *(f"<p>{html.escape(p)}</p>" for p in prose(module)[:3])]
    if style.random() < 0.5:
        header, rows = table(module)
        body.append("<table>\n<tr>" + "".join(f"<th>{name}</th>" for name in header) + "</tr>")
        body += [
            "<tr>" + "".join(f"<td>{html.escape(str(v))}</td>" for v in row) + "</tr>" for row in rows[:60]
        ]
        body.append("</table>")
    else:
        for d in definitions(module):
            body.append(
                f'<h2 id="{d.name}"><code>{d.name}({", ".join(map(html.escape, d.arguments))})</code></h2>'
            )
            body.append(f"<p>{html.escape(d.summary) or 'Not documented.'}</p>")
    head = f'<head>\n<meta charset="utf-8">\n<title>{title}</title>\n</head>'
    return "\n".join([doctype, '<html lang="en">', head, "<body>", *body, "</body>", "</html>", ""]).encode()


def ini(subjects: Subjects) -> bytes:
    module = subjects[0]
    style = module.random("ini")
    config = configparser.ConfigParser(interpolation=None)
    config["module"] = {"name": module.stem, "path": module.path, "bytes": str(len(module.source))}
    for d in definitions(module):
        config[d.name] = {"kind": d.kind, "first_line": str(d.first_line), "last_line": str(d.last_line)}
        if d.arguments:
            config[d.name]["arguments"] = ", ".join(d.arguments)
        if d.summary:
            config[d.name]["summary"] = d.summary
    file = io.StringIO()
    config.write(file, space_around_delimiters=style.random() < 0.7)
    return file.getvalue().encode()


def diff(subjects: Subjects) -> bytes:
    """What a clean-up would change: the source against its syntax tree printed again."""
    module = subjects[0]
    if len(module.source) > 20_000:  # comparing longer ones takes its time
        return b""
    old = module.source.decode(errors="replace").splitlines(keepends=True)
    new = (ast.unparse(ast.parse(module.source)) + "\n").splitlines(keepends=True)
    names = f"a/Lib/{module.path}", f"b/Lib/{module.path}"
    return "".join(difflib.unified_diff(old, new, *names, n=3)).encode()


def mail(subjects: Subjects) -> bytes:
    """A message about a module, often with the module or a table of it attached."""
    module = subjects[0]
    style = module.random("mail")
    sent = EPOCH + datetime.timedelta(seconds=style.randrange(60_000_000))
    people = [m.stem for m in subjects]
    message = email.message.EmailMessage()
    message["From"] = f"{people[1].title()} <{people[1]}@example.org>"
    message["To"] = ", ".join(f"{name}@example.com" for name in people[2:4])
    message["Subject"] = f"[Patch] {module.stem}: {definitions(module)[0].summary or 'review'}"
    message["Date"] = email.utils.format_datetime(sent)
    message["Message-ID"] = f"<{style.randrange(10**12)}.{module.stem}@example.org>"
    message.set_content("\n\n".join(textwrap.fill(p, 72) for p in prose(module)[:4]) or "See the attachment.")
    if style.random() < 0.6:
        message.add_attachment(
            module.source, maintype="text", subtype="x-python", filename=f"{module.stem}.py"
        )
        message.set_boundary(f"==============={style.randrange(10**19):019d}==")
    return message.as_bytes()


def property_list(subjects: Subjects) -> bytes:
    return plistlib.dumps(outline(subjects[0]), fmt=plistlib.FMT_XML)


def sql(subjects: Subjects) -> bytes:
    connection = sqlite3.connect(":memory:")
    _fill(connection, subjects[0])
    script = "\n".join(connection.iterdump())
    connection.close()
    return script.encode()


# --- Makers: binary -----------------------------------------------------------------------------------------


def sqlite(subjects: Subjects) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "symbols.db"
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA synchronous = OFF")
        style = subjects[0].random("sqlite")
        connection.execute(f"PRAGMA page_size = {style.choice((1024, 4096))}")
        connection.execute(f"PRAGMA user_version = {style.randrange(1000)}")
        _fill(connection, subjects[0])
        connection.close()
        return path.read_bytes()


def _fill(connection: sqlite3.Connection, module: Module) -> None:
    """The symbols of a module as one or two tables with an index."""
    style = module.random("database")
    name = re.sub(r"\W", "_", module.stem)
    header, rows = table(module)
    columns = ", ".join(
        f"{c} {'INTEGER' if isinstance(v, int) else 'TEXT'}" for c, v in zip(header, rows[0], strict=True)
    )
    connection.execute(f"CREATE TABLE {name}_{header[0]}s (id INTEGER PRIMARY KEY, {columns})")
    marks = ", ".join("?" for _ in header)
    connection.executemany(
        f"INSERT INTO {name}_{header[0]}s ({', '.join(header)}) VALUES ({marks})",
        rows[: style.randint(20, 400)],
    )
    if style.random() < 0.5:
        connection.execute("CREATE TABLE meta (key TEXT NOT NULL UNIQUE, value)")
        facts = {"path": module.path, "bytes": len(module.source), "definitions": len(definitions(module))}
        connection.executemany("INSERT INTO meta VALUES (?, ?)", facts.items())
    if style.random() < 0.5:
        connection.execute(f"CREATE INDEX by_{header[0]} ON {name}_{header[0]}s ({header[0]})")
    connection.commit()


def pickled(subjects: Subjects) -> bytes:
    module = subjects[0]
    style = module.random("pickle")
    value: Any = style.choice((outline, records, table))(module)
    return pickle.dumps(value, protocol=style.choice((2, 3, 4, 4, 5)))


def binary_property_list(subjects: Subjects) -> bytes:
    return plistlib.dumps(outline(subjects[0]), fmt=plistlib.FMT_BINARY)


def gzipped(subjects: Subjects) -> bytes:
    module = subjects[0]
    style = module.random("gzip")
    file = io.BytesIO()
    name = style.choice(("", f"{module.stem}.py"))
    with gzip.GzipFile(
        name, "wb", style.choice((1, 6, 9)), file, mtime=style.randrange(2) * EPOCH.timestamp()
    ) as packed:
        packed.write(module.source)
    return file.getvalue()


def bzipped(subjects: Subjects) -> bytes:
    return bz2.compress(subjects[0].source, subjects[0].random("bzip").randint(1, 9))


def xzipped(subjects: Subjects) -> bytes:
    check = subjects[0].random("xz").choice((lzma.CHECK_CRC32, lzma.CHECK_CRC64, lzma.CHECK_SHA256))
    return lzma.compress(subjects[0].source, check=check, preset=1)


def zlib_stream(subjects: Subjects) -> bytes:
    return zlib.compress(subjects[0].source, subjects[0].random("zlib").choice((1, 6, 9)))


def zipped(subjects: Subjects) -> bytes:
    style = subjects[0].random("zip")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for module in subjects[: style.randint(1, len(subjects))]:
            when = EPOCH + datetime.timedelta(seconds=2 * style.randrange(30_000_000))
            member = zipfile.ZipInfo(module.path, when.timetuple()[:6])
            member.compress_type = style.choice(
                (zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED)
            )
            member.external_attr = 0o644 << 16
            member.create_system = 3  # as written on Unix, wherever this runs
            archive.writestr(member, module.source)
    return file.getvalue()


def tarred(subjects: Subjects) -> bytes:
    style = subjects[0].random("tar")
    file = io.BytesIO()
    kind = style.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    owner = style.choice(("root", "user", "build"))
    with tarfile.open(fileobj=file, mode="w", format=kind) as archive:
        for module in subjects[: style.randint(1, len(subjects))]:
            member = tarfile.TarInfo(f"Lib/{module.path}")
            member.size = len(module.source)
            member.mtime = int(EPOCH.timestamp()) + style.randrange(60_000_000)
            member.uname = member.gname = owner
            member.uid = member.gid = 0 if owner == "root" else 1000
            archive.addfile(member, io.BytesIO(module.source))
    return file.getvalue()


def sound(subjects: Subjects) -> bytes:
    """A module as a tune: a definition is a note, its length in lines the duration, its name the pitch."""
    module = subjects[0]
    style = module.random("wav")
    rate = style.choice((8_000, 11_025, 22_050, 44_100))
    width, channels = style.choice((1, 2, 2)), style.choice((1, 2))
    notes = []
    for d in definitions(module)[:12]:
        seconds = min(0.03 + 0.004 * (d.last_line - d.first_line), 0.2)
        t = np.arange(int(rate * seconds)) / rate
        pitch = 220 * 2 ** (zlib.crc32(d.name.encode()) % 36 / 12)
        overtones = sum(np.sin(2 * np.pi * pitch * k * t) / k for k in (1, 2, 3))
        notes.append(overtones * np.exp(-t * 12) / 2)
    wave_form = np.concatenate(notes) * 0.9
    samples = (wave_form * 32_000).astype("<i2") if width == 2 else (wave_form * 120 + 128).astype(np.uint8)
    file = io.BytesIO()
    with wave.open(file, "wb") as recording:
        recording.setnchannels(channels)
        recording.setsampwidth(width)
        recording.setframerate(rate)
        recording.writeframes(np.repeat(samples, channels).tobytes())
    return file.getvalue()


COMPILE = """
import marshal, sys
code = compile(sys.stdin.buffer.read(), sys.argv[1], "exec", dont_inherit=True)
sys.stdout.buffer.write(marshal.dumps(code))
"""


def bytecode(subjects: Subjects) -> bytes:
    """A .pyc file as py_compile writes it: magic number, flags, time and size of the source (PEP 552), code.

    Compiled in a process of its own: which strings the marshal format writes as references depends on what
    else the interpreter has loaded.
    """
    module = subjects[0]
    built = int(EPOCH.timestamp()) + module.random("pyc").randrange(60_000_000)
    command = [sys.executable, "-I", "-S", "-W", "ignore", "-c", COMPILE, f"/usr/lib/python/{module.path}"]
    code = subprocess.run(command, input=module.source, stdout=subprocess.PIPE, check=True).stdout
    return importlib.util.MAGIC_NUMBER + struct.pack("<III", 0, built, len(module.source)) + code


# --- The two sets -------------------------------------------------------------------------------------------

MAKERS: dict[str, Maker] = {
    "python": python,
    "txt": txt,
    "csv": csv_table,
    "json": json_document,
    "xml": xml_document,
    "html": html_page,
    "ini": ini,
    "diff": diff,
    "eml": mail,
    "appleplist": property_list,
    "sql": sql,
    "pythonbytecode": bytecode,
    "sqlite": sqlite,
    "pickle": pickled,
    "applebplist": binary_property_list,
    "gzip": gzipped,
    "bzip": bzipped,
    "xz": xzipped,
    "zlibstream": zlib_stream,
    "zip": zipped,
    "tar": tarred,
    "wav": sound,
}
"""By the model's label. Each maker is a pure function of its subjects."""


class File(NamedTuple):
    label: str
    subject: str
    content: bytes


def make_files(modules: tuple[Module, ...], count_per_type: int) -> list[File]:
    """``count_per_type`` files of every type, each from another module.

    A file too small for the model (see ``tokens``) is passed over: that module has nothing of that type.
    """
    files = []
    for label, maker in MAKERS.items():
        order = random.Random(label).sample(modules, len(modules))
        made = 0
        for i, module in enumerate(order):
            if made == count_per_type:
                break
            content = maker((module, *(order[(i + k) % len(order)] for k in range(1, 5))))
            if tokens(content) is not None:
                files.append(File(label, module.path, content))
                made += 1
    return files


def calibration_files() -> list[File]:
    return make_files(library()[::3], CALIBRATION_FILES_PER_TYPE)


def evaluation_files() -> list[File]:
    modules = library()
    return make_files(tuple(m for i, m in enumerate(modules) if i % 3), EVALUATION_FILES_PER_TYPE)


@cache
def config() -> dict[str, Any]:
    """The model's own configuration: sizes of its input, padding, names of its outputs."""
    path = DOWNLOADS / "config.min.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; run: python {DOWNLOADS.parent / 'fetch.py'}")
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def tokens(content: bytes) -> np.ndarray[Any, np.dtype[np.int32]] | None:
    """What the model sees of a file: int32 [2048], bytes as integers and 256 for padding.

    The first block of the file without leading whitespace gives the first half, padded at its end; the last
    block without trailing whitespace gives the second half, padded at its start. None where fewer than 8
    bytes are left to judge by. As the package ``magika`` 1.0.3 does it (feature extraction v2).
    """
    c = config()
    head = content[: c["block_size"]].lstrip()[: c["beg_size"]]
    tail = content[-c["block_size"] :].rstrip()[-c["end_size"] :]
    if len(content) < c["min_file_size_for_dl"] or len(head) < c["min_file_size_for_dl"]:
        return None
    row = np.full(c["beg_size"] + c["end_size"], c["padding_token"], dtype=np.int32)
    row[: len(head)] = np.frombuffer(head, dtype=np.uint8)
    row[len(row) - len(tail) :] = np.frombuffer(tail, dtype=np.uint8)
    return row


def arrays(files: list[File]) -> dict[str, np.ndarray[Any, Any]]:
    """``bytes``: int32 [n, 2048]; ``labels``: int64 [n], indices of the model's output."""
    names = config()["target_labels_space"]
    rows = [row for file in files if (row := tokens(file.content)) is not None]
    return {
        "bytes": np.stack(rows),
        "labels": np.array([names.index(f.label) for f in files], dtype=np.int64),
    }


def calibration() -> dict[str, np.ndarray[Any, Any]]:
    """Input for quantization. The labels are there but nobody needs them."""
    return arrays(calibration_files())


def evaluation() -> dict[str, np.ndarray[Any, Any]]:
    """Input and labels to measure accuracy with; no subject of it is in the calibration set."""
    return arrays(evaluation_files())


def main() -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(DOWNLOADS / "model.onnx", providers=["CPUExecutionProvider"])
    print(f"{'type':<16}{'calibration':>12}{'evaluation':>12}{'accuracy':>10}  taken for")
    names, calibrated, data = config()["target_labels_space"], calibration()["labels"], evaluation()
    answers = session.run(None, {"bytes": data["bytes"]})[0].argmax(axis=1)
    accuracies = []
    for label in MAKERS:
        index = names.index(label)
        given = answers[data["labels"] == index]
        accuracies.append(float((given == index).mean()))
        counts = f"{(calibrated == index).sum():>12}{len(given):>12}"
        mistaken = Counter(names[a] for a in given if a != index).most_common()
        others = ", ".join(f"{name} {count}" for name, count in mistaken)
        print(f"{label:<16}{counts}{accuracies[-1]:>10.3f}  {others}".rstrip())
    overall = float((answers == data["labels"]).mean())
    print(f"{'all':<16}{len(calibrated):>12}{len(answers):>12}{overall:>10.3f}")
    print(f"macro accuracy {sum(accuracies) / len(accuracies):.3f} over {len(MAKERS)} types")


if __name__ == "__main__":
    main()
