"""Strategies: one method, one file. The table is explicit; a new method is one file and one row."""

STRATEGIES = {
    "chance": "strategies.chance:Chance",
    "naive": "strategies.naive:Naive",
    "linear_probe": "strategies.linear_probe:LinearProbe",
    "separate": "strategies.separate:Separate",
    "joint": "strategies.joint:Joint",
    "cumulative": "strategies.cumulative:Cumulative",
    "er": "strategies.er:ExperienceReplay",
    "er_ace": "strategies.er_ace:AsymmetricReplay",
    "er_agem": "strategies.er_agem:ProjectedReplay",
    "der": "strategies.der:DarkReplay",
    "derpp": "strategies.der:DarkReplayPlus",
    "agem": "strategies.agem:AveragedGradientMemory",
    "gem": "strategies.gem:GradientEpisodicMemory",
    "power_law_rehearsal": "strategies.power_law_rehearsal:PowerLawRehearsal",
    "ema": "strategies.ema:AveragedWeights",
    "classp": "strategies.classp:Classp",
    "ewc": "strategies.ewc:EWC",
    "si": "strategies.si:SI",
    "mas": "strategies.mas:MAS",
    "lwf": "strategies.lwf:LwF",
    "ncm": "strategies.ncm:NearestClassMean",
    "fetril": "strategies.fetril:Fetril",
    "pass": "strategies.pass_:Pass",
    "napa_vq": "strategies.napa_vq:NapaVq",
}
"""name -> "module:Class"."""
