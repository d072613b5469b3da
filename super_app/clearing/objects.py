"""The form of clearing's objects: composing, reading, signing, and the openings that go with an OFFER.

Pure. Form only: whether an object may stand in a chain, and what it does there, is decided elsewhere. What is refused
here was never valid and is not kept.

``message_id`` is the digest of an object without ``signature``. The signature covers the canonical JSON of the *head*
``{epoch, from_server, link_id, message_id, seq}`` and so, by the digest, the whole object. A head verifies without the
object it names; that is what makes a ``seen`` a proof by itself.
"""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, cast

from nacl.signing import SigningKey, VerifyKey
from pydantic import Field, field_validator, model_validator

from super_app.clearing.model import (
    DEFAULT_MAX_COUNT,
    FIRST_EPOCH,
    VERSION,
    After,
    ChainObject,
    Grant,
    Holdings,
    JsonObject,
    KeyId,
    LinkId,
    MessageId,
    MessageType,
    PaymentKey,
    Position,
    Query,
    Run,
    Seen,
    SettlementId,
    SettlementTerms,
    Terms,
    WireId,
)
from super_app.clearing.ports import Incoming, Order, Party
from super_app.errors import Reason, Refused
from super_app.ids import (
    Acct,
    EventId,
    Handle,
    PaymentId,
    RoomId,
    ServerName,
    parse_payment_id,
    parse_user_id,
    server_of,
)
from super_app.ledger.model import HoldId
from super_app.money import MAX_AMOUNT_MINOR, MAX_SCALE, AssetCode, Money
from super_app.names import NAMESPACE
from super_app.signing import canonical, digest, from_b64, key_id_of, public_b64, sign, verify
from super_app.wire import Text, WireModel

MAX_OBJECT_BYTES: Final = 32 * 1024
MAX_OPENING_BYTES: Final = 16 * 1024
MAX_DEPTH: Final = 32
MAX_MEMO_CHARACTERS: Final = 512
MAX_TTL_MS: Final = 86_400_000
BANK_REFERENCE_PATTERN: Final = r"^[A-Za-z0-9/?:().,'+-]([A-Za-z0-9/?:().,'+ -]{0,33}[A-Za-z0-9/?:().,'+-])?$"
"""What a debtor wrote on its transfer: the characters and the length of an end-to-end id of SEPA."""
PAY_TO_PATTERN: Final = r"^payto://[a-z0-9.-]{1,32}/[!-~]{1,200}$"
"""A payto: URI (RFC 8905)."""
MAX_CURRENCIES: Final = 64
"""Currencies that one LINK_OPEN or STATEMENT may name."""
MAX_RUNS: Final = 200
"""Runs in one FENCED; with the longest numbers they fill 26 KiB."""
MAX_OPENINGS: Final = 20
"""Payments that one OPENINGS? may ask for."""
_FINGERPRINT_DIGITS: Final = 32
CERTIFICATE_TYPE: Final = f"{NAMESPACE}.payment_key"

_Digest = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$")]
_Signature = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{86}$")]
_KeyName = Annotated[str, Field(pattern=r"^ed25519:[A-Za-z0-9_-]{1,32}$")]
_Server = Annotated[str, Field(min_length=1, max_length=255)]
_Count = Annotated[int, Field(ge=1, le=MAX_AMOUNT_MINOR)]
_Sum = Annotated[int, Field(ge=0, le=MAX_AMOUNT_MINOR)]
_Scale = Annotated[int, Field(ge=0, le=MAX_SCALE)]
_Currency = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9]{2,11}$")]
_Duration = Annotated[int, Field(ge=1, le=MAX_TTL_MS)]
_ReasonWord = Annotated[str, Field(pattern=r"^[a-z_]{1,64}$")]
_BankReference = Annotated[str, Field(pattern=BANK_REFERENCE_PATTERN)]
_PayTo = Annotated[str, Field(pattern=PAY_TO_PATTERN)]
_Salt = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class _SeenModel(WireModel):
    seq: _Sum
    hash: str
    signature: str

    @model_validator(mode="after")
    def _whole(self) -> "_SeenModel":
        lengths = (len(self.hash), len(self.signature))
        if lengths != ((0, 0) if self.seq == 0 else (43, 86)):
            raise ValueError("seen names an object by seq, hash and signature, or is 0 with both empty")
        return self


