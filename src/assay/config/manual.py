"""The manual of params.yaml, made from the sections' own types, defaults and descriptions."""

from __future__ import annotations

import ast
import difflib
import inspect
import itertools
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen, MultipleOf
from pydantic.fields import FieldInfo

from assay.code import prose
from assay.config.losses import known_losses
from assay.config.params import Params
from assay.errors import SettingsError
from assay.section import Section
from assay.targets import KINDS

BAR = "\\|"  # of a table's cell
NAMED = {
    "corpora": "<corpus>",
    "tasks": "<task>",
    "students": "<student>",
    "audits": "<audit>",
    "generators": "<generator>",
}
HEAD = """# Settings

<!-- Made by `make manual` from src/assay/config and src/assay/targets; a test says when it is stale. -->

Every setting that params.yaml may have, with its values, default and meaning. `assay settings train.lr` prints the \
same for a setting or for all below a key, with what it is set to here. Names in angle brackets are yours to choose, \
of letters, digits, `_` and `-`. What params.yaml leaves out has its default, also a whole section. \
`assay check` says in one line what is wrong: an unknown key, a wrong type, a name that does not exist.

For one experiment: `dvc exp run -S tasks.sentiment.train.lr=0.003`; a key that params.yaml does not write out wants a \
plus: `dvc exp run -S +tasks.sentiment.train.warmup=0.2`. Write 0.001, not 1e-3, which YAML reads as text. No YAML \
anchors.
"""


class Setting(NamedTuple):
    """A setting as the manual shows it."""

    key: str  # tasks.<task>.train.lr
    kinds: tuple[str, ...]  # the kinds of its section that have it; () where all have
    values: str  # what is allowed, in words
    default: str  # as YAML; "" where it must be given
    about: str

    @property
    def parts(self) -> list[str]:
        """Its key in parts."""
        return self.key.split(".")


def settings(model: type[Section] = Params, prefix: str = "") -> Iterator[Setting]:
    """Every setting below a section, in the order of its fields; a section comes before what it holds."""
    for name, field in model.model_fields.items():
        yield from _setting(f"{prefix}{field.alias or name}", field, described(model)[name])


@cache
def described(model: type[Section]) -> dict[str, str]:
    """What stands below each setting of a section, or of a section that it builds on; "" where nothing does."""
    found = dict.fromkeys(model.model_fields, "")
    for one in reversed(model.__mro__):
        if issubclass(one, Section) and one is not Section:
            body = ast.parse(textwrap.dedent(inspect.getsource(one))).body[0]
            for above, below in itertools.pairwise(getattr(body, "body", ())):
                said = prose(below)
                if isinstance(above, ast.AnnAssign) and isinstance(above.target, ast.Name) and said:
                    found[above.target.id] = " ".join(said.split())
    return found


def _setting(key: str, field: FieldInfo, about: str) -> Iterator[Setting]:
    default = "" if field.is_required() else _as_yaml(field.get_default(call_default_factory=True))
    sections, below = _sections(field.annotation), key
    yield Setting(key, (), _values(_annotated(field)), default, about)
    if get_origin(field.annotation) is dict:
        below = f"{key}.{NAMED.get(key, '<name>')}"
    if len(sections) == 1:
        yield from settings(sections[0], f"{below}.")
    elif sections:
        yield from _of_kinds(sections, below)


def _of_kinds(sections: Sequence[type[Section]], key: str) -> Iterator[Setting]:
    """The settings of sections that differ in their `kind`: first what all have, then what only some have."""
    by_kind = {get_args(one.model_fields["kind"].annotation)[0]: one for one in sections}
    yield Setting(f"{key}.kind", (), " | ".join(by_kind), "", "Which of these it is.")
    found: dict[Setting, list[str]] = {}
    for kind, section in by_kind.items():
        for name, field in section.model_fields.items():
            if name != "kind":
                for one in _setting(f"{key}.{field.alias or name}", field, described(section)[name]):
                    found.setdefault(one, []).append(kind)
    for one, those in sorted(found.items(), key=lambda item: -len(item[1])):
        yield one._replace(kinds=() if len(those) == len(by_kind) else tuple(those))


