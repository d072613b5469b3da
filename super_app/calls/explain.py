"""Why a ring was screened, for the person who was rung and for nobody else."""

from typing import assert_never

from super_app.calls.model import Rule


def why(rule: Rule, caller: str) -> str:
    """A sentence that names the rule and says what to change to let the caller through."""
    match rule:
        case Rule.IGNORED:
            return f"You ignore {caller}. Stop ignoring them to be rung."
        case Rule.INVITES:
            return f"You take no invitations of {caller}, so they cannot ring you either. Allow their invitations."
        case Rule.ALLOW:
            return f"{caller} is on your allow list."
        case Rule.DENY:
            return f"{caller} is on your deny list. Take them off it to be rung."
        case Rule.SERVERS:
            return f"Your policy keeps out the homeserver of {caller}. Change servers to let it in."
        case Rule.ROOMS:
            return "Your policy does not let this room ring: write something in it first, or change rooms."
        case Rule.RATE:
            return "More rings came in a short time than your policy shows. Raise rate, or add the caller to contacts."
        case Rule.DO_NOT_DISTURB:
            return "You had asked not to be disturbed."
        case Rule.QUIET:
            return "It was one of your quiet hours. Add the caller to allow, or set repeat_ms, to be rung all the same."
        case Rule.WHO:
            return f"{caller} is none of those who may ring you. Add them to your contacts, or widen who."
        case Rule.PRICE:
            return f"{caller} had not paid what you ask of callers whom you do not know."
        case _:
            assert_never(rule)
