"""The module's part of ``homeserver.yaml``: frozen, every key with a safe default, unknown keys refused.

A wrong value stops the start with one line that names the key. Durations carry units (``180d``), secrets come as
``*_path``.
"""

import difflib
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from super_app.assistant.words import LANGUAGES, SOURCE_LANGUAGE
from super_app.money import MAX_AMOUNT_MINOR, MAX_SCALE, Asset, AssetCode, iso_asset
from super_app.payments.fees import MAX_BASIS_POINTS, Fee, Reach


class InvalidConfig(Exception):
    """One line: the key, what is wrong with it, and the remedy."""


class FeatureName(StrEnum):
    DIRECTORY = "directory"
    CALLS = "calls"
    PAYMENTS = "payments"
    WEB = "web"
    RECOVERY = "recovery"
    ASSISTANT = "assistant"
    CARDS = "cards"


_DURATION: Final = re.compile(r"(\d+)(ms|s|m|h|d|w|y)")
_UNIT_MS: Final = {
    "ms": 1,
    "s": 1_000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
    "y": 31_536_000_000,
}


def _duration_ms(value: object) -> object:
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("must be a number with a unit, such as 90s, 10m, 24h, 180d or 2y")
    return int(match[1]) * _UNIT_MS[match[2]]


DurationMs = Annotated[int, BeforeValidator(_duration_ms)]
"""Written with a unit, held in milliseconds."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Features(_Section):
    directory: bool = True
    calls: bool = True
    payments: bool = True
    web: bool = True
    recovery: bool = False
    assistant: bool = True
    cards: bool = True

    def enabled(self) -> tuple[FeatureName, ...]:
        return tuple(name for name in FeatureName if getattr(self, name.value))


class ExistingUsers(_Section):
    discover: Literal["public", "exact", "link", "none"] = "exact"


class NewUsers(_Section):
    discover: Literal["ask", "public", "exact", "link", "none"] = "ask"


class DirectoryConfig(_Section):
    existing_users: ExistingUsers = ExistingUsers()
    new_users: NewUsers = NewUsers()
    publish_feed: bool = True
    min_length: Annotated[int, Field(ge=1, le=32)] = 5
    reserved: tuple[str, ...] = ()
    peers: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9.\-\[\]:]+$")], ...] = ()
    feed_interval: DurationMs = 5_000
    key_path: str | None = None
    dns_servers: tuple[Annotated[str, Field(pattern=r"^[0-9a-fA-F.:\[\]]+$")], ...] = ()
    """Addresses of DNS servers, with a port if it is not 53; the system's if none is given."""
    profile_field: bool = True
    """Show a public primary handle in the Matrix profile."""
    claims_per_account: Annotated[int, Field(ge=1)] = 10
    """New handles that one account may take in seven days."""
    claims_per_address: Annotated[int, Field(ge=1)] = 50
    """New handles that all accounts of one network address may take in a day."""
    handles_per_peer: Annotated[int, Field(ge=1)] = 5_000_000
    """Handles that are kept of each homeserver in ``peers``."""
    handles_per_stranger: Annotated[int, Field(ge=1)] = 500_000
    """Handles that are kept of each other homeserver that had to do with this one."""
    handles_of_strangers: Annotated[int, Field(ge=1)] = 2_000_000
    """Handles that are kept of all those together."""


class CallRateConfig(_Section):
    """How many rings are shown to one person per window; 0 for any number.

    Of one caller; and of people whom the person does not know, of one homeserver and of all together.
    """

    caller: Annotated[int, Field(ge=0, le=1_000)] = 10
    server: Annotated[int, Field(ge=0, le=1_000)] = 10
    strangers: Annotated[int, Field(ge=0, le=1_000)] = 30
    window: DurationMs = 600_000


class CallLimitsConfig(_Section):
    """How often one may, per window; 0 for any number."""

    rings: Annotated[int, Field(ge=0, le=100_000)] = 60
    """Rings that one person of this homeserver sends."""
    server_rings: Annotated[int, Field(ge=0, le=1_000_000)] = 600
    """Rings that one other homeserver sends to people here who do not know the caller."""
    turn: Annotated[int, Field(ge=0, le=100_000)] = 60
    """TURN credentials that one person asks for."""
    tokens: Annotated[int, Field(ge=0, le=100_000)] = 120
    """Tokens of the SFU that one person asks for."""
    server_tokens: Annotated[int, Field(ge=0, le=1_000_000)] = 600
    """Tokens of the SFU that the people of one other homeserver ask for."""
    window: DurationMs = 600_000