class _Frame(WireModel):
    """What every message has. Optional fields are absent rather than null."""

    # Not Literal[1], which True equals.
    v: Annotated[int, Field(ge=VERSION, le=VERSION)]
    link_id: _Digest
    from_server: _Server
    to_server: _Server


class _Chained(_Frame):
    epoch: _Count
    seq: _Count
    prev_hash: Annotated[str, Field(pattern=r"^([A-Za-z0-9_-]{43})?$")]
    seen: _SeenModel
    key_id: _KeyName
    signature: _Signature


class _GrantModel(WireModel):
    currency: _Currency
    scale: _Scale
    limit: _Sum
    max_count: _Sum = DEFAULT_MAX_COUNT
    max_sum: _Sum = MAX_AMOUNT_MINOR

    def grant(self) -> Grant:
        return Grant(
            currency=AssetCode(self.currency),
            scale=self.scale,
            limit_minor=self.limit,
            max_count=self.max_count,
            max_sum_minor=self.max_sum,
        )


class _KeyModel(WireModel):
    public_key: _Digest
    certificate: dict[str, Any]


class _LinkOpen(_Chained):
    type: Literal["LINK_OPEN"]
    currencies: Annotated[list[_GrantModel], Field(min_length=1, max_length=MAX_CURRENCIES)]
    key: _KeyModel

    @field_validator("currencies")
    @classmethod
    def _each_once(cls, value: list[_GrantModel]) -> list[_GrantModel]:
        if len({each.currency for each in value}) != len(value):
            raise ValueError("a currency is named twice")
        return value


class _Limit(_Chained, _GrantModel):
    type: Literal["LIMIT"]


class _Suspend(_Chained):
    type: Literal["SUSPEND"]
    reason: _ReasonWord = ""


class _Resume(_Chained):
    type: Literal["RESUME"]


class _Close(_Chained):
    type: Literal["CLOSE"]
    reason: _ReasonWord = ""


class _Key(_Chained):
    type: Literal["KEY"]
    key: _KeyModel


class _PositionModel(WireModel):
    currency: _Currency
    due_to: _Sum
    due_from: _Sum
    unreceipted: _Sum
    reserved: _Sum

    def position(self) -> Position:
        return Position(
            currency=AssetCode(self.currency),
            due_to_minor=self.due_to,
            due_from_minor=self.due_from,
            unreceipted_minor=self.unreceipted,
            reserved_minor=self.reserved,
        )


class _Statement(_Chained):
    type: Literal["STATEMENT"]
    positions: Annotated[list[_PositionModel], Field(max_length=MAX_CURRENCIES)]


class _Payment(_Chained):
    wire_id: _Digest
    payer_commit: _Digest
    payee_commit: _Digest
    memo_commit: _Digest
    amount: _Count
    currency: _Currency
    scale: _Scale
    # Absent fields take these; a given one must be of the right form, and null is none.
    e2e_id: _Digest = ""
    inner: Annotated[dict[str, Any], Field(min_length=1)] = {}


class _Offer(_Payment):
    type: Literal["OFFER"]
    ttl_ms: _Duration


class _Pending(_Payment):
    type: Literal["PENDING"]
    ttl_ms: _Duration


class _Accept(_Payment):
    type: Literal["ACCEPT"]
    valid_ms: _Duration


class _Reject(_Payment):
    type: Literal["REJECT"]
    reason: _ReasonWord


class _Commit(_Payment):
    type: Literal["COMMIT"]


class _Abort(_Payment):
    type: Literal["ABORT"]
    reason: _ReasonWord


