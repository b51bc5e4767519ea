"""Functions of lists, sets and maps."""

from __future__ import annotations

from ..types import ListOf, MapOf, SetOf, convert, friendly, is_number, make_set, same, type_of, unify
from .base import FunctionError, Problem, define, need_list, need_map, whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_ITEMS = 100_000


@define("length", "value:any")
def length(value: Any) -> int:
    if not isinstance(value, (tuple, dict)):
        raise Problem(0, "collection must be a list, a map or a tuple")
    return len(value)


@define("concat", rest="seqs:any")
def concat(*lists: Any) -> Any:
    if not lists:
        raise FunctionError("at least one argument is required")
    items = [v for n, one in enumerate(lists) for v in need_list(one, n, "a list or tuple")]
    if all(isinstance(x, ListOf) for x in lists):
        found = unify([type_of(v) for v in items])
        if found is not None:
            return ListOf(convert(v, found) for v in items)
    return tuple(items)


@define("contains", "list:any", "value:any?")
def contains(items: Any, value: Any) -> bool:
    return any(same(v, value) for v in need_list(items, 0, "a list, tuple, or set"))


@define("index", "collection:any", "key:any")
def index(collection: Any, key: Any) -> Any:
    if isinstance(collection, dict):
        if not isinstance(key, str) or key not in collection:
            raise FunctionError("key does not exist in map")
        return collection[key]
    items = need_list(collection)
    if not isinstance(key, int) or isinstance(key, bool) or not 0 <= key < len(items):
        raise FunctionError("index out of bounds")
    return items[key]


@define("indexof", "list:any", "value:any")
def indexof(items: Any, value: Any) -> int:
    for n, v in enumerate(need_list(items, 0, "a list or tuple")):
        if same(v, value):
            return n
    raise FunctionError("item not found" if items else "cannot search an empty list")


@define("hasindex", "collection:any", "key:any")
def hasindex(collection: Any, key: Any) -> bool:
    if isinstance(collection, dict):
        return isinstance(key, str) and key in collection
    return isinstance(key, int) and not isinstance(key, bool) and 0 <= key < len(need_list(collection))


@define("element", "list:any", "index:number")
def element(items: Any, at: Any) -> Any:
    values = need_list(items, 0, "a list or tuple")
    if not values:
        raise FunctionError("cannot use element function with an empty list")
    if whole(at, 1) < 0:
        raise FunctionError("cannot use element function with a negative index")
    return values[at % len(values)]


@define("slice", "list:any", "start_index:number", "end_index:number")
def slice_(items: Any, start: Any, end: Any) -> Any:
    values, a, b = need_list(items, 0, "a list or tuple"), whole(start, 1), whole(end, 2)
    if not 0 <= a <= len(values):
        raise Problem(1, "start index is out of bounds")
    if not a <= b <= len(values):
        raise Problem(2, "end index must not be smaller than the start, and not past the end")
    return type(values)(values[a:b])


@define("sort", "list:strings")
def sort(items: Any) -> Any:
    if None in items:
        raise Problem(0, "given list element is null; a null string cannot be sorted")
    names = [str(v) for v in items]
    names.sort(key=str.encode)
    return ListOf(names)


@define("reverselist", "list:any")
def reverselist(items: Any) -> Any:
    values = need_list(items)
    return (ListOf if isinstance(values, SetOf) else type(values))(reversed(values))


@define("distinct", "list:list")
def distinct(items: Any) -> Any:
    out: list[Any] = []
    for v in items:
        if not any(same(v, o) for o in out):
            out.append(v)
    return ListOf(out)


@define("compact", "list:strings")
def compact(items: Any) -> Any:
    return ListOf(v for v in items if v)


@define("flatten", "list:any")
def flatten(items: Any) -> Any:
    out: list[Any] = []
    todo = list(reversed(need_list(items, 0, "lists, sets and tuples")))
    while todo:
        v = todo.pop()
        if isinstance(v, tuple):
            todo.extend(reversed(v))
        else:
            out.append(v)
    return tuple(out)


