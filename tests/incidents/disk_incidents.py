"""The disk of the database fills up."""

from incident import incident

MIB = 1 << 20


@incident(alert="BipedalnetDiskFull", within_minutes=10, disk_mib=128)
def disk_nearly_full(world):
    """Something takes the disk up to a twentieth."""
    world.server.fill_disk(leave_bytes=6 * MIB)
    yield
    world.server.free_disk()


@incident(alert="BipedalnetDiskFull", within_minutes=60, disk_mib=128)
def disk_fills(world):
    """Something grows by 1 MiB a minute, and the disk is full in two hours."""
    file = world.server.on_disk("other").open("ab", buffering=0)
    world.every(1, lambda: file.write(bytes(MIB)))