class _Receipt(_Payment):
    type: Literal["RECEIPT"]
    reason: Literal["credited", "void"]


class _Settlement(_Chained):
    settlement_id: _Digest
    amount: _Count
    currency: _Currency
    scale: _Scale


class _SettlePropose(_Settlement):
    type: Literal["SETTLE_PROPOSE"]


class _SettleAgree(_Settlement):
    type: Literal["SETTLE_AGREE"]
    pay_to: _PayTo = ""


class _SettleRefuse(_Settlement):
    type: Literal["SETTLE_REFUSE"]
    reason: _ReasonWord


class _SettleCancel(_Settlement):
    type: Literal["SETTLE_CANCEL"]
    reason: _ReasonWord


class _SettleSent(_Settlement):
    type: Literal["SETTLE_SENT"]
    reference: _BankReference = ""


class _SettleReceived(_Settlement):
    type: Literal["SETTLE_RECEIVED"]
    received: _Count

    @model_validator(mode="after")
    def _at_most_sent(self) -> "_SettleReceived":
        if self.received > self.amount:
            raise ValueError("received is more than the amount of the settlement")
        return self


class _SettleNotReceived(_Settlement):
    type: Literal["SETTLE_NOT_RECEIVED"]
    reason: _ReasonWord


class _AfterModel(WireModel):
    epoch: _Count
    seq: _Sum
    hash: str

    @model_validator(mode="after")
    def _whole(self) -> "_AfterModel":
        if len(self.hash) != (0 if self.seq == 0 else 43):
            raise ValueError("after names an object by epoch, seq and hash, or is seq 0 with no hash")
        return self


_NO_KEY: Final = _KeyModel.model_construct(public_key="", certificate={})


class _Fence(_Chained):
    type: Literal["FENCE"]
    after: _AfterModel
    key: _KeyModel = _NO_KEY

    @model_validator(mode="after")
    def _first(self) -> "_Fence":
        if self.epoch <= FIRST_EPOCH or (self.seq, self.prev_hash) != (1, ""):
            raise ValueError("FENCE is the first object of an epoch after the first")
        if self.after.epoch >= self.epoch:
            raise ValueError("after is of a lower epoch than FENCE")
        if self.key.public_key and public_key_id(self.key.public_key) != self.key_id:
            raise ValueError("a FENCE that brings a key is signed by it")
        return self


class _RunModel(WireModel):
    epoch: _Count
    first: _Count
    last: _Count
    hash: _Digest

    @model_validator(mode="after")
    def _forward(self) -> "_RunModel":
        if self.first > self.last:
            raise ValueError("a run goes from its first to its last")
        return self


class _Fenced(_Chained):
    type: Literal["FENCED"]
    fence: _Digest
    page: _Count
    pages: _Count
    held: Annotated[list[_RunModel], Field(max_length=MAX_RUNS)]

    @model_validator(mode="after")
    def _page_of(self) -> "_Fenced":
        if self.page > self.pages:
            raise ValueError("page is one of pages")
        return self


class _Head(_Frame):
    type: Literal["HEAD?"]


class _Status(_Frame):
    type: Literal["STATUS?"]
    wire_id: _Digest


class _Range(_Frame):
    type: Literal["RANGE?"]
    of: _Server
    epoch: _Count
    from_seq: _Count
    to_seq: _Count


class _Openings(_Frame):
    type: Literal["OPENINGS?"]
    wire_ids: Annotated[list[_Digest], Field(min_length=1, max_length=MAX_OPENINGS)]


_WithReason = _Suspend | _Close | _Reject | _Abort | _Receipt | _SettleRefuse | _SettleCancel | _SettleNotReceived