@define("chunklist", "list:any", "size:number")
def chunklist(items: Any, size: Any) -> Any:
    values, n = need_list(items), whole(size, 1)
    if n < 0:
        raise Problem(1, "the size argument must be positive")
    n = n or max(len(values), 1)
    return ListOf(ListOf(values[i : i + n]) for i in range(0, len(values), n))


@define("coalescelist", rest="vals:any?")
def coalescelist(*lists: Any) -> Any:
    for n, one in enumerate(lists):
        if one is not None and need_list(one, n):
            return one
    raise FunctionError(
        "no non-null and non-empty arguments" if lists else "at least one argument is required"
    )


@define("keys", "inputMap:any")
def keys(value: Any) -> Any:
    names = sorted(need_map(value))
    return ListOf(names) if isinstance(value, MapOf) else tuple(names)


@define("values", "mapping:any")
def values(value: Any) -> Any:
    items = [v for _, v in sorted(need_map(value).items())]
    return ListOf(items) if isinstance(value, MapOf) else tuple(items)


@define("lookup", "inputMap:any", "key:string", "default:any?")
def lookup(value: Any, key: str, default: Any) -> Any:
    return need_map(value).get(key, default)


@define("merge", rest="maps:any?")
def merge(*maps: Any) -> Any:
    out: dict[str, Any] = {}
    for n, one in enumerate(maps):
        if one is not None:
            out.update(need_map(one, n))
    if maps and all(m is None or isinstance(m, MapOf) for m in maps):
        found = unify([type_of(v) for v in out.values()])
        if found is not None:
            return MapOf({k: convert(v, found) for k, v in sorted(out.items())})
    return out


@define("zipmap", "keys:strings", "values:any")
def zipmap(names: Any, items: Any) -> Any:
    given = need_list(items, 1)
    if len(names) != len(given):
        raise FunctionError(f"number of keys ({len(names)}) does not match number of values ({len(given)})")
    table = dict(zip(names, given, strict=True))
    return MapOf(sorted(table.items())) if isinstance(given, ListOf) else table


@define("sethaselement", "set:set", "elem:any")
def sethaselement(items: Any, value: Any) -> bool:
    return any(same(v, value) for v in items)


def _sets(given: tuple[Any, ...]) -> list[SetOf]:
    found = unify([type_of(v) for one in given for v in one])
    if found is None:
        raise FunctionError("all sets must have the same element type")
    return [make_set([convert(v, found) for v in one]) for one in given]


@define("setunion", "first_set:set", rest="other_sets:set")
def setunion(*given: Any) -> Any:
    return make_set([v for one in _sets(given) for v in one])


@define("setintersection", "first_set:set", rest="other_sets:set")
def setintersection(*given: Any) -> Any:
    first, *others = _sets(given)
    return SetOf(v for v in first if all(any(same(v, o) for o in one) for one in others))


@define("setsubtract", "a:set", "b:set")
def setsubtract(a: Any, b: Any) -> Any:
    first, second = _sets((a, b))
    return SetOf(v for v in first if not any(same(v, o) for o in second))


@define("setsymmetricdifference", "first_set:set", rest="other_sets:set")
def setsymmetricdifference(*given: Any) -> Any:
    first, *others = _sets(given)
    for one in others:
        first = make_set([*setsubtract(first, one), *setsubtract(one, first)])
    return first


@define("setproduct", rest="sets:any")
def setproduct(*given: Any) -> Any:
    from itertools import product
    from math import prod

    if len(given) < 2:
        raise FunctionError("at least two arguments are required")
    lists = [need_list(one, n, "a set or a list") for n, one in enumerate(given)]
    if prod(map(len, lists)) > MAX_ITEMS:
        raise FunctionError("the product is too large")
    rows = [tuple(row) for row in product(*lists)]
    return make_set(rows) if all(isinstance(x, SetOf) for x in given) else ListOf(rows)


__all__ = ["friendly", "is_number"]
