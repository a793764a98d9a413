#!/usr/bin/env bash
# torch 2.15.0: torch.use_deterministic_algorithms(True), which sets a flag, imports torch's compiler; so does making an
# optimiser.
#
# Nothing is compiled, and one expects that torch._dynamo, torch._inductor and sympy are imported by those who call
# torch.compile. But use_deterministic_algorithms also sets an option of torch._inductor and imports it to do so, and
# the methods of torch.optim.Optimizer are wrapped to be left out of compilation, for which torch._dynamo is imported at
# the first call. Each time about 900 modules follow, a second or so of a process that trains for two. The older
# torch.set_deterministic_debug_mode("error") sets the same flag and imports nothing, and does not reach torch._inductor.
# A process that makes an optimiser pays all the same, so that the choice of the function matters to others only: to
# those that evaluate, or count what an import costs.
#
# Seen: modules, and whether the compiler is among them
#     import torch                            1,205  no
#     use_deterministic_algorithms(True)      2,113  yes
#     set_deterministic_debug_mode("error")   1,205  no
#     optim.SGD(...)                          2,113  yes
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.15.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import json, subprocess, sys

STEPS = {
    "import torch": "",
    "use_deterministic_algorithms(True)": "torch.use_deterministic_algorithms(True)",
    'set_deterministic_debug_mode("error")': 'torch.set_deterministic_debug_mode("error")',
    "optim.SGD(...)": "torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)",
}
COUNT = """
import json, sys
compiler = [name in sys.modules for name in ("torch._dynamo", "torch._inductor", "sympy")]
print(json.dumps([len(sys.modules), compiler, torch.are_deterministic_algorithms_enabled()]))
"""
seen = {}
for step, code in STEPS.items():
    command = [sys.executable, "-c", f"import torch\n{code}\n{COUNT}"]
    modules, compiler, flag = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    seen[step] = (compiler, flag)
    print(f"{step:40}{modules:6,}  compiler {'yes' if all(compiler) else 'no'}, flag {'set' if flag else 'not set'}")
none, all_three = [False] * 3, [True] * 3
assert seen == {
    "import torch": (none, False),
    "use_deterministic_algorithms(True)": (all_three, True),
    'set_deterministic_debug_mode("error")': (none, True),
    "optim.SGD(...)": (all_three, False),
}, seen
print("as stated")
PYTHON