_CHAINED: Final[dict[str, type[_Chained]]] = {
    "LINK_OPEN": _LinkOpen,
    "LIMIT": _Limit,
    "SUSPEND": _Suspend,
    "RESUME": _Resume,
    "CLOSE": _Close,
    "KEY": _Key,
    "STATEMENT": _Statement,
    "OFFER": _Offer,
    "PENDING": _Pending,
    "ACCEPT": _Accept,
    "REJECT": _Reject,
    "COMMIT": _Commit,
    "ABORT": _Abort,
    "RECEIPT": _Receipt,
    "SETTLE_PROPOSE": _SettlePropose,
    "SETTLE_AGREE": _SettleAgree,
    "SETTLE_REFUSE": _SettleRefuse,
    "SETTLE_CANCEL": _SettleCancel,
    "SETTLE_SENT": _SettleSent,
    "SETTLE_RECEIVED": _SettleReceived,
    "SETTLE_NOT_RECEIVED": _SettleNotReceived,
    "FENCE": _Fence,
    "FENCED": _Fenced,
}
_QUERIES: Final[dict[str, type[_Frame]]] = {
    "HEAD?": _Head,
    "STATUS?": _Status,
    "RANGE?": _Range,
    "OPENINGS?": _Openings,
}


def link_id_of(one: ServerName, other: ServerName) -> LinkId:
    """The link of a pair of servers, the same from both ends."""
    return LinkId(digest(sorted((one, other))))


def head_of(link_id: LinkId, from_server: ServerName, epoch: int, seq: int, message_id: str) -> JsonObject:
    """What a signature covers."""
    return {"epoch": epoch, "from_server": from_server, "link_id": link_id, "message_id": message_id, "seq": seq}


def verify_head(head: JsonObject, signature: str, public_key: str) -> bool:
    return verify({**head, "signature": signature}, public_key)


# Composing.


def seal(fields: JsonObject, key: SigningKey) -> JsonObject:
    """The finished object: ``key_id`` and ``signature`` added. ``fields`` has all of a chained object's others."""
    named: JsonObject = {**fields, "key_id": key_id_of(key)}
    head = head_of(named["link_id"], named["from_server"], named["epoch"], named["seq"], digest(named))
    return {**named, "signature": sign(head, key)}


def terms_fields(terms: Terms) -> JsonObject:
    fields: JsonObject = {
        "wire_id": terms.wire_id,
        "payer_commit": terms.payer_commit,
        "payee_commit": terms.payee_commit,
        "memo_commit": terms.memo_commit,
        "amount": terms.amount_minor,
        "currency": terms.currency,
        "scale": terms.scale,
    }
    return fields if terms.e2e_id is None else {**fields, "e2e_id": terms.e2e_id}


def settlement_fields(terms: SettlementTerms) -> JsonObject:
    return {
        "settlement_id": terms.settlement_id,
        "amount": terms.amount_minor,
        "currency": terms.currency,
        "scale": terms.scale,
    }


def grant_fields(grant: Grant) -> JsonObject:
    return {
        "currency": grant.currency,
        "scale": grant.scale,
        "limit": grant.limit_minor,
        "max_count": grant.max_count,
        "max_sum": grant.max_sum_minor,
    }


def after_fields(after: After) -> JsonObject:
    return {"epoch": after.epoch, "seq": after.seq, "hash": after.hash}


def run_fields(run: Run) -> JsonObject:
    return {"epoch": run.epoch, "first": run.first_seq, "last": run.last_seq, "hash": run.message_id}


def query_fields(kind: MessageType, link_id: LinkId, from_server: ServerName, to_server: ServerName) -> JsonObject:
    """The fields that all queries share."""
    return {
        "v": VERSION,
        "type": kind.value,
        "link_id": link_id,
        "from_server": from_server,
        "to_server": to_server,
    }


def certificate_fields(server: ServerName, key: SigningKey) -> JsonObject:
    """What the Matrix signing key of a server signs about its payment key."""
    return {"type": CERTIFICATE_TYPE, "server": server, "public_key": public_b64(key)}


# Reading.


