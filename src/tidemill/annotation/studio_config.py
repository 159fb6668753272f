"""Label Studio's labelling configurations: the one for a task of ours, and what one of theirs asks for."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from tidemill.annotation.studio import CONTROL, OBJECT, variable
from tidemill.annotation.widgets import Widget
from tidemill.data.schema import Field, Signature
from tidemill.errors import InputError

_CONTROLS = {"Number": "number", "TextArea": "text", "Pairwise": "better"}
_PASSIVE = frozenset(
    ("View", "Text", "Image", "HyperText", "Header", "Style", "Choice", "Table", "Paragraphs", "Collapse", "Panel")
)
_LONGEST = 1_000_000


def config_of(signature: Signature, widget: Widget, guidelines: str | None = None) -> str:
    """The labelling configuration by which Label Studio asks what we would ask.

    >>> inputs = (Field(name="text", type="text"),)
    >>> text = Signature(inputs=inputs, target="y", kind="classification", labels=("a", "b"))
    >>> print(config_of(text, "class"))
    <View>
      <Text name="input" value="$text" />
      <Choices name="label" toName="input" choice="single" required="true" showInline="true">
        <Choice value="a" hotkey="1" />
        <Choice value="b" hotkey="2" />
      </Choices>
    </View>
    """
    view = ET.Element("View")
    if guidelines:
        ET.SubElement(view, "Header", value=guidelines, size="5")
    for number, field in enumerate(signature.inputs):
        _add_input(view, field, OBJECT if number == 0 else f"{OBJECT}_{number}", alone=len(signature.inputs) == 1)
    if widget == "better":
        for side in ("left", "right"):
            ET.SubElement(view, "Text", name=side, value=f"${side}")
        ET.SubElement(view, "Pairwise", name=CONTROL, toName="left,right")
    else:
        _add_control(view, widget, signature.labels)
    ET.indent(view)
    return ET.tostring(view, encoding="unicode")


def _add_input(view: ET.Element, field: Field, name: str, *, alone: bool) -> None:
    if not alone:
        ET.SubElement(view, "Header", value=field.name, size="6")
    kind = "Image" if field.type == "image" else "Text"
    ET.SubElement(view, kind, name=name, value=f"${variable(field.name)}")


def _add_control(view: ET.Element, widget: Widget, labels: Sequence[str]) -> None:
    if widget == "number":
        ET.SubElement(view, "Number", name=CONTROL, toName=OBJECT, required="true")
        return
    if widget == "text":
        ET.SubElement(view, "TextArea", name=CONTROL, toName=OBJECT, maxSubmissions="1", required="true")
        return
    several = widget == "several"
    needed = {} if several else {"required": "true"}
    control = ET.SubElement(
        view,
        "Choices",
        {"name": CONTROL, "toName": OBJECT, "choice": "multiple" if several else "single", **needed}
        | {"showInline": "true"},
    )
    for number, label in enumerate(labels, start=1):
        hotkey = {"hotkey": str(number)} if number <= 9 else {}
        ET.SubElement(control, "Choice", {"value": label, **hotkey})


def read_config(text: str, where: str) -> tuple[Widget, str, list[str]]:
    """What a labelling configuration asks for: the widget, the name of its control, and its labels.

    Raises:
        InputError: it is no such configuration, asks for what is not supported yet, or for several things at once.
    """
    if len(text) > _LONGEST or "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise InputError("this is no labelling configuration", where=where, mend="Copy it from the project's settings.")
    try:
        view = ET.fromstring(text)  # noqa: S314 - without a document type there is nothing to expand
    except ET.ParseError as error:
        raise InputError(f"this is no XML: {error}", where=where, mend="Copy it from the project's settings.") from None
    controls: list[tuple[Widget, ET.Element]] = []
    for tag in view.iter():
        if tag.tag == "Choices":
            several = tag.get("choice", "single") == "multiple"
            controls.append(("several" if several else "class", tag))
        elif tag.tag in _CONTROLS:
            controls.append((_CONTROLS[tag.tag], tag))  # type: ignore[arg-type]
        elif tag.tag not in _PASSIVE:
            raise InputError(
                f"the tag <{tag.tag}> is not supported yet",
                where=where,
                mend="Supported are Choices, Number, TextArea and Pairwise over Text and Image.",
            )
    if len(controls) != 1:
        what = "asks for nothing" if not controls else f"asks for {len(controls)} things at once"
        raise InputError(f"the configuration {what}", where=where, mend="Keep one control.")
    widget, control = controls[0]
    labels = [c.get("alias") or c.get("value") or "" for c in control.iter("Choice")]
    return widget, control.get("name") or CONTROL, labels
