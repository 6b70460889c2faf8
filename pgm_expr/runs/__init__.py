"""The state of a fitted story: `Fitted`, how it is fitted, stored and read back. No user verb."""