def _sections(annotation: Any) -> list[type[Section]]:
    """The section classes that stand inside a type, each once."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return list(dict.fromkeys(one for inner in get_args(annotation) for one in _sections(inner)))


def _annotated(field: FieldInfo) -> Any:
    """A field's type with the bounds that pydantic took off it."""
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def _values(annotation: Any, bounds: Sequence[Any] = ()) -> str:
    """What a type allows, in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        whole = [
            part for one in annotation.__metadata__ for part in (one.metadata if isinstance(one, FieldInfo) else [one])
        ]
        return _values(inner[0], whole)
    if origin is Literal:
        return " | ".join(map(str, inner))
    if annotation is type(None):
        return "null"
    if annotation is bool:
        return "true | false"
    if annotation in (int, float):
        return " ".join(filter(None, ["whole number" if annotation is int else "number", _range(bounds)]))
    if annotation is str:
        return "text"
    if origin in (list, dict):
        length = _length(bounds)
        what = _values(inner[-1])
        return (f"list of {what}" if origin is list else f"names with {what}") + (f", {length}" if length else "")
    if inner:
        return ", or ".join(dict.fromkeys(filter(None, (_values(one) for one in inner))))
    return "a section" if _sections(annotation) else "anything"


def _range(bounds: Sequence[Any]) -> str:
    low = next((f"{b.ge:g}" for b in bounds if isinstance(b, Ge)), "")
    above = next((f"{b.gt:g}" for b in bounds if isinstance(b, Gt)), "")
    high = next((str(b.le) for b in bounds if isinstance(b, Le)), "")
    below = next((f"{b.lt:g}" for b in bounds if isinstance(b, Lt)), "")
    step = next((f"a multiple of {b.multiple_of}" for b in bounds if isinstance(b, MultipleOf)), "")
    end = f" to {high}" if high else f" to below {below}" if below else ""
    if above:
        return f"above {above}{end}"
    if low:
        return f"{low}{end}" if end else f"{low} or more" + (f", {step}" if step else "")
    return end.strip()


def _length(bounds: Sequence[Any]) -> str:
    low = next((f"at least {b.min_length}" for b in bounds if isinstance(b, MinLen) and b.min_length), "")
    high = next((f"at most {b.max_length}" for b in bounds if isinstance(b, MaxLen)), "")
    return " and ".join(filter(None, [low, high]))


def _as_yaml(value: Any) -> str:
    """A value on one line, as YAML takes it; a section with defaults alone is {}."""
    if isinstance(value, Section):
        return "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_as_yaml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_as_yaml(one)}" for name, one in value.items()) + "}"
    return value if isinstance(value, str) and value else json.dumps(value)


# ------------------------------------------------------------------------------------------- docs/settings.md


def as_markdown() -> str:
    """The whole of docs/settings.md."""
    found: dict[str, list[str]] = {}
    for one in settings():
        name, _, last = one.key.rpartition(".")
        if one.values == "a section" or one.key in NAMED:
            continue
        only = f" *Only kind {', '.join(one.kinds)}.*" if one.kinds else ""
        default = f"`{one.default}`" if one.default else "*must be given*"
        cells = (f"`{last}`", one.values, default, one.about + only)
        found.setdefault(name, []).append(f"| {' | '.join(cell.replace('|', BAR) for cell in cells)} |")
    lines = [HEAD]
    first = {tuple(rows): name for name, rows in reversed(found.items())}
    for name, rows in found.items():
        lines += _heading(name)
        if first[tuple(rows)] != name:
            lines += [f"As `{first[tuple(rows)]}`.", ""]
        else:
            lines += ["| setting | values | default | meaning |", "|---|---|---|---|", *rows, ""]
    return "\n".join([*lines, *_kinds()]) + "\n"


def _heading(section: str) -> list[str]:
    """The heading of a section, with what it is for."""
    if not section:
        return ["## params.yaml", ""]
    known = {one.key: one.about for one in settings()}
    about = known.get(section) or known.get(section.rpartition(".")[0], "")
    return [f"## {section}", "", *([about, ""] if about else [])]


def _kinds() -> Iterator[str]:
    """What each kind of target is judged and taught by."""
    yield "## Kinds of target"
    yield ""
    yield "| kind | what it is | `train.metric`: loss, or | `train.loss`: auto is the first of |"
    yield "|---|---|---|---|"
    for kind, target in KINDS.items():
        stops = ", ".join(metric.name for metric in target.metrics if metric.stops)
        about = (target.__doc__ or "").strip().partition("\n")[0]
        yield f"| `{kind}` | {about} | {stops} | {', '.join(known_losses(kind)[1:])} |"


# ---------------------------------------------------------------------------------------------- assay settings


def find(query: str) -> list[Setting]:
    """The settings at or below a key, whose names may be left out; SettingsError with the likeliest if none is."""
    wanted = [part for part in query.split(".") if part]
    everything = list(settings())
    found = [one for one in everything if _fits(wanted, one.parts)]
    if not found:  # the end of a key: train.lr
        found = [one for one in everything if any(_fits(wanted, one.parts[i:]) for i in range(len(one.parts)))]
    if not found:
        plain = {".".join(part for part in one.parts if part[0] != "<"): one for one in everything}
        near = difflib.get_close_matches(query, plain, n=3, cutoff=0.5)
        near += [key for key in plain if difflib.get_close_matches(wanted[-1], [key.rpartition(".")[2]], cutoff=0.8)]
        hint = f"; did you mean {', '.join(dict.fromkeys(near[:4]))}?" if near else f"; allowed: {', '.join(NAMED)}, …"
        raise SettingsError(f"no setting {query!r}{hint}")
    return found


def _fits(wanted: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether a query is the beginning of a key; a name in the key may be left out, or given."""
    if not wanted:
        return True
    if not parts:
        return False
    if parts[0].startswith("<"):
        return _fits(wanted, parts[1:]) or _fits(wanted[1:], parts[1:])
    return wanted[0] == parts[0] and _fits(wanted[1:], parts[1:])


def as_text(one: Setting, values: Mapping[str, Any]) -> str:
    """A setting for the terminal, with what it is here where that is not its default."""
    default = f"default {one.default}" if one.default else "must be given"
    kinds = f"; only kind {', '.join(one.kinds)}" if one.kinds else ""
    lines = [one.key, f"    {one.values}; {default}{kinds}"]
    lines += [f"    {one.about}"] if one.about else []
    here = {} if "a section" in one.values else {key: _as_yaml(value) for key, value in values.items()}
    return "\n".join([*lines, *(f"    {key} = {value}" for key, value in here.items() if value != one.default)])


def now(one: Setting, query: str, whole: Mapping[str, Any]) -> dict[str, Any]:
    """What a setting is in resolved settings, by its full key; only below the names that the query gives, if any."""
    found: list[tuple[str, Any]] = [("", whole)]
    for part in one.parts:
        inner = [(path, here) for path, here in found if isinstance(here, Mapping)]
        if part.startswith("<"):
            every = [(path, name, here) for path, here in inner for name in here]
            inner_names = [one for one in every if one[1] in query.split(".")] or every
        else:
            inner_names = [(path, part, here) for path, here in inner if part in here]
        found = [(f"{path}.{name}".lstrip("."), here[name]) for path, name, here in inner_names]
    return dict(found)
