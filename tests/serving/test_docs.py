"""The page on the API names every endpoint, and every status that the OpenAPI document gives it."""

from __future__ import annotations

import re
from pathlib import Path

from small_project import SIGNATURE, Served

from tidemill.serving.describing import inputs_schema

PAGE = Path(__file__).parents[2] / "docs" / "api.md"


def test_the_page_has_a_section_for_every_endpoint_and_names_its_statuses(service: Served) -> None:
    parts = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    sections = {
        re.sub(r"\[(.*?)\]", put, title): part
        for part in parts
        if (title := part.partition("\n")[0]).startswith(("GET ", "POST "))
        for put in ((r"\1", "") if "[" in title else ("",))  # one section for a path with and without its part in []
    }
    operations = {
        f"{verb.upper()} {path.replace('{identifier}', '{id}')}": operation["responses"]
        for path, verbs in service.client.get("/openapi.json").json()["paths"].items()
        for verb, operation in verbs.items()
    }
    assert set(sections) == set(operations)
    for endpoint, responses in operations.items():
        table = "".join(re.findall(r"^\| [\d, ]+ \|", sections[endpoint], re.MULTILINE))
        assert set(re.findall(r"\d{3}", table)) == set(responses)
        assert "$ curl" in sections[endpoint]


def test_the_schema_of_inputs_follows_the_signature() -> None:
    schema = inputs_schema(SIGNATURE)
    assert (schema["required"], schema["additionalProperties"]) == (["image"], False)
    assert "8 × 8 × 1" in schema["properties"]["image"]["description"]