def read_body(body: object) -> tuple[ChainObject | Query, JsonObject | None] | Refused:
    """The object of a PUT's body, and its opening if there is one, as yet unread."""
    if not isinstance(body, dict):
        return _invalid("The body must be a JSON object.")
    fields = cast(JsonObject, body)
    strange = fields.keys() - {"object", "opening"}
    if strange:
        return Refused(
            reason=Reason.UNKNOWN_FIELD, message=f"{min(map(str, strange))[:32]} is not a field here; remove it."
        )
    if not isinstance(fields.get("opening", {}), dict):
        return _invalid("opening must be an object.")
    opening = cast(JsonObject | None, fields.get("opening"))
    content = read_object(fields.get("object"))
    if isinstance(content, Refused):
        return content
    if opening is not None and content.type is not MessageType.OFFER:
        return _invalid("An opening goes with OFFER only.")
    return content, opening


def read_object(value: object) -> ChainObject | Query | Refused:
    """Check the form of one object: canonical JSON of at most 32 KiB, every field of its type exactly, none unknown."""
    if not isinstance(value, dict):
        return _invalid("object is missing or is no JSON object.")
    content = cast(JsonObject, value)
    amount = content.get("amount", 1)
    if type(amount) is not int or not 1 <= amount <= MAX_AMOUNT_MINOR:
        return Refused(
            reason=Reason.INVALID_AMOUNT,
            message="amount must be a whole number of minor units between 1 and 9007199254740991.",
        )
    refused = _check_size(content, MAX_OBJECT_BYTES, "object")
    if refused is not None:
        return refused
    kind = content.get("type")
    if not isinstance(kind, str):
        return _invalid("type must be a string.")
    if kind in _QUERIES:
        query = _QUERIES[kind].parse(content)
        return query if isinstance(query, Refused) else _query(content, query)
    if kind not in _CHAINED:
        return _invalid(f"{kind[:32]!r} is no type of object that this server knows.")
    parsed = _CHAINED[kind].parse(content)
    if isinstance(parsed, Refused):
        return parsed
    assert isinstance(parsed, _Chained)  # noqa: S101 - parse is typed by its class; the table holds only such classes
    return _chained(content, parsed)


def is_signed_by(found: ChainObject, public_key: str) -> bool:
    head = head_of(found.link_id, found.from_server, found.epoch, found.seq, found.message_id)
    return verify_head(head, found.signature, public_key)


def certifies(key: PaymentKey, server: ServerName) -> bool:
    """Whether the certificate speaks of this key and server. Its own signature is verified by Synapse's keyring."""
    named = {name: value for name, value in key.certificate.items() if name != "signatures"}
    return named == {"type": CERTIFICATE_TYPE, "server": server, "public_key": key.public_key}


def position_fields(position: Position) -> JsonObject:
    return {
        "currency": position.currency,
        "due_to": position.due_to_minor,
        "due_from": position.due_from_minor,
        "unreceipted": position.unreceipted_minor,
        "reserved": position.reserved_minor,
    }


def key_fields(public_key: str, certificate: JsonObject) -> JsonObject:
    """``key`` of LINK_OPEN and KEY."""
    return {"public_key": public_key, "certificate": certificate}


def public_key_id(public_key: str) -> KeyId | None:
    """The name of a public key, or None if it is none."""
    try:
        return KeyId(key_id_of(VerifyKey(from_b64(public_key))))
    except (ValueError, TypeError):
        return None


def fingerprint_of(public_key: str) -> str:
    """128 bits of a public key's hash in eight groups of four hexadecimal digits, for people to compare."""
    return _in_groups(hashlib.sha256(public_key.encode()).hexdigest()[:_FINGERPRINT_DIGITS])


def read_fingerprint(text: str) -> str | None:
    """A fingerprint as a person typed it, in the form of ``fingerprint_of``; None if it is none."""
    digits = "".join(text.split()).lower()
    if len(digits) != _FINGERPRINT_DIGITS or not set(digits) <= set("0123456789abcdef"):
        return None
    return _in_groups(digits)


def _in_groups(digits: str) -> str:
    return " ".join(digits[at : at + 4] for at in range(0, _FINGERPRINT_DIGITS, 4))


