"""Strategies: one method, one file. The table is explicit; a new method is one file and one row."""

STRATEGIES = {
    "naive": "strategies.naive:Naive",
    "joint": "strategies.joint:Joint",
    "cumulative": "strategies.cumulative:Cumulative",
    "er": "strategies.er:ExperienceReplay",
    "classp": "strategies.classp:Classp",
    "ewc": "strategies.ewc:EWC",
    "si": "strategies.si:SI",
    "mas": "strategies.mas:MAS",
    "lwf": "strategies.lwf:LwF",
}
"""name -> "module:Class"."""