class LiveKitConfig(_Section):
    """The SFU for calls of many. ``url`` is where clients connect, ``api_url`` where the homeserver reaches it."""

    url: Annotated[str, Field(pattern=r"^wss?://[^\s/]+(/\S*)?$")]
    api_url: Annotated[str | None, Field(pattern=r"^https?://[^\s/]+(/\S*)?$")] = None
    """The same as ``url`` if not given."""
    key: Annotated[str, Field(min_length=1)]
    secret_path: str
    token_ttl: DurationMs = 600_000
    max_participants: Annotated[int, Field(ge=0, le=100_000)] = 100
    """In one call; 0 for any number."""

    @model_validator(mode="after")
    def _token_is_short(self) -> "LiveKitConfig":
        if not 60_000 <= self.token_ttl <= _LONGEST_TOKEN_MS:
            raise ValueError("token_ttl must be from 1m to 15m: LiveKit takes no token back before it ends")
        return self


_LONGEST_TOKEN_MS: Final = 900_000


class CallsConfig(_Section):
    default_who: tuple[Literal["everyone", "contacts", "following", "verified", "shared_rooms", "nobody"], ...] = (
        "contacts",
        "shared_rooms",
    )
    default_rate: CallRateConfig = CallRateConfig()
    limits: CallLimitsConfig = CallLimitsConfig()
    turn_uris: tuple[str, ...] = ()
    turn_secret_path: str | None = None
    turn_cli: tuple[Annotated[str, Field(pattern=r"^(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.-]+):\d{1,5}$")], ...] = ()
    """Where coturn listens for commands; several for a pool."""
    turn_cli_password_path: str | None = None
    livekit: LiveKitConfig | None = None

    @model_validator(mode="after")
    def _turn_is_whole(self) -> "CallsConfig":
        if bool(self.turn_uris) != bool(self.turn_secret_path):
            raise ValueError(
                "turn_uris and turn_secret_path belong together: name the TURN server's URIs and the file that holds "
                "its shared secret, or neither"
            )
        if bool(self.turn_cli) != bool(self.turn_cli_password_path):
            raise ValueError(
                "turn_cli and turn_cli_password_path belong together: name where coturn listens for commands and the "
                "file that holds its cli-password, or neither"
            )
        if self.turn_cli and not self.turn_uris:
            raise ValueError("turn_cli is of no use without turn_uris: name the TURN server's URIs too")
        return self


class AssetConfig(_Section):
    code: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9]{2,11}$")]
    scale: Annotated[int | None, Field(ge=0, le=MAX_SCALE)] = None

    @model_validator(mode="after")
    def _scale_is_known(self) -> "AssetConfig":
        iso = iso_asset(self.code)
        if iso is None and self.scale is None:
            raise ValueError(f"{self.code} is no ISO 4217 currency, so it needs a scale, as in {{code: PTS, scale: 0}}")
        if iso is not None and self.scale not in (None, iso.scale):
            raise ValueError(f"{self.code} is an ISO 4217 currency with scale {iso.scale}; leave the scale out")
        return self

    def asset(self) -> Asset:
        iso = iso_asset(self.code)
        return iso if iso is not None else Asset(code=AssetCode(self.code), scale=self.scale or 0)


Minor = Annotated[int, Field(ge=0, le=MAX_AMOUNT_MINOR)]
"""An amount of minor units."""
WindowName = Literal["payment", "day", "week", "month"]
_ByCurrency = dict[str, Minor]


class PinConfig(_Section):
    """When everyone is asked for the PIN, whatever they have set themselves."""

    above: _ByCurrency = {}
    new_payee: bool = False


class TierConfig(_Section):
    sent: dict[str, dict[WindowName, Minor]] = {}
    received: dict[str, dict[WindowName, Minor]] = {}
    balance: _ByCurrency = {}


class LimitsConfig(_Section):
    """``tiers`` by name; ``default_tier`` is that of who was given none. The others: see docs/payments.md."""

    tiers: dict[str, TierConfig] = {}
    default_tier: str | None = None
    after_lock: _ByCurrency | None = None
    after_move: _ByCurrency | None = None

    @model_validator(mode="after")
    def _default_is_there(self) -> "LimitsConfig":
        if (self.default_tier is None) == bool(self.tiers) or (
            self.default_tier is not None and self.default_tier not in self.tiers
        ):
            raise ValueError("default_tier must name one of tiers, as in {default_tier: basic, tiers: {basic: {…}}}")
        return self

    def currencies(self) -> set[str]:
        named = {*(self.after_lock or ()), *(self.after_move or ())}
        for tier in self.tiers.values():
            named |= {*tier.sent, *tier.received, *tier.balance}
        return named


