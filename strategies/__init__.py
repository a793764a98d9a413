"""Strategies: one method, one file. The table is explicit; a new method is one file and one row."""

STRATEGIES = {
    "naive": "strategies.naive:Naive",
    "joint": "strategies.joint:Joint",
    "cumulative": "strategies.cumulative:Cumulative",
    "er": "strategies.er:ExperienceReplay",
    "classp": "strategies.classp:Classp",
}
"""name -> "module:Class"."""
