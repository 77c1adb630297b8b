"""YAML that people write by hand: one mapping, each key once, nothing but plain values.

Rule: the loader refuses what could be meant in two ways; no file can make the program run code or grow without bound.
"""

import re
from pathlib import Path

import yaml

from .errors import brief

__all__ = ["parse", "read_mapping"]

_MOST = 1_000_000  # bytes


class _Loader(yaml.SafeLoader):
    """A loader of plain values: tags can make objects, and a few aliases can stand for millions of values."""

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise _refusal("aliases (*) are not read; write the value out", event)
        if event.tag is not None:
            raise _refusal("tags (!) are not read; write a plain value", event)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                raise _refusal("entries are not merged (<<); write them out", key)
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise _refusal(f"the entry {brief(key.value)} stands twice; leave one out", key)
                seen.add(key.value)
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            raise _refusal("two of its entries are the same number, written in two ways; leave one out", node)
        return mapping

    def construct_plain_int(self, node: yaml.ScalarNode) -> int:
        """Refuse what YAML reads as another number than people do: 0010 is 8 there, and 1:30 is 90."""
        if re.match(r"[-+]?0[0-9_]|.*:", node.value):
            raise _refusal(f"{brief(node.value)} is another number in YAML; write it plainly, or a name in quotes", node)
        return self.construct_yaml_int(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_plain_int)


def _refusal(problem: str, at: yaml.Event | yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=at.start_mark)


def read_mapping(path: Path) -> dict:
    """Return the mapping that a file holds.

    Raises:
        ValueError: as `parse`, or if the file is no text in UTF-8 or very large.
    """
    if (size := path.stat().st_size) > _MOST:
        raise ValueError(f"{path} must be a YAML file of at most {_MOST:,} bytes; it has {size:,}.")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be a YAML file in UTF-8; byte {error.start} is not. Save it as UTF-8.") from None
    return parse(text, str(path))


def parse(text: str, file: str) -> dict:
    """Return the mapping that `text` holds; errors begin with the name of its `file`.

    Raises:
        ValueError: if it is no YAML of plain values, an entry stands twice, or it holds no entries.
    """
    try:
        content = yaml.load(text, _Loader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        place = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{file} must be a YAML file; it could not be read{place}: {error.problem or error.context}.") from None
    except RecursionError:
        raise ValueError(f"{file} must be a YAML file; it could not be read: too many brackets inside each other.") from None
    except (yaml.YAMLError, ValueError) as error:  # a sign that no text has, the 31st of February
        raise ValueError(f"{file} must be a YAML file; it could not be read: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file} must hold entries such as `suite: pocket`; it holds {brief(content) if content else 'none'}.")
    return content
