"""Functions of IP networks."""

from __future__ import annotations

from ..types import ListOf
from .base import FunctionError, Problem, define, whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network
    from typing import Any


def _network(prefix: str) -> IPv4Network | IPv6Network:
    from ipaddress import ip_network

    if "/" not in prefix:
        raise Problem(0, f"invalid CIDR address: {prefix}")
    try:
        return ip_network(prefix, strict=False)
    except ValueError:
        raise Problem(0, f"invalid CIDR address: {prefix}") from None


@define("cidrhost", "prefix:string", "hostnum:number")
def cidrhost(prefix: str, number: Any) -> str:
    net, n = _network(prefix), whole(number, 1)
    if not -net.num_addresses <= n < net.num_addresses:
        raise FunctionError(f"prefix of {net.prefixlen} does not accommodate a host numbered {n}")
    return str(net[n])


@define("cidrnetmask", "prefix:string")
def cidrnetmask(prefix: str) -> str:
    net = _network(prefix)
    if net.version != 4:
        raise Problem(0, "IPv6 addresses cannot have a netmask")
    return str(net.netmask)


@define("cidrsubnet", "prefix:string", "newbits:number", "netnum:number")
def cidrsubnet(prefix: str, newbits: Any, number: Any) -> str:
    net, bits, n = _network(prefix), whole(newbits, 1), whole(number, 2)
    length = net.prefixlen + bits
    if bits < 0 or length > net.max_prefixlen:
        raise FunctionError(f"insufficient address space to extend prefix of {net.prefixlen} by {bits}")
    if not 0 <= n < 1 << bits:
        raise FunctionError(f"prefix extension of {bits} does not accommodate a subnet numbered {n}")
    return f"{net.network_address + (n << (net.max_prefixlen - length))}/{length}"


@define("cidrsubnets", "prefix:string", rest="newbits:number")
def cidrsubnets(prefix: str, *newbits: Any) -> Any:
    net = _network(prefix)
    at = int(net.network_address)
    end = at + net.num_addresses
    out = []
    for n, given in enumerate(newbits, 1):
        bits = whole(given, n)
        length = net.prefixlen + bits
        if bits < 1:
            raise Problem(n, "must extend prefix by at least one bit")
        if length > net.max_prefixlen:
            raise Problem(n, f"would extend prefix to {length} bits")
        size = 1 << (net.max_prefixlen - length)
        at = -(-at // size) * size
        if at + size > end:
            raise Problem(
                n, f"not enough remaining address space for a subnet with a prefix of {length} bits"
            )
        out.append(f"{net.network_address + (at - int(net.network_address))}/{length}")
        at += size
    return ListOf(out)
