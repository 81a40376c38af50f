"""Copies loops whose number of turns is known, one turn after the other.

The copy has no loop, no list and no tensor array: what they held is passed from
op to op. `interpretation` goes through the ops as a run would, and
`emission` makes the ops whose values are not known beforehand.
"""
