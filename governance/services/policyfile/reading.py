"""A policy file as text: YAML 1.2 with the line of every field.

`NO` stays a country and `2027-01-01` a text until a field asks for an instant. Read strictly: a
name twice, an anchor or an unprintable character is refused, because people would read past it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from governance.errors import InvalidTerms

MAX_BYTES: Final = 1_000_000
_MAX_DEPTH: Final = 20
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Wrong:
    """One thing wrong in a file: where, and a sentence that says what was expected and found."""

    line: int
    path: Path
    told: str

    @property
    def field(self) -> str:
        """The path as people write it: `licences[0].starts_at`."""
        text = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in self.path)
        return text.lstrip(".") or "file"


def told(line: int, path: Path, expected: str, found: str) -> Wrong:
    """A fault in the words of the house."""
    return Wrong(line, path, f"Expected {expected}, found {found}.")


class WrongFile(InvalidTerms):
    """A policy file that cannot be carried out; `wrong` lists everything that is wrong with it."""

    code = "wrong_policy_file"

    def __init__(self, name: str, wrong: list[Wrong]) -> None:
        self.wrong = sorted(wrong, key=lambda one: one.line)
        told = {one.field: f"{name}, line {one.line}: {one.told}" for one in self.wrong}
        field, first = next(iter(told.items()))
        more = f" And {len(told) - 1} more." if len(told) > 1 else ""
        super().__init__(f"{field}: {first}{more} Nothing was carried out.", fields=told)


@dataclass(frozen=True)
class Source:
    """What a file says, and where."""

    name: str
    content: Any
    lines: Mapping[Path, int]

    def line(self, path: Path) -> int:
        """The line of a field; of what should hold it, where it is missing."""
        while path not in self.lines:
            path = path[:-1]
        return self.lines[path]


def read(text: str, *, name: str) -> Source:
    """The content of a file.

    Raises:
        WrongFile: no YAML, or YAML that reads differently from what it looks like.
    """
    if len(text.encode(errors="replace")) > MAX_BYTES:
        raise WrongFile(name, [told(1, (), f"at most {MAX_BYTES:,} bytes", "more")])
    wanted = "YAML that can be read"
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise WrongFile(name, [told(line, (), wanted, str(error.problem))]) from error
    except yaml.YAMLError as error:
        raise WrongFile(name, [told(1, (), wanted, "characters it does not allow")]) from error
    except RecursionError as error:
        raise WrongFile(name, [told(1, (), wanted, "lists in lists without end")]) from error
    reader = _Reader({(): 1}, [])
    content = reader.value(node, ()) if node is not None else {}
    if reader.wrong:
        raise WrongFile(name, reader.wrong)
    return Source(name, content, reader.lines)


class _Loader(yaml.SafeLoader):
    """Scalars as YAML 1.2's core schema reads them; no anchors."""

    yaml_implicit_resolvers: Any = {}

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """A node, unless it is named to be used again or is such a use."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            raise yaml.MarkedYAMLError(
                problem="an anchor or an alias; write it out", problem_mark=event.start_mark
            )
        found: Node | None = super().compose_node(parent, index)
        return found


_CORE = (
    ("null", r"~|null|Null|NULL|", [*"~nN", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    ("int", r"[-+]?[0-9]+", [*"-+0123456789"]),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", [*"-+.0123456789"]),
)
for _tag, _pattern, _begins in _CORE:
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _begins
    )


@dataclass
class _Reader:
    """Turns nodes into values and notes lines and faults on the way."""

    lines: dict[Path, int]
    wrong: list[Wrong]

    def value(self, node: Node, path: Path) -> Any:
        if len(path) > _MAX_DEPTH:
            return self._refuse(node, path, "a flat file", "lists in lists")
        if isinstance(node, MappingNode):
            return dict(self._pairs(node, path))
        if isinstance(node, SequenceNode):
            return list(self._items(node, path))
        return self._scalar(node, path)

    def _pairs(self, node: MappingNode, path: Path) -> Iterator[tuple[str, Any]]:
        seen = set()
        for key, each in node.value:
            name = key.value if isinstance(key, ScalarNode) else "?"
            self.lines[*path, name] = key.start_mark.line + 1
            if not isinstance(key, ScalarNode) or not _is_text(name):
                self._refuse(key, path, "a name", "something else")
            elif name in seen:
                self._refuse(key, (*path, name), "each name once", "it a second time")
            else:
                seen.add(name)
                yield name, self.value(each, (*path, name))

    def _items(self, node: SequenceNode, path: Path) -> Iterator[Any]:
        for number, each in enumerate(node.value):
            self.lines[*path, number] = each.start_mark.line + 1
            yield self.value(each, (*path, number))

    def _scalar(self, node: Node, path: Path) -> Any:
        text = str(node.value)
        try:
            match node.tag.rsplit(":", 1)[-1]:
                case "null":
                    return None
                case "bool":
                    return text.lower() == "true"
                case "int":
                    return int(text)
                case "float":
                    return float(text)
                case "str" if _is_text(text):
                    return text
        except ValueError:  # more digits than a number may have
            pass
        return self._refuse(node, path, "text, a number, true, false or null", node.tag)

    def _refuse(self, node: Node, path: Path, expected: str, found: str) -> None:
        self.wrong.append(told(node.start_mark.line + 1, path, expected, found))


def _is_text(text: str) -> bool:
    """Whether a database takes it."""
    return "\x00" not in text and not any("\ud800" <= one <= "\udfff" for one in text)