def _query(content: JsonObject, query: _Frame) -> Query:
    status = query if isinstance(query, _Status) else None
    range_ = query if isinstance(query, _Range) else None
    return Query(
        type=MessageType(content["type"]),
        message_id=MessageId(digest(content)),
        link_id=LinkId(query.link_id),
        from_server=ServerName(query.from_server),
        to_server=ServerName(query.to_server),
        wire_id=None if status is None else WireId(status.wire_id),
        of=None if range_ is None else ServerName(range_.of),
        epoch=0 if range_ is None else range_.epoch,
        from_seq=0 if range_ is None else range_.from_seq,
        to_seq=0 if range_ is None else range_.to_seq,
        wire_ids=tuple(map(WireId, query.wire_ids)) if isinstance(query, _Openings) else (),
    )


def _chained(content: JsonObject, parsed: _Chained) -> ChainObject:
    payment = parsed if isinstance(parsed, _Payment) else None
    settlement = parsed if isinstance(parsed, _Settlement) else None
    grants: tuple[Grant, ...] = ()
    key: PaymentKey | None = None
    if isinstance(parsed, _LinkOpen):
        grants = tuple(each.grant() for each in parsed.currencies)
    if isinstance(parsed, _LinkOpen | _Key) or (isinstance(parsed, _Fence) and parsed.key.public_key):
        key = PaymentKey(public_key=parsed.key.public_key, certificate=parsed.key.certificate)
    if isinstance(parsed, _Limit):
        grants = (parsed.grant(),)
    return ChainObject(
        content=content,
        message_id=message_id_of(content),
        type=MessageType(content["type"]),
        link_id=LinkId(parsed.link_id),
        epoch=parsed.epoch,
        seq=parsed.seq,
        prev_hash=parsed.prev_hash,
        from_server=ServerName(parsed.from_server),
        to_server=ServerName(parsed.to_server),
        seen=Seen(seq=parsed.seen.seq, hash=parsed.seen.hash, signature=parsed.seen.signature),
        key_id=KeyId(parsed.key_id),
        signature=parsed.signature,
        terms=None if payment is None else _terms(payment),
        ttl_ms=parsed.ttl_ms if isinstance(parsed, _Offer | _Pending) else 0,
        valid_ms=parsed.valid_ms if isinstance(parsed, _Accept) else 0,
        reason=parsed.reason if isinstance(parsed, _WithReason) else "",
        routed=payment is not None and bool(payment.e2e_id or payment.inner),
        grants=grants,
        key=key,
        positions=tuple(each.position() for each in parsed.positions) if isinstance(parsed, _Statement) else (),
        settlement=None if settlement is None else _settlement_terms(settlement),
        pay_to=parsed.pay_to if isinstance(parsed, _SettleAgree) else "",
        bank_reference=parsed.reference if isinstance(parsed, _SettleSent) else "",
        received_minor=parsed.received if isinstance(parsed, _SettleReceived) else 0,
        after=_after(parsed.after) if isinstance(parsed, _Fence) else None,
        holdings=_holdings(parsed) if isinstance(parsed, _Fenced) else None,
    )


def _after(after: _AfterModel) -> After:
    return After(epoch=after.epoch, seq=after.seq, hash=after.hash)


def _holdings(fenced: _Fenced) -> Holdings:
    return Holdings(
        fence=MessageId(fenced.fence),
        page=fenced.page,
        pages=fenced.pages,
        runs=tuple(
            Run(epoch=each.epoch, first_seq=each.first, last_seq=each.last, message_id=MessageId(each.hash))
            for each in fenced.held
        ),
    )


def message_id_of(content: Mapping[str, Any]) -> MessageId:
    return MessageId(digest({name: value for name, value in content.items() if name != "signature"}))


def _terms(payment: _Payment) -> Terms:
    return Terms(
        wire_id=WireId(payment.wire_id),
        payer_commit=payment.payer_commit,
        payee_commit=payment.payee_commit,
        memo_commit=payment.memo_commit,
        amount_minor=payment.amount,
        currency=AssetCode(payment.currency),
        scale=payment.scale,
        e2e_id=payment.e2e_id or None,
    )


