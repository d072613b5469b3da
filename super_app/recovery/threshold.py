"""The key of the OPRF in shares: the threshold OPRF of TOPPSS.

S. Jarecki, A. Kiayias, H. Krawczyk, J. Xu: TOPPSS: Cost-Minimal Password-Protected Secret Sharing Based on Threshold
OPRF (ACNS 2017), on 2HashDH (the first three: Round-Optimal Password-Protected Secret Sharing and T-PAKE in the
Password-Only Model, ASIACRYPT 2014). The key is a polynomial's value at 0 (Shamir), realm ``i`` has its value at ``i``.
An evaluation is a multiplication with the key, so those of any ``threshold`` realms combine with Lagrange's
coefficients into that under the whole key, which nobody ever puts together again.
"""

from collections.abc import Mapping, Sequence

from super_app.recovery import group
from super_app.recovery.group import Element, Scalar


def split(key: Scalar, coefficients: Sequence[Scalar], count: int) -> dict[int, Scalar]:
    """Shares at 1 to ``count``. ``coefficients`` are random; one less than the threshold of them."""
    if not 0 < len(coefficients) < count:
        raise ValueError("the threshold is from 2 to the number of shares")
    return {index: _value([key, *coefficients], index) for index in range(1, count + 1)}


def _value(polynomial: Sequence[Scalar], index: int) -> Scalar:
    """By Horner's rule."""
    value, *lower = reversed(polynomial)
    for coefficient in lower:
        value = group.scalar_add(group.scalar_mul(value, group.scalar_of(index)), coefficient)
    return value


def combine(evaluations: Mapping[int, Element]) -> Element:
    """The evaluation under the whole key, from those of exactly as many realms as the threshold, by their index."""
    return group.total(group.times(lagrange(index, list(evaluations)), each) for index, each in evaluations.items())


def lagrange(index: int, among: Sequence[int]) -> Scalar:
    """The weight at 0 of the value at ``index``, from values at ``among``."""
    if len(set(among)) != len(among) or index not in among:
        raise ValueError("indexes are of different shares")
    weight = group.one
    for other in among:
        if other != index:
            quotient = group.scalar_mul(group.scalar_of(other), group.scalar_invert(group.scalar_of(other - index)))
            weight = group.scalar_mul(weight, quotient)
    return weight
