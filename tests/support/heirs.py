"""The heir of a system on memory drivers: what it has goes over, the old one ends, the new one goes on."""

from server.activations.activation import Activation
from server.activations.parcels import pack_here, unpack
from server.ids import NodeAddress
from tests.support.engine import Cluster, TestSystem

MOST = 1 << 20


def parcel_of(activation: Activation) -> bytes:
    """An activation as it goes over: under the same epoch."""
    data = pack_here(activation, MOST)
    assert data is not None, f"{activation.id} is not at rest"
    return data


def stand_by(world: Cluster, predecessor: TestSystem) -> TestSystem:
    """An heir that may take copies."""
    heir = world.make(predecessor.me.node)
    heir.begin(predecessor.me, predecessor.view)
    heir.stand_by()
    return heir


def copy(predecessor: TestSystem, heir: TestSystem) -> None:
    """Copy all activations, as they are now."""
    for activation in predecessor.catalog.live.values():
        heir.receive_copy(unpack(heir.app, heir, parcel_of(activation)))


def bequeath(predecessor: TestSystem, heir: TestSystem) -> None:
    """What the predecessor has beside its activations."""
    heir.inherit(predecessor.bequeath())
    heir.directory.inherit(predecessor.directory.bequeath())


async def succeed(world: Cluster, name: str) -> TestSystem:
    """Let a system go on in another one."""
    predecessor = world.systems[name]
    heir = stand_by(world, predecessor)
    copy(predecessor, heir)
    predecessor.hold()
    bequeath(predecessor, heir)
    await end(world, predecessor)
    await go(world, heir, predecessor.me)
    return heir


async def end(world: Cluster, predecessor: TestSystem) -> None:
    """The predecessor's process is gone."""
    del world.systems[predecessor.me.node]
    await predecessor.transport.stop()
    await predecessor.supervisor.stop()


async def go(world: Cluster, heir: TestSystem, me: NodeAddress) -> None:
    """The heir is the node now."""
    await world.run(heir, me)
    heir.transport.set_peers(
        {address: member.transport for address, member in heir.view.addresses.items() if address != me}
    )
    heir.serve_now()