def _settlement_terms(settlement: _Settlement) -> SettlementTerms:
    return SettlementTerms(
        settlement_id=SettlementId(settlement.settlement_id),
        amount_minor=settlement.amount,
        currency=AssetCode(settlement.currency),
        scale=settlement.scale,
    )


# Openings and commitments.


class _PartyModel(WireModel):
    user_id: str
    acct: Annotated[Text, Field(max_length=64)]
    handle: Annotated[Text, Field(min_length=1, max_length=255)] = ""

    def party(self) -> Party:
        user_id = parse_user_id(self.user_id)
        if user_id is None:
            raise ValueError("user_id is no Matrix user id")
        if self.handle and server_of(Handle(self.handle)) != server_of(user_id):
            raise ValueError("handle is of another server than user_id")
        return Party(user_id=user_id, acct=self.acct, handle=Handle(self.handle) if self.handle else None)


class _Salts(WireModel):
    payer: _Salt
    payee: _Salt
    memo: _Salt
    wire: _Salt


class _Opening(WireModel):
    payer: _PartyModel
    payee: _PartyModel
    payment_id: str
    memo: Annotated[Text, Field(min_length=1, max_length=MAX_MEMO_CHARACTERS)] = ""
    room_id: Annotated[Text, Field(min_length=1, max_length=255)] = ""
    event_id: Annotated[Text, Field(min_length=1, max_length=255)] = ""
    refund_of: str = ""
    salts: _Salts


def wire_id_of(payer: Acct | str, payment_id: PaymentId, salt: str) -> WireId:
    return WireId(digest([payer, payment_id, salt]))


def party_commit(party: Party, salt: str) -> str:
    return digest([party.user_id, party.acct, party.handle, salt])


def memo_commit(memo: str | None, refund_of: PaymentId | None, salt: str) -> str:
    return digest([memo, refund_of, salt])


def terms_of(order: Order, scale: int) -> Terms:
    """The terms of a payment that we send."""
    payer_salt, payee_salt, memo_salt = order.salts
    return Terms(
        wire_id=wire_id_of(order.payer.acct, order.payment_id, order.wire_salt),
        payer_commit=party_commit(order.payer, payer_salt),
        payee_commit=party_commit(order.payee, payee_salt),
        memo_commit=memo_commit(order.memo or None, order.refund_of, memo_salt),
        amount_minor=order.money.amount_minor,
        currency=order.money.currency,
        scale=scale,
    )


def opening_of(order: Order) -> JsonObject:
    """What the payee's server alone is told."""
    payer_salt, payee_salt, memo_salt = order.salts
    optional = {
        "memo": order.memo,
        "room_id": order.room_id,
        "event_id": order.event_id,
        "refund_of": order.refund_of,
    }
    return {
        "payer": _party_fields(order.payer),
        "payee": _party_fields(order.payee),
        "payment_id": order.payment_id,
        **{name: value for name, value in optional.items() if value},
        "salts": {"payer": payer_salt, "payee": payee_salt, "memo": memo_salt, "wire": order.wire_salt},
    }


def _party_fields(party: Party) -> JsonObject:
    fields: JsonObject = {"user_id": party.user_id, "acct": party.acct}
    return fields if party.handle is None else {**fields, "handle": party.handle}


