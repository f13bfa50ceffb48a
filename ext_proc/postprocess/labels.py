"""Labels and top-k: scores become named, sorted lists (``output.labels``, ``output.top_k``)."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import nlargest
from typing import Any

from ext_proc.refusal import bad_answer
from ext_proc.validation.tensors import Tensor, nest
from gateway.policy import OutputRule


def shape_outputs(outputs: tuple[Tensor, ...], rule: OutputRule) -> dict[str, Any]:
    """The outputs by name, nested by their shape with a leading dimension of 1 dropped.

    With labels, every numeric output whose last axis is as long as the labels becomes lists of
    ``{"label", "score"}``; with `top_k` alone, every numeric output with more than one score on its last axis becomes
    lists of ``{"index", "score"}``. Lists are sorted by score, best first, equal scores by index.

    Raises:
        Refused: 502 when the rule asks for scores and no output has them.
    """
    shaped: dict[str, Any] = {}
    fits = False
    for output in outputs:
        if _is_scores(output, rule):
            fits = True
            width = output.shape[-1]
            rows = [_rank(output.data[at : at + width], rule) for at in range(0, len(output.data), width)]
            shaped[output.name] = _shaped(rows, output.shape[:-1])
        else:
            shaped[output.name] = _shaped(output.data, output.shape)
    if not fits and (rule.labels or rule.top_k is not None):
        raise bad_answer("the model server's answer has no output of as many scores as were expected")
    return shaped


def _is_scores(output: Tensor, rule: OutputRule) -> bool:
    if not output.numeric or not output.shape:
        return False
    return output.shape[-1] == len(rule.labels) if rule.labels else rule.top_k is not None and output.shape[-1] > 1


def _rank(scores: Sequence[Any], rule: OutputRule) -> list[dict[str, Any]]:
    indices = range(len(scores))
    best = (
        sorted(indices, key=scores.__getitem__, reverse=True)
        if rule.top_k is None
        else nlargest(rule.top_k, indices, key=scores.__getitem__)
    )
    if rule.labels:
        return [{"label": rule.labels[index], "score": scores[index]} for index in best]
    return [{"index": index, "score": scores[index]} for index in best]


def _shaped(elements: Sequence[Any], shape: tuple[int, ...]) -> object:
    return nest(elements, shape[1:] if shape and shape[0] == 1 else shape)
