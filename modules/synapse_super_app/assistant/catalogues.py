"""The catalogues of translations, read from the wheel once and kept.

The ``.po`` files of translators are what is shipped and read, so a translation cannot be older than its source.
"""

from functools import cache
from gettext import GNUTranslations, NullTranslations
from importlib.resources import files
from io import BytesIO

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from super_app.assistant.words import SOURCE_LANGUAGE

DOMAIN = "assistant"


@cache
def catalogue(language: str) -> NullTranslations:
    """The translations of one of ``LANGUAGES``."""
    if language == SOURCE_LANGUAGE:
        return NullTranslations()
    found = files("super_app.assistant").joinpath("locale", language, "LC_MESSAGES", f"{DOMAIN}.po")
    compiled = BytesIO()
    write_mo(compiled, read_po(BytesIO(found.read_bytes()), locale=language))
    compiled.seek(0)
    return GNUTranslations(compiled)
