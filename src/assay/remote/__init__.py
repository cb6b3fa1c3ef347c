"""A paid service at the other end of a line: address, dialect, pace, faults, money, and the store of its answers."""