def read_opening(value: JsonObject, terms: Terms, from_server: ServerName, to_server: ServerName) -> Incoming | Refused:
    """The payment that an OFFER opens, checked: it is what the commitments say, and each side speaks for its own."""
    refused = _check_size(value, MAX_OPENING_BYTES, "opening")
    if refused is not None:
        return refused
    opening = _Opening.parse(value)
    if isinstance(opening, Refused):
        return Refused(reason=opening.reason, message=f"opening: {opening.message}")
    try:
        payer, payee = opening.payer.party(), opening.payee.party()
    except ValueError as error:
        return _invalid(f"opening: {error}.")
    payment_id = parse_payment_id(opening.payment_id)
    refund_of = parse_payment_id(opening.refund_of) if opening.refund_of else None
    if isinstance(payment_id, Refused):
        return payment_id
    if isinstance(refund_of, Refused):
        return refund_of
    found = (
        wire_id_of(payer.acct, payment_id, opening.salts.wire),
        party_commit(payer, opening.salts.payer),
        party_commit(payee, opening.salts.payee),
        memo_commit(opening.memo or None, refund_of, opening.salts.memo),
    )
    if found != (terms.wire_id, terms.payer_commit, terms.payee_commit, terms.memo_commit):
        return Refused(
            reason=Reason.BAD_COMMITMENT,
            message="The opening is not what the OFFER commits to; send the opening that belongs to it.",
        )
    if server_of(payer.user_id) != from_server:
        return Refused(
            reason=Reason.WRONG_ORIGIN,
            message=f"{from_server} cannot offer a payment of {payer.user_id}, who is no user of that server.",
        )
    if server_of(payee.user_id) != to_server:
        return Refused(
            reason=Reason.UNKNOWN_PAYEE, message=f"{payee.user_id} is no user of this server; offer it to theirs."
        )
    return Incoming(
        wire_id=terms.wire_id,
        from_server=from_server,
        payment_id=payment_id,
        payer=payer,
        payee=payee,
        money=Money(amount_minor=terms.amount_minor, currency=terms.currency),
        memo=opening.memo or None,
        room_id=RoomId(opening.room_id) if opening.room_id else None,
        event_id=EventId(opening.event_id) if opening.event_id else None,
        refund_of=refund_of,
    )


def read_order(value: JsonObject, terms: Terms, from_server: ServerName, to_server: ServerName) -> Order | Refused:
    """A payment of our own, from the opening that we once sent with its OFFER."""
    incoming = read_opening(value, terms, from_server, to_server)
    opening = _Opening.parse(value)
    if isinstance(incoming, Refused):
        return incoming
    if isinstance(opening, Refused):
        return opening
    salts = opening.salts
    return Order(
        payment_id=incoming.payment_id,
        hold_id=HoldId(f"{incoming.payer.acct}:{incoming.payment_id}"),
        payer=incoming.payer,
        payee=incoming.payee,
        money=incoming.money,
        memo=incoming.memo,
        room_id=incoming.room_id,
        event_id=incoming.event_id,
        refund_of=incoming.refund_of,
        wire_salt=salts.wire,
        salts=(salts.payer, salts.payee, salts.memo),
    )


def _check_size(value: JsonObject, limit_bytes: int, name: str) -> Refused | None:
    """Refuse what has no canonical JSON, or too much of it. Walks without recursion, as the depth is not ours."""
    stack: list[tuple[object, int]] = [(value, 0)]
    while stack:
        item, depth = stack.pop()
        if depth > MAX_DEPTH:
            return _invalid(f"{name} is nested deeper than {MAX_DEPTH} levels.")
        if isinstance(item, float):
            return _invalid(f"{name} holds a fraction; canonical JSON has whole numbers only.")
        if isinstance(item, int) and abs(item) > MAX_AMOUNT_MINOR:
            return _invalid(f"{name} holds a number beyond 2^53 - 1.")
        if isinstance(item, dict):
            stack.extend((each, depth + 1) for each in cast(JsonObject, item).values())
        elif isinstance(item, list):
            stack.extend((each, depth + 1) for each in cast(list[object], item))
    try:
        size = len(canonical(value))
    except ValueError:
        # A lone surrogate has no UTF-8.
        return _invalid(f"{name} has no canonical JSON.")
    if size > limit_bytes:
        return _invalid(f"{name} is {size} bytes of canonical JSON; at most {limit_bytes} are allowed.")
    return None


def _invalid(message: str) -> Refused:
    return Refused(reason=Reason.INVALID_VALUE, message=message)
