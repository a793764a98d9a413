"""Strategies: one method, one file. The table is explicit; a new method is one file and one row."""

STRATEGIES = {
    "chance": "clbench.strategies.chance:Chance",
    "naive": "clbench.strategies.naive:Naive",
    "linear_probe": "clbench.strategies.linear_probe:LinearProbe",
    "separate": "clbench.strategies.separate:Separate",
    "joint": "clbench.strategies.joint:Joint",
    "cumulative": "clbench.strategies.cumulative:Cumulative",
    "er": "clbench.strategies.er:ExperienceReplay",
    "er_ace": "clbench.strategies.er_ace:AsymmetricReplay",
    "er_agem": "clbench.strategies.er_agem:ProjectedReplay",
    "der": "clbench.strategies.der:DarkReplay",
    "derpp": "clbench.strategies.der:DarkReplayPlus",
    "agem": "clbench.strategies.agem:AveragedGradientMemory",
    "gem": "clbench.strategies.gem:GradientEpisodicMemory",
    "power_law_rehearsal": "clbench.strategies.power_law_rehearsal:PowerLawRehearsal",
    "ema": "clbench.strategies.ema:AveragedWeights",
    "classp": "clbench.strategies.classp:Classp",
    "ewc": "clbench.strategies.ewc:EWC",
    "si": "clbench.strategies.si:SI",
    "mas": "clbench.strategies.mas:MAS",
    "lwf": "clbench.strategies.lwf:LwF",
    "ncm": "clbench.strategies.ncm:NearestClassMean",
    "fetril": "clbench.strategies.fetril:Fetril",
    "pass": "clbench.strategies.pass_:Pass",
    "napa_vq": "clbench.strategies.napa_vq:NapaVq",
}
"""name -> "module:Class"."""