class FeeConfig(_Section):
    """What a payment costs its payer besides the amount; see ``super_app.payments.fees``. Amounts in minor units."""

    currency: str
    reach: Literal["everywhere", "here", "elsewhere"] = "everywhere"
    fixed: Minor = 0
    basis_points: Annotated[int, Field(ge=0, le=MAX_BASIS_POINTS)] = 0
    at_least: Minor = 0
    at_most: Minor | None = None
    free_up_to: Minor = 0

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> "FeeConfig":
        if self.at_most is not None and self.at_most < self.at_least:
            raise ValueError("at_most must not be less than at_least")
        return self

    def fee(self) -> Fee:
        return Fee(
            currency=AssetCode(self.currency),
            reach=Reach(self.reach),
            fixed_minor=self.fixed,
            basis_points=self.basis_points,
            at_least_minor=self.at_least,
            at_most_minor=MAX_AMOUNT_MINOR if self.at_most is None else self.at_most,
            free_up_to_minor=self.free_up_to,
        )


class AcknowledgeConfig(_Section):
    operator: str
    licence: str


class JurisdictionsConfig(_Section):
    """Who is served: people whose country the operator has confirmed and named here. Nobody else."""

    allow: tuple[Annotated[str, Field(pattern=r"^[A-Z]{2}$")], ...]


class ScreeningConfig(_Section):
    """``list_path`` is a file with a name, a handle or a user id in each line; what matches waits for the operator."""

    list_path: str


class DeactivatedConfig(_Section):
    """What becomes of the money in deactivated accounts, and how long after they were."""

    then: Literal["keep", "claim", "burn"] = "keep"
    after: DurationMs = 365 * 86_400_000


class PaymentsConfig(_Section):
    mode: Literal["credits", "custodial"] = "credits"
    assets: tuple[AssetConfig, ...] = (AssetConfig(code="PTS", scale=0),)
    acknowledge: AcknowledgeConfig | None = None
    fees: tuple[FeeConfig, ...] = ()
    pin: PinConfig = PinConfig()
    limits: LimitsConfig = LimitsConfig()
    jurisdictions: JurisdictionsConfig | None = None
    screening: ScreeningConfig | None = None
    four_eyes: bool = False
    """Whether two server admins must agree before money is issued or burnt."""
    deactivated: DeactivatedConfig = DeactivatedConfig()
    halt_file: str | None = None
    key_path: str | None = None
    """File of the payment key; beside the homeserver's signing key if not given."""
    ledger_writers: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)] = ("main",)
    """The processes of which one writes the ledger, by their names in ``instance_map``."""

    @model_validator(mode="after")
    def _custodial_is_acknowledged(self) -> "PaymentsConfig":
        if self.mode == "custodial" and self.acknowledge is None:
            raise ValueError(
                "mode custodial holds real money: name who operates it and under which licence, "
                "as in acknowledge: {operator: …, licence: …}, or use mode: credits"
            )
        codes = [asset.code for asset in self.assets]
        if not codes or len(codes) != len(set(codes)):
            raise ValueError("assets must name at least one asset, and each once")
        for key, named in (
            ("pin.above", set(self.pin.above)),
            ("limits", self.limits.currencies()),
            ("fees", {fee.currency for fee in self.fees}),
        ):
            if unknown := sorted(named.difference(codes)):
                raise ValueError(f"{key} names {unknown[0]}, which is not among assets; add it there, or take it out")
        for code in codes:
            reaches = [fee.reach for fee in self.fees if fee.currency == code]
            if len(reaches) != len(set(reaches)) or ("everywhere" in reaches and len(reaches) > 1):
                raise ValueError(
                    f"fees must name {code} once, with reach everywhere, or once with here and once with elsewhere, so "
                    "that each payment has one price"
                )
        if len(self.ledger_writers) != len(set(self.ledger_writers)):
            raise ValueError("ledger_writers must name each process once")
        return self

    def by_code(self) -> Mapping[AssetCode, Asset]:
        return {AssetCode(each.code): each.asset() for each in self.assets}


def _known_language(value: str) -> str:
    if value not in LANGUAGES:
        raise ValueError(f"must be one of {', '.join(LANGUAGES)}")
    return value


class AssistantConfig(_Section):
    localpart: Annotated[str, Field(pattern=r"^[a-z0-9._=/+-]{1,64}$")] = "assistant"
    display_name: Annotated[str, Field(min_length=1, max_length=100)] = "Assistant"
    language: Annotated[str, AfterValidator(_known_language)] = SOURCE_LANGUAGE
    """What it speaks with people who have not chosen."""
    greet_new_users: bool = True
    undo: DurationMs = 10_000
    """How long a payment can be undone before it is made."""


class WebConfig(_Section):
    """``sign_in`` is the origin to which this homeserver delegates sign-in, for pages that talk to it.

    ``call_servers`` are the origins of call servers (LiveKit, and who gives its tokens) of other homeservers, in whose
    calls people of this one may take part with the page; that of this homeserver needs no mention.
    """

    sticker_menu: bool = True
    sign_in: Annotated[str | None, Field(pattern=r"^https?://[A-Za-z0-9.\-\[\]:]+$")] = None
    call_servers: tuple[Annotated[str, Field(pattern=r"^(https?|wss?)://[A-Za-z0-9.\-\[\]:]+$")], ...] = ()


