"""The names of the directory's benchmarks: a million of the kind that people choose, and the fixed list of searches.

Names follow from their number alone, so the list of searches (``yardsticks/directory.terms``) stays true for every run
of a size that holds them. Owns no database and no figure.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from benchmarks.frame import YARDSTICKS

FULL_SIZE: Final = 1_000_000
SMALLEST_SIZE: Final = 10_000
"""Every exact term and every typo is of a name below this number."""

_GIVEN_NAMES: Final = (
    "adam aisha alba alex alice amara amir ana andrea anna aria arjun astrid ben bianca boris carla carlos chen chloe"
    " clara daan dalia david diego dmitri elena elias elif emil emma enzo eva fatima felix freya gabriel greta hana"
    " hannah hassan helena hugo ida ines ingrid ivan jakub jana jasper joao jonas julia kai karim katya kenji lara lars"
    " leila leo lina lucas luna maja marco maria mateo maya mehmet mila milan mina nadia nia nils noah noor olga oscar"
    " paula pedro priya rafael ravi rosa samir sara sofia stefan tara theo tomas uma victor yara yusuf zoe"
)
_FAMILY_NAMES: Final = (
    "abbas ahmed alvarez andersen baker bauer becker bianchi blanc bose brandt brown cohen costa cruz dahl davis diaz"
    " dubois evans falk farah fischer flores fontana garcia gomez green gupta haas hall hansen hoffman horvat ibrahim"
    " ito ivanov jansen jensen johnson jones kaya khan kim klein kovacs krause kumar lang larsen laurent lee lehmann"
    " lindberg lopez mancini martin mendes meyer miller moreau mueller murphy nagy nguyen nielsen novak okafor olsen"
    " park patel petrov popescu quinn ramos reyes ricci rossi roy russo santos sato schmidt silva singh smith sokolov"
    " suzuki tanaka taylor torres tran vargas vogel wagner wang weber white wilson yamada"
)
_GIVEN: Final = tuple(_GIVEN_NAMES.split())
_FAMILY: Final = tuple(_FAMILY_NAMES.split())
_PER_ROUND: Final = len(_GIVEN) * len(_FAMILY)
_JOINTS: Final = (".", "_", "")


class Terms(NamedTuple):
    """What is searched for, 50 of each kind."""

    exact: tuple[str, ...]
    prefixes: tuple[str, ...]
    typos: tuple[str, ...]
    misses: tuple[str, ...]


def name(number: int) -> str:
    """The name with this number: two words, joined in one of three ways, and a count from the second round on."""
    again, pair = divmod(number, _PER_ROUND)
    family, given = divmod(pair, len(_GIVEN))
    # The given name changes fastest, so that a small directory has names under every letter as well.
    joint = _JOINTS[(again + family) % len(_JOINTS)]
    return f"{_GIVEN[given]}{joint}{_FAMILY[family]}{again or ''}"


def names(size: int) -> Iterator[str]:
    return (name(number) for number in range(size))


def terms() -> Terms:
    kinds: dict[str, tuple[str, ...]] = {}
    for line in (YARDSTICKS / "directory.terms").read_text(encoding="ascii").splitlines():
        kind, _, words = line.partition(": ")
        if words and not line.startswith("#"):
            kinds[kind] = (*kinds.get(kind, ()), *words.split())
    return Terms(**kinds)
