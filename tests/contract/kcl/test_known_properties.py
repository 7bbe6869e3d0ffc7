"""Our list of KCL's properties, compared with the class files of the installed KCL."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator

from consumer.config.known_kcl_properties import KNOWN_PROPERTIES
from consumer.kcl.java import find_jars

CONFIG = "software/amazon/kinesis/multilang/config"
CONSTANT_BYTES = {
    3: 4,
    4: 4,
    5: 8,
    6: 8,
    7: 2,
    8: 2,
    9: 4,
    10: 4,
    11: 4,
    12: 4,
    15: 3,
    16: 2,
    17: 4,
    18: 4,
    19: 2,
    20: 2,
}
PRIMITIVES = {"J": "long", "I": "int", "Z": "boolean", "D": "double"}
OF_A_CLIENT = {"region": "Region", "endpointOverride": "URI", "fipsEnabled": "Boolean"}


def methods(class_file: bytes) -> Iterator[tuple[str, str]]:
    """Names and descriptors, by chapter 4 of the Java Virtual Machine Specification."""
    constants: dict[int, str] = {}
    (count,), at, index = struct.unpack_from(">H", class_file, 8), 10, 1
    while index < count:
        tag, at = class_file[at], at + 1
        if tag == 1:
            (length,) = struct.unpack_from(">H", class_file, at)
            constants[index] = class_file[at + 2 : at + 2 + length].decode("utf-8", "replace")
            at += 2 + length
        else:
            at += CONSTANT_BYTES[tag]
        index += 2 if tag in (5, 6) else 1
    (interfaces,) = struct.unpack_from(">H", class_file, at + 6)
    at = skip_members(class_file, at + 8 + 2 * interfaces)
    (members,) = struct.unpack_from(">H", class_file, at)
    at += 2
    for _ in range(members):
        name, descriptor = struct.unpack_from(">2H", class_file, at + 2)
        yield constants[name], constants[descriptor]
        at = skip_member(class_file, at)


def skip_members(class_file: bytes, at: int) -> int:
    (members,) = struct.unpack_from(">H", class_file, at)
    at += 2
    for _ in range(members):
        at = skip_member(class_file, at)
    return at


def skip_member(class_file: bytes, at: int) -> int:
    (attributes,) = struct.unpack_from(">H", class_file, at + 6)
    at += 8
    for _ in range(attributes):
        at += 6 + struct.unpack_from(">I", class_file, at + 2)[0]
    return at


def setters(class_name: str) -> dict[str, str]:
    """The Java type of each property, by the naming rules of JavaBeans."""
    (jar,) = find_jars().glob("amazon-kinesis-client-multilang-*.jar")
    with zipfile.ZipFile(jar) as files:
        members = list(methods(files.read(f"{CONFIG}/{class_name}.class")))
    found = {}
    for method, descriptor in members:
        parameter, _, result = descriptor.removeprefix("(").partition(")")
        if method.startswith("set") and result == "V" and parameter.count(";") <= 1:
            name = method.removeprefix("set")
            kind = PRIMITIVES.get(parameter) or parameter.lstrip("[").rstrip(";").rpartition("/")[2].rpartition("$")[2]
            found[name[0].lower() + name[1:]] = kind + "[]" * parameter.count("[")
    return found


def test_the_list_equals_the_properties_of_the_installed_kcl() -> None:
    known = setters("MultiLangDaemonConfiguration")
    known |= {f"fanoutConfig.{name}": kind for name, kind in setters("FanoutConfigBean").items()}
    nested = {name for name in KNOWN_PROPERTIES if name.partition(".")[2] and not name.startswith("fanoutConfig.")}
    read_by_the_daemon = {"executableName", "processingLanguage", "maxActiveThreads"}
    assert {name: kind for name, kind in KNOWN_PROPERTIES.items() if name in known} == known
    assert set(KNOWN_PROPERTIES) - set(known) == nested | read_by_the_daemon


def test_the_list_is_sorted() -> None:
    assert list(KNOWN_PROPERTIES) == sorted(KNOWN_PROPERTIES, key=str.lower)