_PerMinute = Annotated[int, Field(ge=0, le=100_000)]


class RequestsConfig(_Section):
    """How many requests to our routes a minute: of one person, and of one address on public ones. 0 for any number."""

    reads: _PerMinute = 600
    writes: _PerMinute = 120
    public: _PerMinute = 300
    admin: _PerMinute = 3_000


class RolloutConfig(_Section):
    """A careful start: see ``synapse_super_app.rollout``."""

    users_file: str | None = None
    dry_run: bool = False


_Server = Annotated[str, Field(pattern=r"^[A-Za-z0-9.\-\[\]:]+$")]
_Operator = Annotated[str, Field(min_length=1, max_length=100)]


class RealmConfig(_Section):
    """Another homeserver that guards shares of people here. ``leaving``: for sets that have it, for no new one."""

    server: _Server
    operator: _Operator
    leaving: bool = False


class RecoveryConfig(_Section):
    operator: _Operator | None = None
    """Who runs this homeserver; its name if not given."""
    realms: tuple[RealmConfig, ...] = ()
    serve: tuple[_Server, ...] | None = None
    """The homeservers for whose people this one guards shares; those of ``realms`` if not given."""
    shares: Annotated[int, Field(ge=3, le=9)] = 5
    threshold: Annotated[int, Field(ge=2, le=9)] = 3
    leaving: bool = False
    """Take no new shares; serve those that are here."""
    key_path: str | None = None
    guesses_per_server: Annotated[int, Field(ge=1)] = 600
    """Guesses of all people of one homeserver in an hour."""

    @model_validator(mode="after")
    def _realms_are_distinct(self) -> "RecoveryConfig":
        if self.threshold > self.shares:
            raise ValueError("threshold must not be more than shares")
        servers = [each.server for each in self.realms]
        operators = [each.operator for each in self.realms] + ([self.operator] if self.operator is not None else [])
        if len(set(servers)) != len(servers):
            raise ValueError("realms must name each homeserver once")
        if len({each.casefold().strip() for each in operators}) != len(operators):
            raise ValueError("realms must be of different operators, and none of your own")
        return self

    def served(self) -> frozenset[str]:
        return frozenset([each.server for each in self.realms] if self.serve is None else self.serve)


class RetentionConfig(_Section):
    call_records: DurationMs = 180 * 86_400_000
    memos: DurationMs = 2 * 31_536_000_000


class Config(_Section):
    features: Features = Features()
    on_private_api_change: Literal["disable_feature", "refuse_start"] = "disable_feature"
    directory: DirectoryConfig = DirectoryConfig()
    calls: CallsConfig = CallsConfig()
    payments: PaymentsConfig = PaymentsConfig()
    assistant: AssistantConfig = AssistantConfig()
    web: WebConfig = WebConfig()
    recovery: RecoveryConfig = RecoveryConfig()
    retention: RetentionConfig = RetentionConfig()
    rollout: RolloutConfig = RolloutConfig()
    requests: RequestsConfig = RequestsConfig()

    @model_validator(mode="after")
    def _wrong_guesses_are_told(self) -> "Config":
        if self.features.recovery and self.recovery.realms and not (self.features.assistant and self.features.web):
            raise ValueError(
                "features.recovery needs features.web, for its page, and features.assistant, which tells people of "
                "wrong guesses; switch them on, or name no recovery.realms"
            )
        return self


def parse_config(raw: Mapping[str, Any] | None) -> Config:
    """Read the ``config`` of the module entry.

    Raises:
        InvalidConfig: one line that names the key.
    """
    try:
        return Config.model_validate(_lists_to_tuples(raw or {}))
    except ValidationError as error:
        raise InvalidConfig(_line(error)) from None


def _lists_to_tuples(value: object) -> object:
    # YAML has lists; the models hold tuples, and strict mode does not convert.
    match value:
        case dict():
            return {key: _lists_to_tuples(item) for key, item in value.items()}
        case list():
            return tuple(_lists_to_tuples(item) for item in value)
        case _:
            return value


def _line(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    location = [str(part) for part in first["loc"]]
    key = ".".join(location) or "config"
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(location[-1], _keys_at(location[:-1]), n=1)
        hint = f"; did you mean {'.'.join([*location[:-1], near[0]])}?" if near else "; remove it"
        return f"config.{key} is not a known key{hint}"
    message = first["msg"].removeprefix("Value error, ")
    return f"config.{key}: {message}" + (f" (got {first['input']!r})" if first["type"] != "value_error" else "")


def _keys_at(location: list[str]) -> list[str]:
    model: Any = Config
    for part in location:
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            return []
        model = field.annotation
    return list(getattr(model, "model_fields", {}))
