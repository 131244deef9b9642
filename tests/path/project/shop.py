"""User code for the path tests: one pipeline of each kind of type, and models that misbehave on request."""

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec
import pydantic

from turnout import Model, pipeline


@dataclass
class Order:
    user_id: str
    amount: float
    note: str = ""


@dataclass
class Verdict:
    score: float
    by: str


class OrderDict(TypedDict):
    user_id: str
    amount: float


class VerdictDict(TypedDict):
    score: float


class OrderStruct(msgspec.Struct):
    user_id: str
    amount: float


class VerdictStruct(msgspec.Struct):
    score: float


class OrderModel(pydantic.BaseModel):
    user_id: str
    amount: float


class VerdictModel(pydantic.BaseModel):
    score: float


def leave(amount: float) -> None:
    """Tries to end the program, in the way the amount asks for."""
    ways: dict[float, type[BaseException]] = {-5.0: SystemExit, -6.0: KeyboardInterrupt, -7.0: GeneratorExit}
    if amount in ways:
        raise ways[amount]


class Moody:
    """A model that does what the item asks for."""

    release = threading.Event()

    def predict(self, items: list[float]) -> list[float]:
        if -1.0 in items:
            raise ValueError("minus one is not a price")
        leave(min(items))
        if -2.0 in items:
            return [0.0] * (len(items) - 1)
        if -3.0 in items:
            self.release.wait(20)
        return [float("nan") if item == -4.0 else item * 2 for item in items]


@pipeline
async def judge(order: Order, *, price: Model[float, float], by: str = "default") -> Verdict:
    return Verdict(score=await price(order.amount), by=by)


@pipeline
async def broken(order: Order, *, price: Model[float, float], by: str = "default") -> Verdict:
    raise RuntimeError("the new code is broken")


@pipeline
async def slow(order: Order, *, price: Model[float, float]) -> Verdict:
    leave(order.amount)
    await asyncio.sleep(order.amount)
    return Verdict(score=0.0, by="slow")


@pipeline
async def judge_dict(order: OrderDict, *, price: Model[float, float]) -> VerdictDict:
    return {"score": await price(order["amount"])}


@pipeline
async def judge_struct(order: OrderStruct, *, price: Model[float, float]) -> VerdictStruct:
    return VerdictStruct(await price(order.amount))


@pipeline
async def judge_pydantic(order: OrderModel, *, price: Model[float, float]) -> VerdictModel:
    return VerdictModel(score=await price(order.amount))


@pipeline
async def count(order: Order, *, price: Model[float, float]) -> AsyncIterator[Verdict]:
    for step in range(int(order.amount)):
        if step == 3:
            raise RuntimeError("three is too many")
        yield Verdict(score=await price(float(step)), by="stream")


def anything(*arguments: Any) -> None:
    """Not a pipeline."""
